//! One evaluation: a fresh engine, the context's fields as global variables, one expression, JSON of what it gave.
//!
//! How one expression is told from something else: it is read twice, first as `(()=>[…])`, then as `(()=>(…))`. Text that
//! closes the one bracket early does not close the other, so what reads as both is within them. The first reading never runs
//! anything, and the second, if the first went well, only makes a function.
//!
//! `eval` and `Function` are taken away before the expression runs: what was read is all that runs. (The engine's switch for
//! them cannot be used: without it, it reads nothing at all.)

use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Module, Object, Runtime, Type, Value};
use serde_json::Value as Json;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::Limit;
use crate::frame::{Reply, Request};

/// Stack of the engine.
const STACK_BYTES: usize = 1024 * 1024;
/// What places in the source are in, to the engine.
const SCRIPT: &str = "expression";
/// The longest message of a failure, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// The language without what compares time finely, and without what the browser has.
type Language = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);

/// Takes the ways from text to code away, and makes the fields of the context variables.
const PRELUDE: &str = r"(context) => {
    for (const some of [function () {}, function* () {}, async function () {}, async function* () {}]) {
        Object.defineProperty(Object.getPrototypeOf(some), 'constructor', { value: undefined });
    }
    const [global, object] = [globalThis, Object];
    for (const name of ['eval', 'Function', 'queueMicrotask']) delete global[name];
    for (const name of object.keys(context)) {
        object.defineProperty(global, name,
            { value: context[name], writable: true, enumerable: true, configurable: true });
    }
}";

/// How it ended, and the engine, to be dropped later.
pub(super) struct Evaluation {
    pub(super) reply: Reply,
    pub(super) engine: Option<(Context, Runtime)>,
}

/// Carries out one request.
pub(super) fn evaluate(request: &Request) -> Evaluation {
    let Ok(runtime) = Runtime::new() else {
        return Evaluation { reply: Reply::Limit(Limit::Memory), engine: None };
    };
    runtime.set_memory_limit(request.limits.memory_bytes.max(1));
    runtime.set_max_stack_size(STACK_BYTES);
    let interrupted = Rc::new(Cell::new(false));
    let deadline = Instant::now() + Duration::from_millis(request.limits.deadline_ms);
    let was_interrupted = Rc::clone(&interrupted);
    runtime.set_interrupt_handler(Some(Box::new(move || {
        let late = Instant::now() >= deadline;
        was_interrupted.set(was_interrupted.get() || late);
        late
    })));
    let Ok(context) = Context::custom::<Language>(&runtime) else {
        return Evaluation { reply: Reply::Limit(Limit::Memory), engine: None };
    };
    let mut reply = context.with(|ctx| reply_of(&ctx, request));
    // Whatever it looks like from here: it was stopped.
    if interrupted.get() {
        reply = Reply::Limit(Limit::Deadline);
    }
    Evaluation { reply, engine: Some((context, runtime)) }
}

fn reply_of(ctx: &Ctx<'_>, request: &Request) -> Reply {
    match value_of(ctx, request) {
        Ok(reply) | Err(reply) => reply,
    }
}

fn value_of<'js>(ctx: &Ctx<'js>, request: &Request) -> Result<Reply, Reply> {
    let failed = |caught: CaughtError<'js>| reply_to(&caught, Reply::Failed);
    let prepare: Function<'js> = ctx.eval(PRELUDE).catch(ctx).map_err(failed)?;
    let context = ctx.json_parse(request.context.get()).catch(ctx).map_err(failed)?;
    let expression =
        read(ctx, &request.source).catch(ctx).map_err(|caught| reply_to(&caught, Reply::Syntax))?;
    prepare.call::<_, ()>((context,)).catch(ctx).map_err(failed)?;
    let value: Value<'js> = expression.call(()).catch(ctx).map_err(failed)?;
    if let Some(what) = not_json(&value) {
        return Ok(Reply::Failed(format!("the expression gives {what}, which is not JSON")));
    }
    let text = ctx.json_stringify(value).catch(ctx).map_err(failed)?;
    let Some(text) = text else {
        return Ok(Reply::Failed("the expression gives something that is not JSON".to_owned()));
    };
    let text = text.to_string().catch(ctx).map_err(failed)?;
    if text.len() > request.limits.output_bytes {
        return Ok(Reply::Limit(Limit::Output));
    }
    Ok(match serde_json::from_str::<Json>(&text) {
        Ok(value) => Reply::Value(value),
        Err(error) if error.to_string().contains("recursion") => Reply::Limit(Limit::Depth),
        // The engine allows halves of characters in texts.
        Err(_) => Reply::Failed("the expression gives a text that is not valid Unicode".to_owned()),
    })
}

/// The source as a function that has not run.
fn read<'js>(ctx: &Ctx<'js>, source: &str) -> rquickjs::Result<Function<'js>> {
    // Declaring a module runs nothing of it, whatever it turns out to be.
    Module::declare(ctx.clone(), SCRIPT, format!("(()=>[\n{source}\n])"))?;
    let mut options = EvalOptions::default();
    options.filename = Some(SCRIPT.to_owned());
    ctx.eval_with_options(format!("(()=>(\n{source}\n))"), options)
}

/// What a value is that has no JSON of its own.
fn not_json(value: &Value<'_>) -> Option<&'static str> {
    match value.type_of() {
        Type::Undefined | Type::Uninitialized => Some("undefined"),
        Type::Function | Type::Constructor => Some("a function"),
        Type::Symbol => Some("a symbol"),
        Type::BigInt => Some("a BigInt"),
        Type::Promise => Some("a promise"),
        Type::Float if value.as_float().is_some_and(|number| !number.is_finite()) => {
            Some("a number that is not finite")
        }
        _ => None,
    }
}

/// What is said about an exception. `otherwise` makes the reply if it is not the engine's about a limit.
fn reply_to(caught: &CaughtError<'_>, otherwise: fn(String) -> Reply) -> Reply {
    let (name, message) = match caught {
        CaughtError::Error(rquickjs::Error::Allocation) => return Reply::Limit(Limit::Memory),
        // What the engine throws where there is no memory left for an error. A script that throws it is taken for that.
        CaughtError::Value(value) if value.is_null() => return Reply::Limit(Limit::Memory),
        CaughtError::Error(error) => (None, error.to_string()),
        CaughtError::Exception(exception) => {
            (text_of(exception, "name"), exception.message().unwrap_or_default())
        }
        CaughtError::Value(value) => (None, format!("{} was thrown", thrown(value))),
    };
    // The engine says these by itself. A script may say the same, which then is taken for one that broke the limit.
    match (name.as_deref(), message.as_str()) {
        (_, "out of memory" | "string too long" | "BigInt is too large to allocate") => {
            return Reply::Limit(Limit::Memory);
        }
        (Some("RangeError"), "invalid string length" | "invalid array buffer length") => {
            return Reply::Limit(Limit::Memory);
        }
        (_, "stack overflow" | "Maximum call stack size exceeded") => return Reply::Limit(Limit::Stack),
        _ => {}
    }
    let mut text = match name {
        Some(name) => format!("{name}: {message}"),
        None => message,
    };
    if let CaughtError::Exception(exception) = caught
        && let Some((line, column)) = exception.stack().as_deref().and_then(place)
    {
        text.push_str(&format!(" at {line}:{column}"));
    }
    text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
    otherwise(text)
}

/// A field of an exception, if it is a text.
fn text_of(object: &Object<'_>, field: &str) -> Option<String> {
    let value: Value<'_> = object.get(field).ok()?;
    value.as_string()?.to_string().ok()
}

/// A thrown value that is no error.
fn thrown(value: &Value<'_>) -> String {
    if let Some(text) = value.as_string() {
        return text.to_string().unwrap_or_else(|_| "a text".to_owned());
    }
    match (value.as_int(), value.as_float(), value.as_bool()) {
        (Some(number), _, _) => number.to_string(),
        (_, Some(number), _) => number.to_string(),
        (_, _, Some(flag)) => flag.to_string(),
        _ => format!("a value of type {}", value.type_name()),
    }
}

/// Line and column of the innermost call in the script, which begins in the second line of what is read.
fn place(stack: &str) -> Option<(u32, u32)> {
    let at = stack.split("expression:").nth(1)?;
    let mut numbers = at.split(|c: char| !c.is_ascii_digit());
    let (line, column) = (numbers.next()?.parse::<u32>().ok()?, numbers.next()?.parse().ok()?);
    Some((line.checked_sub(1).filter(|line| *line > 0)?, column))
}
