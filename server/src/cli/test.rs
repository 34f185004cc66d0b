//! `everline test`: workflows against recorded outputs, in this process.

use clap::Args;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::workflow::definition::Definition;

use super::connection::Connection;
use super::input;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Output, printable};
use crate::workflow_tests::{fixture, recorder, run_case};

/// What stands in the place of `.json` in the name of a definition's fixture.
const FIXTURE_ENDING: &str = "test.json";

/// `everline test`
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Definitions: JSON files; the cases of `x.json` are in `x.test.json` beside it
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Another fixture for the one FILE
    #[arg(long, value_name = "FILE")]
    fixture: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Run nothing; add a case to the fixture, recorded from an execution of the one FILE on a server
    #[arg(long, value_name = "ID", conflicts_with = "case")]
    from_execution: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: TestArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    if args.files.len() > 1 && (args.fixture.is_some() || args.from_execution.is_some()) {
        let detail = "--fixture and --from-execution are for one FILE; several were given";
        return Err(Failure::Usage(detail.to_owned()));
    }
    if let (Some(execution), [file]) = (&args.from_execution, args.files.as_slice()) {
        let fixture = args.fixture.clone().unwrap_or_else(|| fixture_of(file));
        return record(&args.connection.client()?, file, &fixture, execution, output).await;
    }
    let mut tally = Tally::default();
    for file in &args.files {
        let fixture = args.fixture.clone().unwrap_or_else(|| fixture_of(file));
        let definition = Arc::new(definition(file)?);
        for case in cases(&fixture, &definition)? {
            if args.case.as_ref().is_none_or(|wanted| case.name.contains(wanted)) {
                let report = run_case(&definition, &case);
                tally.count(report.passed());
                print(file, &report, output)?;
            }
        }
    }
    tally.conclude(output)
}

fn print(file: &Path, report: &crate::workflow_tests::CaseReport, output: Output) -> Result<(), Failure> {
    if !output.for_people() {
        return output.thing(&json!({
            "file": file.display().to_string(),
            "case": report.name,
            "passed": report.passed(),
            "findings": report.findings,
        }));
    }
    let verdict = if report.passed() { "ok    " } else { "FAILED" };
    output.raw(&printable(&format!("{verdict}  {}: {}", file.display(), report.name)))?;
    report
        .findings
        .iter()
        .flat_map(|finding| finding.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
        .try_for_each(|line| output.raw(&printable(&format!("        {line}"))))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, passed: bool) {
        if passed { self.passed += 1 } else { self.failed += 1 }
    }

    fn conclude(&self, output: Output) -> Result<(), Failure> {
        if self.passed + self.failed == 0 {
            return Err(Failure::Usage("there is no such case".to_owned()));
        }
        output.say(&format!("{} passed, {} failed", self.passed, self.failed))?;
        if self.failed == 0 { Ok(()) } else { Err(Failure::Unsuccessful) }
    }
}

fn definition(file: &Path) -> Result<Definition, Failure> {
    fixture::read_definition(file).map_err(Failure::Usage)
}

fn cases(file: &Path, definition: &Definition) -> Result<Vec<fixture::Case>, Failure> {
    let document = input::json_file(file)?;
    let directory = file.parent().unwrap_or_else(|| Path::new(""));
    fixture::read(document, definition, directory).map_err(|defects| refuse(file, &defects))
}

fn refuse(file: &Path, defects: &[String]) -> Failure {
    let lines: String = defects.iter().map(|defect| format!("\n  {defect}")).collect();
    Failure::Usage(format!("{} is not a fixture:{lines}", file.display()))
}

/// `orders.json` has its cases in `orders.test.json`.
fn fixture_of(file: &Path) -> PathBuf {
    file.with_extension(FIXTURE_ENDING)
}

/// Adds a case that an execution has recorded; one of the same name is replaced.
async fn record(
    client: &Client,
    file: &Path,
    fixture: &Path,
    execution: &str,
    output: Output,
) -> Result<(), Failure> {
    let definition = definition(file)?;
    let path = format!("/executions/{}", segment(execution));
    let events = client.list(&format!("{path}/events"), &[], usize::MAX).await?;
    let hash = events.first().and_then(|event| event.pointer("/data/definition_hash")).cloned();
    if hash.as_ref().and_then(Value::as_str).is_some_and(|hash| hash != definition.hash) {
        let detail = format!("{} is not the definition that execution {execution} ran", file.display());
        return Err(Failure::Usage(detail));
    }
    let vars = if definition.uses_variables { variables(client).await? } else { Map::new() };
    let name = format!("execution {execution}");
    let case = recorder::record(&definition, &events, &name, &vars)
        .map_err(|why| Failure::Usage(format!("execution {execution} makes no case: {why}")))?;
    let mut document = if fixture.exists() { input::json_file(fixture)? } else { json!({"cases": []}) };
    let Some(cases) = document.get_mut("cases").and_then(Value::as_array_mut) else {
        return Err(refuse(fixture, &["`cases` must be a list".to_owned()]));
    };
    cases.retain(|case| case.get("name").and_then(Value::as_str) != Some(&name));
    cases.push(case.clone());
    std::fs::write(fixture, format!("{document:#}\n"))
        .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", fixture.display())))?;
    output.done(&case, &format!("case `{name}` written to {}", fixture.display()))
}

/// The tenant's variables of today: those of the execution's start are not kept by name.
async fn variables(client: &Client) -> Result<Map<String, Value>, Failure> {
    let items = client.list("/variables", &[], usize::MAX).await?;
    let pair = |item: &Value| Some((item.get("name")?.as_str()?.to_owned(), item.get("value")?.clone()));
    Ok(items.iter().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixture_lies_beside_its_definition() {
        assert_eq!(fixture_of(Path::new("a/orders.json")), Path::new("a/orders.test.json"));
    }
}
