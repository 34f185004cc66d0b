//! `sandbox-worker`: this process runs foreign code for another of this program. Not for people, so it is not shown.

use clap::{Args, ValueEnum};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct SandboxWorkerArgs {
    /// What it runs.
    engine: Engine,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engine {
    /// JavaScript expressions.
    Js,
}

#[cfg(feature = "js")]
pub(super) fn run(args: &SandboxWorkerArgs) -> ExitCode {
    match args.engine {
        Engine::Js => sandbox::worker::run(),
    }
}

#[cfg(not(feature = "js"))]
pub(super) fn run(args: &SandboxWorkerArgs) -> ExitCode {
    match args.engine {
        Engine::Js => crate::exit::Failure::Usage("this build has no JavaScript".to_owned()).report(),
    }
}
