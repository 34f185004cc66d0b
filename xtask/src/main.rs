//! The workspace's own commands: `cargo xtask <command>`.
//!
//! ```text
//!   test       formatting, layers, lints, every test ─► "N passed, N failed"
//!   layers     who may depend on whom, against `cargo metadata`
//!   errors     error codes in the sources without a page under docs/errors, and pages without a code
//!   fuzz       schemathesis over the whole HTTP surface of a server of its own; `--minutes N` for longer
//!   openapi    records the OpenAPI document of the gateway under docs
//!   kill-test  the crash test of the server; `--full` for all its rounds
//! ```
//!
//! Absent: anything that a release needs; this crate is for people and machines that work on Everline.

mod error_pages;
mod fuzz;
mod layers;
mod openapi;
mod quiet;
mod services;
mod suite;
mod tools;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "usage: cargo xtask <command>

  test                what CI runs: formatting, layers, lints, every test
  layers              check who depends on whom
  errors              compare error codes with the pages under docs/errors
  fuzz [--minutes N]  fuzz the HTTP surface of a server of its own, briefly or for so long
  openapi             write docs/openapi.json as the gateway serves it
  kill-test [--full]  the crash test of the server, a few rounds or all of them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["test"] => suite::run(),
        ["layers"] => {
            layers::check_workspace().and_then(|found| report(&found, "every import follows the table"))
        }
        ["errors"] => {
            error_pages::check_workspace().and_then(|found| report(&found, "every error code has its page"))
        }
        ["fuzz"] => fuzz::run(None),
        ["fuzz", "--minutes", minutes] => match minutes.parse() {
            Ok(minutes) => fuzz::run(Some(minutes)),
            Err(_) => {
                eprintln!("{USAGE}");
                return ExitCode::from(64);
            }
        },
        ["openapi"] => openapi::record(),
        ["kill-test"] => kill_test(&[]),
        ["kill-test", "--full"] => kill_test(&KILL_TEST_FULL),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what was found; true if that is nothing.
fn report(found: &[String], fine: &str) -> Result<bool> {
    for line in found {
        println!("{line}");
    }
    if found.is_empty() {
        println!("{fine}");
    }
    Ok(found.is_empty())
}

/// What the crash test of the server is told for all its rounds; without these it has a few.
const KILL_TEST_FULL: [(&str, &str); 2] = [("EVERLINE_KILLS", "50"), ("EVERLINE_KILL_EXECUTIONS", "500")];
/// Part of the names of the server's tests that kill the process.
const KILL_TESTS: &str = "crash::";

/// Runs the server's crash tests on the release build. A filter that matches nothing is a failure.
fn kill_test(settings: &[(&str, &str)]) -> Result<bool> {
    let servers = services::ready()?;
    let mut cargo = tools::cargo(&["test", "--release", "--package", "server", "--test", "it", KILL_TESTS]);
    cargo.envs(servers).args(["--", "--nocapture"]).envs(settings.iter().copied()).current_dir(workspace()?);
    let counts = suite::count_tests(&mut cargo)?;
    if counts.passed + counts.failed == 0 {
        println!("no test of the server has `{KILL_TESTS}` in its name");
    }
    Ok(counts.failed == 0 && counts.passed > 0)
}

/// The folder of the workspace.
fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("the folder of xtask has no parent")
}

/// Runs a command to its end with the terminal's output and no input; true if it succeeded.
fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.stdin(Stdio::null()).status();
    Ok(status.with_context(|| format!("{command:?} does not start"))?.success())
}
