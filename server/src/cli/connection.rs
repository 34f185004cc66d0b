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
    /// The server's URL [default: http://127.0.0.1:7070]
    #[arg(long, global = true, env = "EVERLINE_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,
    /// The API key; else the one that `everline dev` saved in the data directory.
    #[arg(long, global = true, env = "EVERLINE_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(super) api_key: Option<String>,
    /// The data directory, in which `admin.key` is found [default: .everline]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Connection {
    /// A client for the server.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let server = self.server.as_deref().filter(|server| !server.is_empty()).unwrap_or(DEFAULT_SERVER);
        Ok(Client::new(server, self.key()?)?)
    }

    fn key(&self) -> Result<Option<Secret>, Failure> {
        if let Some(key) = self.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
            return Ok(Some(Secret::new(key)));
        }
        // The configuration as a whole is the server's matter; of it, a client only follows the directory.
        let from_environment =
            || std::env::var_os("EVERLINE_DATA_DIR").filter(|directory| !directory.is_empty());
        let directory = self.data_dir.clone().or_else(|| from_environment().map(PathBuf::from));
        let directory = directory.unwrap_or_else(|| Config::default().data_dir);
        Ok(admin::read_key(&admin_key_path(&directory))?)
    }
}
