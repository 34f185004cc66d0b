//! URLs of databases and of NATS: read, checked, and never printed whole, because they hold passwords.

use reqwest::Url;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Parameters that a Postgres URL may have. Others are refused: the driver would pass over them in silence.
const POSTGRES_PARAMETERS: &[&str] = &["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];
/// Values of `sslmode`.
const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Where a database is: `sqlite://<path>` or `postgres://…`.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(PostgresUrl),
}

/// A checked `postgres://` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    whole: Secret,
    shown: String,
}

impl DatabaseUrl {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// The server, if it is one.
    pub fn postgres(&self) -> Option<&PostgresUrl> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url) => Some(url),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(Self::Postgres);
        }
        let path = text.strip_prefix("sqlite://").ok_or(
            "not a database URL; write sqlite://<path> or postgres://user:password@host:port/database",
        )?;
        if path.is_empty() || path.contains('?') || path == ":memory:" {
            return Err("sqlite:// needs the path of a file and no parameters".to_owned());
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl PostgresUrl {
    /// The whole URL, for the one place that connects.
    pub fn expose(&self) -> &str {
        self.whole.expose()
    }

    /// Scheme, host, port and database: nothing that must not be printed.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The parser's own messages name no part of the URL.
        let url = Url::parse(text).map_err(|error| {
            format!("not a URL ({error}); write postgres://user:password@host:port/database and escape what is special in the password, such as %40 for @")
        })?;
        let mut socket = None;
        for (name, value) in url.query_pairs() {
            if !POSTGRES_PARAMETERS.contains(&&*name) {
                return Err(format!(
                    "the parameter `{}` is not supported; use {}",
                    name.escape_default(),
                    POSTGRES_PARAMETERS.join(", ")
                ));
            }
            if name == "sslmode" && !SSL_MODES.contains(&&*value) {
                return Err(format!("sslmode must be one of {}", SSL_MODES.join(", ")));
            }
            if name == "host" {
                socket = Some(value.into_owned());
            }
        }
        let database = url.path().trim_start_matches('/');
        if database.is_empty() || database.contains('/') {
            return Err(
                "the database is missing; write postgres://user:password@host:port/database".to_owned()
            );
        }
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned).or(socket);
        let host = host.ok_or("the host is missing; write postgres://user:password@host:port/database")?;
        let shown = format!("postgres://{host}:{}/{database}", url.port().unwrap_or(5432));
        Ok(Self { whole: Secret::new(text), shown })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// Without user, password and parameters.
impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as a secret, so that serde's own message quotes nothing.
        Self::parse(Secret::deserialize(deserializer)?.expose()).map_err(Error::custom)
    }
}

/// Where NATS is: `nats://` or `tls://`, several servers of one cluster separated by commas.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    whole: Secret,
    shown: String,
}

impl NatsUrl {
    /// The whole text, for the one place that connects.
    pub fn expose(&self) -> &str {
        self.whole.expose()
    }

    /// Scheme, host and port of each server.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn parse(text: &str) -> Result<Self, String> {
        let shown =
            text.split(',').map(|server| Self::server(server.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { whole: Secret::new(text), shown: shown.join(",") })
    }

    /// What may be shown of one server.
    fn server(text: &str) -> Result<String, String> {
        let form = "write nats://user:password@host:port, or tls:// for TLS; separate several with commas";
        let url = Url::parse(text).map_err(|error| format!("not a NATS URL ({error}); {form}"))?;
        if !matches!(url.scheme(), "nats" | "tls") {
            return Err(format!("a NATS URL begins with nats:// or tls://; {form}"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("a NATS URL has no host; {form}"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("a NATS URL ends after host and port; {form}"));
        }
        Ok(format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(4222)))
    }
}

/// Without users, passwords and tokens.
impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for NatsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Secret::deserialize(deserializer)?.expose()).map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_shown_without_user_and_password() {
        for text in [
            "postgres://everline:hunter2@db:5433/everline?sslmode=require",
            "postgresql://hunter2@db:5433/everline",
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(format!("{url:?}"), "postgres://db:5433/everline");
            assert_eq!(url.postgres().unwrap().expose(), text);
        }
        let socket = DatabaseUrl::parse("postgres:///everline?host=/run/postgresql").unwrap();
        assert_eq!(format!("{socket:?}"), "postgres:///run/postgresql:5432/everline");
    }

    #[test]
    fn a_database_url_that_cannot_be_used_is_refused_with_the_reason_and_without_the_url() {
        for (text, said) in [
            ("postgres://u:hunter2@:5432/d", "not a URL"),
            ("postgres://u:hunter2@db:port/d", "not a URL"),
            ("postgres:///d", "host is missing"),
            ("postgres://u:hunter2@db", "database is missing"),
            ("postgres://u:hunter2@db/", "database is missing"),
            ("postgres://u:hunter2@db/a/b", "database is missing"),
            ("postgres://u:hunter2@db/d?options=-csearch_path%3Dhunter2", "`options` is not supported"),
            ("postgres://u:hunter2@db/d?sslmode=hunter2", "sslmode must be one of"),
            ("mysql://u:hunter2@db/d", "sqlite://<path> or postgres://"),
            ("sqlite://:memory:", "path of a file"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_nats_url_may_name_several_servers_and_is_shown_without_secrets() {
        let text = "nats://user:hunter2@a:4222, tls://hunter2@b";
        let url = NatsUrl::parse(text).unwrap();
        assert_eq!(format!("{url:?}"), "nats://a:4222,tls://b:4222");
        assert_eq!(url.expose(), text);
        for (text, said) in [
            ("", "not a NATS URL"),
            ("nats://a,", "not a NATS URL"),
            ("localhost:4222", "begins with nats://"),
            ("http://hunter2@a", "begins with nats://"),
            ("nats:///hunter2", "no host"),
            ("nats://a/hunter2", "ends after host and port"),
        ] {
            let error = NatsUrl::parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
