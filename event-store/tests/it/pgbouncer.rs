//! Postgres behind a PgBouncer in transaction mode: part of the contract, and many clients on few servers.

use async_trait::async_trait;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

use domain::ids::Partition;
use event_store::postgres::{PostgresLog, inspect};
use event_store::{Batch, Log, LogReader};

use crate::contract::{appends, beside, claims, reads};
use crate::pooled::PooledStore;
use crate::postgres::{PostgresStore, eventually};
use crate::support::{PARTITIONS, Store, append, stream};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// Ends the program when the test's end of the pipe is gone, however that came about.
const GUARD: &str = r#""$@" & server=$!; read -r _; kill "$server"; wait "$server""#;

/// A PgBouncer in front of the Postgres of the tests. It has two servers for each database, which all share.
struct Bouncer {
    port: u16,
    guard: Child,
    _folder: TempDir,
}

impl Bouncer {
    fn start(server: &str) -> Self {
        // Passing without it would say that what was not tried works.
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is not installed; run `cargo xtask test`, which installs it"
        );
        let folder = tempfile::tempdir().unwrap();
        let port = test_services::free_port().unwrap();
        let (user, address) = server.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
        let (host, server_port) = address.split_once('/').unwrap().0.split_once(':').unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 200\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]);
        if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0 {
            // It refuses to run as root.
            std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
            command.args(["setpriv", "--reuid", "65534", "--clear-groups", "--"]);
        }
        command.arg(PROGRAM).arg(&config).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, guard: command.spawn().unwrap(), _folder: folder }
    }

    /// The URL of a database through it.
    fn url(&self, server: &str) -> String {
        let (user, address) = server.split_once('@').unwrap();
        format!("{user}@127.0.0.1:{}/{}", self.port, address.split_once('/').unwrap().1)
    }

    async fn store(&self) -> BouncedStore {
        let url = self.url(&test_services::database().await.unwrap());
        let store = PooledStore(PostgresStore { url, pooled: true });
        eventually("PgBouncer's answer", async || inspect(&store.0.options()).await.is_ok()).await;
        BouncedStore(store)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A database behind a PgBouncer.
struct BouncedStore(PooledStore);

#[async_trait]
impl Store for BouncedStore {
    type Log = PostgresLog;

    async fn create() -> Self {
        unreachable!("made by its PgBouncer")
    }

    async fn open(&self) -> PostgresLog {
        self.0.open().await
    }

    async fn damage_value(&self, tenant: &domain::ids::TenantId, sha256: &str) {
        self.0.damage_value(tenant, sha256).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_through_pgbouncer() {
    let bouncer = Bouncer::start(&test_services::database().await.unwrap());
    let store = async || bouncer.store().await;
    appends::offsets_are_dense_over_many_batches_and_partitions(store().await).await;
    appends::every_loser_of_a_batch_is_named(store().await).await;
    appends::a_duplicate_is_known_after_reopening(store().await).await;
    appends::an_older_epoch_is_fenced(store().await).await;
    appends::a_cancelled_append_leaves_the_log_whole(store().await).await;
    claims::a_name_changes_hands_within_one_batch_in_order(store().await).await;
    reads::every_field_of_an_event_comes_back(store().await).await;
    beside::wakeups_of_ended_streams_are_left_out(store().await).await;
    beside::parallel_rotations_and_a_logout_leave_nothing_of_the_family(store().await).await;
    beside::past_wakeups_and_old_commands_are_forgotten_in_steps(store().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_of_pgbouncer_share_two_servers() {
    let bouncer = Bouncer::start(&test_services::database().await.unwrap());
    let store = bouncer.store().await;
    let mut clients = Vec::new();
    for number in 0..PARTITIONS {
        let log = Arc::new(store.open().await);
        clients.push(tokio::spawn(async move {
            let mut head = log.take_over(Partition(number), Uuid::nil()).await.unwrap();
            for _ in 0..30 {
                let batch = Batch { heads: vec![head], appends: vec![append(stream(number), 0, 3)] };
                head = log.append(Arc::new(batch)).await.unwrap().heads[0];
                assert_eq!(
                    log.read_partition(Partition(number), 0, 200).await.unwrap().len(),
                    head.offset as usize
                );
            }
            log.verify_chain(Partition(number)).await.unwrap()
        }));
    }
    for client in clients {
        assert_eq!(client.await.unwrap().events, 90);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_moves_through_pgbouncer() {
    let bouncer = Bouncer::start(&test_services::database().await.unwrap());
    let (from, to) = (bouncer.store().await, bouncer.store().await);
    crate::transfer::a_moved_log_is_the_same_and_goes_on(&from, &to).await;
}
