//! `switch`: leaves by the first case whose expression is true, else by `default`.

use serde_json::Value;
use std::collections::HashSet;

use crate::expression::{Fuel, Program, References, Scope};
use crate::workflow::definition::Reader;

use super::condition::evaluate_bool;
use super::{Step, StepError};

/// The most cases of one switch.
const MAX_CASES: usize = 100;

/// `cases: [{name, expression}]`.
#[derive(Debug, Clone)]
pub struct Switch {
    cases: Vec<Case>,
}

#[derive(Debug, Clone)]
struct Case {
    name: String,
    expression: Program,
}

impl Switch {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let list = reader.required_list("cases");
        let pointer = reader.pointer_of("cases");
        if let Some(list) = list
            && (list.is_empty() || list.len() > MAX_CASES)
        {
            reader.report("cases", "out_of_range", format!("a switch has 1 to {MAX_CASES} cases"));
            return None;
        }
        let mut names = HashSet::new();
        let mut cases = Vec::new();
        for (index, value) in list.unwrap_or_default().iter().enumerate() {
            let Some(mut case) = Reader::open(value, &format!("{pointer}/{index}"), reader.problems()) else {
                continue;
            };
            let name = case.required_text("name");
            let expression = case.required_expression("expression");
            if let Some(name) = name {
                if name.is_empty() || name.len() > 64 || name == "default" || name == "error" {
                    case.report(
                        "name",
                        "invalid_name",
                        "a case name has 1 to 64 bytes and is not default or error",
                    );
                } else if !names.insert(name) {
                    case.report("name", "duplicate_name", format!("there is a case `{name}` already"));
                }
            }
            case.finish();
            if let (Some(name), Some(expression)) = (name, expression) {
                cases.push(Case { name: name.to_owned(), expression });
            }
        }
        reader.finish();
        list.map(|_| Self { cases })
    }

    /// The names of its cases, in order.
    pub fn case_names(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().map(|case| case.name.as_str())
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let mut taken = "default";
        for (index, case) in self.cases.iter().enumerate() {
            if evaluate_bool(&case.expression, &format!("/cases/{index}/expression"), scope, fuel)? {
                taken = &case.name;
                break;
            }
        }
        Ok(Step::Complete { output: Value::String(taken.to_owned()), handle: Some(taken.to_owned()) })
    }

    pub(super) fn references(&self) -> References {
        self.cases.iter().fold(References::default(), |mut all, case| {
            all.extend(case.expression.references());
            all
        })
    }
}
