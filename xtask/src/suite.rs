//! `cargo xtask test`: every check and every test, and one closing line that CI reads.
//!
//! Invariants: all steps run, also after one has failed, so that one run shows everything; the closing line is
//! the last line of standard output; it never says `0 failed` when the command fails. A check that fails, and a
//! test binary that dies or does not build, count as one failure each.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{fuzz, layers, services, succeeds, tools, workspace};

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Runs everything. True if nothing failed.
pub(crate) fn run() -> Result<bool> {
    tools::ready()?;
    let servers = services::ready()?;
    let root = workspace()?;
    let scratch = Scratch::new()?;
    let mut failures = Vec::new();

    step("formatting");
    if !succeeds(tools::cargo(&["fmt", "--all", "--check"]).current_dir(&root))? {
        failures.push("formatting: run cargo fmt");
    }
    step("layers");
    let offending = layers::check_workspace()?;
    offending.iter().for_each(|edge| println!("{edge}"));
    if !offending.is_empty() {
        failures.push("layers: see the edges above");
    }
    step("lints");
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    if !succeeds(tools::cargo(&clippy).current_dir(&root))? {
        failures.push("lints: see clippy above");
    }
    step("tests, doc tests among them");
    let mut tests = tools::cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests.current_dir(&root).env("TMPDIR", &scratch.0).envs(servers);
    let mut counts = count_tests(&mut tests)?;

    drop(scratch);
    step("a brief fuzz of the HTTP surface");
    match fuzz::run(None) {
        Ok(true) => {}
        Ok(false) => failures.push("fuzz: see above, or run cargo xtask fuzz"),
        Err(error) => {
            println!("{error:#}");
            failures.push("fuzz: it could not be run");
        }
    }
    for failure in &failures {
        println!("failed check: {failure}");
    }
    counts.failed += failures.len() as u64;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    std::io::stdout().flush()?;
    Ok(counts.failed == 0)
}

/// Runs a `cargo test`, passing its output on line by line, and sums what its test binaries report.
pub(crate) fn count_tests(command: &mut Command) -> Result<Counts> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} does not start"))?;
    let output = child.stdout.take().context("the output of cargo test is not connected")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        // Tests may print any bytes; they are shown as they are.
        let line = line.context("the output of cargo test cannot be read")?;
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        tally.read(&String::from_utf8_lossy(&line));
    }
    Ok(tally.close(child.wait()?.success()))
}

fn step(name: &str) {
    println!("── {name}");
}

/// Sums the lines in which test binaries say how they fared.
#[derive(Debug, Default)]
struct Tally {
    counts: Counts,
    started: u64,
    finished: u64,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if is_start(line) {
            self.started += 1;
        } else if let Some(counts) = parse_result(line) {
            self.finished += 1;
            self.counts.passed += counts.passed;
            self.counts.failed += counts.failed;
        }
    }

    /// The sum. A binary that started and never reported died; a failure that no binary reported is cargo's own,
    /// such as one that does not build.
    fn close(self, succeeded: bool) -> Counts {
        let Counts { passed, mut failed } = self.counts;
        failed += self.started.saturating_sub(self.finished);
        if !succeeded && failed == 0 {
            failed = 1;
        }
        Counts { passed, failed }
    }
}

/// `running 12 tests`
fn is_start(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else { return false };
    let count = rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"));
    count.is_some_and(|count| count.parse::<u64>().is_ok())
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn parse_result(line: &str) -> Option<Counts> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = rest.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Counts { passed, failed })
}

/// A folder for the temporary files of this run's tests, removed at the end: a test whose process is killed
/// cannot clean up after itself.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("everline-test-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be created", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, succeeded: bool) -> Counts {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.close(succeeded)
    }

    const GOOD: &str = "running 2 tests\ntest a ... ok\n\
        test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
    const BAD: &str = "running 3 tests\n\
        test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";

    #[test]
    fn results_are_summed_over_test_binaries() {
        assert_eq!(tally(&format!("{GOOD}{BAD}{GOOD}"), false), Counts { passed: 5, failed: 2 });
    }

    #[test]
    fn a_binary_that_dies_counts_as_one_failure() {
        assert_eq!(tally(&format!("{GOOD}running 1 test\n{GOOD}"), false), Counts { passed: 4, failed: 1 });
    }

    #[test]
    fn a_failure_that_no_binary_reports_is_still_a_failure() {
        assert_eq!(tally("", false), Counts { passed: 0, failed: 1 });
        assert_eq!(tally(GOOD, true), Counts { passed: 2, failed: 0 });
    }

    #[test]
    fn other_lines_are_not_results() {
        assert_eq!(parse_result("test result: who knows"), None);
        assert!(!is_start("running late"));
    }
}
