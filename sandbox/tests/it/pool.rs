//! How many at once, who waits, and what becomes of workers.

use sandbox::{Limit, Sandbox, SandboxConfig, SandboxError};
use serde_json::json;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::support::{assert_goes_on, config, impatient, limit, patient, sandbox, value};

const FOREVER: &str = "(() => { for (;;) {} })()";

/// Waits until no process has this id any more, or only what is left of one.
async fn gone(pid: u32) {
    let is_gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let wait = async {
        while !is_gone() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("process {pid} lives on"));
}

#[tokio::test]
async fn a_worker_is_used_again_and_makes_room_after_its_share() {
    let sandbox =
        Sandbox::new(SandboxConfig { evaluations_per_worker: NonZeroU32::new(3).unwrap(), ..config() });
    let mut seen = Vec::new();
    for _ in 0..6 {
        assert_goes_on(&sandbox).await;
        seen.push(sandbox.idle_workers());
    }
    assert_eq!(seen[0].len(), 1);
    assert_eq!(seen[0], seen[1]);
    assert!(seen[2].is_empty() && seen[5].is_empty(), "{seen:?}");
    assert_ne!(seen[0], seen[3]);
}

#[tokio::test]
async fn a_worker_that_was_killed_while_idle_is_replaced_unnoticed() {
    let sandbox = sandbox();
    assert_goes_on(&sandbox).await;
    let [pid] = sandbox.idle_workers()[..] else { panic!("one worker") };
    let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(kill.success());
    gone(pid).await;
    assert_goes_on(&sandbox).await;
    assert_ne!(sandbox.idle_workers(), [pid]);
}

#[tokio::test]
async fn a_worker_that_dies_at_work_is_a_limit_of_its_script() {
    // This program answers nothing: it is ready, reads a request and ends.
    let mut config = config();
    config.program = Some("/bin/sh".into());
    config.arguments =
        vec!["-c".to_owned(), "printf '\\000\\000\\000\\000'; /usr/bin/head -c 4 >/dev/null".to_owned()];
    let sandbox = Sandbox::new(config);
    assert_eq!(limit(sandbox.evaluate("1", &json!({}), patient()).await), Limit::Process);
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_told_from_a_bad_script() {
    for (program, arguments) in
        [("/nowhere/at/all", vec![]), ("/bin/false", vec![]), ("/bin/echo", vec!["hello".to_owned()])]
    {
        let mut config = config();
        config.program = Some(program.into());
        config.arguments = arguments;
        let result = Sandbox::new(config).evaluate("1", &json!({}), patient()).await;
        assert!(matches!(result, Err(SandboxError::Unavailable { .. })), "{program}: {result:?}");
    }
    let result = Sandbox::new(SandboxConfig::default()).evaluate("1", &json!({}), patient()).await;
    assert!(matches!(result, Err(SandboxError::Unavailable { .. })), "no program: {result:?}");
}

#[tokio::test]
async fn a_dropped_evaluation_takes_its_worker_with_it() {
    let sandbox = sandbox();
    assert_goes_on(&sandbox).await;
    let [pid] = sandbox.idle_workers()[..] else { panic!("one worker") };
    let context = json!({});
    let evaluation = sandbox.evaluate(FOREVER, &context, patient());
    let dropped = tokio::time::timeout(Duration::from_millis(50), evaluation).await;
    assert!(dropped.is_err());
    gone(pid).await;
    assert_goes_on(&sandbox).await;
}

#[tokio::test]
async fn beyond_its_line_the_sandbox_is_busy() {
    let mut config = config();
    config.queue = 1;
    let sandbox = Sandbox::new(config);
    assert_goes_on(&sandbox).await;
    let context = json!({});
    let (first, second, third) = tokio::join!(
        sandbox.evaluate(FOREVER, &context, impatient()),
        sandbox.evaluate("1", &context, patient()),
        sandbox.evaluate("1", &context, patient()),
    );
    assert_eq!(limit(first), Limit::Deadline);
    assert_eq!(value(second), 1);
    assert!(matches!(third, Err(SandboxError::Busy)), "{third:?}");
    assert_goes_on(&sandbox).await;
}

#[tokio::test]
async fn who_waits_too_long_for_a_worker_is_told() {
    let mut config = config();
    config.queue_timeout_ms = 20;
    let sandbox = Sandbox::new(config);
    assert_goes_on(&sandbox).await;
    let context = json!({});
    tokio::select! {
        biased;
        first = sandbox.evaluate(FOREVER, &context, patient()) => panic!("it ended: {first:?}"),
        second = sandbox.evaluate("1", &context, patient()) => {
            assert!(matches!(second, Err(SandboxError::Busy)), "{second:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evaluations_at_once_get_their_own_answers() {
    let mut config = config();
    config.workers = NonZeroUsize::new(3).unwrap();
    config.queue = 100;
    let sandbox = Sandbox::new(config);
    let all = (0..60).map(|n| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move {
            let result = sandbox.evaluate("n * 2", &json!({ "n": n }), patient()).await;
            assert_eq!(value(result), n * 2);
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert!((1..=3).contains(&sandbox.idle_workers().len()));
}

#[test]
fn a_worker_whose_pool_is_gone_ends_by_itself_even_in_a_native_function() {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    let request = json!({
        "limits": {"deadline_ms": 10, "memory_bytes": 1 << 26, "output_bytes": 1 << 20},
        "source": "(() => { const text = 'a'.repeat(4000000); while (true) text.indexOf('b') })()",
        "context": {},
    });
    let request = request.to_string();
    let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox-worker"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [1; 4];
    worker.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let mut requests = worker.stdin.take().unwrap();
    requests.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    requests.write_all(request.as_bytes()).unwrap();
    drop(requests);
    // The operating system's limit of processor time: two seconds more than it had used.
    assert_eq!(worker.wait().unwrap().signal(), Some(24), "SIGXCPU");
}
