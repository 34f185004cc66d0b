//! Which server a command asks, and with which key.

use clap::Args;
use std::path::PathBuf;

use crate::admin;
use crate::client::Client;
use crate::config::{Config, admin_key_path};
use crate::exit::Failure;
use crate::secret::Secret;

/// Where the server is, if nobody says.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";

/// How to reach a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Connection {
    // The environment is read below, not by clap: there a variable would count as typed and clash with --local.
    /// The server's URL [env: EVERLINE_SERVER] [default: http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) server: Option<String>,
    /// The API key [env: EVERLINE_API_KEY] [default: the one that `everline dev` saved in the data directory]
    #[arg(long, global = true, value_name = "KEY")]
    pub(super) api_key: Option<String>,
    /// The data directory, in which `admin.key` is found [env: EVERLINE_DATA_DIR] [default: .everline]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Connection {
    /// A client for the server.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let server = self.server.clone().or_else(|| variable("EVERLINE_SERVER"));
        Ok(Client::new(server.as_deref().unwrap_or(DEFAULT_SERVER), self.key()?)?)
    }

    fn key(&self) -> Result<Option<Secret>, Failure> {
        let given = self.api_key.clone().or_else(|| variable("EVERLINE_API_KEY"));
        if let Some(key) = given.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
            return Ok(Some(Secret::new(key)));
        }
        // The configuration as a whole is the server's matter; of it, a client only follows the directory.
        let directory = self.data_dir.clone().or_else(|| variable("EVERLINE_DATA_DIR").map(PathBuf::from));
        let directory = directory.unwrap_or_else(|| Config::default().data_dir);
        Ok(admin::read_key(&admin_key_path(&directory))?)
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
