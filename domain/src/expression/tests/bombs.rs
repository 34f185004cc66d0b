//! Nothing an author or a payload can write aborts, hangs or fills the memory.
//!
//! What is asserted is fuel, not time, which on a shared machine says nothing: the fuel is spent, and whatever reads or
//! builds much is charged in proportion. How long the fuel lasts is measured in release builds, by
//! `examples/expression_bombs.rs`.

use super::{evaluate_over, scope};
use crate::expression::{Budget, EvaluationError, Fuel, Program};
use serde_json::{Value, json};

/// Parses; gives the code of a refusal.
fn parse(source: &str) -> Result<Program, &'static str> {
    Program::parse(source).map_err(|error| error.code)
}

/// Evaluating must end with the budget spent.
#[track_caller]
fn runs_out(source: &str, context: &Value, budget: Budget) {
    assert_eq!(evaluate_over(source, context), Err(EvaluationError::OutOfFuel { budget }), "{source}");
}

#[test]
fn deep_nesting_is_refused() {
    for open in
        ["(", "[", "{", "a[", "a(", "[1].all(x,", "size(", "{1:", "-(", "!(", "1+(", "a?(", "x.map(y,"]
    {
        let sources = [open.repeat(40), open.repeat(16_000 / open.len()), format!("{}1", open.repeat(33))];
        for source in sources {
            let code = parse(&source).expect_err(open);
            assert!(code == "expression_too_deep" || code == "unknown_function", "{open}: {code}");
        }
    }
    assert_eq!(parse(&format!("{}1{}", "(".repeat(33), ")".repeat(33))), Err("expression_too_deep"));
    assert!(parse(&format!("{}1{}", "(".repeat(32), ")".repeat(32))).is_ok());
    assert_eq!(parse(&"!".repeat(10_000)), Err("expression_too_deep"));
    assert_eq!(parse(&format!("{}1", "- ".repeat(5_000))), Err("expression_too_deep"));
    assert_eq!(parse(&format!("1{}", "<1".repeat(5_000))), Err("expression_too_deep"));
    assert_eq!(parse(&format!("a{}", ".trim()".repeat(2_000))), Err("expression_too_deep"));
    assert_eq!(parse(&"x".repeat(20_000)), Err("expression_too_long"));
}

#[test]
fn the_deepest_tree_that_parses_evaluates_on_a_small_stack() {
    let layer = "(true?-(-(1+2*";
    let source = (1..40).map(|layers| {
        let open = layer.repeat(layers);
        format!("{open}1{}", ")):0)".repeat(layers))
    });
    let programs: Vec<_> = source.filter_map(|source| Program::parse(&source).ok()).collect();
    assert!(!programs.is_empty());
    for program in programs {
        assert!(program.evaluate(&scope(&json!({})), &mut Fuel::standard()).is_ok());
    }
    let nested = (0..31).fold("1".to_owned(), |inner, _| format!("[2].map(x, {inner})[0]"));
    assert_eq!(evaluate_over(&nested, &json!({})), Ok(json!(1)));
    let trims = format!("'a'{}", ".trim()".repeat(90));
    assert_eq!(evaluate_over(&trims, &json!({})), Ok(json!("a")));
}

#[test]
fn long_chains_are_not_deep() {
    assert_eq!(evaluate_over(&format!("1{}", "+1".repeat(8_000)), &json!({})), Ok(json!(8_001)));
    assert_eq!(evaluate_over(&format!("true{}", "&&true".repeat(2_500)), &json!({})), Ok(json!(true)));
    assert_eq!(evaluate_over(&format!("{}7", "false?1:".repeat(2_000)), &json!({})), Ok(json!(7)));
    let deep = (0..100).fold(json!(5), |inner, _| json!({ "b": inner }));
    assert_eq!(evaluate_over(&format!("a{}", ".b".repeat(100)), &json!({ "a": deep })), Ok(json!(5)));
    assert!(parse(&format!("a{}", ".b".repeat(8_000))).is_ok());
    assert!(parse(&format!("[{}1]", "1,".repeat(8_000))).is_ok());
    assert!(parse(&format!("\"{}", "x".repeat(16_000))).is_err());
    assert!(parse(&"'''".repeat(5_000)).is_err());
}

#[test]
fn nested_loops_run_out_of_steps() {
    let context = json!({"l": (0..300).collect::<Vec<_>>()});
    runs_out("l.all(x, l.all(y, l.all(z, x + y + z >= 0)))", &context, Budget::Steps);
    runs_out("l.exists(x, l.exists(y, l.exists(z, z.a)))", &context, Budget::Steps);
    runs_out("l.map(x, l.map(y, l.filter(z, z > y)))", &context, Budget::Steps);
}

#[test]
fn texts_that_double_run_out_of_fuel() {
    let context = json!({"t": "x".repeat(1_000_000), "l": (0..300).collect::<Vec<_>>()});
    let doubled = (0..30).fold("'ab'".to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    runs_out(&doubled, &context, Budget::Bytes);
    let joined = (0..12).fold("'ab'".to_owned(), |inner, _| format!("[{inner}].map(x, [x,x,x,x].join())[0]"));
    runs_out(&joined, &context, Budget::Bytes);
    runs_out("l.map(x, t + t)", &context, Budget::Bytes);
    runs_out("t.replace('', t)", &context, Budget::Steps);
    runs_out("t.split('').map(c, t)", &context, Budget::Bytes);
    runs_out("l.map(x, t)", &context, Budget::Bytes);
    let shared = (0..28).fold("[1]".to_owned(), |inner, _| format!("[{inner}].map(x, [x, x])[0]"));
    assert!(matches!(evaluate_over(&shared, &context), Err(EvaluationError::OutOfFuel { .. })));
    let compared = format!("{shared} == {shared}");
    assert!(matches!(evaluate_over(&compared, &context), Err(EvaluationError::OutOfFuel { .. })));
}

#[test]
fn long_texts_are_paid_for_by_whatever_reads_them() {
    let long = "x".repeat(1_000_000);
    let context = json!({"t": long, "u": format!("{long}y"), "m": {long.clone(): 1}, "l": (0..300).collect::<Vec<_>>()});
    for expensive in [
        "t.contains('xy')",
        "t != t + ''",
        "t.matches('(a+)+$')",
        "size(t) == 0",
        "t.trim() == ''",
        "t < u && false",
        "t.indexOf('y') > 0",
        "t.charAt(999999) == 'y'",
        "m[t] == 2",
        "!(t in m)",
        "int(t) == 1",
        "u.endsWith(t)",
        "{t: 1}[t] == 2",
        "size(m.map(k, k)) == 2",
        "t.matches(t.substring(0, 1000))",
        "t.replace('y', '') == ''",
    ] {
        // Once, it costs at least a step for each 32 bytes that it reads.
        let mut fuel = Fuel::standard();
        let program = Program::parse(expensive).expect("it parses");
        let _ = program.evaluate(&scope(&context), &mut fuel);
        let paid = Fuel::standard().steps_left() - fuel.steps_left();
        assert!(paid >= 1_000_000 / 32, "{expensive}: {paid} steps");

        let source = format!("l.exists(a, l.exists(b, l.exists(c, {expensive})))");
        let result = evaluate_over(&source, &context);
        assert!(matches!(result, Err(EvaluationError::OutOfFuel { .. })), "{expensive}: {result:?}");
    }
}

#[test]
fn catastrophic_patterns_stay_linear() {
    let context = json!({"t": format!("{}!", "a".repeat(100_000)), "p": "((a{50}){50}){50}"});
    assert_eq!(evaluate_over("t.matches('(a+)+$')", &context), Ok(json!(false)));
    assert!(matches!(evaluate_over("t.matches(p)", &context), Err(EvaluationError::Failed { .. })));
    assert_eq!(parse("t.matches('((a{50}){50}){50}')"), Err("expression_syntax"));
    assert_eq!(parse(&format!("t.matches('{}')", "(".repeat(900))), Err("expression_syntax"));
    let many = format!("[{}]", r"t.matches('(\\w{4}x){3}'),".repeat(500));
    assert!(parse(&many).is_ok());
}

#[test]
fn a_value_nested_too_deeply_is_refused() {
    let deep = (0..500).fold(json!(1), |inner, _| json!([inner]));
    let context = json!({ "deep": deep });
    assert!(matches!(evaluate_over("deep", &context), Err(EvaluationError::Failed { .. })));
    assert!(matches!(evaluate_over("deep == deep", &context), Err(EvaluationError::Failed { .. })));
}
