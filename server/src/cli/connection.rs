//! Which server a command asks, and with which key or session.
//!
//! Both are looked for in the same order: a flag, the environment, what `everline login` has kept, what `everline dev`
//! has saved in the data directory. A data directory that is named counts as a flag.

use clap::Args;
use std::path::PathBuf;

use crate::admin;
use crate::client::{Bearer, Client, Credentials};
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
    /// The server's URL [env: EVERLINE_SERVER] [default: that of the last login, else http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) server: Option<String>,
    /// The API key [env: EVERLINE_API_KEY] [default: the session of `everline login`, else the key that `everline dev`
    /// saved in the data directory]
    #[arg(long, global = true, value_name = "KEY")]
    pub(super) api_key: Option<String>,
    /// The data directory, in which `admin.key` is found [env: EVERLINE_DATA_DIR] [default: .everline]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Connection {
    /// A client for the server.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let server = self.server_url()?;
        Ok(Client::new(&server, self.bearer(&server)?)?)
    }

    /// The server that is meant.
    pub(super) fn server_url(&self) -> Result<String, Failure> {
        let named = self.server.clone().or_else(|| variable("EVERLINE_SERVER"));
        let last = match (named, Credentials::of_user()) {
            (Some(named), _) => Some(named),
            // Whoever names a data directory means the server that works on it.
            (None, Some(credentials)) if self.named_directory().is_none() => credentials.last_server()?,
            (None, _) => None,
        };
        let server = last.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        Ok(server.trim_end_matches('/').to_owned())
    }

    fn bearer(&self, server: &str) -> Result<Bearer, Failure> {
        let given = self.api_key.clone().or_else(|| variable("EVERLINE_API_KEY"));
        if let Some(key) = given.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
            return Ok(Bearer::Key(Secret::new(key)));
        }
        // The configuration as a whole is the server's matter; of it, a client only follows the directory.
        let named = self.named_directory();
        let directory = named.clone().unwrap_or_else(|| Config::default().data_dir);
        let key = admin::read_key(&admin_key_path(&directory))?.map(Bearer::Key);
        if let (Some(_), Some(key)) = (&named, &key) {
            return Ok(key.clone());
        }
        if let Some(credentials) = Credentials::of_user()
            && credentials.session(server)?.is_some()
        {
            return Ok(Bearer::Session(credentials));
        }
        Ok(key.unwrap_or(Bearer::Nobody))
    }

    fn named_directory(&self) -> Option<PathBuf> {
        self.data_dir.clone().or_else(|| variable("EVERLINE_DATA_DIR").map(PathBuf::from))
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
