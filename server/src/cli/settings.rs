//! `everline config`: what can be configured.

use clap::{Args, Subcommand};

use crate::config::DEFAULT_FILE;
use crate::exit::Failure;
use crate::output::Output;

/// `everline config`
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration file with every key, documented, at its default.
    Default,
}

pub(super) fn run(args: ConfigArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        ConfigCommand::Default => output.raw(DEFAULT_FILE.trim_end()),
    }
}
