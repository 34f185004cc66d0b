//! A worker as a program of its own, for the tests of this crate. `everline sandbox-worker js` is the same.

fn main() -> std::process::ExitCode {
    sandbox::worker::run()
}
