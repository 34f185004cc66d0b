//! Putting the layers together, and saying which of them holds a defect.
//!
//! Every setting of every layer is first read on its own: the configuration with that one key. What serde says
//! then is about that key alone, so the message can name its origin. Only then are the layers merged.

use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

use super::Config;
use super::environment;
use super::error::{ConfigError, ConfigProblem};
use super::keys::{known_keys, unknown_key};
use super::urls::DatabaseUrl;

/// The file that is read from the working directory if none is named.
const DEFAULT_FILE_NAME: &str = "everline.toml";

/// Sections of sections, whose names are the user's: `[gateway.oidc.corp]`.
const NAMED_SECTIONS: &[&str] = &["gateway.oidc"];

/// One key with a value, and where it was set.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) origin: String,
    pub(super) path: Vec<String>,
    /// What the value may mean; the first that the key takes is meant.
    pub(super) candidates: Vec<Value>,
}

impl Setting {
    pub(super) fn text(origin: &str, key: &str, value: Value) -> Self {
        Self {
            origin: origin.to_owned(),
            path: key.split('.').map(str::to_owned).collect(),
            candidates: vec![value],
        }
    }

    fn key(&self) -> String {
        self.path.join(".")
    }

    fn table_with(&self, value: &Value) -> Table {
        let mut table = Table::new();
        insert(&mut table, &self.path, value.clone());
        table
    }
}

/// A key set by a flag of the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As the user wrote it, such as `--port`.
    pub name: &'static str,
    /// The dotted key.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// Where the layers come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`; else `everline.toml` in `working_dir`, if there is one.
    pub file: Option<PathBuf>,
    /// Where `everline.toml` is looked for.
    pub working_dir: PathBuf,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags that set keys.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The process's own environment and working directory.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        Self { file, working_dir: PathBuf::new(), environment: std::env::vars_os().collect(), flags }
    }
}

/// Reads all layers.
///
/// # Errors
/// Every unknown key and unusable value of every layer, each with its origin.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut settings = file_settings(sources, &mut problems);
    settings.extend(environment::settings(&sources.environment, &mut problems));
    settings.extend(sources.flags.iter().map(|flag| Setting::text(flag.name, flag.key, flag.value.clone())));

    let known = known_keys();
    let mut merged = Table::new();
    for setting in &settings {
        match usable_value(setting, &known) {
            Ok(value) => insert(&mut merged, &setting.path, value),
            Err(detail) => problems.push(ConfigProblem::new(setting.origin.clone(), detail)),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let config = Config::deserialize(merged)
        .map_err(|error| ConfigError::single("configuration", error.message().to_owned()))?;
    check(&config)?;
    Ok(config)
}

/// What no single key can say.
fn check(config: &Config) -> Result<(), ConfigError> {
    config.gateway.check().map_err(|detail| ConfigError::single("gateway", detail))?;
    config.command_service.check().map_err(|detail| ConfigError::single("command_service", detail))?;
    config.blobs()?;
    let refuse = |detail: &str| Err(ConfigError::single("read_model_url", detail));
    match (config.log_database(), config.read_model_database()) {
        (DatabaseUrl::Sqlite(log), DatabaseUrl::Sqlite(models)) if log == models => {
            refuse("the log and the read models need a file each; choose another path")
        }
        (DatabaseUrl::Sqlite(_), DatabaseUrl::Postgres(_)) => refuse(
            "the log is in a file and the read models would be on Postgres; set database_url to postgres:// too, or leave this out",
        ),
        (DatabaseUrl::Postgres(_), DatabaseUrl::Sqlite(_)) => refuse(
            "the log is on Postgres and the read models would be in a file; use postgres://, or leave this out for the same database",
        ),
        (DatabaseUrl::Sqlite(_), DatabaseUrl::Sqlite(_))
        | (DatabaseUrl::Postgres(_), DatabaseUrl::Postgres(_)) => Ok(()),
    }
}

fn usable_value(setting: &Setting, known: &[String]) -> Result<Value, String> {
    let key = setting.key();
    let is_section = known.iter().any(|known| known.starts_with(&format!("{key}.")));
    if !is_section && !known.contains(&key) && !is_named(&key) {
        return Err(unknown_key(&key, known));
    }
    let mut refusal = String::new();
    for value in &setting.candidates {
        match Config::deserialize(setting.table_with(value)) {
            Ok(_) => return Ok(value.clone()),
            Err(error) => refusal = error.message().trim().to_owned(),
        }
    }
    Err(refusal)
}

/// Whether a key is in a section whose name the user has chosen; which keys that has, its type says.
fn is_named(key: &str) -> bool {
    let inner = NAMED_SECTIONS.iter().find_map(|section| key.strip_prefix(section)?.strip_prefix('.'));
    inner.is_some_and(|inner| inner.matches('.').count() <= 1)
}

fn file_settings(sources: &Sources, problems: &mut Vec<ConfigProblem>) -> Vec<Setting> {
    let path = match &sources.file {
        Some(path) => path.clone(),
        None => {
            let path = sources.working_dir.join(DEFAULT_FILE_NAME);
            if !path.exists() {
                return Vec::new();
            }
            path
        }
    };
    match read_table(&path) {
        Ok(table) => {
            let mut settings = Vec::new();
            flatten(&path.display().to_string(), &table, &mut Vec::new(), &mut settings);
            settings
        }
        Err(detail) => {
            problems.push(ConfigProblem::new(path.display().to_string(), detail));
            Vec::new()
        }
    }
}

fn read_table(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    text.parse::<Table>().map_err(|error| {
        // Only the place and the reason: the error's own text quotes the line, which may hold a secret.
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        format!("line {line}: {}", error.message())
    })
}

/// Every leaf of a file; an empty section counts as a leaf, so that an unknown one is noticed.
fn flatten(file: &str, table: &Table, path: &mut Vec<String>, settings: &mut Vec<Setting>) {
    for (name, value) in table {
        path.push(name.clone());
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(file, inner, path, settings),
            leaf => settings.push(Setting {
                origin: format!("{file}: {}", path.join(".")),
                path: path.clone(),
                candidates: vec![leaf.clone()],
            }),
        }
        path.pop();
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => match (table.get_mut(name), value) {
            // An empty section takes nothing away from an earlier layer.
            (Some(Value::Table(_)), Value::Table(_)) => {}
            (_, value) => {
                table.insert(name.clone(), value);
            }
        },
        [name, rest @ ..] => {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
