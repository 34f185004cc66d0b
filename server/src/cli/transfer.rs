//! `everline log export`, `import` and `copy`: moving the log, with positions and chain kept.
//!
//! Owns: files and standard streams, progress, and what is said afterwards. What is moved and checked is
//! [`event_store::transfer`]'s matter.

use anyhow::Context;
use clap::Args;
use domain::ids::Partition;
use domain::time::Clock;
use event_store::blobs::{BlobOptions, Objects};
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::transfer::{self, Counts, FileSource, TransferError, VerifiersToo};
use event_store::{Store, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::BufReader;

use super::store::StoreArgs;
use crate::clock::SystemClock;
use crate::config::{BlobUrl, Config, DatabaseUrl};
use crate::exit::Failure;
use crate::output::{Column, Output};
use crate::process::{Extent, create_parent, create_private};

/// How often progress is told.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;
/// Longer files are not a URL.
const MAX_URL_BYTES: u64 = 4096;

/// `everline log export`
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file to write, which must not exist; `-` is standard output
    file: PathBuf,
    #[command(flatten)]
    verifiers: VerifierArgs,
}

/// `everline log import`
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file to read; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    verifiers: VerifierArgs,
}

/// `everline log copy`
#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// The empty store to fill: `sqlite://<path>` or `postgres://…`; `@FILE` reads it from a file, since others on this
    /// machine can see what is typed
    #[arg(long, value_name = "URL")]
    to: String,
    /// Where its large values go: `database`, `file:///<folder>` or `s3://<bucket>/<prefix>`, the latter with the keys of
    /// this configuration [default: as blob_url says, which then must belong to the other store alone]
    #[arg(long, value_name = "PLACE")]
    blobs_to: Option<String>,
    #[command(flatten)]
    verifiers: VerifierArgs,
}

#[derive(Debug, Args)]
struct VerifierArgs {
    /// Also move hashes of passwords, API keys and sessions. Whoever has the file can try passwords against them
    #[arg(long)]
    with_verifiers: bool,
}

impl VerifierArgs {
    fn too(&self) -> VerifiersToo {
        if self.with_verifiers { VerifiersToo::Yes } else { VerifiersToo::No }
    }
}

pub(super) async fn export(store: StoreArgs, args: ExportArgs, output: Output) -> Result<(), Failure> {
    let stores = store.open_existing(Extent::Log).await?;
    let exported = export_from(&stores.store, &args, output).await;
    stores.close().await;
    exported
}

async fn export_from(store: &Store, args: &ExportArgs, output: Output) -> Result<(), Failure> {
    let (log, now, too) = (&*store.transfer, SystemClock.now(), args.verifiers.too());
    let progress = Progress::new("exported");
    let tell = |counts: &Counts| progress.tell(counts);
    let path = &args.file;
    if path == Path::new("-") {
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        let out = tokio::fs::File::from_std(out.context("standard output cannot be used")?.into());
        let counts = transfer::export(log, out, now, too, &tell).await.map_err(failed)?;
        say(&format!("exported {}", sentence(&counts)));
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(path).map_err(|error| cannot("create", path, &error))?;
    let mut file = tokio::fs::File::from_std(file);
    let exported = match transfer::export(log, &mut file, now, too, &tell).await {
        Ok(counts) => file.sync_all().await.map(|()| counts).map_err(|error| cannot("write", path, &error)),
        Err(error) => Err(failed(error)),
    };
    if exported.is_err() {
        // It would be refused; what stays behind does no harm.
        let _ = std::fs::remove_file(path);
    }
    let counts = exported?;
    output.done(
        &json!({"file": path, "records": counts}),
        &format!("exported {} to {}", sentence(&counts), path.display()),
    )
}

pub(super) async fn import(store: StoreArgs, args: ImportArgs, output: Output) -> Result<(), Failure> {
    let config = store.load()?;
    let input = if args.file == Path::new("-") {
        let input = std::io::stdin().as_fd().try_clone_to_owned();
        input.context("standard input cannot be used")?.into()
    } else {
        std::fs::File::open(&args.file).map_err(|error| cannot("open", &args.file, &error))?
    };
    let input = tokio::fs::File::from_std(input);
    // Read before anything is created.
    let mut source = FileSource::open(BufReader::with_capacity(READ_BYTES, input)).await.map_err(failed)?;
    let partitions = source.header().partitions;
    if let Some(configured) = config.partitions.map(|configured| configured.get())
        && configured != partitions
    {
        return Err(Failure::Usage(format!(
            "the export has {partitions} partitions, which cannot be changed, and the configuration says {configured}; \
             leave `partitions` out"
        )));
    }
    let target = open_target(&config, &config.log_database(), partitions, config.blobs()?).await?;
    let progress = Progress::new("imported");
    let imported =
        transfer::import(&*target.transfer, &mut source, args.verifiers.too(), &|c| progress.tell(c)).await;
    let done = after(&target, imported, args.verifiers.too(), output).await;
    target.health.close().await;
    done
}

pub(super) async fn copy(store: StoreArgs, args: CopyArgs, output: Output) -> Result<(), Failure> {
    let url = target_url(&args.to)?;
    let config = store.clone().load()?;
    let blobs = target_blobs(&config, args.blobs_to.as_deref())?;
    let stores = store.open_existing(Extent::Log).await?;
    let from = &stores.store.transfer;
    let done = match open_target(&config, &url, from.partition_count(), blobs).await {
        Ok(target) => {
            let too = args.verifiers.too();
            let progress = Progress::new("copied");
            let tell = |counts: &Counts| progress.tell(counts);
            let copied = transfer::copy(&**from, &*target.transfer, too, &tell).await;
            let done = after(&target, copied, VerifiersToo::Yes, output).await;
            target.health.close().await;
            done
        }
        Err(failure) => Err(failure),
    };
    stores.close().await;
    done
}

/// Verifies what was written, and says what is there and what is to be done.
async fn after(
    target: &Store,
    moved: Result<Counts, TransferError>,
    verifiers: VerifiersToo,
    output: Output,
) -> Result<(), Failure> {
    let counts = moved.map_err(failed)?;
    say(&format!("read {}; verifying the chain of what was written", sentence(&counts)));
    let mut rows: Vec<Value> = Vec::new();
    for head in target.reader.heads().await.context("the heads of the imported log cannot be read")? {
        let Partition(number) = head.partition;
        let report = target.reader.verify_chain(head.partition).await;
        let report =
            report.with_context(|| format!("partition {number} of the imported log is not whole"))?;
        rows.push(json!({
            "partition": number, "head": head.offset, "epoch": head.epoch, "commits": report.commits,
            "events": report.events,
        }));
    }
    let columns = [
        Column("PARTITION", "/partition"),
        Column("HEAD", "/head"),
        Column("EPOCH", "/epoch"),
        Column("COMMITS", "/commits"),
        Column("EVENTS", "/events"),
    ];
    output.list(&rows, &columns)?;
    if counts.verifiers > 0 && verifiers == VerifiersToo::No {
        say(&format!(
            "{} hashes of passwords, API keys and sessions were left out; to have them, import into a new store with \
             --with-verifiers",
            counts.verifiers
        ));
    }
    say(
        "read models are not moved: a server fills new ones when it starts; ones of another log that are there \
         already are derived again with `everline projection rebuild`",
    );
    Ok(())
}

/// Opens the log to be filled, creating it if need be; for the owner alone where it is a file.
async fn open_target(
    config: &Config,
    url: &DatabaseUrl,
    partitions: u16,
    blobs: Option<BlobOptions>,
) -> Result<Store, Failure> {
    let partitions = Some(partitions);
    // Before a store is made that would have no place for its values.
    let objects = blobs.as_ref().map(Objects::open).transpose();
    let objects = objects.map_err(|error| match error {
        StoreError::Unfit { .. } => Failure::Usage(error.to_string()),
        error => anyhow::Error::new(error).context("large values cannot be kept there").into(),
    })?;
    let opened = match url {
        DatabaseUrl::Sqlite(path) => {
            create_parent(path)?;
            create_private(path)?;
            let options = SqliteOptions { partitions, ..SqliteOptions::default() };
            SqliteLog::open(path, options).await.map(|log| Store::sqlite(Arc::new(log)))
        }
        DatabaseUrl::Postgres(url) => {
            Store::postgres(config.postgres.log(url, partitions, "everline command line")).await
        }
    };
    let store = opened.map_err(|error| match error {
        StoreError::Unfit { .. } => Failure::Usage(error.to_string()),
        error => anyhow::Error::new(error).context("the log to be filled cannot be opened").into(),
    })?;
    Ok(match objects {
        None => store,
        Some(objects) => store.with_objects(objects),
    })
}

/// Where the large values of a copy go.
fn target_blobs(config: &Config, typed: Option<&str>) -> Result<Option<BlobOptions>, Failure> {
    match typed {
        None => Ok(config.blobs()?),
        Some("database") => Ok(None),
        Some(text) => {
            let refuse = |detail: String| Failure::Usage(format!("--blobs-to: {detail}"));
            let url = BlobUrl::parse(text).map_err(refuse)?;
            Ok(Some(config.blobs.options(&url)?))
        }
    }
}

fn target_url(typed: &str) -> Result<DatabaseUrl, Failure> {
    let text = match typed.strip_prefix('@') {
        None => typed.to_owned(),
        Some(file) => {
            let path = Path::new(file);
            let length = std::fs::metadata(path).map_err(|error| cannot("read", path, &error))?.len();
            if length > MAX_URL_BYTES {
                return Err(Failure::Usage(format!("{file} is too long to hold a URL")));
            }
            std::fs::read_to_string(path).map_err(|error| cannot("read", path, &error))?.trim().to_owned()
        }
    };
    DatabaseUrl::deserialize(Value::String(text)).map_err(|error| Failure::Usage(format!("--to: {error}")))
}

/// Lines on standard error, not too many.
struct Progress {
    verb: &'static str,
    last: Mutex<Instant>,
}

impl Progress {
    fn new(verb: &'static str) -> Self {
        Self { verb, last: Mutex::new(Instant::now()) }
    }

    fn tell(&self, counts: &Counts) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PROGRESS_PAUSE {
            *last = Instant::now();
            say(&format!("{} {}", self.verb, sentence(counts)));
        }
    }
}

fn sentence(counts: &Counts) -> String {
    let Counts { events, commits, commands, claims, wakeups, blobs, verifiers, .. } = counts;
    format!(
        "{events} events in {commits} commits, {commands} answers to commands, {claims} claims, {wakeups} wakeups, \
         {blobs} large values, {verifiers} verifiers"
    )
}

/// A line on standard error; nobody there to read it is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot {what} {}: {error}", path.display()))
}

/// What is wrong with the file or the store to import into is for the caller to mend.
fn failed(error: TransferError) -> Failure {
    match error {
        TransferError::NotEmpty { .. }
        | TransferError::Partitions { .. }
        | TransferError::Format
        | TransferError::Version { .. }
        | TransferError::Refused { .. }
        | TransferError::CutOff { .. } => Failure::Usage(error.to_string()),
        TransferError::Store(_) | TransferError::Io { .. } => {
            anyhow::Error::new(error).context("the log was not moved").into()
        }
    }
}
