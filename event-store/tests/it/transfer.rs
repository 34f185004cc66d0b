//! Moving a log: whatever goes in comes out the same, and what is not whole does not come in at all.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Mutex;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef, hex};
use domain::decision::ClaimOp;
use domain::event::Codec;
use domain::ids::{Partition, Slot, new_id};
use event_store::log::WakeupCursor;
use event_store::postgres::PostgresLog;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::transfer::{self, Counts, FileSource, TransferError, VerifiersToo};
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use event_store::{Append, Checkpoints, Log, LogReader, Refusal, StoreError, Transfer};

use crate::pooled::PooledStore;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::support::{
    Owner, PARTITIONS, Store, append, at, claim, claim_of_all, event, everything, fresh, only, partition,
    stream, tenant, wakeup,
};

/// A log as these tests need it.
pub(crate) trait Movable: Log + Verifiers + Checkpoints + Transfer {}
impl<L: Log + Verifiers + Checkpoints + Transfer> Movable for L {}

const QUIET: transfer::Progress<'static> = &|_| ();

/// The whole export.
pub(crate) async fn exported(log: &dyn Transfer) -> Vec<u8> {
    let mut file = Vec::new();
    transfer::export(log, &mut file, at(9), VerifiersToo::Yes, QUIET).await.unwrap();
    file
}

/// The lines of an export without their checksums. Answers to commands of a day may stand in another order.
async fn contents(log: &dyn Transfer) -> Vec<Vec<u8>> {
    let file = exported(log).await;
    let bare =
        |line: &[u8]| line[..line.len() - if line.starts_with(b"{\"end\"") { 78 } else { 29 }].to_vec();
    let mut lines: Vec<Vec<u8>> = file.split_inclusive(|byte| *byte == b'\n').map(bare).collect();
    lines.sort();
    lines
}

pub(crate) async fn import(log: &dyn Transfer, file: &[u8]) -> Result<Counts, TransferError> {
    let mut source = FileSource::open(file).await?;
    transfer::import(log, &mut source, VerifiersToo::Yes, QUIET).await
}

/// A store that goes with the test.
async fn empty(partitions: u16) -> SqliteLog {
    let options = SqliteOptions { partitions: Some(partitions), ..SqliteOptions::default() };
    SqliteLog::open_temporary(options).await.unwrap()
}

/// Why a file is not imported; nothing of it is then in the log.
async fn refused(log: &SqliteLog, file: &[u8]) -> String {
    let said = import(log, file).await.unwrap_err().to_string();
    assert_eq!(everything(log).await.1, [], "{said}");
    said
}

fn blob(content: Vec<u8>) -> Blob {
    let reference = BlobRef {
        sha256: hex(&Sha256::digest(&content)),
        bytes: content.len() as u64,
        media_type: "text/plain".to_owned(),
    };
    Blob { reference, content: content.into() }
}

fn verifier(lookup: &str) -> Verifier {
    Verifier {
        kind: VerifierKind::Password,
        lookup: lookup.to_owned(),
        tenant: tenant("a"),
        principal: "u1".to_owned(),
        name: "größe".to_owned(),
        hash: "$argon2id$secret-hash".to_owned(),
        family: Some(Uuid::from_u128(5)),
        created_at: at(0),
        expires_at: Some(at(5)),
        used_at: None,
    }
}

/// Something of everything, over several commits, epochs and partitions. Partition 3 stays empty.
async fn fill<S: Store>(store: &S) -> Owner<S::Log>
where
    S::Log: Movable,
{
    let mut owner: Owner<S::Log> = Owner::of(store).await;
    let mut odd = append(stream(1), 0, 3);
    odd.digest = None;
    odd.streams[0].events[0].data = Bytes::from_static(&[0, 0xff, b'"', b'\\', 0x80]);
    odd.streams[0].events[0].codec = Codec::Json;
    odd.streams[0].events[1].data = Bytes::from("{\"größe\":\"☂\\u0000\u{7f}\n\"}");
    odd.streams[0].events[1].traceparent = None;
    odd.streams[0].events[2].key_id = Some("k1".into());
    odd.streams[0].events[2].data = Bytes::new();
    odd.blobs =
        vec![blob(b"small".to_vec()), blob("größ☂𝄞".repeat(300_000).into_bytes()), blob(vec![0xfe; 1 << 21])];
    owner.append(vec![odd, append(stream(0), 0, 2)]).await.unwrap();
    for number in 0..20_i64 {
        let named = claim(append(stream(2), 0, 2), ClaimOp::Take, &format!("name-{number}"));
        let waiting = wakeup(append(stream(1), 0, 1), 100 + number);
        owner.append(vec![named, waiting]).await.unwrap();
        if number % 7 == 0 {
            let head = owner.log.take_over(Partition(2), Uuid::from_u128(1)).await.unwrap();
            owner.heads.insert(Partition(2), head);
        }
    }
    owner.log.put(&verifier("a@example.org")).await.unwrap();
    assert!(owner.log.move_checkpoint("relay", Partition(1), 0, 5).await.unwrap());
    owner
}

/// The log is the other's, and stays so in use.
async fn assert_same<A: Movable, B: Movable + 'static>(from: &A, to: &B) {
    assert_eq!(everything(to).await, everything(from).await);
    assert!(contents(to).await == contents(from).await, "what was moved is not the same");
    for number in (0..PARTITIONS).map(Partition) {
        assert_eq!(to.verify_chain(number).await.unwrap(), from.verify_chain(number).await.unwrap());
    }
    assert_eq!(to.checkpoint("relay", Partition(1)).await.unwrap(), 0, "a new stream starts over");
}

/// Moves a filled log from one kind of store to another and goes on with it there.
pub(crate) async fn a_moved_log_is_the_same_and_goes_on<A: Store, B: Store>(from: &A, to: &B)
where
    A::Log: Movable,
    B::Log: Movable,
{
    let mut old = fill(from).await;
    let known = claim(append(stream(2), 0, 1), ClaimOp::Take, "known");
    let known = claim_of_all(known, ClaimOp::Take, "ada@example.com");
    old.append(vec![known.clone()]).await.unwrap();
    let file = exported(&*old.log).await;
    let log = to.open().await;
    let counts = import(&log, &file).await.unwrap();
    assert_eq!(
        (counts.partitions, counts.claims, counts.wakeups, counts.blobs, counts.verifiers),
        (4, 22, 20, 3, 1)
    );
    assert_same(&*old.log, &log).await;
    drop(log);

    let mut new: Owner<B::Log> = Owner::of(to).await;
    for (before, after) in old.heads.values().zip(new.heads.values()) {
        assert_eq!(
            (after.epoch, after.offset),
            (before.epoch + 1, before.offset),
            "a takeover raises the epoch"
        );
    }
    let (_, refusal) = only(new.refused(vec![known.clone()]).await);
    let Refusal::Duplicate(answer) = refusal else { panic!("expected the first answer, got {refusal:?}") };
    assert_eq!((answer.answer, answer.digest), (known.answer.clone(), known.digest));
    let other = claim(append(stream(2), 0, 1), ClaimOp::Take, "known");
    let (_, refusal) = only(new.refused(vec![other]).await);
    assert!(matches!(refusal, Refusal::ClaimTaken { holder, .. } if holder == known.streams[0].stream));
    let mut other = claim_of_all(append(stream(2), 0, 1), ClaimOp::Take, "ada@example.com");
    other.tenant = tenant("other");
    let (_, refusal) = only(new.refused(vec![other]).await);
    assert!(matches!(refusal, Refusal::ClaimTaken { holder, .. } if holder == known.streams[0].stream));
    let due =
        new.log.wakeups(Partition(1), &WakeupCursor::after_time(at(0)), at(105), &[], 100).await.unwrap();
    assert_eq!(due.len(), 6);
    let stale = only(new.refused(vec![append(known.streams[0].stream, 0, 1)]).await).1;
    assert!(matches!(stale, Refusal::WrongVersion { actual: 1, .. } | Refusal::Duplicate(_)), "{stale:?}");
    new.append(vec![append(known.streams[0].stream, 1, 2), append(stream(3), 0, 1)]).await.unwrap();
    for number in (0..PARTITIONS).map(Partition) {
        new.log.verify_chain(number).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_moves_from_sqlite_to_sqlite() {
    a_moved_log_is_the_same_and_goes_on(&SqliteStore::create().await, &SqliteStore::create().await).await;
}

#[tokio::test]
async fn a_copy_is_the_same_as_an_export_and_an_import() {
    let (from, to) = (SqliteStore::create().await, SqliteStore::create().await);
    let old = fill(&from).await;
    let log = to.open().await;
    let told = Mutex::new(Counts::default());
    let progress = |counts: &Counts| *told.lock().unwrap() = *counts;
    let counts = transfer::copy(&*old.log, &log, VerifiersToo::Yes, &progress).await.unwrap();
    assert_eq!(counts, *told.lock().unwrap());
    assert_same(&*old.log, &log).await;
    let error = transfer::copy(&*old.log, &log, VerifiersToo::Yes, QUIET).await.unwrap_err();
    assert!(matches!(error, TransferError::NotEmpty { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_log_moves() {
    let (from, to) = (empty(PARTITIONS).await, empty(PARTITIONS).await);
    let counts = import(&to, &exported(&from).await).await.unwrap();
    assert_eq!(counts, Counts { partitions: 4, ..Counts::default() });
    assert_same(&from, &to).await;
}

#[tokio::test]
async fn verifiers_come_along_only_where_both_ends_want_them() {
    let store = SqliteStore::create().await;
    let old = fill(&store).await;
    let mut without = Vec::new();
    transfer::export(&*old.log, &mut without, at(9), VerifiersToo::No, QUIET).await.unwrap();
    assert!(!String::from_utf8(without.clone()).unwrap().contains("argon2"));
    let with = exported(&*old.log).await;
    for (file, take, found) in [
        (&without, VerifiersToo::Yes, false),
        (&with, VerifiersToo::No, false),
        (&with, VerifiersToo::Yes, true),
    ] {
        let log = empty(PARTITIONS).await;
        let mut source = FileSource::open(&file[..]).await.unwrap();
        transfer::import(&log, &mut source, take, QUIET).await.unwrap();
        let verifier = log.find(VerifierKind::Password, "a@example.org").await.unwrap();
        assert_eq!(verifier.is_some(), found);
    }
}

#[tokio::test]
async fn only_an_empty_store_of_as_many_partitions_is_imported_into() {
    let store = SqliteStore::create().await;
    let old = fill(&store).await;
    let file = exported(&*old.log).await;

    let used = import(&*old.log, &file).await.unwrap_err();
    assert!(matches!(&used, TransferError::NotEmpty { found } if found == "events"), "{used}");
    let owned = empty(PARTITIONS).await;
    owned.take_over(Partition(3), Uuid::nil()).await.unwrap();
    assert!(refused(&owned, &file).await.contains("partitions that a server has owned"));
    let known = empty(PARTITIONS).await;
    known.put(&verifier("b@example.org")).await.unwrap();
    assert!(refused(&known, &file).await.contains("passwords or API keys"));
    let other = empty(8).await;
    let error = import(&other, &file).await.unwrap_err();
    assert!(matches!(error, TransferError::Partitions { exported: 4, store: 8 }), "{error}");
}

#[tokio::test]
async fn a_damaged_log_is_not_exported() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    for _ in 0..4 {
        owner.append(vec![append(stream(1), 0, 3)]).await.unwrap();
    }
    for (damage, named) in [
        (
            "update events set actor = 'user:mallory' where offset = 5",
            "commits events 1:4 to 1:6, which are not",
        ),
        ("delete from events where offset = 9", "is event 1:10 where 1:9 was to come"),
        ("delete from commits where head = 12", "event 1:10 stands in no commit"),
        ("delete from commits where head = 3", "3 events up to 1:6, but the events before it are 1:1 to 1:6"),
        ("update blobs set content = x'00'", "is the large value"),
    ] {
        let copy = SqliteStore::create().await;
        owner.log.close().await;
        std::fs::copy(owner.log.path(), copy.path()).unwrap();
        if damage.contains("blobs") {
            let log = copy.open().await;
            log.write_blob(&tenant("a"), &blob(b"large".to_vec())).await.unwrap();
        }
        let log = copy.open().await;
        copy.damage(damage).await;
        let mut file = Vec::new();
        let error = transfer::export(&log, &mut file, at(9), VerifiersToo::No, QUIET).await.unwrap_err();
        assert!(error.to_string().contains(named), "{damage}: {error}");
        assert!(!String::from_utf8_lossy(&file).contains("{\"end\""));
    }
}

/// A small file, with its lines.
async fn lines() -> Vec<Vec<u8>> {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    for _ in 0..3 {
        let named = claim(append(stream(1), 0, 2), ClaimOp::Take, &format!("name-{}", fresh()));
        let mut waiting = wakeup(append(stream(2), 0, 1), 7);
        waiting.blobs.push(blob(format!("large {}", fresh()).into_bytes()));
        owner.append(vec![named, waiting]).await.unwrap();
    }
    owner.log.put(&verifier("a@example.org")).await.unwrap();
    exported(&*owner.log).await.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_at_every_line() {
    let lines = lines().await;
    let log = empty(PARTITIONS).await;
    for kept in 1..lines.len() {
        let said = refused(&log, &lines[..kept].concat()).await;
        assert!(said.contains(&format!("cut off in line {}:", kept + 1)), "{said}");
        let mut half = lines[..=kept].concat();
        half.truncate(half.len() - 2);
        let said = refused(&log, &half).await;
        assert!(said.contains(&format!("cut off in line {}:", kept + 1)), "{said}");
    }
    assert!(refused(&log, b"").await.contains("not an export"));
    import(&log, &lines.concat()).await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_refused_and_its_line_named() {
    let lines = lines().await;
    let log = empty(PARTITIONS).await;
    for (line, number) in lines.iter().zip(1..) {
        for at in [line.len() / 3, line.len() / 2, line.len() - 5] {
            let mut flipped = lines.clone();
            flipped[number - 1][at] ^= 1;
            let said = refused(&log, &flipped.concat()).await;
            let named = said.contains(&format!("line {number} of the export"));
            assert!(named || number == 1, "bit {at} of line {number}: {said}");
        }
    }
}

#[tokio::test]
async fn moved_removed_and_added_lines_are_refused_and_named() {
    let lines = lines().await;
    let log = empty(PARTITIONS).await;
    let altered = "is not what was written there";
    for number in 2..lines.len() - 1 {
        let mut swapped = lines.clone();
        swapped.swap(number - 1, number);
        let mut removed = lines.clone();
        removed.remove(number - 1);
        let mut twice = lines.clone();
        twice.insert(number, lines[number - 1].clone());
        for (file, at) in [(swapped, number), (removed, number), (twice, number + 1)] {
            let said = refused(&log, &file.concat()).await;
            assert!(said.contains(&format!("line {at} of the export {altered}")), "{said}");
        }
    }
    let said = refused(&log, &[lines.concat(), b"\n".to_vec()].concat()).await;
    assert!(
        said.contains(&format!("line {} of the export stands behind the end", lines.len() + 1)),
        "{said}"
    );
}

/// The file with new checksums, as `docs/transfer.md` describes them: by somebody who wants it to be believed.
fn resealed(lines: &[Value]) -> Vec<u8> {
    let mut file = Vec::new();
    for line in lines {
        let mut body = line.clone();
        body.as_object_mut().unwrap().retain(|key, _| key != "check" && key != "sha256");
        let body = body.to_string();
        file.extend_from_slice(&body.as_bytes()[..body.len() - 1]);
        let digest = hex(&Sha256::digest(&file));
        let (name, digits) = if line.get("end").is_some() { ("sha256", 64) } else { ("check", 16) };
        file.extend_from_slice(format!(",\"{name}\":\"{}\"}}\n", &digest[..digits]).as_bytes());
    }
    file
}

fn parsed(lines: &[Vec<u8>]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test]
async fn a_file_with_right_checksums_must_still_be_a_log() {
    let lines = parsed(&lines().await);
    let first = |kind: &str| lines.iter().position(|line| line.get(kind).is_some()).unwrap();
    type Change<'c> = Box<dyn Fn(&mut Vec<Value>) + 'c>;
    let set = |kind: &'static str, pointer: &'static str, value: Value| -> Change<'_> {
        let at = first(kind);
        Box::new(move |lines| *lines[at].pointer_mut(pointer).unwrap() = value.clone())
    };
    let (event, commit, command, claim) = (first("event"), first("commit"), first("command"), first("claim"));
    let cases: Vec<(Change<'_>, usize, &str)> = vec![
        (Box::new(|_| ()), 0, ""),
        (
            set("event", "/event/data", json!({"text": "{}"})),
            commit,
            "events 1:1 to 1:2, which are not those",
        ),
        (set("event", "/event/tenant", json!("other")), commit, "which are not those that were committed"),
        (set("event", "/event/tenant", json!("NOT A TENANT")), event, "does not read"),
        (set("event", "/event/position", json!("1:2")), event, "is event 1:2 where 1:1 was to come"),
        (set("event", "/event/stream", json!(stream(2))), event, "which lives in partition 2, not 1"),
        (set("commit", "/commit/committed_at", json!(0)), commit, "does not follow from the one before it"),
        (set("commit", "/commit/epoch", json!(9)), commit, "under epoch 9, later than its partition's, 1"),
        (set("commit", "/commit/hash", json!("0")), commit, "a hash is not 64"),
        (set("commit", "/commit/events", json!(3)), commit, "is a commit of 3 events"),
        (Box::new(move |lines| drop(lines.remove(event))), event, "is event 1:2 where 1:1 was to come"),
        (Box::new(move |lines| drop(lines.remove(commit))), commit + 2, "is a commit of 2 events up to 1:4"),
        (Box::new(move |lines| drop(lines.remove(1))), 1, "begins partition 1 where 0 was to come"),
        (set("command", "/command/position", json!("1:99")), command, "at 1:99, where no event is"),
        (set("wakeup", "/wakeup/partition", json!(3)), first("wakeup"), "not 3"),
        (set("blob", "/blob/bytes", json!(1)), first("blob"), "with another content"),
        (set("end", "/end/claims", json!(1)), first("end"), "counts something else"),
        (Box::new(|lines| lines.swap(2, 1)), 1, "begins partition 1 where 0 was to come"),
        (
            Box::new(move |lines| lines.swap(command, claim)),
            command + 1,
            "behind what it should stand before",
        ),
        (Box::new(|lines| lines[3]["more"] = json!(1)), 3, "does not read"),
    ];
    for (change, at, reason) in cases {
        let mut changed = lines.clone();
        change(&mut changed);
        let log = empty(PARTITIONS).await;
        let imported = import(&log, &resealed(&changed)).await;
        if reason.is_empty() {
            imported.unwrap();
            continue;
        }
        let said = imported.unwrap_err().to_string();
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.starts_with(&format!("line {} of the export", at + 1)), "{reason}: {said}");
    }
}

#[tokio::test]
async fn another_format_and_another_version_are_refused() {
    let log = empty(PARTITIONS).await;
    let mut lines = parsed(&lines().await);
    lines[0]["version"] = json!(2);
    let said = refused(&log, &resealed(&lines)).await;
    assert!(said.contains("version 2") && said.contains("reads version 1"), "{said}");
    lines[0]["format"] = json!("something");
    for file in [&resealed(&lines)[..], b"SQLite format 3\0", b"{}\n", b"[1]\n"] {
        let error = import(&log, file).await.unwrap_err();
        assert!(matches!(error, TransferError::Format | TransferError::CutOff { line: 1 }), "{error}");
    }
}

#[tokio::test]
async fn a_line_without_end_takes_no_memory_without_end() {
    let mut endless = lines().await[0].clone();
    endless.resize(endless.len() + 20 * 1024 * 1024, b'x');
    let log = empty(PARTITIONS).await;
    assert!(refused(&log, &endless).await.contains("line 2 of the export is longer than any line"));
}

#[tokio::test]
async fn an_import_that_ends_early_leaves_the_store_as_it_was() {
    let file = lines().await.concat();
    let store = SqliteStore::create().await;
    let log = store.open().await;
    // Cancelled while it waits for the rest of the file.
    let (mut write, read) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut write, &file[..file.len() / 2]).await.unwrap();
    let mut source = FileSource::open(tokio::io::BufReader::new(read)).await.unwrap();
    let waiting = transfer::import(&log, &mut source, VerifiersToo::Yes, QUIET);
    tokio::select! {
        biased;
        done = waiting => panic!("half a file was imported: {done:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
    }
    assert_eq!(everything(&log).await.1, []);
    // Killed: what was not committed is not there after opening again.
    drop(log);
    let log = store.open().await;
    import(&log, &file).await.unwrap();
    assert_eq!(partition(&log, 1).await.len(), 6);
}

#[derive(Debug, Clone)]
struct Batch(Vec<(u16, u64, Vec<u8>, bool)>);

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let data = prop::collection::vec(any::<u8>(), 0..40);
    let one = (0..PARTITIONS, 1..5_u64, data, any::<bool>());
    prop::collection::vec(prop::collection::vec(one, 1..6).prop_map(Batch), 0..8)
}

fn appends(Batch(batch): Batch) -> Vec<Append> {
    let mut appends = Vec::new();
    for (number, events, data, beside) in batch {
        let slot = Slot::from_bits(u64::from(number));
        let id = new_id(at(fresh() as i64 * 100_000), slot, fresh());
        let mut append = append(id, 0, events);
        append.streams[0].events = (1..=events)
            .map(|version| domain::event::RecordedEvent { data: data.clone().into(), ..event(id, version) })
            .collect();
        if beside {
            append = wakeup(claim(append, ClaimOp::Take, &format!("k{}", fresh())), 50);
            append.blobs.push(blob(data));
        }
        appends.push(append);
    }
    appends
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_log_comes_out_of_a_file_as_it_went_in(batches in batches()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (from, to) = (SqliteStore::create().await, SqliteStore::create().await);
            let mut owner: Owner<SqliteLog> = Owner::of(&from).await;
            for batch in batches {
                owner.append(appends(batch)).await.unwrap();
            }
            let log = to.open().await;
            import(&log, &exported(&*owner.log).await).await.unwrap();
            assert_same(&*owner.log, &log).await;
        });
    }
}

#[tokio::test]
async fn a_store_that_fails_says_so() {
    let file = lines().await.concat();
    let store = SqliteStore::create().await;
    let options =
        SqliteOptions { partitions: Some(PARTITIONS), max_pages: Some(40), ..SqliteOptions::default() };
    let log = store.open_with(options).await.unwrap();
    let mut large = parsed(&file.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>());
    let at = large.iter().position(|line| line.get("blob").is_some()).unwrap();
    let content = "x".repeat(900_000);
    large[at]["blob"]["bytes"] = json!(content.len());
    large[at]["blob"]["sha256"] = json!(hex(&Sha256::digest(content.as_bytes())));
    large[at]["blob"]["content"] = json!({"text": content});
    let error = import(&log, &resealed(&large)).await.unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::Database { .. })), "{error}");
    assert!(log.last_write_failed().is_some());
    assert_eq!(everything(&log).await.1, []);
    import(&log, &file).await.unwrap();
}

#[tokio::test]
async fn a_log_moves_from_sqlite_to_postgres() {
    a_moved_log_is_the_same_and_goes_on(&SqliteStore::create().await, &PostgresStore::create().await).await;
}

#[tokio::test]
async fn a_log_moves_from_postgres_to_sqlite() {
    a_moved_log_is_the_same_and_goes_on(&PostgresStore::create().await, &SqliteStore::create().await).await;
}

#[tokio::test]
async fn a_log_moves_from_postgres_to_postgres() {
    a_moved_log_is_the_same_and_goes_on(&PostgresStore::create().await, &PostgresStore::create().await).await;
}

#[tokio::test]
async fn a_log_moves_through_a_pooler_in_transaction_mode() {
    let (from, to) = (PooledStore::create().await, PooledStore::create().await);
    a_moved_log_is_the_same_and_goes_on(&from, &to).await;
}

#[tokio::test]
async fn an_export_from_postgres_is_one_moment_of_a_log_that_is_being_written() {
    let (from, to) = (PostgresStore::create().await, PostgresStore::create().await);
    let mut owner: Owner<PostgresLog> = Owner::of(&from).await;
    let reading = from.open().await;
    for number in 0..50 {
        let mut named = claim(append(stream(number % 4), 0, 3), ClaimOp::Take, &format!("first-{number}"));
        // More than is gathered before it is written.
        named.streams[0].events.iter_mut().for_each(|event| event.data = vec![b'x'; 10_000].into());
        owner.append(vec![wakeup(named, 100)]).await.unwrap();
    }
    let before = everything(&*owner.log).await;
    // Nobody reads on: the export waits in the middle while the log grows.
    let (mut out, mut file) = tokio::io::duplex(1024);
    let exporting = async {
        let counts = transfer::export(&reading, &mut out, at(9), VerifiersToo::Yes, QUIET).await.unwrap();
        drop(out);
        counts
    };
    let growing = async {
        let mut read = vec![0; 1024];
        tokio::io::AsyncReadExt::read_exact(&mut file, &mut read).await.unwrap();
        for number in 0..50 {
            let named = claim(append(stream(number % 4), 0, 3), ClaimOp::Take, &format!("later-{number}"));
            owner.append(vec![wakeup(named, 100)]).await.unwrap();
        }
        tokio::io::AsyncReadExt::read_to_end(&mut file, &mut read).await.unwrap();
        read
    };
    let (counts, file) = tokio::join!(exporting, growing);
    assert_eq!((counts.events, counts.commits, counts.commands, counts.claims), (150, 50, 50, 50));
    let log = to.open().await;
    import(&log, &file).await.unwrap();
    assert_eq!(everything(&log).await, before);
}

#[tokio::test]
async fn an_import_into_postgres_is_all_or_nothing_and_keeps_owners_out() {
    let lines = lines().await;
    let file = lines.concat();
    let store = PostgresStore::create().await;
    let log = store.open().await;
    let said = import(&log, &lines[..lines.len() - 1].concat()).await.unwrap_err().to_string();
    assert!(said.contains("cut off"), "{said}");
    assert_eq!(everything(&log).await.1, []);

    let (mut write, read) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut write, &file[..file.len() - 3]).await.unwrap();
    let mut source = FileSource::open(tokio::io::BufReader::new(read)).await.unwrap();
    let other = store.open().await;
    {
        let importing = transfer::import(&log, &mut source, VerifiersToo::Yes, QUIET);
        let owning = async {
            while !locked(&store).await {
                tokio::task::yield_now().await;
            }
            // Waits for the import, which waits for the end of its file.
            let taken = tokio::time::timeout(
                std::time::Duration::from_millis(300),
                other.take_over(Partition(1), Uuid::nil()),
            );
            taken.await.unwrap_err();
        };
        tokio::select! {
            biased;
            done = importing => panic!("half a file was imported: {done:?}"),
            () = owning => {}
        }
    }
    // The takeover that was given up may still be waiting at the server; it is of the store as it was.
    let fresh = PostgresStore::create().await;
    let log = fresh.open().await;
    import(&log, &file).await.unwrap();
    assert_eq!(log.take_over(Partition(1), Uuid::nil()).await.unwrap().epoch, 2);
    assert_eq!(everything(&other).await.1, []);
    let again = import(&log, &file).await.unwrap_err();
    assert!(matches!(again, TransferError::NotEmpty { .. }), "{again}");
}

/// Whether an import holds its locks.
async fn locked(store: &PostgresStore) -> bool {
    let text = "select exists (select 1 from pg_locks where relation = 'partitions'::regclass
                and mode = 'ExclusiveLock' and granted)";
    sqlx::query_scalar(text).fetch_one(&mut store.raw().await).await.unwrap()
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_refused_by_name() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    let mut odd = append(stream(1), 0, 2);
    odd.streams[0].events[1].actor = domain::ids::Actor::new("user", "a\0b");
    owner.append(vec![odd]).await.unwrap();
    let target = PostgresStore::create().await;
    let log = target.open().await;
    let said = import(&log, &exported(&*owner.log).await).await.unwrap_err().to_string();
    assert!(said.contains("event 1:2 has a text with a NUL"), "{said}");

    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    for year in 0..40 {
        let months = (0..12).map(|month| {
            let born = at((year * 12 + month) * 2_700_000);
            append(new_id(born, Slot::from_bits(1), fresh()), 0, 1)
        });
        owner.append(months.collect()).await.unwrap();
    }
    let said = import(&log, &exported(&*owner.log).await).await.unwrap_err().to_string();
    assert!(said.contains("more than 400 months and days"), "{said}");
    assert_eq!(everything(&log).await.1, []);
}

#[tokio::test]
async fn months_and_days_of_long_ago_get_their_tables() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    for year in 0..8 {
        let months = (0..12).map(|month| {
            let born = at((year * 12 + month) * 2_700_000);
            append(new_id(born, Slot::from_bits(1), fresh()), 0, 1)
        });
        let mut appends: Vec<Append> = months.collect();
        appends.iter_mut().for_each(|append| append.decided_at = at(year * 86_400));
        owner.append(appends).await.unwrap();
    }
    let target = PostgresStore::create().await;
    let log = target.open().await;
    import(&log, &exported(&*owner.log).await).await.unwrap();
    assert_same(&*owner.log, &log).await;
}
