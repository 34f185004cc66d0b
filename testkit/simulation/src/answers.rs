//! What the simulated workers answer: a pure function, so that no order of events changes it.
//!
//! The URL of a node says what its worker is like, and the generator writes the URL:
//!
//! | URL | answer |
//! |---|---|
//! | `http://sim/ok` | 200 with a number in the body |
//! | `http://sim/flaky/<n>` | `http_5xx` for the first *n* attempts, then as `ok` |
//! | `http://sim/hang/<n>` | nothing for the first *n* attempts, then as `ok` |
//! | `http://sim/fail` | `http_4xx`, always |
//!
//! An attempt that a worker lost is not one of those counted: a lost worker must not change what a workflow gives.

use serde_json::{Value, json};

use crate::random::hash;

/// The longest that a worker takes, in virtual milliseconds; below every time limit of the generator's nodes.
pub const LONGEST_MS: u64 = 9_000;

/// What a worker does with an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It gives an output.
    Output(Value),
    /// It fails.
    Failure {
        /// The class of failure, as in events.
        kind: &'static str,
        /// Whether another attempt can help.
        retryable: bool,
    },
    /// It never answers.
    Never,
}

/// The attempt that is answered.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Which execution: `x0`, or `x0>path#run` for the child of a node.
    pub label: &'a str,
    /// Path of the node.
    pub path: &'a str,
    /// Its run.
    pub run: u32,
    /// Its attempt, from 1, without those whose worker was lost.
    pub ordinal: u32,
}

/// The answer of the worker behind a URL.
pub fn answer(seed: u64, url: &str, attempt: Attempt<'_>) -> Answer {
    let behaviour = url.strip_prefix("http://sim/").unwrap_or(url);
    let (name, number) = behaviour.split_once('/').unwrap_or((behaviour, "0"));
    let misses = number.parse::<u32>().unwrap_or(0);
    match name {
        "fail" => Answer::Failure { kind: "http_4xx", retryable: false },
        "flaky" if attempt.ordinal <= misses => Answer::Failure { kind: "http_5xx", retryable: true },
        "hang" if attempt.ordinal <= misses => Answer::Never,
        _ => Answer::Output(json!({"status": 200, "headers": {}, "body": {"n": number_of(seed, attempt)}})),
    }
}

/// How long the answer takes, in virtual milliseconds.
pub fn duration_ms(seed: u64, attempt: Attempt<'_>) -> u64 {
    let Attempt { label, path, run, ordinal } = attempt;
    1 + hash(seed, &["duration", label, path, &run.to_string(), &ordinal.to_string()]) % LONGEST_MS
}

/// Runs inside a loop or a branch are numbered by the engine as it likes: only those of the top level count.
fn number_of(seed: u64, attempt: Attempt<'_>) -> u64 {
    let run = if attempt.path.contains('/') { 0 } else { attempt.run };
    hash(seed, &["body", attempt.label, attempt.path, &run.to_string()]) % 10
}
