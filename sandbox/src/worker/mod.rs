//! A worker, from inside: reads requests from standard input, answers on standard output, ends when its input does.
//!
//! Invariants: it opens no file and starts no process or thread once it is ready, and the operating system refuses it if the
//! engine is made to try; after a broken limit it ends, since what the engine's memory looks like then is nobody's to
//! vouch for. Absent: the deadline that holds (the pool kills this process), and any host function.

mod engine;
mod limits;

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;

use crate::frame::{Reply, Request};
use engine::Evaluation;

/// The longest request that is read. The pool sends less.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// Stack of the thread that evaluates; the engine uses a quarter at most. Debug builds need much more than release builds.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Works until standard input ends. For `main` of the worker's program, before it has started anything else.
pub fn run() -> ExitCode {
    // The main thread's stack depends on where we were started.
    let work = thread::Builder::new().name("sandbox".to_owned()).stack_size(STACK_BYTES).spawn(serve);
    match work.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let (mut requests, mut replies) = (io::stdin().lock(), io::stdout().lock());
    let process = limits::Process::confine()?;
    send(&mut replies, &[])?;
    loop {
        let request = match receive(&mut requests) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let request: Request = serde_json::from_slice(&request)?;
        process.allow(&request.limits)?;
        let Evaluation { reply, engine } = engine::evaluate(&request);
        send(&mut replies, &serde_json::to_vec(&reply)?)?;
        if matches!(reply, Reply::Limit(_)) {
            // Without taking the engine down, which is not made for what it has been through.
            std::process::exit(0);
        }
        drop(engine);
    }
}

fn receive(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn send(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(frame)?;
    to.flush()
}
