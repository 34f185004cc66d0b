//! How long each script bomb takes until it is answered: `cargo run --release -p sandbox --example script_bombs`.
//!
//! Each runs five times under the default limits, in a pool of one worker that is warm whenever the last bomb has left one.
//! Printed are the fastest, the median and the slowest time from the worker's getting the script to the answer, and how it ended. Exit
//! code 1 if a median is over the deadline of 100 ms.

use sandbox::{Sandbox, SandboxConfig, SandboxError};
use serde_json::json;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

const BOMBS: [(&str, &str); 17] = [
    ("no bomb", "input.n > 1"),
    ("endless loop", "(() => { while (true) {} })()"),
    ("loop that catches", "(() => { for (;;) { try { for (;;) {} } catch (e) {} } })()"),
    ("backtracking", "/(a+)+$/.test('a'.repeat(40) + '!')"),
    ("indexOf of 2^53 items", "Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)"),
    ("fill and indexOf", "Array(2 ** 32 - 1).fill().indexOf(1)"),
    ("indexOf in 4 MB", "(() => { const t = 'a'.repeat(4e6); while (true) t.indexOf('b') })()"),
    (
        "stringify",
        "(() => { const o = {}; for (let i = 0; i < 2e4; i++) o['k' + i] = i; for (;;) JSON.stringify(o) })()",
    ),
    (
        "catching its own lack of memory",
        "(() => { const a = []; for (;;) try { for (;;) a.push(new Array(1e5).fill(1)) } catch {} })()",
    ),
    ("a string of 2^30", "'x'.repeat(1 << 30)"),
    ("doubling strings", "(() => { let s = 'x'; for (;;) s += s })()"),
    ("many objects", "new Array(1e8).fill(0).map((_, i) => ({i}))"),
    ("many small strings", "(() => { const a = []; for (;;) a.push('y'.repeat(1000) + a.length) })()"),
    ("BigInt", "10n ** 10n ** 7n"),
    ("recursion", "(function f() { return f() + 1 })()"),
    ("promises", "(async () => { for (;;) await 1 })()"),
    ("2 MB of output", "'x'.repeat(2e6)"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("sandbox-worker") {
        return sandbox::worker::run();
    }
    let program = std::env::current_exe().expect("a running program has a file");
    let config = SandboxConfig { workers: NonZeroUsize::MIN, ..SandboxConfig::new(program) };
    let sandbox = Sandbox::new(config);
    let limit = sandbox.limits().deadline;
    let mut slow = 0;
    println!("{:<34} {:>10} {:>10} {:>10}  end", "bomb", "fastest", "median", "slowest");
    for (name, script) in BOMBS {
        let (times, end) = set_off(&sandbox, script).await;
        let median = times[ROUNDS / 2];
        slow += usize::from(median > limit);
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        println!("{name:<34} {:>10} {:>10} {:>10}  {end}", ms(times[0]), ms(median), ms(times[ROUNDS - 1]));
    }
    if slow == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The times in order, and how it ended last.
async fn set_off(sandbox: &Sandbox, script: &str) -> ([Duration; ROUNDS], String) {
    let mut times = [Duration::ZERO; ROUNDS];
    let mut end = String::new();
    for time in &mut times {
        // Starts a worker if there is none.
        let _ = sandbox.evaluate("1", &json!({}), sandbox.limits()).await;
        let start = Instant::now();
        let result = sandbox.evaluate(script, &json!({"input": {"n": 2}}), sandbox.limits()).await;
        *time = start.elapsed();
        end = match result {
            Ok(value) => format!("value {value}"),
            Err(SandboxError::Limit(limit)) => format!("limit: {}", limit.name()),
            Err(error) => format!("failed: {error}"),
        };
    }
    times.sort();
    (times, end)
}
