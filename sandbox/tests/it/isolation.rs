//! What a script sees of the world, and of others: nothing.

use sandbox::Sandbox;
use serde_json::json;

use crate::support::{config, failure, patient, sandbox, value};

#[tokio::test]
async fn nothing_is_left_for_the_next_evaluation() {
    let sandbox = sandbox();
    let pollute = "(() => {
        Object.prototype.polluted = 1; Array.prototype.map = () => 'mine'; globalThis.left = 2;
        JSON.stringify = () => '\"mine\"'; Math.max = () => 3; Object.keys = () => ['evil'];
        Object.defineProperty = () => 4; String.prototype.toJSON = () => 5;
        return [1].map(x => x);
    })()";
    assert_eq!(value(sandbox.evaluate(pollute, &json!({}), patient()).await), "mine");
    let before = sandbox.idle_workers();
    assert_eq!(before.len(), 1);
    let probe =
        "[typeof ({}).polluted, [1].map(x => x + 1), typeof left, Math.max(1, 2), Object.keys({a: 1}), 't']";
    let expected = json!(["undefined", [2], "undefined", 2, ["a"], "t"]);
    assert_eq!(value(sandbox.evaluate(probe, &json!({}), patient()).await), expected);
    assert_eq!(sandbox.idle_workers(), before, "it was the same worker");
}

#[tokio::test]
async fn there_is_no_host_and_no_way_from_text_to_code() {
    let sandbox = sandbox();
    let names = [
        "process",
        "require",
        "module",
        "exports",
        "fetch",
        "XMLHttpRequest",
        "WebSocket",
        "Deno",
        "Bun",
        "std",
        "os",
        "bjson",
        "print",
        "console",
        "scriptArgs",
        "performance",
        "setTimeout",
        "setInterval",
        "queueMicrotask",
        "navigator",
        "Worker",
        "SharedWorker",
        "WebAssembly",
        "importScripts",
        "eval",
        "Function",
        "gc",
        "load",
        "read",
        "window",
        "self",
        "global",
        "__loadScript",
        "crypto",
    ];
    let probe = format!("[{}]", names.map(|name| format!("typeof {name}")).join(","));
    let found = value(sandbox.evaluate(&probe, &json!({}), patient()).await);
    assert_eq!(found, json!(vec!["undefined"; names.len()]));
    for source in [
        "(() => {}).constructor('return 1')()",
        "(class {}).constructor('return 1')()",
        "[].map.constructor('return 1')()",
        "(async () => {}).constructor('return 1')()",
        "(function* () {}).constructor('yield 1')()",
        "Object.getPrototypeOf((async function* () {})).constructor('yield 1')()",
        "Reflect.construct((() => {}).constructor, ['return 1'])()",
        "Object.getPrototypeOf(Object.getPrototypeOf(async () => {})).constructor('return 1')()",
        "this.constructor.constructor('return 1')()",
    ] {
        let message = failure(sandbox.evaluate(source, &json!({}), patient()).await);
        assert!(message.contains("TypeError"), "{source}: {message}");
    }
    let import = sandbox.evaluate("import('fs')", &json!({}), patient()).await;
    assert!(import.is_err(), "{import:?}");
    // These are, and the caller records what they gave.
    let time =
        value(sandbox.evaluate("[Date.now() > 1.7e12, Math.random() < 1]", &json!({}), patient()).await);
    assert_eq!(time, json!([true, true]));
}

#[tokio::test]
async fn a_worker_has_no_environment_of_ours_and_may_do_nothing_of_its_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sandbox = Sandbox::new(config());
    assert_eq!(value(sandbox.evaluate("1", &json!({}), patient()).await), 1);
    let [pid] = sandbox.idle_workers()[..] else { panic!("one worker") };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(read("environ"), "");
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max open files"), "3");
    assert_eq!(limit("Max file size"), "0");
    assert_eq!(limit("Max processes"), "0");
    assert_eq!(limit("Max core file size"), "0");
    assert!(limit("Max cpu time").parse::<u64>().unwrap() < 120);
    assert!(limit("Max address space").parse::<u64>().unwrap() < 8 * 1024 * 1024 * 1024);
    let open = |pid: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        targets.map(|target| target.display().to_string()).collect::<Vec<_>>()
    };
    let sockets = |targets: Vec<String>| targets.into_iter().filter(|t| t.starts_with("socket:")).count();
    assert!(sockets(open("self")) > 0, "the listener");
    assert_eq!(sockets(open(&pid.to_string())), 0);
    drop(listener);
}
