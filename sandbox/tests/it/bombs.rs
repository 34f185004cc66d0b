//! Nothing that an author or a payload can write hangs, fills or ends more than its own worker.

use sandbox::{Limit, Sandbox, SandboxError};
use serde_json::json;

use crate::support::{assert_goes_on, impatient, limit, patient, sandbox};

/// Each of these must be stopped at the deadline.
async fn assert_stopped(sandbox: &Sandbox, sources: &[&str]) {
    for source in sources {
        let result = sandbox.evaluate(source, &json!({"n": 1}), impatient()).await;
        assert_eq!(limit(result), Limit::Deadline, "{source}");
        assert_goes_on(sandbox).await;
    }
}

#[tokio::test]
async fn loops_are_stopped_whatever_they_catch() {
    assert_stopped(
        &sandbox(),
        &[
            "(() => { while (true) {} })()",
            "(() => { for (;;) { try { for (;;) {} } catch (e) {} } })()",
            "(() => { for (;;) { try { for (;;) {} } finally { continue } } })()",
            "(() => { const again = () => { try { for (;;) {} } finally { again() } }; again() })()",
            "({get a() { for (;;) {} }})",
            "({toJSON() { for (;;) {} }})",
            "(() => { throw Object.defineProperty(new Error(), 'message', {get() { for (;;) {} }}) })()",
            "`${{toString() { for (;;) {} }}}`",
        ],
    )
    .await;
}

#[tokio::test]
async fn backtracking_is_stopped() {
    assert_stopped(
        &sandbox(),
        &[
            "/(a+)+$/.test('a'.repeat(40) + '!')",
            "/^(([a-z])+.)+[A-Z]([a-z])+$/.test('a'.repeat(60))",
            "'x'.repeat(50).replace(/(x+x+)+y/, '')",
        ],
    )
    .await;
}

#[tokio::test]
async fn native_functions_that_never_look_up_are_killed() {
    let sandbox = sandbox();
    assert_goes_on(&sandbox).await;
    for source in [
        "Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
        "Array.prototype.includes.call({length: 2 ** 32 - 1}, 1)",
        "(() => { const text = 'a'.repeat(4000000); while (true) text.indexOf('b') })()",
        "(() => { const o = {}; for (let i = 0; i < 20000; i++) o['k' + i] = i; while (true) JSON.stringify(o) })()",
    ] {
        let before = sandbox.idle_workers();
        assert_eq!(
            limit(sandbox.evaluate(source, &json!({}), impatient()).await),
            Limit::Deadline,
            "{source}"
        );
        assert_goes_on(&sandbox).await;
        assert_ne!(sandbox.idle_workers(), before, "the worker was replaced: {source}");
    }
}

#[tokio::test]
async fn memory_has_its_end() {
    let sandbox = sandbox();
    for source in [
        "'x'.repeat(1 << 30)",
        "'x'.repeat((1 << 30) - 1)",
        "(() => { let s = 'x'; for (;;) s += s })()",
        "(() => { const a = []; for (;;) a.push('y'.repeat(1000) + a.length) })()",
        "new Uint8Array(1 << 30)",
        "new ArrayBuffer(2 ** 40)",
        "new Array(1e8).fill(0).map((_, i) => ({i}))",
        "(() => { const a = []; for (;;) { try { for (;;) a.push(new Array(100000).fill(1)) } catch (e) {} } })()",
        "10n ** 10n ** 8n",
        "JSON.parse('[' + '[],'.repeat(10000000) + '[]]')",
    ] {
        let broken = limit(sandbox.evaluate(source, &json!({}), impatient()).await);
        assert!(matches!(broken, Limit::Memory | Limit::Deadline), "{source}: {broken:?}");
        assert_goes_on(&sandbox).await;
    }
    let result = sandbox.evaluate("'x'.repeat(1 << 27)", &json!({}), patient()).await;
    assert_eq!(limit(result), Limit::Memory, "the limit of 64 MiB");
}

#[tokio::test]
async fn recursion_has_its_end() {
    let sandbox = sandbox();
    for source in [
        "(function f() { return f() + 1 })()",
        "(() => { const f = () => [1].map(f); return f() })()",
        "(() => { let a = []; for (let i = 0; i < 100000; i++) a = [a]; return JSON.stringify(a) })()",
        "(() => { const p = new Proxy({}, {get(t, k, r) { return r[k] }}); return p.x })()",
    ] {
        let broken = limit(sandbox.evaluate(source, &json!({}), patient()).await);
        assert_eq!(broken, Limit::Stack, "{source}");
        assert_goes_on(&sandbox).await;
    }
    for source in ["(".repeat(100_000), "[".repeat(100_000), "!".repeat(500_000), "a=>".repeat(100_000)] {
        let result = sandbox.evaluate(&source, &json!({}), patient()).await;
        assert!(
            matches!(result, Err(SandboxError::Limit(Limit::Stack) | SandboxError::Syntax { .. })),
            "{result:?}"
        );
        assert_goes_on(&sandbox).await;
    }
}

#[tokio::test]
async fn promises_run_nothing_afterwards() {
    let sandbox = sandbox();
    for source in [
        "(async () => { for (;;) await 1 })()",
        "(() => { const f = () => Promise.resolve().then(f); return f() })()",
        "Promise.all(Array(1000).fill().map(async () => { for (;;) await null }))",
    ] {
        let result = sandbox.evaluate(source, &json!({}), patient()).await;
        let Err(SandboxError::Failed { message }) = result else { panic!("{source}: {result:?}") };
        assert!(message.contains("a promise"), "{message}");
        assert_goes_on(&sandbox).await;
    }
    assert_stopped(&sandbox, &["(() => { (async () => { for (;;) {} })() })()"]).await;
}
