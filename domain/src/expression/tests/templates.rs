//! Templates, credentials and typed parts.

use super::{context, render, scope};
use crate::expression::{
    Credentials, EvaluationError, Fuel, Template, TemplateProblem, has_credentials, resolve_parts,
};
use serde_json::{Value, json};

fn problems(value: &Value, credentials: Credentials) -> Vec<(String, &'static str)> {
    let problems: Vec<TemplateProblem> = Template::parse(value, credentials).expect_err("problems");
    problems.into_iter().map(|problem| (problem.pointer, problem.code)).collect()
}

fn render_for_worker(template: &Value, context: &Value) -> Value {
    let template = Template::parse(template, Credentials::Allowed).expect("a template");
    template.render(&scope(context), &mut Fuel::standard()).expect("a value")
}

fn resolve(config: Value) -> Value {
    resolve_parts(config, &mut |name, field| Ok::<_, ()>(format!("<{name}.{field}>"))).expect("resolved")
}

#[test]
fn a_text_that_is_one_template_gives_the_typed_value() {
    assert_eq!(render(&json!("{{ input.amount + 1 }}"), &context()), json!(151));
    assert_eq!(render(&json!({"a": ["{{input.tags}}", 1]}), &context()), json!({"a": [["a", "x"], 1]}));
    assert_eq!(render(&json!("{{ input.none }}"), &context()), json!(null));
}

#[test]
fn pieces_are_joined_as_text() {
    let text =
        "n={{ input.amount }} {{ input.name }} {{ input.tags }} {{ input.none }} {{ input.rate }} {{ true }}";
    assert_eq!(render(&json!(text), &context()), json!(r#"n=150 Ada ["a","x"] null 1.5 true"#));
    assert_eq!(render(&json!(" {{ 1 }}"), &context()), json!(" 1"));
    assert_eq!(render(&json!("{{ '{{' }}x}}"), &context()), json!("{{x}}"));
    assert_eq!(render(&json!("{{ {'a': {'b': '}}'}} }}"), &context()), json!({"a": {"b": "}}"}}));
}

#[test]
fn every_problem_is_reported_with_its_pointer() {
    let value = json!({"a/b": ["{{ 1 + }}", "ok", "{{ open"], "c~": {"$parts": []}, "d": "{{ foo() }}", "e": "{{ }}"});
    let mut found = problems(&value, Credentials::Allowed);
    found.sort();
    let expected = [
        ("/a~1b/0", "expression_syntax"),
        ("/a~1b/2", "template_syntax"),
        ("/c~0/$parts", "reserved_key"),
        ("/d", "unknown_function"),
        ("/e", "expression_syntax"),
    ];
    assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    let deep = (0..70).fold(json!("{{ 1 }}"), |inner, _| json!([inner]));
    assert_eq!(problems(&deep, Credentials::Refused)[0].1, "template_too_deep");
}

#[test]
fn the_problems_of_a_template_that_is_wrong_everywhere_are_bounded() {
    let items = vec!["{{ 1 + }}"; 5_000];
    assert_eq!(problems(&json!({ "a": items }), Credentials::Refused).len(), 100);
    let fields: serde_json::Map<_, _> = (0..5_000).map(|number| (format!("${number}"), json!(1))).collect();
    assert_eq!(problems(&Value::Object(fields), Credentials::Refused).len(), 100);
}

#[test]
fn a_key_that_is_too_long_is_one_problem_of_its_object_and_the_rest_is_still_checked() {
    let value =
        json!({"a": {"k".repeat(1_025): vec!["{{ 1 + }}"; 5_000], "l".repeat(100_000): 1, "b": "{{ }}"}});
    let mut found = problems(&value, Credentials::Refused);
    found.sort();
    assert_eq!(found, [("/a".to_owned(), "key_too_long"), ("/a/b".to_owned(), "expression_syntax")]);
    let fits = json!({"k".repeat(1_024): "{{ 1 }}"});
    assert_eq!(render(&fits, &json!({})), json!({"k".repeat(1_024): 1}));
}

#[test]
fn a_pointer_through_many_long_keys_leads_to_a_value_around_the_problem() {
    let key = "/".repeat(1_000);
    let nested = |text| (0..10).fold(json!(text), |inner, _| json!({ key.as_str(): inner }));
    let found = problems(&nested("{{ 1 + }}"), Credentials::Refused);
    let two_keys = format!("/{0}/{0}", "~1".repeat(1_000));
    assert_eq!(found, [(two_keys.clone(), "expression_syntax")]);
    let template = Template::parse(&nested("{{ input.nope }}"), Credentials::Refused).expect("a template");
    let error = template.render(&scope(&context()), &mut Fuel::standard()).expect_err("no such key");
    assert_eq!(error.pointer, two_keys);
}

#[test]
fn a_failure_names_the_place_and_the_expression() {
    let template = json!({"list": [1, {"x/y": "a {{ input.nope }}"}]});
    let template = Template::parse(&template, Credentials::Refused).expect("a template");
    let error = template.render(&scope(&context()), &mut Fuel::standard()).expect_err("no such key");
    assert_eq!((error.pointer.as_str(), error.expression.as_str()), ("/list/1/x~1y", "input.nope"));
    assert!(matches!(error.error, EvaluationError::Failed { .. }));
    assert!(error.to_string().contains("`/list/1/x~1y` in `{{ input.nope }}`"), "{error}");
}

#[test]
fn a_template_without_expressions_is_constant() {
    let value = json!({"a": [1, "x }} y", null]});
    let template = Template::parse(&value, Credentials::Refused).expect("a template");
    assert!(template.is_constant());
    assert_eq!(render(&value, &json!({})), value);
    let template =
        Template::parse(&json!(["{{ nodes.a.output + input.x }}"]), Credentials::Refused).expect("ok");
    assert!(!template.is_constant() && template.references().nodes.contains("a"));
    assert_eq!(
        Template::parse_text("{{ 1 }}"),
        Template::parse(&json!("{{ 1 }}"), Credentials::Refused).map_err(|_| unreachable!())
    );
}

#[test]
fn ids_differ_across_the_expressions_of_a_template() {
    let ids = render(&json!(["{{ uuid() }}", "{{ uuid() }}"]), &json!({}));
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn fuel_is_shared_by_the_expressions_of_a_template() {
    let list: Vec<_> = (0..40).map(|_| "{{ l.map(x, l) }}").collect();
    let template = Template::parse(&json!(list), Credentials::Refused).expect("a template");
    let context = json!({"l": (0..150).collect::<Vec<_>>()});
    let error = template.render(&scope(&context), &mut Fuel::standard()).expect_err("too much");
    assert!(matches!(error.error, EvaluationError::OutOfFuel { .. }));
}

#[test]
fn credentials_become_typed_parts() {
    let template = json!({"h": "Bearer {{ input.name }}{{ '-' }}{{ credentials.shop }}", "k": "{{ credentials.db.password }}"});
    let rendered = render_for_worker(&template, &context());
    let expected = json!({
        "h": {"$parts": ["Bearer Ada-", {"$credential": "shop", "field": "value"}]},
        "k": {"$parts": [{"$credential": "db", "field": "password"}]},
    });
    assert_eq!(rendered, expected);
    assert!(has_credentials(&rendered));
    assert_eq!(resolve(rendered), json!({"h": "Bearer Ada-<shop.value>", "k": "<db.password>"}));
    let template = Template::parse(&template, Credentials::Allowed).expect("a template");
    assert_eq!(template.credentials().into_iter().collect::<Vec<_>>(), ["db", "shop"]);
    assert!(template.references().credentials);
}

#[test]
fn a_credential_anywhere_else_is_refused() {
    for text in [
        "{{ credentials }}",
        "{{ 'a' + credentials.x }}",
        "{{ credentials.x.y.z }}",
        "{{ [credentials.x] }}",
        "{{ has(credentials.x) }}",
        "{{ credentials[input.x] }}",
        "{{ credentials.?x }}",
        "{{ credentials.x.trim() }}",
    ] {
        let found = problems(&json!({ "a": text }), Credentials::Allowed);
        assert_eq!(found, [("/a".to_owned(), "credentials_not_allowed")], "{text}");
    }
    let found = problems(&json!("{{ credentials.x }}"), Credentials::Refused);
    assert_eq!(found, [(String::new(), "credentials_not_allowed")]);
}

#[test]
fn text_from_input_never_becomes_a_template_or_a_credential() {
    let context = json!({"input": {
        "t": "{{ credentials.x }}", "p": {"$parts": [{"$credential": "x", "field": "value"}]},
        "deep": [{"a": {"$data": {"$credential": "x"}}}], "plain": {"a": 1},
    }});
    let template = json!({"t": "{{ input.t }}", "u": "a {{ input.t }} {{ credentials.y }}", "p": "{{ input.p }}",
        "d": "{{ input.deep }}", "s": "x{{ input.p }}", "plain": "{{ input.plain }}", "made": "{{ {'$ref': 1} }}"});
    let rendered = render_for_worker(&template, &context);
    assert_eq!(rendered["p"], json!({"$data": context["input"]["p"]}));
    assert_eq!(rendered["d"], json!({"$data": context["input"]["deep"]}));
    assert_eq!(rendered["plain"], json!({"a": 1}));
    let mut asked = Vec::new();
    let resolved = resolve_parts(rendered, &mut |name, _| {
        asked.push(name.to_owned());
        Ok::<_, ()>("secret {{ credentials.z }}".to_owned())
    });
    let resolved = resolved.expect("resolved");
    assert_eq!(asked, ["y"]);
    assert_eq!(resolved["t"], json!("{{ credentials.x }}"));
    assert_eq!(resolved["u"], json!("a {{ credentials.x }} secret {{ credentials.z }}"));
    assert_eq!(resolved["p"], context["input"]["p"]);
    assert_eq!(resolved["d"], context["input"]["deep"]);
    assert_eq!(resolved["made"], json!({"$ref": 1}));
    assert!(!has_credentials(&json!({"a": {"$data": {"$parts": [{"$credential": "x", "field": "value"}]}}})));
}

#[test]
fn a_lookup_that_fails_ends_the_resolution() {
    let config = json!([{"$parts": [{"$credential": "x", "field": "value"}]}]);
    assert_eq!(resolve_parts(config, &mut |name, _| Err(name.to_owned())), Err("x".to_owned()));
}
