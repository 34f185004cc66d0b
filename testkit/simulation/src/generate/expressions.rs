//! Random expressions over what is settled at a place, so that reading a value never races with making it.

use serde_json::{Value, json};

use super::graph::GraphBuilder;

/// The heaviest value that is read: values that hold values that hold values would grow without limit.
const HEAVIEST: u32 = 12;

/// What can be read of a node.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    /// An expression that gives a whole number, if the node completed.
    pub(crate) number: Option<String>,
    /// Roughly how many leaves its output has; none if the output must not be compared.
    pub(crate) weight: Option<u32>,
    /// Whether its output is an array.
    pub(crate) is_list: bool,
}

impl GraphBuilder<'_> {
    /// An expression for a whole number.
    pub(crate) fn number(&mut self, settled: &[(String, bool)]) -> String {
        let mut choices = vec!["input.n".to_owned(), self.generator.random.below(10).to_string()];
        if self.in_loop {
            choices.push("index".to_owned());
        }
        for (id, certain) in settled {
            let number = self.readable.get(id).and_then(|readable| readable.number.clone());
            if let (Some(number), true) = (number, *certain) {
                choices.extend([number.clone(), number]);
            }
        }
        let picked = self.generator.random.pick(&choices).cloned().unwrap_or_default();
        if self.generator.random.chance(20) { format!("({picked} + 1)") } else { picked }
    }

    /// An expression for true or false.
    pub(crate) fn truth(&mut self, settled: &[(String, bool)]) -> String {
        match self.generator.random.below(6) {
            0 => "input.flag".to_owned(),
            1 => "!input.flag".to_owned(),
            2 => match self.generator.random.pick(settled) {
                Some((id, _)) if self.readable.contains_key(id) => format!("has(nodes.{id}.output)"),
                _ => "true".to_owned(),
            },
            3 => format!("{} % 2 == 0", self.number(settled)),
            _ => {
                let operator = ["<", ">", "<=", "!="][self.generator.random.below(4) as usize];
                format!("{} {operator} {}", self.number(settled), self.number(settled))
            }
        }
    }

    /// Any JSON with templates, and its weight.
    pub(crate) fn any_value(&mut self, settled: &[(String, bool)]) -> (Value, u32) {
        match self.generator.random.below(5) {
            0 => (json!(self.generator.random.below(100)), 1),
            1 => {
                let number = self.number(settled);
                (json!(format!("text {{{{ {number} }}}}")), 1)
            }
            2 => {
                let number = self.number(settled);
                (json!(format!("{{{{ {number} }}}}")), 1)
            }
            _ => {
                let (first, weight) = self.read(settled);
                let (second, more) = self.read(settled);
                (json!({"a": first, "b": [second, null]}), 1 + weight + more)
            }
        }
    }

    /// A template that reads one thing, and its weight.
    fn read(&mut self, settled: &[(String, bool)]) -> (Value, u32) {
        let mut choices = vec![("{{ input.items }}".to_owned(), 3), ("{{ input.n }}".to_owned(), 1)];
        if self.in_loop {
            choices.extend([("{{ index }}".to_owned(), 1), ("{{ item }}".to_owned(), 4)]);
        }
        for (id, certain) in settled {
            let weight = self.readable.get(id).and_then(|readable| readable.weight);
            let Some(weight) = weight.filter(|weight| *weight <= HEAVIEST) else { continue };
            choices.push(if *certain {
                (format!("{{{{ nodes.{id}.output }}}}"), weight)
            } else {
                (format!("{{{{ has(nodes.{id}.output) ? nodes.{id}.output : null }}}}"), weight)
            });
        }
        let (text, weight) = self.generator.random.pick(&choices).cloned().unwrap_or_default();
        (json!(text), weight)
    }

    /// What a loop goes over.
    pub(crate) fn collection(&mut self, settled: &[(String, bool)]) -> Value {
        let lists: Vec<&String> = settled
            .iter()
            .filter(|(id, certain)| {
                *certain && self.readable.get(id).is_some_and(|readable| readable.is_list)
            })
            .map(|(id, _)| id)
            .collect();
        let picked = self.generator.random.pick(&lists).map(|id| (*id).clone());
        match (self.generator.random.below(5), picked) {
            (0, _) => json!("{{ input.map }}"),
            (1, _) => json!([1, "{{ input.n }}", {"x": 2}]),
            (2, Some(id)) => json!(format!("{{{{ nodes.{id}.output }}}}")),
            (3, _) => json!({"b": 1, "a": "{{ input.flag }}"}),
            _ => json!("{{ input.items }}"),
        }
    }
}
