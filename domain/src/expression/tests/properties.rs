//! Properties over random expressions.

use super::{context, scope};
use crate::expression::{Credentials, Fuel, Program, Template};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const TOKENS: [&str; 64] = [
    "input",
    "nodes",
    ".",
    ".",
    "amount",
    "tags",
    "items",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "&&",
    "||",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    "0",
    "1",
    "2.5",
    "7u",
    "'a'",
    "\"x\"",
    "''",
    "b'q'",
    "true",
    "false",
    "null",
    ".map(x,",
    ".all(x,",
    ".filter(x,",
    ".exists(y,",
    "x",
    "y",
    "size(",
    "int(",
    "string(",
    "has(",
    ".matches(",
    ".split(",
    ".join(",
    ".replace(",
    "9223372036854775807",
    "-9223372036854775808",
    "now()",
    "uuid()",
    "duration('1h')",
    "timestamp(0)",
    ".?",
    "{{",
    "}}",
    "é",
];

/// A small expression that means the same to the `cel` crate and to us.
fn common_expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (-3_i64..4).prop_map(|number| format!("({number})")),
        Just("true".to_owned()),
        Just("false".to_owned()),
        prop::sample::select(vec!["'a'", "'ab'", "''", "1.5", "2.0", "[1, 2]", "['a']"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            inner.clone().prop_map(|a| format!("(!{a})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("size({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.contains({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[1, 2].all(x, {a} == x || {b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {b}].map(x, x)")),
        ]
    })
}

/// What the `cel` crate makes of `source`. Its parser needs a large stack in debug builds.
fn by_the_crate(sources: Vec<String>) -> Vec<Option<Value>> {
    fn to_json(value: &cel::Value) -> Option<Value> {
        Some(match value {
            cel::Value::Null => Value::Null,
            cel::Value::Bool(value) => json!(value),
            cel::Value::Int(number) => json!(number),
            cel::Value::UInt(number) => json!(number),
            cel::Value::Float(number) if number.is_finite() => json!(number),
            cel::Value::String(text) => json!(**text),
            cel::Value::List(items) => Value::Array(items.iter().map(to_json).collect::<Option<_>>()?),
            _ => return None,
        })
    }
    let evaluate = |source: &String| {
        let program = cel::Program::compile(source).ok()?;
        to_json(&program.execute(&cel::Context::default()).ok()?)
    };
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || sources.iter().map(evaluate).collect())
        .expect("a thread")
        .join()
        .expect("no panic")
}

#[test]
fn where_the_cel_crate_has_a_result_ours_is_the_same() {
    let mut runner = TestRunner::deterministic();
    let mut sources = Vec::new();
    for _ in 0..2_000 {
        sources.push(common_expression().new_tree(&mut runner).expect("an expression").current());
    }
    let theirs = by_the_crate(sources.clone());
    assert!(theirs.iter().flatten().count() > 300);
    for (source, expected) in sources.iter().zip(theirs) {
        let Some(expected) = expected else { continue };
        let ours =
            Program::parse(source).expect(source).evaluate(&scope(&Value::Null), &mut Fuel::standard());
        assert_eq!(ours, Ok(expected), "{source}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_text_makes_parsing_or_evaluating_panic(
        indices in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let source: String = indices.iter().map(|index| *index.get(&TOKENS)).collect();
        let context = context();
        if let Ok(program) = Program::parse(&source) {
            let first = program.evaluate(&scope(&context), &mut Fuel::new(20_000, 1 << 20));
            prop_assert_eq!(first, program.evaluate(&scope(&context), &mut Fuel::new(20_000, 1 << 20)));
        }
        if let Ok(template) = Template::parse(&json!({ "a": source }), Credentials::Allowed) {
            let _ = template.render(&scope(&context), &mut Fuel::new(20_000, 1 << 20));
        }
    }

    #[test]
    fn any_characters_at_all_are_parsed_or_refused(source in ".{0,60}") {
        let _ = Program::parse(&source);
        let _ = Template::parse_text(&source);
    }

    #[test]
    fn a_text_without_braces_renders_as_itself(text in "[^{]{0,40}") {
        let template = Template::parse_text(&text).expect("a text");
        let rendered = template.render(&scope(&Value::Null), &mut Fuel::standard()).expect("a value");
        prop_assert_eq!(rendered, Value::String(text));
    }
}
