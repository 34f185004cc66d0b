//! Runs the simulation over a range of seeds, or replays one.
//!
//! ```sh
//! cargo run --release -p simulation --bin simulate -- --seeds 0..100000
//! cargo run --release -p simulation --bin simulate -- --seed 17
//! ```

use simulation::generate::{Flavour, case};
use simulation::world::{Breakage, Injected, Report, World};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

/// Steps of a failing seed that are printed.
const SHOWN: usize = 30;
/// Failing seeds that are printed.
const MOST_FAILURES: usize = 10;

/// What to do.
struct Arguments {
    seeds: Range<u64>,
    verbose: bool,
    breakage: Option<Breakage>,
}

fn main() -> ExitCode {
    let arguments = match read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\nusage: simulate --seeds A..B | --seed N  [--break RULE]");
            return ExitCode::from(64);
        }
    };
    if arguments.verbose { replay(&arguments) } else { run(&arguments) }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 0..1_000, verbose: false, breakage: None };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a seed"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value)?;
                arguments.seeds = seed..seed + 1;
                arguments.verbose = true;
            }
            "--seeds" => {
                let (first, last) = value.split_once("..").ok_or("a range of seeds is written A..B")?;
                arguments.seeds = number(first)?..number(last)?;
            }
            "--break" => {
                let known = Breakage::ALL.into_iter().find(|breakage| breakage.as_str() == value);
                let names = Breakage::ALL.map(Breakage::as_str).join(", ");
                arguments.breakage = Some(known.ok_or_else(|| format!("use one of {names}"))?);
            }
            other => return Err(format!("`{other}` is not an option")),
        }
    }
    Ok(arguments)
}

/// One seed with faults.
fn chaos(seed: u64, arguments: &Arguments, verbose: bool) -> Report {
    let mut world = World::with_faults(&case(seed, Flavour::Confluent));
    if let Some(breakage) = arguments.breakage {
        world = world.broken(breakage);
    }
    if verbose { world.verbose().run() } else { world.run() }
}

/// One seed without faults, by virtual time.
fn plain(seed: u64, verbose: bool) -> Report {
    let world = World::plain(&case(seed, Flavour::Racy));
    if verbose { world.verbose().run() } else { world.run() }
}

fn run(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (mut injected, mut ended) = (Injected::new(), BTreeMap::<&str, u64>::new());
    let (mut compared, mut events, mut failures) = (0, 0, 0);
    for seed in arguments.seeds.clone() {
        for (kind, report) in [("plain", plain(seed, false)), ("faults", chaos(seed, arguments, false))] {
            compared += report.compared;
            events += report.events;
            report.injected.iter().for_each(|(fault, count)| *injected.entry(*fault).or_default() += count);
            report.ended.iter().for_each(|(status, count)| *ended.entry(status).or_default() += count);
            if let Some(violation) = report.violation {
                failures += 1;
                println!("seed {seed} ({kind}): {violation}");
                let again = if kind == "plain" { plain(seed, true) } else { chaos(seed, arguments, true) };
                if failures <= MOST_FAILURES {
                    again.trace.iter().rev().take(SHOWN).rev().for_each(|line| println!("    {line}"));
                }
            }
        }
        if failures >= MOST_FAILURES {
            break;
        }
    }
    let seeds = arguments.seeds.end - arguments.seeds.start;
    let seconds = began.elapsed().as_secs_f64();
    println!("seeds {:?} in {seconds:.1} s ({:.0} per second)", arguments.seeds, seeds as f64 / seconds);
    println!("{events} events, {compared} executions compared with the reference, ended {ended:?}");
    println!("faults {injected:?}");
    println!("{failures} failures");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(arguments: &Arguments) -> ExitCode {
    let seed = arguments.seeds.start;
    let mut failed = false;
    for (kind, flavour, report) in [
        ("plain", Flavour::Racy, plain(seed, true)),
        ("faults", Flavour::Confluent, chaos(seed, arguments, true)),
    ] {
        println!("== seed {seed} ({kind})");
        for (name, document) in &case(seed, flavour).workflows {
            println!("-- {name}: {document}");
        }
        report.trace.iter().for_each(|line| println!("{line}"));
        println!("ended {:?}, violation {:?}", report.ended, report.violation);
        failed |= report.violation.is_some();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
