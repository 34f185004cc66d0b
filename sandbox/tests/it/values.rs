//! What goes in and comes out.

use sandbox::{Limit, Limits, SandboxError};
use serde_json::{Value, json};

use crate::support::{failure, limit, patient, sandbox, value};

#[tokio::test]
async fn the_fields_of_the_context_are_variables() {
    let sandbox = sandbox();
    let context = json!({
        "input": {"amount": 150, "tags": ["a", "x"]},
        "nodes": {"fetch": {"output": {"body": {"total": 7.5}}}},
        "vars": {"limit": 100}, "item": null, "key": "k", "index": 3,
    });
    for (source, expected) in [
        ("input.amount > vars.limit && input.tags.includes('x')", json!(true)),
        ("nodes.fetch.output.body.total * 2", json!(15)),
        ("nodes.fetch.output.body.total + 1", json!(8.5)),
        ("[item, key, index]", json!([null, "k", 3])),
        ("({a: input.tags.map(t => t.toUpperCase())})", json!({"a": ["A", "X"]})),
        ("input.tags.map(t => `<${t}>`).join('') // with a comment", json!("<a><x>")),
        ("(() => { let n = 0; for (const t of input.tags) n += t.length; return n; })()", json!(2)),
        ("1,\n2", json!(2)),
        ("/^a+$/.test(input.tags[0]) ? 'yes' : 'no'", json!("yes")),
        ("new Map([[1, 2]]).get(1)", json!(2)),
        ("typeof missing", json!("undefined")),
    ] {
        assert_eq!(value(sandbox.evaluate(source, &context, patient()).await), expected, "{source}");
    }
}

#[tokio::test]
async fn json_goes_through_as_it_is() {
    let sandbox = sandbox();
    for there_and_back in [
        json!(null),
        json!([true, false]),
        json!([0, -1, 42, 9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64]),
        json!([0.5, -1e-7, 1.5e300]),
        json!("quotes \" \\ and \u{0} \u{2028} and 🙂"),
        json!({"": 1, "a b": 2, "constructor": 3, "__proto__": {"x": 1}, "toString": 4}),
        json!({"nested": [{"deep": [[[{}]]]}]}),
    ] {
        let context = json!({ "x": there_and_back });
        assert_eq!(value(sandbox.evaluate("x", &context, patient()).await), there_and_back);
    }
    let whole = value(sandbox.evaluate("[3.0, 6 / 2, 2 ** 40, -0]", &json!({}), patient()).await);
    assert_eq!(whole, json!([3, 3, 1_099_511_627_776_i64, 0]));
}

#[tokio::test]
async fn what_is_not_json_is_a_failure_that_names_it() {
    let sandbox = sandbox();
    for (source, says) in [
        ("undefined", "undefined"),
        ("input.missing", "undefined"),
        ("() => 1", "a function"),
        ("class {}", "a function"),
        ("Symbol('x')", "a symbol"),
        ("10n ** 20n", "a BigInt"),
        ("({big: 1n})", "BigInt"),
        ("NaN", "not finite"),
        ("1 / 0", "not finite"),
        ("Promise.resolve(1)", "a promise"),
        ("(async () => 1)()", "a promise"),
        ("((a) => (a.self = a, a))({})", "circular"),
        ("'\\ud800'", "not valid Unicode"),
        ("({toJSON() { throw new Error('no JSON') }})", "no JSON"),
        ("({toJSON() { return undefined }})", "not JSON"),
    ] {
        let message = failure(sandbox.evaluate(source, &json!({"input": {}}), patient()).await);
        assert!(message.contains(says), "{source}: {message}");
    }
    // Within JSON they are what `JSON.stringify` makes of them.
    let value = value(
        sandbox
            .evaluate("({a: undefined, b: [undefined, NaN], c: new Date(0)})", &json!({}), patient())
            .await,
    );
    assert_eq!(value, json!({"b": [null, null], "c": "1970-01-01T00:00:00.000Z"}));
}

#[tokio::test]
async fn what_is_thrown_is_told() {
    let sandbox = sandbox();
    for (source, says) in [
        ("missing + 1", "ReferenceError: missing is not defined at 1:1"),
        ("1 +\n input.a.b", "at 2:"),
        ("(() => { throw new Error('as told') })()", "Error: as told"),
        ("(() => { throw 'a text' })()", "a text was thrown"),
        ("(() => { throw 7 })()", "7 was thrown"),
        ("(() => { throw {a: 1} })()", "object was thrown"),
        ("(() => { throw {get message() { throw 1 }} })()", "was thrown"),
        ("null.x", "TypeError"),
        ("x = 1", "ReferenceError"),
    ] {
        let message = failure(sandbox.evaluate(source, &json!({"input": {}}), patient()).await);
        assert!(message.contains(says), "{source}: {message}");
    }
    let long = failure(
        sandbox.evaluate("(() => { throw new Error('é'.repeat(5000)) })()", &json!({}), patient()).await,
    );
    assert!(long.len() <= 1024, "{}", long.len());
}

#[tokio::test]
async fn only_one_expression_is_taken() {
    let sandbox = sandbox();
    for source in [
        "",
        "1 +",
        "let a = 1",
        "if (true) 1",
        "1; 2",
        "1); (2",
        "1)); while (true) {} ((1",
        "1]); ([2",
        "1], [2",
        "...[1]",
        "1) => (1",
        "return 1",
        "import('x') from",
        "a\u{0}b",
        "'open",
        "/* open",
        "await 1",
    ] {
        let result = sandbox.evaluate(source, &json!({}), patient()).await;
        assert!(matches!(result, Err(SandboxError::Syntax { .. })), "{source}: {result:?}");
    }
    let result = sandbox.evaluate("[1,\n  2 3]", &json!({}), patient()).await;
    let Err(SandboxError::Syntax { message }) = result else { panic!("{result:?}") };
    assert!(message.contains("SyntaxError") && message.contains(" at 2:"), "{message}");
}

#[tokio::test]
async fn sizes_and_depths_are_limited_on_both_sides() {
    let sandbox = sandbox();
    let small = Limits { input_bytes: 1000, output_bytes: 1000, ..patient() };
    let context = json!({"x": "y".repeat(980)});
    assert_eq!(value(sandbox.evaluate("x.length", &context, small).await), 980);
    assert_eq!(limit(sandbox.evaluate("x.length + 12345678", &context, small).await), Limit::Input);
    assert_eq!(value(sandbox.evaluate("'x'.repeat(998)", &json!({}), small).await), "x".repeat(998));
    assert_eq!(limit(sandbox.evaluate("'x'.repeat(999)", &json!({}), small).await), Limit::Output);
    let megabyte = "x".repeat(1024 * 1024);
    assert_eq!(limit(sandbox.evaluate("1", &json!({ "m": megabyte }), patient()).await), Limit::Input);
    assert_eq!(limit(sandbox.evaluate(&megabyte, &json!({}), patient()).await), Limit::Input);
    assert_eq!(limit(sandbox.evaluate("'x'.repeat(1 << 20)", &json!({}), patient()).await), Limit::Output);

    let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    let context = |levels: usize| json!({ "x": nested(levels) });
    assert_eq!(value(sandbox.evaluate("x", &context(95), patient()).await), nested(95));
    assert_eq!(limit(sandbox.evaluate("1", &context(96), patient()).await), Limit::Depth);
    let deep = |levels: usize| {
        format!("(() => {{ let a = []; for (let i = 1; i < {levels}; i++) a = [a]; return a }})()")
    };
    assert_eq!(value(sandbox.evaluate(&deep(96), &json!({}), patient()).await), nested(96));
    for levels in [97, 120, 130, 500] {
        assert_eq!(
            limit(sandbox.evaluate(&deep(levels), &json!({}), patient()).await),
            Limit::Depth,
            "{levels}"
        );
    }
}

#[tokio::test]
async fn names_that_cannot_be_variables_do_no_harm() {
    let sandbox = sandbox();
    let context = json!({"my-key": 1, "1a": 2, "if": 3, "__proto__": {"polluted": true}, "Math": 4, "globalThis": 5, "a": 6});
    let result =
        sandbox.evaluate("[a, Math, this['my-key'], ({}).polluted === undefined]", &context, patient()).await;
    assert_eq!(value(result), json!([6, 4, 1, true]));
    for reserved in ["undefined", "NaN", "Infinity"] {
        let message = failure(sandbox.evaluate("1", &json!({ reserved: 1 }), patient()).await);
        assert!(message.contains("TypeError"), "{message}");
    }
    for not_an_object in [Value::Null, json!([1]), json!("text")] {
        let _ = sandbox.evaluate("1", &not_an_object, patient()).await;
    }
    assert_eq!(value(sandbox.evaluate("1", &json!({}), patient()).await), 1);
}
