//! Graphs, loops, branches, waits and compensation that cannot run: a row per defect, each with its pointer and code.

use domain::workflow::definition::{Definition, MAX_GRAPH_DEPTH, MAX_NODES};
use serde_json::{Value, json};

/// Nodes, edges, and the problems that are expected.
type Row = (Value, &'static [&'static str], Vec<(String, String)>);

/// The problems of nodes and edges; an edge is `source[.handle]>target`, with `<` in the place of `>` for a back edge.
fn problems(nodes: Value, edges: &[&str]) -> Vec<(String, String)> {
    problems_of(&document(nodes, edges))
}

fn problems_of(document: &Value) -> Vec<(String, String)> {
    let found = Definition::parse(document).err().unwrap_or_default();
    found.into_iter().map(|problem| (problem.pointer, problem.code.into_owned())).collect()
}

/// A definition; `start` and `end` come after the given nodes.
fn document(nodes: Value, edges: &[&str]) -> Value {
    let mut document = graph(nodes, edges);
    document["name"] = json!("bad");
    document
}

fn graph(nodes: Value, edges: &[&str]) -> Value {
    let mut nodes = nodes;
    let list = nodes.as_array_mut().expect("a list of nodes");
    list.extend([json!({"id": "start", "type": "start"}), json!({"id": "end", "type": "end"})]);
    let edges: Vec<Value> = edges
        .iter()
        .map(|text| {
            let back = text.contains('<');
            let (source, target) = text.split_once(['>', '<']).expect("an edge");
            let (source, handle) = source.split_once('.').map_or((source, None), |(s, h)| (s, Some(h)));
            let mut edge = json!({"source": source, "target": target});
            if let Some(handle) = handle {
                edge["source_handle"] = json!(handle);
            }
            if back {
                edge["back"] = json!(true);
            }
            edge
        })
        .collect();
    json!({"nodes": nodes, "edges": edges})
}

fn node(id: &str, node_type: &str, config: Value) -> Value {
    json!({"id": id, "type": node_type, "config": config})
}

fn transform(id: &str) -> Value {
    node(id, "transform", json!({"output": 1}))
}

fn choice(id: &str) -> Value {
    node(id, "condition", json!({"expression": "true"}))
}

/// A loop of which nothing is wrong but what the body has.
fn loop_with(body: Value) -> Value {
    node("loop", "loop", json!({"over": [1], "body": body}))
}

/// The problems of a chain of one node.
fn alone(node: Value) -> Vec<(String, String)> {
    let id = node["id"].as_str().expect("an id").to_owned();
    problems(json!([node]), &[&format!("start>{id}"), &format!("{id}>end")])
}

fn one(pointer: &str, code: &str) -> Vec<(String, String)> {
    vec![(pointer.to_owned(), code.to_owned())]
}

#[test]
fn each_defect_of_a_nodes_configuration_has_its_place_and_code() {
    let body = || graph(json!([transform("x")]), &["start>x", "x>end"]);
    let rows = [
        ("loop", json!({"body": body()}), "", "missing_field"),
        ("loop", json!({"over": [1]}), "", "missing_field"),
        ("loop", json!({"over": [1], "while": "true", "body": body()}), "/while", "conflicting_fields"),
        ("loop", json!({"over": 5, "body": body()}), "/over", "wrong_type"),
        ("loop", json!({"over": "{{ 1 + }}", "body": body()}), "/over", "expression_syntax"),
        ("loop", json!({"while": "1 +", "body": body()}), "/while", "expression_syntax"),
        (
            "loop",
            json!({"while": "true", "max_concurrency": 2, "body": body()}),
            "/max_concurrency",
            "not_applicable",
        ),
        (
            "loop",
            json!({"over": [1], "max_concurrency": 0, "body": body()}),
            "/max_concurrency",
            "out_of_range",
        ),
        (
            "loop",
            json!({"over": [1], "max_iterations": 0, "body": body()}),
            "/max_iterations",
            "out_of_range",
        ),
        ("loop", json!({"over": [1], "body": []}), "/body", "wrong_type"),
        ("loop", json!({"over": [1], "body": {"nodes": [5], "edges": []}}), "/body/nodes/0", "wrong_type"),
        ("parallel", json!({}), "", "missing_field"),
        ("parallel", json!({"branches": []}), "/branches", "out_of_range"),
        ("parallel", json!({"branches": vec![body(); 101]}), "/branches", "out_of_range"),
        (
            "parallel",
            json!({"branches": [body()], "max_concurrency": 101}),
            "/max_concurrency",
            "out_of_range",
        ),
        ("parallel", json!({"branches": [body(), 7]}), "/branches/1", "wrong_type"),
        ("merge", json!({"mode": "some"}), "/mode", "invalid_value"),
        ("merge", json!({"mode": "any", "count": 1}), "/count", "conflicting_fields"),
        ("merge", json!({"count": 0}), "/count", "out_of_range"),
        ("merge", json!({"count": 2}), "/count", "out_of_range"),
        ("wait", json!({}), "", "missing_field"),
        ("wait", json!({"for": "signal"}), "", "missing_field"),
        ("wait", json!({"for": "event"}), "", "missing_field"),
        ("wait", json!({"for": "rain"}), "/for", "invalid_value"),
        ("wait", json!({"for": "webhook"}), "/for", "not_supported_yet"),
        ("wait", json!({"for": "signal", "signal": ""}), "/signal", "wrong_type"),
        ("wait", json!({"for": "signal", "signal": 5}), "/signal", "wrong_type"),
        ("wait", json!({"for": "signal", "signal": "s", "type": "t"}), "/type", "not_applicable"),
        ("wait", json!({"for": "event", "type": "t", "signal": "s"}), "/signal", "not_applicable"),
        ("wait", json!({"for": "signal", "signal": "s", "key": 1}), "/key", "not_applicable"),
        ("wait", json!({"for": "signal", "signal": "s", "since": "noon"}), "/since", "invalid_value"),
        ("wait", json!({"for": "signal", "signal": "s", "timeout_ms": 0}), "/timeout_ms", "out_of_range"),
        (
            "wait",
            json!({"for": "signal", "signal": "s", "timeout_ms": 40_000_000_000_u64}),
            "/timeout_ms",
            "out_of_range",
        ),
        (
            "wait",
            json!({"for": "signal", "signal": "s", "on_timeout": "route"}),
            "/on_timeout",
            "invalid_value",
        ),
        (
            "wait",
            json!({"for": "signal", "signal": "s", "filter": "payload."}),
            "/filter",
            "expression_syntax",
        ),
        ("wait", json!({"any": []}), "/any", "out_of_range"),
        (
            "wait",
            json!({"any": [{"for": "approval"}], "all": [{"for": "approval"}]}),
            "/all",
            "conflicting_fields",
        ),
        ("wait", json!({"any": [{"for": "approval"}], "signal": "s"}), "/signal", "unknown_field"),
        ("wait", json!({"all": [{"for": "approval"}, {"for": "event"}]}), "/all/1", "missing_field"),
        ("sub_workflow", json!({}), "", "missing_field"),
        ("sub_workflow", json!({"workflow": ""}), "/workflow", "invalid_value"),
        ("sub_workflow", json!({"workflow": "w", "version": 0}), "/version", "out_of_range"),
        ("sub_workflow", json!({"workflow": "w", "wait": "yes"}), "/wait", "wrong_type"),
        ("fail", json!({"message": {"a": 1}}), "/message", "wrong_type"),
        ("fail", json!({"message": "{{ input. }}"}), "/message", "expression_syntax"),
        ("respond", json!({"status": 99}), "/status", "out_of_range"),
        ("respond", json!({"headers": [1]}), "/headers", "wrong_type"),
        ("respond", json!({"headers": {"x": {}}}), "/headers", "wrong_type"),
        ("emit_event", json!({}), "", "missing_field"),
        ("emit_event", json!({"type": "Order Paid"}), "/type", "invalid_value"),
        ("emit_event", json!({"type": "execution.completed"}), "/type", "invalid_value"),
        ("condition", json!({"expression": "x", "language": "lua"}), "/language", "invalid_value"),
        ("condition", json!({"expression": " ", "language": "js"}), "/expression", "out_of_range"),
    ];
    for (node_type, config, field, code) in rows {
        let handles = if node_type == "condition" { "n.true>end" } else { "n>end" };
        let found = problems(json!([node("n", node_type, config.clone())]), &["start>n", handles]);
        assert_eq!(found, one(&format!("/nodes/0/config{field}"), code), "{node_type} {config}");
    }
}

#[test]
fn credentials_stand_only_in_the_configuration_of_worker_nodes() {
    let secret = "{{ credentials.token }}";
    let body = graph(json!([]), &["start>end"]);
    let template =
        |node_type: &str, config: Value, field: &str| (node_type.to_owned(), config, field.to_owned());
    for (node_type, config, field) in [
        template("wait", json!({"for": "signal", "signal": secret}), "/signal"),
        template("wait", json!({"for": "event", "type": "t", "key": {"a": secret}}), "/key/a"),
        template("wait", json!({"for": "approval", "timeout_ms": secret}), "/timeout_ms"),
        template("emit_event", json!({"type": "a.b", "data": [secret]}), "/data/0"),
        template("respond", json!({"body": secret}), "/body"),
        template("sub_workflow", json!({"workflow": "w", "input": secret}), "/input"),
        template("fail", json!({"message": secret}), "/message"),
        template("loop", json!({"over": secret, "body": body}), "/over"),
        template("delay", json!({"duration_ms": secret}), "/duration_ms"),
    ] {
        let found = alone(node("n", &node_type, config));
        assert_eq!(found, one(&format!("/nodes/0/config{field}"), "credentials_not_allowed"), "{node_type}");
    }
    let found =
        alone(node("n", "wait", json!({"for": "approval", "filter": "payload == credentials.token"})));
    assert_eq!(found, one("/nodes/0/config", "credentials_not_allowed"));
}

#[test]
fn a_defect_inside_a_body_or_branch_has_a_pointer_through_all_graphs() {
    let inner = graph(
        json!([
            transform("a"),
            transform("alone"),
            node("t", "transform", json!({"output": "{{ nodes.ghost.output }}"}))
        ]),
        &["start>a", "a>t", "t>end", "a>nowhere"],
    );
    let branches = node("par", "parallel", json!({"branches": [graph(json!([]), &["start>end"]), inner]}));
    let found = alone(loop_with(graph(json!([branches]), &["start>par", "par>end"])));
    let at = "/nodes/0/config/body/nodes/0/config/branches/1";
    for (pointer, code) in [
        (format!("{at}/edges/3/target"), "unknown_edge_target"),
        (format!("{at}/nodes/1"), "unreachable_node"),
        (format!("{at}/nodes/2/config"), "unknown_node"),
    ] {
        assert!(found.contains(&(pointer.clone(), code.to_owned())), "{pointer} {code} not in {found:#?}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn bodies_and_branches_need_a_start_and_an_end_of_their_own_and_unique_ids() {
    let empty = json!({"nodes": [], "edges": []});
    let found = alone(loop_with(empty));
    assert!(found.contains(&one("/nodes/0/config/body/nodes", "start_missing")[0]), "{found:?}");
    assert!(found.contains(&one("/nodes/0/config/body/nodes", "end_missing")[0]), "{found:?}");
    let twice = graph(json!([transform("a"), transform("a")]), &["start>a", "a>end"]);
    assert_eq!(alone(loop_with(twice)), one("/nodes/0/config/body/nodes/1/id", "duplicate_node_id"));
    // The same id in another graph is another node.
    assert_eq!(alone(loop_with(graph(json!([transform("loop")]), &["start>loop", "loop>end"]))), []);
}

#[test]
fn graphs_nest_sixteen_deep_and_a_seventeenth_is_refused_where_it_stands() {
    let nested = |depth: usize| {
        let innermost = graph(json!([transform("x")]), &["start>x", "x>end"]);
        let chain = |body| graph(json!([loop_with(body)]), &["start>loop", "loop>end"]);
        let mut document = (0..depth).fold(innermost, |body, _| chain(body));
        document["name"] = json!("deep");
        document
    };
    assert_eq!(problems_of(&nested(MAX_GRAPH_DEPTH)), []);
    let pointer = "/nodes/0/config/body".repeat(MAX_GRAPH_DEPTH + 1);
    // On a small stack: no document may overflow one.
    let deep = std::thread::Builder::new().stack_size(1024 * 1024);
    let found = deep.spawn(move || problems_of(&nested(MAX_GRAPH_DEPTH + 10))).expect("a thread").join();
    assert_eq!(found.expect("no overflow"), one(&pointer, "graphs_too_deep"));
}

#[test]
fn all_graphs_together_have_at_most_a_thousand_nodes() {
    let body = |count: usize| {
        let ids: Vec<String> = (0..count - 2).map(|at| format!("n{at}")).collect();
        let edges: Vec<String> =
            ids.iter().flat_map(|id| [format!("start>{id}"), format!("{id}>end")]).collect();
        let edges: Vec<&str> = edges.iter().map(String::as_str).collect();
        graph(ids.iter().map(|id| transform(id)).collect(), &edges)
    };
    let both = |first: usize, second: usize| {
        alone(node("par", "parallel", json!({"branches": [body(first), body(second)]})))
    };
    assert_eq!(both(500, MAX_NODES - 500 - 3), []);
    assert_eq!(both(500, MAX_NODES - 500 - 2), one("/nodes/0/config/branches/1/nodes", "too_many"));
}

#[test]
fn a_back_edge_leads_to_an_ancestor_by_a_handle_of_its_own_and_can_be_left() {
    let retry = || json!([transform("a"), choice("c"), transform("b")]);
    let rows: [Row; 12] = [
        (retry(), &["start>a", "a>c", "c.true>end", "c.false<a", "start>b", "b>end"], vec![]),
        // With a step on the way back: only the condition leads to it.
        (retry(), &["start>a", "a>c", "c.true>end", "c.false>b", "b<a"], vec![]),
        // To itself.
        (retry(), &["start>a", "a>c", "c.true>b", "b>end", "c.false<c"], vec![]),
        (
            retry(),
            &["start>a", "a>c", "c.true>end", "start>b", "b>end", "c.false<b"],
            one("/edges/5", "back_edge_not_back"),
        ),
        (
            retry(),
            &["start>a", "a>c", "c.true>b", "b>end", "a<b"],
            vec![
                ("/edges/4".to_owned(), "back_edge_not_back".to_owned()),
                ("/edges/4".to_owned(), "ambiguous_back_edge".to_owned()),
            ],
        ),
        (
            retry(),
            &["start>a", "a>c", "c.true>end", "c.false>b", "b>end", "c.false<a"],
            one("/edges/5", "ambiguous_back_edge"),
        ),
        (retry(), &["start>b", "b>a", "a>c", "c.true>end", "c.false<a", "c.false<b"], vec![]),
        (
            retry(),
            &["start>a", "a>c", "c.true>b", "b>end", "c.maybe<a"],
            one("/edges/4/source_handle", "invalid_handle"),
        ),
        (
            retry(),
            &["start>a", "a>c", "c.true>b", "b>end", "c.false<start"],
            vec![("/edges/4/target".to_owned(), "edge_to_start".to_owned())],
        ),
        (
            retry(),
            &["start>a", "a>c", "c.true>b", "b>end", "c.false<end"],
            one("/edges/4", "back_edge_not_back"),
        ),
        // Nothing leads out of it.
        (
            json!([transform("a"), transform("b")]),
            &["start>a", "a>b", "start>end", "b<a"],
            one("/edges/3", "endless_back_edge"),
        ),
        (json!([transform("a")]), &["start>a", "start>end", "a<a"], one("/edges/2", "endless_back_edge")),
    ];
    for (nodes, edges, expected) in rows {
        assert_eq!(problems(nodes, edges), expected, "{edges:?}");
    }
    let failing =
        json!({"id": "a", "type": "http_request", "config": {"url": "https://a"}, "on_error": "route"});
    assert_eq!(problems(json!([failing]), &["start>a", "a>end", "a.error<a"]), []);
    // A cycle that is not marked is named at its edges, wherever they stand in the list.
    let found = problems(
        json!([transform("a"), choice("c"), transform("b")]),
        &["start>a", "c.true<a", "a>c", "c.false>b", "b>a", "b>end"],
    );
    assert_eq!(
        found.iter().map(|(pointer, _)| pointer.as_str()).collect::<Vec<_>>(),
        ["/edges/2", "/edges/3", "/edges/4"]
    );
}

#[test]
fn compensation_is_by_a_node_of_the_same_graph_that_does_nothing_else() {
    let with = |mut node: Value, field: &str, value: Value| {
        node[field] = value;
        node
    };
    let book = |by: &str| with(transform("book"), "compensate", json!(by));
    let chain: &[&str] = &["start>book", "book>end"];
    let rows: [Row; 9] = [
        (json!([book("undo"), transform("undo")]), chain, vec![]),
        (json!([book("undo")]), chain, one("/nodes/0/compensate", "unknown_node")),
        (json!([book("book")]), chain, one("/nodes/0/compensate", "invalid_compensation")),
        (json!([book("start")]), chain, one("/nodes/0/compensate", "invalid_compensation")),
        (
            json!([book("c"), choice("c")]),
            &["start>book", "book>c", "c.true>end"],
            one("/nodes/0/compensate", "invalid_compensation"),
        ),
        (
            json!([book("undo"), transform("undo")]),
            &["start>book", "book>end", "undo>end"],
            one("/edges/2/source", "invalid_compensation"),
        ),
        (
            json!([book("undo"), with(transform("undo"), "compensate", json!("more")), transform("more")]),
            chain,
            one("/nodes/1/compensate", "invalid_compensation"),
        ),
        (
            json!([with(transform("book"), "compensate_unknown", json!(true))]),
            chain,
            one("/nodes/0/compensate_unknown", "not_applicable"),
        ),
        (
            json!([with(transform("book"), "compensate", json!(7))]),
            chain,
            one("/nodes/0/compensate", "wrong_type"),
        ),
    ];
    for (nodes, edges, expected) in rows {
        assert_eq!(problems(nodes.clone(), edges), expected, "{nodes}");
    }
    // A node of another graph does not count.
    let body = graph(json!([book("undo")]), chain);
    let found =
        problems(json!([loop_with(body), transform("undo")]), &["start>loop", "loop>undo", "undo>end"]);
    assert_eq!(found, one("/nodes/0/config/body/nodes/0/compensate", "unknown_node"));
    // A start has nothing to undo.
    let nodes = json!([{"id": "start", "type": "start", "compensate": "x"}, {"id": "end", "type": "end"}, transform("x")]);
    let found =
        problems_of(&json!({"name": "bad", "nodes": nodes, "edges": [{"source": "start", "target": "end"}]}));
    assert_eq!(found, one("/nodes/0/compensate", "not_applicable"));
}

#[test]
fn names_of_loops_exist_only_inside_them_and_inner_nodes_only_inside_their_graph() {
    let say = |id: &str, text: &str| node(id, "transform", json!({"output": text}));
    let body = |nodes: Value| graph(nodes, &["start>x", "x>end"]);
    let looped = |kind: &str, value: Value, text: &str| {
        let mut config = json!({"body": body(json!([say("x", text)]))});
        config[kind] = value;
        alone(node("loop", "loop", config))
    };
    assert_eq!(alone(say("x", "{{ item }}")), one("/nodes/0/config", "unknown_name"));
    assert_eq!(alone(say("x", "{{ payload }}")), one("/nodes/0/config", "unknown_name"));
    assert_eq!(looped("over", json!([1]), "{{ item }} {{ key }} {{ index }} {{ nodes.loop.output }}"), []);
    assert_eq!(looped("while", json!("index < 3"), "{{ index }}"), []);
    assert_eq!(looped("while", json!("item != 3"), "{{ item }}"), []);
    // The condition sees the nodes of the iteration before; what a loop goes over does not.
    assert_eq!(looped("while", json!("!has(nodes.x.output)"), "1"), []);
    assert_eq!(looped("over", json!("{{ nodes.x.output }}"), "1"), one("/nodes/0/config", "unknown_node"));
    assert_eq!(looped("over", json!("{{ item }}"), "1"), one("/nodes/0/config", "unknown_name"));
    // At any depth.
    let inner =
        node("x", "loop", json!({"while": "index < 1", "body": body(json!([say("x", "{{ item }}")]))}));
    assert_eq!(alone(loop_with(body(json!([inner])))), []);
    let par = node("x", "parallel", json!({"branches": [body(json!([say("x", "{{ item }}")]))]}));
    assert_eq!(alone(loop_with(body(json!([par])))), []);
    // From outside, a node of a body is not seen.
    let nodes = json!([loop_with(body(json!([say("x", "1")]))), say("after", "{{ nodes.x.output }}")]);
    assert_eq!(
        problems(nodes, &["start>loop", "loop>after", "after>end"]),
        one("/nodes/1/config", "unknown_node")
    );
    let wait = |filter: &str| alone(node("w", "wait", json!({"for": "approval", "filter": filter})));
    assert_eq!(wait("payload.ok && event.type != input"), []);
    assert_eq!(wait("reply.ok"), one("/nodes/0/config", "unknown_name"));
}

#[test]
fn a_node_that_cannot_be_read_does_not_make_others_seem_wrong() {
    let broken = node("broken", "transform", json!({"output": "{{ 1 + }}"}));
    let after =
        node("after", "transform", json!({"output": "{{ nodes.broken.output }} {{ nodes.ghost.output }}"}));
    let found =
        problems(json!([broken, after]), &["start>broken", "broken>after", "after>end", "after>nowhere"]);
    assert_eq!(
        found,
        [
            ("/nodes/0/config/output".to_owned(), "expression_syntax".to_owned()),
            ("/edges/3/target".to_owned(), "unknown_edge_target".to_owned()),
            ("/nodes/1/config".to_owned(), "unknown_node".to_owned()),
        ]
    );
}

#[test]
fn fields_of_the_whole_are_checked_and_those_of_later_releases_refused() {
    let with = |field: &str, value: Value| {
        let mut document = document(json!([]), &["start>end"]);
        document[field] = value;
        problems_of(&document)
    };
    let key = json!({"key": "{{ input.customer }}", "limit": 2});
    assert_eq!(with("concurrency", key), []);
    for (field, value, pointer, code) in [
        ("concurrency", json!(5), "/concurrency", "wrong_type"),
        ("concurrency", json!({"limit": 1}), "/concurrency", "missing_field"),
        ("concurrency", json!({"key": "a"}), "/concurrency", "missing_field"),
        ("concurrency", json!({"key": "a", "limit": null}), "/concurrency/limit", "wrong_type"),
        ("concurrency", json!({"key": "a", "limit": 0}), "/concurrency/limit", "out_of_range"),
        ("concurrency", json!({"key": {"a": 1}, "limit": 1}), "/concurrency/key", "wrong_type"),
        ("concurrency", json!({"key": "{{ item }}", "limit": 1}), "/concurrency/key", "unknown_name"),
        (
            "concurrency",
            json!({"key": "{{ nodes.start.output }}", "limit": 1}),
            "/concurrency/key",
            "unknown_name",
        ),
        (
            "concurrency",
            json!({"key": "{{ credentials.a }}", "limit": 1}),
            "/concurrency/key",
            "credentials_not_allowed",
        ),
        (
            "concurrency",
            json!({"key": "a", "limit": 1, "on_limit": "wait"}),
            "/concurrency/on_limit",
            "invalid_value",
        ),
        ("concurrency", json!({"key": "a", "limit": 1, "x": 1}), "/concurrency/x", "unknown_field"),
        ("priority", json!(10), "/priority", "out_of_range"),
        ("max_node_runs", json!(0), "/max_node_runs", "out_of_range"),
        ("timeout_ms", json!(0), "/timeout_ms", "out_of_range"),
        ("rate_limit", json!({"key": "a", "limit": 1, "period_ms": 1}), "/rate_limit", "not_supported_yet"),
        ("debounce", json!({"key": "a", "period_ms": 1}), "/debounce", "not_supported_yet"),
    ] {
        assert_eq!(with(field, value.clone()), one(pointer, code), "{field}: {value}");
    }
    let mut agent = transform("a");
    agent["ref"] = json!("agent-7");
    assert_eq!(alone(agent), one("/nodes/0/ref", "not_supported_yet"));
}
