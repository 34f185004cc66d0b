//! What expressions mean.

use super::{context, evaluate_over, scope};
use crate::expression::{EvaluationError, Fuel, Program};
use serde_json::{Value, json};

#[track_caller]
fn gives(source: &str, expected: Value) {
    assert_eq!(evaluate_over(source, &context()), Ok(expected), "{source}");
}

#[track_caller]
fn fails(source: &str, reason: &str) {
    match evaluate_over(source, &context()) {
        Err(EvaluationError::Failed { message }) => {
            assert!(message.contains(reason), "{source}: `{message}` does not contain `{reason}`");
        }
        other => panic!("{source}: {other:?}"),
    }
}

#[track_caller]
fn refused(source: &str, code: &str, text: &str) {
    let error = Program::parse(source).expect_err(source);
    assert_eq!(error.code, code, "{source}: {error}");
    assert!(error.to_string().contains(text), "{source}: `{error}` does not contain `{text}`");
}

#[test]
fn json_integers_are_ints_and_stay_integers() {
    gives("input.amount + 1", json!(151));
    gives("input.amount * 2 - 10 / 3 % 2", json!(299));
    gives("input.big == 18446744073709551615u", json!(true));
    gives("input.big", json!(18_446_744_073_709_551_615_u64));
    gives("input.rate * 2.0", json!(3.0));
    gives("double(input.amount) + input.rate", json!(151.5));
    gives("-9223372036854775808", json!(i64::MIN));
    gives("0x10 + -3", json!(13));
    gives("1e3", json!(1000.0));
    gives("7 - 2 - 1", json!(4));
    gives("-(2) * 3", json!(-6));
    gives("- -2", json!(2));
}

#[test]
fn arithmetic_that_has_no_result_is_an_error_with_advice() {
    fails("input.amount + 1.5", "use double(x)");
    fails("input.amount + 1.5", "in `input.amount + 1.5`");
    fails("9223372036854775807 + 1", "does not fit 64 bits");
    fails("-9223372036854775808 / -1", "does not fit 64 bits");
    fails("-9223372036854775808 % -1", "does not fit 64 bits");
    fails("1 / 0", "division by zero");
    fails("1 % 0", "division by zero");
    fails("'a' + 1", "use string(x)");
    fails("input.none + 1", "null");
    fails("input.big + 1", "use int(x)");
    fails("1.0 / 0.0", "JSON cannot write");
    fails("-input.name", "does not apply to string");
    fails("!input.amount", "does not apply to int");
}

#[test]
fn numbers_compare_by_value_whatever_their_type() {
    gives("1 == 1.0 && 1u == 1 && 2u > 1.5 && 1 < 1.5 && 2 >= 2u", json!(true));
    gives("9007199254740993 == 9007199254740992.0", json!(false));
    gives("9223372036854775807 < 9223372036854775808.0", json!(true));
    gives("input.big > 0 && -1 < input.big", json!(true));
    gives("double('NaN') == double('NaN')", json!(false));
    gives("-0.5 < 0 && 0.5 > 0", json!(true));
    gives("1 == '1' || null == false", json!(false));
    gives("{'a': [1, 2.0]} == {'a': [1.0, 2]}", json!(true));
    fails("input.none > 100", "no order");
    fails("'a' < 1", "no order");
}

#[test]
fn logic_absorbs_a_failure_that_does_not_decide() {
    gives("input.missing == 1 || true", json!(true));
    gives("false && input.missing == 1", json!(false));
    gives("input.missing == 1 && false", json!(false));
    gives("[1, 'a', 3].exists(x, x > 2)", json!(true));
    gives("[1, 'a', 3].all(x, x > 2)", json!(false));
    fails("input.missing == 1 || false", "no key `missing`");
    fails("[1, 'a'].exists(x, x > 2)", "no order");
    fails("1 && true", "expected a bool");
    gives("true ? 1 : input.missing", json!(1));
    gives("false ? 1 : false ? 2 : 3", json!(3));
    fails("1 ? 2 : 3", "expected a bool");
}

#[test]
fn a_missing_key_is_named_with_the_keys_there_are() {
    fails("input.totl", "there is no key `totl`; there is amount, big, items");
    fails("input.totl", "in `input.totl`");
    fails("nodes.fetch.output.body.totl + 1", "in `nodes.fetch.output.body.totl`");
    fails("input.tags[5]", "index 5 is outside the list of 2");
    fails("input.tags[-1]", "outside");
    fails("input.name.first", "a string has no field `first`");
    fails("{}.a", "the map is empty");
    fails("inptu.a", "there is no name `inptu`");
}

#[test]
fn has_is_false_for_anything_missing_on_the_path() {
    gives("has(input.amount)", json!(true));
    gives("has(input.none)", json!(true));
    gives("has(input.none.x)", json!(false));
    gives("has(input.a.b.c)", json!(false));
    gives("has(nodes.skipped.output)", json!(false));
    gives("has(nodes['fetch'].output.status)", json!(true));
    fails("has(input.amount.x)", "no fields");
    refused("has(1)", "expression_syntax", "takes a field");
}

#[test]
fn optional_fields_have_a_default() {
    gives("input.?amount.orValue(1)", json!(150));
    gives("input.?a.b.c.orValue(1)", json!(1));
    gives("input[?'a'].hasValue()", json!(false));
    gives("input.tags[?0].value()", json!("a"));
    gives("[input.?a, input.?amount]", json!([null, 150]));
    fails("input.?a.value()", "no value");
}

#[test]
fn lists_and_maps_work() {
    gives("[1, 2] + [3]", json!([1, 2, 3]));
    gives("'x' in input.tags && !('y' in input.tags) && 'amount' in input && !(1 in input)", json!(true));
    gives("size(input.tags) + input.items.size() + size({'a': 1})", json!(5));
    gives("input.items[1].sku", json!("p2"));
    gives("input['my-key'] + input.`my-key`", json!(2));
    gives("{'b': 1, 'a': [true, null]}", json!({"a": [true, null], "b": 1}));
    gives("{1: 'x', true: 'y'}", json!({"1": "x", "true": "y"}));
    gives("{1: 'x'}[1.0] + {2u: 'y'}[2]", json!("xy"));
    gives("[[1, 2,], [3],][0][1]", json!(2));
    fails("{'a': 1, 'a': 2}", "twice");
    fails("{1.5: 1}", "cannot be a key");
    fails("input.tags['a']", "no index of type string");
}

#[test]
fn comprehensions_walk_lists_and_keys() {
    gives("input.items.map(i, i.qty * 2)", json!([4, 0]));
    gives("input.items.map(i, i.qty > 0, i.sku)", json!(["p1"]));
    gives("input.items.filter(i, i.qty == 0)", json!([{"sku": "p2", "qty": 0}]));
    gives("input.items.exists_one(i, i.qty == 0) && input.tags.all(t, t.size() == 1)", json!(true));
    gives("{'b': 1, 'a': 2}.map(k, k)", json!(["a", "b"]));
    gives("[1, 2].map(x, [10, 20].map(y, x + y))", json!([[11, 21], [12, 22]]));
    gives("[1, 2].map(x, [x].map(x, x + 1)[0] + x)", json!([3, 5]));
    gives("[].all(x, false) && ![].exists(x, true)", json!(true));
    gives("([1].exists(x, x.y) || true) && [5].map(z, z) == [5]", json!(true));
    fails("input.amount.map(x, x)", "cannot be walked");
    refused("[1].map(1, 2)", "expression_syntax", "takes a variable");
    refused("[1].all(x)", "expression_syntax", "takes a variable");
}

#[test]
fn text_functions_count_code_points() {
    gives("size(input.text)", json!(5));
    gives("input.text.substring(1, 3) + input.text.charAt(4)", json!("élo"));
    gives("input.text.indexOf('l') + input.text.lastIndexOf('l')", json!(5));
    gives("input.text.indexOf('l', 3)", json!(3));
    gives("'abc'.indexOf('z')", json!(-1));
    gives("' a,b '.trim().split(',')", json!(["a", "b"]));
    gives("'abc'.split('') + 'a-b-c'.split('-', 2)", json!(["a", "b", "c", "a", "b-c"]));
    gives("['a', 'b'].join('-') + ['c', 'd'].join()", json!("a-bcd"));
    gives("'aXbX'.replace('X', '..') + 'aa'.replace('a', 'b', 1)", json!("a..b..ba"));
    gives("'Ab'.lowerAscii() + 'Ab'.upperAscii()", json!("abAB"));
    gives("'abc'.contains('b') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc')", json!(true));
    gives("'a1'.matches('^[a-z][0-9]$') && matches('x', 'x') && !'é'.matches(input.name)", json!(true));
    gives("'b' > 'a' && 'a' + 'b' == 'ab'", json!(true));
    fails("'abc'.charAt(9)", "position 9 is outside");
    fails("'abc'.substring(2, 1)", "ends before");
    fails("[1].join()", "use map(x, string(x))");
    fails("'a'.matches('a' + '(')", "not a valid regular expression");
    refused("'a'.matches('(')", "expression_syntax", "not a valid regular expression");
}

#[test]
fn literals_are_decoded() {
    gives(r#""a\n\"\x41\u00e9\U0001F600\101""#, json!("a\n\"Aé😀A"));
    gives(r"r'a\n' + R'\'", json!(r"a\n\"));
    gives("'''a'b\nc'''", json!("a'b\nc"));
    gives("'' + \"\"", json!(""));
    gives(r"string(b'\xc3\xa9') + string(bytes('x'))", json!("éx"));
    gives("1 // a comment\n + 2", json!(3));
    refused(r"'\q'", "expression_syntax", "escape");
    refused("'abc", "expression_syntax", "no closing quote");
    refused("9223372036854775808", "expression_syntax", "write 9223372036854775808u");
}

#[test]
fn conversions_follow_the_language() {
    gives("int('42') + int(3.9) + int(2u)", json!(47));
    gives("uint(3) == 3u && double('1.5') == 1.5 && bool('true')", json!(true));
    gives("string(1) + string(1.5) + string(true) + string(2.0)", json!("11.5true2"));
    gives("type(1) == int && type('a') == string && type(null) == null_type && type(1) != uint", json!(true));
    gives("dyn(1)", json!(1));
    fails("int('x')", "`x` is not an int");
    fails("int(1e30)", "does not fit int");
    fails("uint(-1)", "does not fit uint");
    fails("string([1])", "does not convert");
    fails("b'abc'", "bytes, which JSON cannot hold");
}

#[test]
fn times_are_rfc_3339_and_durations_seconds() {
    gives("timestamp('2026-11-21T09:30:00Z') + duration('1h30m')", json!("2026-11-21T11:00:00.000Z"));
    gives("timestamp('2026-11-21T09:30:03.5Z') - timestamp('2026-11-21T09:30:00Z')", json!("3.5s"));
    gives("duration('90s') == duration('1.5m') && duration('2h') > duration('1h')", json!(true));
    gives("timestamp('2026-11-21T09:30:00Z').getFullYear()", json!(2026));
    gives("timestamp('2026-11-21T09:30:00Z').getMonth() + timestamp(0).getDayOfWeek()", json!(14));
    gives("duration('90m').getHours() + int(timestamp(5))", json!(6));
    gives("now()", json!("2026-11-21T02:40:00.007Z"));
    gives("now() > timestamp('2026-01-01T00:00:00Z') && now() == now()", json!(true));
    gives("'at ' + string(now() - duration('7ms'))", json!("at 2026-11-21T02:40:00.000Z"));
    gives("duration('-1.25s')", json!("-1.25s"));
    fails("timestamp('yesterday')", "not an RFC 3339 time");
    fails("timestamp(999999999999)", "outside the years");
    fails("timestamp(9223372036854775807)", "outside the years");
    fails("duration('1us')", "whole milliseconds");
    fails("duration('9223372036854775807h')", "not a duration");
}

#[test]
fn ids_differ_within_an_evaluation_and_repeat_with_it() {
    let context = json!({});
    let ids = evaluate_over("[uuid(), uuid()]", &context).expect("ids");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(evaluate_over("[uuid(), uuid()]", &context), Ok(ids));
}

#[test]
fn mistakes_are_found_when_the_program_is_parsed() {
    refused("foo(1)", "unknown_function", "no function `foo`");
    refused("input.foo(1)", "unknown_function", "no function `foo` at 1:7");
    refused("trim('a')", "unknown_function", "x.trim(…)");
    refused("'a'.int()", "unknown_function", "write `int(…)`");
    refused("size()", "unknown_function", "");
    refused("'a'.contains()", "unknown_function", "takes 1 arguments, not 0");
    refused("", "expression_syntax", "empty");
    refused("1 +\n  ?", "expression_syntax", "expected a value, found `?` at 2:3");
    refused("a = 1", "expression_syntax", "equality is `==`");
    refused("(1", "expression_syntax", "expected `)`, found the end");
    refused("1 2", "expression_syntax", "found `2`");
    refused("if", "expression_syntax", "reserved");
    refused("Money{units: 1}", "expression_syntax", "found `{`");
    refused("1a", "expression_syntax", "runs into a word");
    refused("a#b", "expression_syntax", "unexpected character `#`");
}

#[test]
fn free_names_are_known_without_evaluation() {
    let source = "nodes.a.output + nodes['b-c'].output + input.x.map(nodes2, nodes2.y) + int(type(1) == int ? '1' : '')";
    let program = Program::parse(source).expect("a program");
    let references = program.references();
    assert_eq!(references.roots.iter().map(String::as_str).collect::<Vec<_>>(), ["input", "nodes"]);
    assert_eq!(references.nodes.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b-c"]);
    assert!(!references.dynamic_nodes && !references.credentials);
    let program =
        Program::parse("nodes[input.x] == credentials.a && has(nodes.z.output)").expect("a program");
    assert!(program.references().dynamic_nodes && program.references().credentials);
    assert!(program.references().nodes.contains("z"));
    let hidden = Program::parse("[1].all(nodes, nodes == 1)").expect("a program");
    assert!(hidden.references().roots.is_empty());
}

#[test]
fn the_same_evaluation_spends_the_same_fuel() {
    let context = context();
    let program = Program::parse("input.name.matches('^A[a-z]+$') && input.items.all(i, i.qty >= 0)")
        .expect("a program");
    let spend = || {
        let mut fuel = Fuel::standard();
        assert_eq!(program.evaluate(&scope(&context), &mut fuel), Ok(json!(true)));
        fuel
    };
    assert_eq!(spend(), spend());
}

#[test]
fn programs_and_templates_cross_threads() {
    fn crosses_threads<T: Send + Sync + Clone + 'static>() {}
    crosses_threads::<Program>();
    crosses_threads::<crate::expression::Template>();
}
