//! Why the process ends, and with which exit code.

use std::io;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::process::StartError;

/// What `everline --help` says about exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done; for `run` and `execution watch`: the execution completed; for `test`: every case passed
  1    the execution did not complete, or a case failed; the server, Postgres or NATS refused, or could not be reached
  2    the command line is not usable
  64   the configuration is not usable, or asks for a later release
  70   a defect or a broken environment
  130  interrupted; 143 terminated (a second signal ends the process at once)";

/// The end of the process, other than success.
#[derive(Debug)]
pub enum Failure {
    /// The execution did not complete, or a document is not valid; the details are printed already.
    Unsuccessful,
    /// The server refused a request, or could not be reached.
    Client(ClientError),
    /// The arguments cannot be used, in a way that only shows at run time.
    Usage(String),
    /// The configuration cannot be used, or asks for a later release.
    Config(ConfigError),
    /// What the process needs is not there, or another process is in the way.
    Start(StartError),
    /// Everything else.
    Internal(anyhow::Error),
    /// A signal ended it.
    Signal(u8),
    /// Whoever reads standard output has gone.
    BrokenPipe,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Unsuccessful | Self::Client(_) | Self::Start(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 64,
            Self::Internal(_) => 70,
            Self::Signal(number) => number.saturating_add(128),
        }
    }

    /// Says on standard error what happened, and gives the exit code.
    pub fn report(self) -> ExitCode {
        let code = self.code();
        match self {
            Self::BrokenPipe | Self::Unsuccessful | Self::Signal(_) => {}
            Self::Client(error) => say(&error.to_string()),
            Self::Usage(detail) => say(&detail),
            Self::Start(error) => say(&error.to_string()),
            Self::Config(error) => error.problems.iter().for_each(|problem| say(&problem.to_string())),
            Self::Internal(error) => say(&format!("{error:#}")),
        }
        ExitCode::from(code)
    }
}

/// A line on standard error; nobody there to read it is no reason to fail.
fn say(text: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "error: {text}");
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // A start that the configuration makes impossible is a matter of the configuration.
        let error = match error.downcast::<ConfigError>() {
            Ok(error) => return Self::Config(error),
            Err(error) => error,
        };
        match error.downcast::<StartError>() {
            Ok(error) => Self::Start(error),
            Err(error) => Self::Internal(error),
        }
    }
}
