//! `everline completion`: what shells complete by.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::exit::Failure;
use crate::output::Output;

/// `everline completion`
#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: CompletionArgs, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "everline", &mut script);
    output.raw(String::from_utf8_lossy(&script).trim_end())
}
