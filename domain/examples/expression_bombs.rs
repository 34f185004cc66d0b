//! How long each expression bomb takes until it is cut off: `cargo run --release -p domain --example expression_bombs`.
//!
//! Each is parsed and evaluated with the standard fuel, seven times, as a request or a node would. Printed are the fastest, the
//! median and the slowest time and how it ended. Exit code 1 if a median is above 100 ms or a bomb ended another way than it
//! must; the median, because the machine has other things to do too.
//!
//! Debug builds are some twenty times slower and say nothing about the limit.

use domain::expression::{Credentials, EvaluationError, Fuel, JsonScope, Program, Template};
use domain::time::Timestamp;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What no bomb may take.
const LIMIT: Duration = Duration::from_millis(100);
/// How often each is tried; an odd number, for the median.
const ROUNDS: usize = 7;

/// How a bomb must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It does not parse.
    Refused,
    /// The fuel was not enough.
    OutOfFuel,
    /// It failed, with fuel left.
    Failed,
    /// It was none: there is a value.
    Value,
}

struct Bomb {
    name: String,
    /// An expression, or JSON with templates.
    source: Value,
    context: Value,
    end: End,
}

fn main() -> ExitCode {
    let mut slow = 0;
    println!("{:<44} {:>9} {:>9} {:>9}  end", "bomb", "fastest", "median", "slowest");
    for bomb in bombs() {
        let mut times = [Duration::ZERO; ROUNDS];
        let mut wrong = None;
        for time in &mut times {
            let start = Instant::now();
            let end = set_off(&bomb);
            *time = start.elapsed();
            wrong = wrong.or((end != bomb.end).then_some(end));
        }
        times.sort();
        let median = times[ROUNDS / 2];
        let verdict = match wrong {
            Some(end) => format!("{end:?}, not {:?}  <-- WRONG", bomb.end),
            None if median > LIMIT => format!("{:?}  <-- TOO SLOW", bomb.end),
            None => format!("{:?}", bomb.end),
        };
        slow += usize::from(wrong.is_some() || median > LIMIT);
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        println!(
            "{:<44} {:>9} {:>9} {:>9}  {verdict}",
            bomb.name,
            ms(times[0]),
            ms(median),
            ms(times[ROUNDS - 1])
        );
    }
    println!("{slow} of them not as they must be; the limit is {} ms", LIMIT.as_millis());
    if slow == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Parses and evaluates, as far as it goes.
fn set_off(bomb: &Bomb) -> End {
    let scope = JsonScope {
        context: &bomb.context,
        now: Timestamp::from_unix_ms(1_795_228_800_007),
        seed: Uuid::from_u128(7),
    };
    let mut fuel = Fuel::standard();
    let result = match &bomb.source {
        Value::String(source) if !source.contains("{{") => match Program::parse(source) {
            Ok(program) => program.evaluate(&scope, &mut fuel),
            Err(_) => return End::Refused,
        },
        template => match Template::parse(template, Credentials::Refused) {
            Ok(template) => template.render(&scope, &mut fuel).map_err(|error| error.error),
            Err(_) => return End::Refused,
        },
    };
    match result {
        Ok(_) => End::Value,
        Err(EvaluationError::OutOfFuel { .. }) => End::OutOfFuel,
        Err(EvaluationError::Failed { .. } | EvaluationError::NeedsBlob(_)) => End::Failed,
    }
}

fn bombs() -> Vec<Bomb> {
    [nesting(), ranges(), patterns(), megabytes(), templates()].into_iter().flatten().collect()
}

fn bomb(name: impl Into<String>, source: impl Into<Value>, context: Value, end: End) -> Bomb {
    Bomb { name: name.into(), source: source.into(), context, end }
}

/// Deep nesting, in the source and in data.
fn nesting() -> Vec<Bomb> {
    let openers = ["(", "[", "{", "a[", "a(", "[1].all(x,", "{1:", "-(", "1+(", "a?(", "!", "- "];
    let mut bombs: Vec<_> = openers
        .into_iter()
        .map(|open| {
            let source = open.repeat(16_000 / open.len());
            bomb(format!("nesting: {open}…"), source, json!({}), End::Refused)
        })
        .collect();
    let deep = (0..500).fold(json!(1), |inner, _| json!([inner]));
    bombs.extend([
        bomb("nesting: 16 KiB of methods", format!("a{}", ".trim()".repeat(2_000)), json!({}), End::Refused),
        bomb("nesting: a megabyte of brackets", "(".repeat(1 << 20), json!({}), End::Refused),
        bomb("nesting: a value 500 deep, compared", "deep == deep", json!({ "deep": deep }), End::Failed),
        bomb("chains: 8,000 sums", format!("1{}", "+1".repeat(8_000)), json!({}), End::Value),
        bomb("chains: 2,000 choices", format!("{}7", "false?1:".repeat(2_000)), json!({}), End::Value),
        bomb("chains: 8,000 items", format!("[{}1]", "1,".repeat(8_000)), json!({}), End::Value),
    ]);
    bombs
}

/// Huge ranges.
fn ranges() -> Vec<Bomb> {
    let list = || json!({"l": (0..300).collect::<Vec<_>>(), "long": (0..100_000).collect::<Vec<_>>()});
    let shared = (0..28).fold("[1]".to_owned(), |inner, _| format!("[{inner}].map(x, [x, x])[0]"));
    let compared = format!("{shared} == {shared}");
    let fuel = |name: &str, source: &str| bomb(format!("ranges: {name}"), source, list(), End::OutOfFuel);
    vec![
        fuel("27 million steps", "l.all(x, l.all(y, l.all(z, x + y + z >= 0)))"),
        fuel("all that fails late", "l.exists(x, l.exists(y, l.exists(z, z.a)))"),
        fuel("lists of lists", "l.map(x, l.map(y, l.filter(z, z > y)))"),
        fuel("a long list with itself", "long.all(x, long.exists(y, y == x))"),
        fuel("membership in a long list", "long.all(x, x in long)"),
        fuel("long lists joined", "long.map(x, long + long)"),
        fuel("long lists compared", "long.all(x, long == long + [1] || true)"),
        fuel(
            "maps of lists",
            "long.map(x, {'a': long, 'b': x}).size() > 0 && long.all(x, long.map(y, {'k': y}) != [])",
        ),
        fuel("doubling lists", &shared),
        fuel("doubling lists, compared", &compared),
    ]
}

/// Regular expressions.
fn patterns() -> Vec<Bomb> {
    let long = format!("{}!", "a".repeat(1_000_000));
    let short = format!("{}!", "a".repeat(4_000));
    let context =
        || json!({"t": long, "s": short, "p": "((a{50}){50}){50}", "l": (0..300).collect::<Vec<_>>()});
    let bomb = |name: &str, source: String, end| bomb(format!("patterns: {name}"), source, context(), end);
    let of_short = |pattern: &str| format!("l.exists(x, l.exists(y, s.matches('{pattern}') && false))");
    let of_text = |pattern: &str| format!("l.exists(x, l.exists(y, t.matches('{pattern}') && false))");
    vec![
        bomb("(a+)+$", of_text("(a+)+$"), End::OutOfFuel),
        bomb("(a|a)*$", of_text("(a|a)*$"), End::OutOfFuel),
        bomb("(.*)(.*)(.*)(.*)x", of_text("(.*)(.*)(.*)(.*)x"), End::OutOfFuel),
        bomb("([a-z]{0,30}){0,8}x", of_text("([a-z]{0,30}){0,8}x"), End::OutOfFuel),
        bomb("(\\\\w{4}x){3}", of_text(r"(\\w{4}x){3}"), End::OutOfFuel),
        // Over texts short enough that each match is made, and paid for.
        bomb("(a+)+$, over 4 KB", of_short("(a+)+$"), End::OutOfFuel),
        bomb("(a|a)*$, over 4 KB", of_short("(a|a)*$"), End::OutOfFuel),
        bomb("(.*)(.*)(.*)(.*)x, over 4 KB", of_short("(.*)(.*)(.*)(.*)x"), End::OutOfFuel),
        bomb("([a-z]{0,30}){0,8}x, over 4 KB", of_short("([a-z]{0,30}){0,8}x"), End::OutOfFuel),
        bomb("(a?){20}a{20}$, over 4 KB", of_short("(a?){20}a{20}$"), End::OutOfFuel),
        bomb(
            "(a+)+$ once, over 100 KB",
            format!(
                "'{}!'.matches('(a+)+$') || s.replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaa').matches('(a+)+$')",
                "a".repeat(9_000)
            ),
            End::Value,
        ),
        bomb("repetitions of repetitions", "t.matches('((a{50}){50}){50}')".to_owned(), End::Refused),
        bomb("repetitions that come as data", "t.matches(p)".to_owned(), End::Failed),
        bomb("the same, 300 times", "l.map(x, t.matches(p))".to_owned(), End::Failed),
        bomb(
            "patterns made on the way",
            r"l.map(x, l.map(y, t.matches('(\\w{4}' + string(x) + '|' + string(y) + '){3}')))".to_owned(),
            End::OutOfFuel,
        ),
        bomb("500 of them", format!("[{}]", r"t.matches('(\\w{4}x){3}'),".repeat(500)), End::OutOfFuel),
        bomb("900 brackets", format!("t.matches('{}')", "(".repeat(900)), End::Refused),
    ]
}

/// Megabyte strings.
fn megabytes() -> Vec<Bomb> {
    let long = "x".repeat(1_000_000);
    let context = || json!({"t": long, "u": format!("{long}y"), "m": {long.clone(): 1}, "l": (0..300).collect::<Vec<_>>()});
    let doubled = (0..30).fold("'ab'".to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    let joined = (0..12).fold("'ab'".to_owned(), |inner, _| format!("[{inner}].map(x, [x,x,x,x].join())[0]"));
    let plain =
        ["l.map(x, t + t)", "t.replace('', t)", "t.split('').map(c, t)", "l.map(x, t)", &doubled, &joined];
    let again = [
        "t.contains('xy')",
        "t != t + ''",
        "size(t) == 0",
        "t.trim() == ''",
        "t < u && false",
        "t.indexOf('y') > 0",
        "t.charAt(999999) == 'y'",
        "m[t] == 2",
        "int(t) == 1",
        "u.endsWith(t)",
        "{t: 1}[t] == 2",
        "size(m.map(k, k)) == 2",
        "t.replace('y', '') == ''",
        "t.upperAscii() == ''",
        "t.substring(1) == ''",
    ];
    let again = again.map(|cost| (cost.to_owned(), format!("l.exists(a, l.exists(b, l.exists(c, {cost})))")));
    let plain = plain.map(|source| (source.chars().take(30).collect(), source.to_owned()));
    plain
        .into_iter()
        .chain(again)
        .map(|(name, source)| bomb(format!("megabytes: {name}"), source, context(), End::OutOfFuel))
        .chain([bomb("megabytes: of source", "x".repeat(1 << 20), json!({}), End::Refused)])
        .collect()
}

/// Templates, whose expressions share the fuel of one rendering.
fn templates() -> Vec<Bomb> {
    let context = || json!({"l": (0..300).collect::<Vec<_>>(), "t": "x".repeat(1_000_000)});
    let loops = "{{ l.all(x, l.all(y, x + y >= 0)) }}";
    let many: Vec<_> = (0..1_000).map(|_| loops).collect();
    let texts: Vec<_> = (0..1_000).map(|_| "{{ t }} and {{ t }}").collect();
    let deep = (0..200).fold(json!("{{ 1 }}"), |inner, _| json!([inner]));
    vec![
        bomb("templates: 1,000 with loops", json!(many), context(), End::OutOfFuel),
        bomb("templates: 1,000 with megabytes", json!(texts), context(), End::OutOfFuel),
        bomb("templates: one long text of them", json!(loops.repeat(400)), context(), End::OutOfFuel),
        bomb("templates: 200 deep", deep, context(), End::Refused),
        bomb("templates: half a megabyte of openers", json!("{{".repeat(250_000)), context(), End::Refused),
    ]
}
