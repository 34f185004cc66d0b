//! The layers as a user meets them.

use std::ffi::OsString;
use std::path::Path;
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_FILE, Flag, LogFormat, Sources, known_keys, load};

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn with_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let empty = tempfile::tempdir().unwrap();
    load(&Sources {
        working_dir: empty.path().to_owned(),
        environment: environment(pairs),
        ..Sources::default()
    })
}

fn refusal(result: Result<Config, ConfigError>) -> String {
    result.expect_err("a refusal").to_string()
}

#[test]
fn a_later_layer_wins_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("everline.toml"),
        "log = \"debug\"\nhttp_addr = \"127.0.0.1:1\"\nlog_format = \"json\"\n[agents]\nslots = 3\n",
    )
    .unwrap();
    let config = load(&Sources {
        file: None,
        working_dir: directory.path().to_owned(),
        environment: environment(&[("EVERLINE_LOG", "warn"), ("EVERLINE_EGRESS__ALLOW_PRIVATE", "true")]),
        flags: vec![Flag { name: "--port", key: "http_addr", value: Value::String("127.0.0.1:2".into()) }],
    })
    .unwrap();
    assert_eq!(config.log, "warn");
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.http_addr.port(), 2);
    assert_eq!(config.egress.allow_private, Some(true));
    assert_eq!(config.agents.slots.get(), 3);
}

#[test]
fn every_defect_of_every_layer_is_reported_with_its_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    std::fs::write(&file, "data_dri = \"x\"\n[egress]\nallow_private = \"perhaps\"\n[nets]\n").unwrap();
    let text = refusal(load(&Sources {
        file: Some(file),
        environment: environment(&[("EVERLINE_PARTITIONS", "0"), ("EVERLINE_COLOUR", "blue")]),
        ..Sources::default()
    }));
    for part in [
        "my.toml: data_dri: unknown key `data_dri`; did you mean `data_dir`?",
        "my.toml: egress.allow_private: invalid type: string \"perhaps\", expected a boolean",
        "my.toml: nets: unknown key `nets`",
        "EVERLINE_PARTITIONS: 0 is out of range; use 1 to 4096",
        "EVERLINE_COLOUR: unknown key `colour`",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn what_comes_in_a_later_release_is_refused_in_words() {
    for (name, value) in [
        ("EVERLINE_QDRANT_URL", "http://hunter2"),
        ("EVERLINE_GRPC_ADDR", "hunter2"),
        ("EVERLINE_OTLP_ENDPOINT", "http://hunter2"),
    ] {
        let text = refusal(with_environment(&[(name, value)]));
        assert!(text.starts_with(name) && text.contains("later release"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_database_is_a_path_after_sqlite() {
    let config = with_environment(&[("EVERLINE_DATABASE_URL", "sqlite:///var/lib/everline/log.db")]).unwrap();
    assert_eq!(config.log_database().file(), Some(Path::new("/var/lib/everline/log.db")));
    assert!(refusal(with_environment(&[("EVERLINE_DATABASE_URL", "mysql://x")])).contains("sqlite://<path>"));
    let same = [("EVERLINE_DATABASE_URL", "sqlite://a.db"), ("EVERLINE_READ_MODEL_URL", "sqlite://a.db")];
    assert!(refusal(with_environment(&same)).contains("a file each"));
}

#[test]
fn read_models_are_beside_the_log_unless_a_url_says_otherwise() {
    let postgres = ("EVERLINE_DATABASE_URL", "postgres://u:hunter2@db/everline");
    let config = with_environment(&[postgres]).unwrap();
    assert_eq!(config.read_model_database(), config.log_database());
    let elsewhere = ("EVERLINE_READ_MODEL_URL", "postgres://u:hunter2@reads/everline");
    let config = with_environment(&[postgres, elsewhere]).unwrap();
    assert_ne!(config.read_model_database(), config.log_database());
    assert!(!format!("{config:?}").contains("hunter2"));

    let file = ("EVERLINE_READ_MODEL_URL", "sqlite://reads.db");
    assert!(refusal(with_environment(&[postgres, file])).contains("would be in a file"));
    assert!(refusal(with_environment(&[elsewhere])).contains("would be on Postgres"));
}

#[test]
fn urls_of_the_cluster_may_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let database = write("database", "postgres://u:hunter2@db/everline\n");
    let nats = write("nats", "nats://hunter2@bus:4222\n");
    let variables = [("EVERLINE_DATABASE_URL_FILE", &*database), ("EVERLINE_NATS_URL_FILE", &*nats)];
    let config = with_environment(&variables).unwrap();
    assert!(config.log_database().postgres().is_some() && config.nats_url.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn settings_of_the_cluster_have_bounds() {
    for (name, value) in [
        ("EVERLINE_NATS__REPLICAS", "0"),
        ("EVERLINE_NATS__REPLICAS", "6"),
        ("EVERLINE_POSTGRES__CONNECTIONS", "0"),
        ("EVERLINE_POSTGRES__STATEMENT_TIMEOUT_MS", "0"),
        ("EVERLINE_NATS__EVENTS_MAX_AGE_HOURS", "0"),
    ] {
        assert!(refusal(with_environment(&[(name, value)])).starts_with(name), "{name}={value}");
    }
    let lease = [("EVERLINE_COMMAND_SERVICE__LEASE_MS", "600")];
    assert!(refusal(with_environment(&lease)).starts_with("command_service: lease_ms is 600"));
}

#[test]
fn large_values_are_in_the_database_unless_a_url_says_otherwise() {
    let blobs = |pairs: &[(&str, &str)]| with_environment(pairs).unwrap().blobs().unwrap();
    assert!(blobs(&[]).is_none());
    assert!(blobs(&[("EVERLINE_BLOB_URL", "")]).is_none());
    let place = blobs(&[("EVERLINE_BLOB_URL", "file:///var/lib/everline/blobs")]).unwrap().place;
    assert_eq!(place.to_string(), "file:///var/lib/everline/blobs");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("everline.toml"), "blob_url = \"\"\n").unwrap();
    let file = load(&Sources { working_dir: directory.path().to_owned(), ..Sources::default() });
    assert!(file.unwrap().blobs().unwrap().is_none());
}

#[cfg(feature = "s3")]
#[test]
fn the_keys_of_a_bucket_may_come_from_files_and_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "hunter2\n").unwrap();
    let bucket = ("EVERLINE_BLOB_URL", "s3://values/everline");
    let id = ("EVERLINE_BLOBS__ACCESS_KEY_ID", "AKIA");
    let key = ("EVERLINE_BLOBS__SECRET_ACCESS_KEY_FILE", file.to_str().unwrap());
    let config = with_environment(&[bucket, id, key]).unwrap();
    assert!(config.blobs().unwrap().is_some() && !format!("{config:?}").contains("hunter2"));
    let text = refusal(with_environment(&[bucket, id]));
    assert!(text.starts_with("blobs.secret_access_key: "), "{text}");
    let text = refusal(with_environment(&[("EVERLINE_BLOB_URL", "s3://id:hunter2@values")]));
    assert!(text.starts_with("EVERLINE_BLOB_URL: ") && !text.contains("hunter2"), "{text}");
    let text = refusal(with_environment(&[("EVERLINE_BLOBS__BUCKET", "values")]));
    assert!(text.contains("unknown key `blobs.bucket`"), "{text}");
}

#[test]
fn a_secret_may_come_from_a_file_and_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "31415926\n").unwrap();
    let path = file.to_str().unwrap();
    let config = with_environment(&[("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD_FILE", path)]).unwrap();
    assert_eq!(config.bootstrap_admin_password.as_ref().unwrap().expose(), "31415926");
    assert!(!format!("{config:?}").contains("31415926"));

    let both =
        [("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD_FILE", path), ("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD", "31415926")];
    let text = refusal(with_environment(&both));
    assert!(text.contains("keep one of them") && !text.contains("31415926"), "{text}");
    let missing = [("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD_FILE", "/nowhere/at/all")];
    assert!(refusal(with_environment(&missing)).contains("cannot read /nowhere/at/all"));
}

#[test]
fn a_password_of_digits_stays_text() {
    let config = with_environment(&[("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD", "0042")]).unwrap();
    assert_eq!(config.bootstrap_admin_password.unwrap().expose(), "0042");
}

#[test]
fn variables_of_kubernetes_and_of_the_client_are_not_settings() {
    with_environment(&[
        ("EVERLINE_SERVICE_HOST", "10.0.0.1"),
        ("EVERLINE_PORT", "tcp://10.0.0.1:7070"),
        ("EVERLINE_API_KEY", "evl_x"),
        ("EVERLINE_NATS_URL", ""),
        ("PATH", "/bin"),
    ])
    .unwrap();
}

#[test]
fn a_broken_file_is_refused_without_quoting_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("everline.toml"),
        "log = \"info\"\nbootstrap_admin_password = hunter2\n",
    )
    .unwrap();
    let text = refusal(load(&Sources { working_dir: directory.path().to_owned(), ..Sources::default() }));
    assert!(text.contains("everline.toml: line 2"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// The default file with its keys no longer commented out.
fn uncommented() -> Table {
    let is_key = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()))
    };
    let lines = DEFAULT_FILE.lines().map(|line| if is_key(line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n").parse().unwrap()
}

#[test]
fn the_default_file_documents_every_key_and_no_other() {
    fn add(name: &str, value: &Value, documented: &mut Vec<String>) {
        match value {
            Value::Table(section) if !section.is_empty() => {
                section.iter().for_each(|(key, value)| add(&format!("{name}.{key}"), value, documented));
            }
            _ => documented.push(name.to_owned()),
        }
    }
    let mut documented = Vec::new();
    uncommented().iter().for_each(|(name, value)| add(name, value, &mut documented));
    let mut known = known_keys();
    known.sort();
    documented.sort();
    assert_eq!(documented, known);

    let lines: Vec<_> = DEFAULT_FILE.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if line.contains(" = ") && line.starts_with('#') && !line.starts_with("# ") {
            assert!(lines[index - 1].starts_with("# "), "no words about `{line}`");
        }
    }
}

#[test]
fn the_default_file_shows_the_defaults() {
    // Keys whose default is to be absent are shown with an example instead.
    const ABSENT: &[&str] = &[
        "database_url",
        "read_model_url",
        "partitions",
        "bootstrap_admin_password",
        "nats_url",
        "blob_url",
        "qdrant_url",
        "grpc_addr",
        "master_key",
        "otlp_endpoint",
    ];
    let mut table = uncommented();
    table.retain(|key, _| !ABSENT.contains(&key));
    table["egress"].as_table_mut().unwrap().remove("allow_private");
    table["gateway"].as_table_mut().unwrap().remove("public_url");
    for key in ["endpoint", "access_key_id", "secret_access_key", "session_token"] {
        table["blobs"].as_table_mut().unwrap().remove(key);
    }
    let shown: Config = table.try_into().unwrap();
    assert_eq!(format!("{shown:#?}"), format!("{:#?}", Config::default()));
    assert!(DEFAULT_FILE.parse::<Table>().is_ok());
}
