//! A transaction that stays open, and a dump that does not end, keep no reader and no append waiting.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use test_services::Durability;
use testkit::{Cluster, ClusterOptions, Role};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{caught_up, start};
use crate::endurance::setting;
use crate::harness::{Client, doubling};

/// Executions that are measured at a time.
const SAMPLES: usize = 80;
/// Executions with a large input, so that a dump has more to write than a pipe holds.
const FILLERS: usize = 12;
/// The longest that any append may take.
const APPEND_LIMIT: Duration = Duration::from_secs(2);
/// How much slower than before counts as noise, beside three times as slow.
const NOISE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_and_a_dump_that_does_not_end_delay_no_reader() {
    let hold = Duration::from_secs(setting("EVERLINE_CLUSTER_HOLD_SECONDS", 0) as u64);
    let options = ClusterOptions { durability: Durability::Fsync, ..ClusterOptions::default() };
    let (mut cluster, _) = start(options).await;
    let client = Client::new(&cluster.url(), cluster.key());
    let workflow = client.create(&doubling()).await;
    for n in 0..FILLERS {
        client.start(&workflow, json!({"n": n, "text": incompressible(60_000)})).await;
    }
    let live = Live::start(&client).await;
    measure(&client, &live, &workflow).await;
    let before = measure(&client, &live, &workflow).await;
    println!("before: {before}");

    let transaction = open_transaction(&cluster).await;
    let dump = stuck_dump(&cluster).await;
    let held = Instant::now();
    loop {
        let during = measure(&client, &live, &workflow).await;
        println!("after {:?}: {during}", held.elapsed());
        during.is_like(&before);
        if held.elapsed() >= hold {
            break;
        }
        tokio::time::sleep(hold.min(Duration::from_secs(10))).await;
    }
    // Whoever starts now finds everything that it needs.
    let owner = cluster.of(Role::CommandService)[0];
    cluster.kill(owner).await.expect("killed");
    cluster.start_again(owner).await.expect("a start beside a dump");
    assert!(is_open(&cluster, "pg_dump").await, "the dump still runs");
    assert!(is_open(&cluster, "psql").await, "the transaction is still open");
    drop((transaction, dump));

    cluster.ensure_all_alive().await.expect("nothing ends by itself");
    let store = cluster.store().await.expect("the store");
    let models = cluster.read_models().await.expect("the read models");
    caught_up(&*store.reader, &models).await;
    testkit::audit(&*store.reader).await.expect("a sound log");
}

/// Text that the database cannot make small.
fn incompressible(length: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 75) as u8)
    };
    (0..length).map(|_| letter()).collect()
}

/// Times from sending to the answer, and from the answer to what readers see.
struct Lags {
    append: Vec<Duration>,
    read_model: Vec<Duration>,
    live: Vec<Duration>,
}

impl Lags {
    fn is_like(&self, before: &Self) {
        let pairs = [
            ("answers", &self.append, &before.append),
            ("read models", &self.read_model, &before.read_model),
            ("live events", &self.live, &before.live),
        ];
        for (what, now, before) in pairs {
            let (now, before) = (median(now), median(before));
            assert!(now < before * 3 + NOISE, "{what}: {now:?} instead of {before:?}");
        }
        let longest = self.append.iter().max().expect("samples");
        assert!(*longest < APPEND_LIMIT, "an append took {longest:?}");
    }
}

impl std::fmt::Display for Lags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, times) in
            [("answer", &self.append), ("read model", &self.read_model), ("live", &self.live)]
        {
            let longest = times.iter().max().copied().unwrap_or_default();
            write!(f, "{what} {:.1?} (longest {longest:.1?})  ", median(times))?;
        }
        Ok(())
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// Runs executions one by one and looks when they can be seen.
async fn measure(client: &Client, live: &Live, workflow: &str) -> Lags {
    let mut lags = Lags { append: Vec::new(), read_model: Vec::new(), live: Vec::new() };
    for n in 0..SAMPLES {
        let begun = Instant::now();
        let path = format!("/workflows/{workflow}/execute");
        let answer = client.post(&path, &json!({"input": {"n": n}})).await;
        let answered = Instant::now();
        let id = answer.body["execution_id"].as_str().unwrap_or_else(|| panic!("{}", answer.body));
        // A client reads its own writes: this waits for the read model.
        let view = client.get(&format!("/executions/{id}")).await;
        assert_eq!(view.body["status"], "completed", "{}", view.body);
        lags.append.push(answered - begun);
        lags.read_model.push(answered.elapsed());
        lags.live.push(live.seen(id).await.saturating_duration_since(answered));
    }
    lags
}

/// A client of the event stream, which notes when it saw the end of an execution.
struct Live {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    reader: JoinHandle<()>,
}

impl Live {
    async fn start(client: &Client) -> Self {
        let request = client.request(reqwest::Method::GET, "/events/stream?after_position=latest");
        let mut response = request.timeout(Duration::from_secs(3_600)).send().await.unwrap();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let noted = seen.clone();
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            while let Some(chunk) = response.chunk().await.unwrap() {
                let now = Instant::now();
                text.push_str(std::str::from_utf8(&chunk).unwrap());
                while let Some((message, rest)) = text.split_once("\n\n") {
                    if let Some(data) = message.lines().find_map(|line| line.strip_prefix("data:")) {
                        let event: Value = serde_json::from_str(data).unwrap();
                        if event["type"] == "execution.completed" {
                            noted.lock().unwrap().insert(event["stream"].as_str().unwrap().to_owned(), now);
                        }
                    }
                    text = rest.to_owned();
                }
            }
        });
        Self { seen, reader }
    }

    async fn seen(&self, execution: &str) -> Instant {
        let begun = Instant::now();
        loop {
            if let Some(seen) = self.seen.lock().unwrap().remove(execution) {
                return seen;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{execution} is not told");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A write transaction in another database of the same Postgres, open for as long as the child lives.
async fn open_transaction(cluster: &Cluster) -> Child {
    let url = cluster.postgres.create_database().await.expect("another database");
    let mut psql = Command::new(cluster.postgres.bin().join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--dbname", &url]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut psql = psql.kill_on_drop(true).spawn().expect("psql");
    let sql = b"begin; create table held (a int); insert into held values (1);\n";
    psql.stdin.as_mut().expect("a pipe").write_all(sql).await.expect("psql listens");
    until_open(cluster, "psql").await;
    psql
}

/// A dump of Everline's database whose output nobody reads.
async fn stuck_dump(cluster: &Cluster) -> Child {
    let mut dump = Command::new(cluster.postgres.bin().join("pg_dump"));
    dump.args(["--dbname", &cluster.database_url()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let dump = dump.kill_on_drop(true).spawn().expect("pg_dump");
    until_open(cluster, "pg_dump").await;
    // It has its locks and writes: the pipe is full soon.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_open(cluster, "pg_dump").await, "the dump is stuck");
    dump
}

async fn until_open(cluster: &Cluster, program: &str) {
    let begun = Instant::now();
    while !is_open(cluster, program).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{program} has no transaction");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a program has a transaction open.
async fn is_open(cluster: &Cluster, program: &str) -> bool {
    let sql = format!(
        "select count(*) from pg_stat_activity
         where application_name = '{program}' and xact_start is not null and pid <> pg_backend_pid()"
    );
    cluster.sql(&sql).await.expect("the activity").trim() != "0"
}
