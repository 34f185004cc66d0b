//! What the operating system allows this process.
//!
//! These are the second line: the engine's own limits come first, the pool's deadline ends what they miss, and these hold
//! if the pool is gone or the engine is broken.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;

use crate::frame::WireLimits;

/// Address space beside the engine's memory: requests, replies, what the allocators hold back.
const SLACK_BYTES: u64 = 192 * 1024 * 1024;

/// The limits of this process.
pub(super) struct Process {
    /// Address space before any request, if the system tells.
    at_start: Option<u64>,
}

impl Process {
    /// Takes from this process what it does not need: more open files, files with content, processes and threads, dumps.
    pub(super) fn confine() -> io::Result<Self> {
        // Asked while files can still be opened.
        let at_start = address_space();
        for (resource, limit) in [
            // Standard input, output and error are open.
            (Resource::Nofile, 3),
            (Resource::Fsize, 0),
            (Resource::Nproc, 0),
            // A dump would hold what the scripts were given.
            (Resource::Core, 0),
        ] {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        Ok(Self { at_start })
    }

    /// Room for one evaluation: its memory, and its time over again on top of what was used so far.
    pub(super) fn allow(&self, limits: &WireLimits) -> io::Result<()> {
        if let Some(at_start) = self.at_start {
            let memory = limits.memory_bytes as u64;
            lower(Resource::As, at_start.saturating_add(memory).saturating_add(SLACK_BYTES))?;
        }
        let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
        // Whole seconds, and the present one is begun.
        lower(Resource::Cpu, used.saturating_add(limits.deadline_ms / 1_000).saturating_add(2))
    }
}

/// Sets the limit that counts; the one it may be raised to stays.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = maximum.map_or(limit, |maximum| maximum.min(limit));
    setrlimit(resource, Rlimit { current: Some(current), maximum })?;
    Ok(())
}

/// The address space of this process in bytes, on systems that tell.
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
