//! The `everline` program: sets up the process and hands over to the library.

use clap::Parser;
use mimalloc::MiMalloc;
use server::cli::Cli;
use server::exit::Failure;
use std::process::ExitCode;

/// glibc's allocator gives little back after a burst of requests.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Parsed first: `--help` and usage errors (exit code 2) need nothing else.
    let cli = Cli::parse();
    if let Some(ended) = cli.sandbox_worker() {
        return ended;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Failure::Internal(anyhow::anyhow!("TLS was set up twice")).report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::Internal(anyhow::Error::new(error).context("no async runtime")).report();
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.report();
            // Work that a second signal has given up must not hold the process.
            runtime.shutdown_background();
            code
        }
    }
}
