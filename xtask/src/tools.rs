//! What tests need on a machine: found, or installed where that is safe, or asked for in one sentence.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::quiet::Quiet;
use crate::succeeds;

/// The packages that give a Debian machine a C compiler; SQLite, ring and mimalloc are partly C.
const C_COMPILER_PACKAGES: &[&str] = &["gcc", "libc6-dev"];

/// Finds or installs everything that building and checking need.
pub(crate) fn ready() -> Result<()> {
    c_compiler()?;
    component("rustfmt", "fmt")?;
    component("clippy", "clippy")
}

/// The toolchain's cargo, with arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Usually there: Rust links with `cc`, so without it this program would not exist, unless another linker is
/// configured. `.ci/run` therefore looks for it before anything is built.
fn c_compiler() -> Result<()> {
    if runs(Command::new("cc").arg("--version")) {
        return Ok(());
    }
    install(C_COMPILER_PACKAGES, "a C compiler, which SQLite and ring need")?;
    if !runs(Command::new("cc").arg("--version")) {
        bail!("a C compiler was installed, but there is still no `cc`");
    }
    Ok(())
}

/// Installs Debian packages, where this process may; else says what to do.
pub(crate) fn install(packages: &[&str], what: &str) -> Result<()> {
    let by_hand = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_root() || !runs(Command::new("apt-get").arg("--version")) {
        bail!("there is no {what}; install it, on Debian as root with: {by_hand}");
    }
    println!("xtask: no {what}, so: {by_hand}");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends"]).args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    let quiet = Quiet::begin()?;
    // The lists of a fresh image are empty, so a first failure may only mean that.
    let installed =
        succeeds(&mut apt)? || (succeeds(Command::new("apt-get").arg("update"))? && succeeds(&mut apt)?);
    quiet.end(packages);
    if !installed {
        bail!("{what} could not be installed; try by hand: {by_hand}");
    }
    Ok(())
}

/// A component of the Rust toolchain, by the name of its cargo command.
fn component(name: &str, subcommand: &str) -> Result<()> {
    if runs(&mut cargo(&[subcommand, "--version"])) {
        return Ok(());
    }
    println!("xtask: the toolchain has no {name}, so: rustup component add {name}");
    let added = runs(Command::new("rustup").args(["component", "add", name]));
    if !added || !runs(&mut cargo(&[subcommand, "--version"])) {
        bail!("the Rust toolchain has no {name}; add it with: rustup component add {name}");
    }
    Ok(())
}

/// Whether a command starts and succeeds; its output is of no interest.
pub(crate) fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Whether this process may install packages: on Linux the owner of its own entry in /proc is its user.
#[cfg(unix)]
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|entry| entry.uid() == 0)
}

#[cfg(not(unix))]
pub(crate) fn is_root() -> bool {
    false
}
