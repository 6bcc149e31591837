//! Another writer's commit takes the version just before ours is sent: what is only moved on, what
//! is planned again, what is refused.

use serde_json::{Value, json};

use super::fault_tests::{case, staged, table};
use super::tests::refused;
use super::*;
use crate::log::action::Action;
use crate::log::listing::{commit_name, log_path};
use crate::store::fault::FaultStore;
use crate::table::{Snapshot, Version};

/// Versions of the table before anybody races; without a checkpoint, nor soon due for one.
const VERSIONS: u64 = 33;
/// Calls to the store that one lost race may cost where the plan is only moved on. A plan that is
/// made again reads the whole log of this table, for its row ids.
const CALLS_MAX: usize = 20;

fn entry(actions: &[Value]) -> String {
    actions.iter().map(|action| format!("{action}\n")).collect()
}

fn path(version: u64) -> String {
    format!("t/{}", log_path(&commit_name(Version(version))))
}

fn add(path: &str) -> Value {
    json!({"add": {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1,
        "dataChange": true, "stats": "{\"numRecords\":1}"}})
}

fn remove(path: &str) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": 1, "dataChange": true}})
}

fn mark(mark: i64) -> Value {
    let configuration = json!({ "rowIdHighWaterMark": mark }).to_string();
    json!({"domainMetadata": {"domain": "delta.rowTracking", "removed": false,
        "configuration": configuration}})
}

fn metadata(columns: &[&str]) -> Value {
    let types = |name: &str| if name == "id" { "long" } else { "string" };
    let field =
        |name: &&str| json!({"name": name, "type": types(name), "nullable": true, "metadata": {}});
    let fields: Vec<Value> = columns.iter().map(field).collect();
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    json!({"metaData": {"id": "t", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema, "partitionColumns": [], "configuration": {}}})
}

/// A table with row tracking of as many files as versions, which don't exist.
async fn base() -> FaultStore {
    let base = FaultStore::default();
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
        "writerFeatures": ["rowTracking", "domainMetadata"]}});
    for version in 0..VERSIONS {
        let mut actions = vec![add(&format!("f{version}"))];
        if version == 0 {
            actions.extend([protocol.clone(), metadata(&["id", "name"]), mark(99)]);
        }
        base.store().create(&path(version), entry(&actions).into()).await.unwrap();
    }
    base
}

/// A commit of what is staged while rivals come first, one after another.
struct Race {
    store: FaultStore,
    result: Result<CommitSummary>,
    /// Calls to the store that the rivals cost.
    calls: usize,
}

async fn race(options: &'static str, ids: &[i64], rivals: &[&[Value]]) -> Race {
    let base = base().await;
    let folder = tempfile::tempdir().unwrap();
    let case = case(options, ids);
    let mut calls = [0, 0];
    let mut raced = None;
    for (turn, rivals) in [&[], rivals].into_iter().enumerate() {
        let store = base.fork(None);
        for (version, rival) in (VERSIONS..).zip(rivals) {
            store.let_in([(path(version), entry(rival))]);
        }
        let staging = staged(&folder.path().join(turn.to_string()), &case).await;
        let result = commit(&table(&store.store()), &staging).await;
        calls[turn] = store.calls();
        raced = Some((store, result));
    }
    let (store, result) = raced.unwrap();
    Race { store, result, calls: calls[1].saturating_sub(calls[0]) }
}

impl Race {
    async fn snapshot(&self) -> Snapshot {
        Snapshot::load(&self.store.mended().store().child("t"), None).await.unwrap()
    }

    /// The live files that were not there before the race.
    async fn new_files(&self) -> Vec<String> {
        let snapshot = self.snapshot().await;
        let paths = snapshot.adds.keys().map(|path| path.as_str().to_owned());
        paths.filter(|path| !path.starts_with('f')).collect()
    }

    async fn actions(&self, version: u64) -> Vec<Action> {
        let bytes = self.store.mended().store().read(&path(version)).await.unwrap();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Action::from_line(line).unwrap().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_moves_on_behind_every_commit_that_leaves_the_tables_rules() {
    let vector = json!({"storageType": "u", "pathOrInlineDv": "^-aqEH.-t@S}K{vb[*k^",
        "offset": 1, "sizeInBytes": 1, "cardinality": 1});
    let mut with_vector = add("f1");
    with_vector["add"]["deletionVector"] = vector;
    let mut compacted = add("other");
    compacted["add"]["dataChange"] = false.into();
    let txn = json!({"txn": {"appId": "another", "version": 7}});
    for (name, rival) in [
        ("append", vec![add("other")]),
        ("overwrite", vec![remove("f0"), remove("f1"), add("other")]),
        ("delete", vec![remove("f1")]),
        ("delete by vector", vec![remove("f1"), with_vector]),
        ("optimize", vec![remove("f1"), remove("f2"), compacted]),
        ("transaction", vec![txn]),
        ("row ids", vec![mark(149), add("other")]),
    ] {
        let race = race("txn=app:1", &[3], &[&rival]).await;
        let summary = race.result.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(summary.version, Some(Version(VERSIONS + 1)), "{name}");
        assert!(race.calls < CALLS_MAX, "{name}: {} calls", race.calls);
        let has_other = rival.iter().any(|action| action["add"]["path"] == "other");
        let expected: &[&str] = if has_other { &["3.parquet", "other"] } else { &["3.parquet"] };
        assert_eq!(race.new_files().await, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ids_and_versions_are_those_of_the_version_that_it_became() {
    let rivals = [&[mark(149), add("other")][..], &[add("more")], &[mark(160), add("last")]];
    let race = race("", &[3, 4], &rivals).await;
    assert_eq!(race.result.as_ref().unwrap().version, Some(Version(VERSIONS + 3)));
    assert!(race.calls < CALLS_MAX * 3, "{} calls", race.calls);
    let actions = race.actions(VERSIONS + 3).await;
    let Action::CommitInfo(info) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(info.unknown["readVersion"], VERSIONS + 2);
    assert_eq!(info.unknown["isBlindAppend"], true);
    let mut ids = Vec::new();
    for action in &actions {
        match action {
            Action::Add(add) => ids.push((add.base_row_id, add.default_row_commit_version)),
            Action::DomainMetadata(domain) => assert_eq!(domain.row_id_mark(), Some(162)),
            _ => {}
        }
    }
    let version = i64::try_from(VERSIONS + 3).unwrap();
    assert_eq!(ids, [(Some(161), Some(version)), (Some(162), Some(version))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_takes_away_what_slipped_in_and_moves_on_behind_what_changed_no_file() {
    let again = race("mode=overwrite", &[3], &[&[add("other")]]).await;
    assert_eq!(again.result.as_ref().unwrap().version, Some(Version(VERSIONS + 1)));
    assert_eq!(again.snapshot().await.adds.len(), 1);
    assert!(again.calls > CALLS_MAX, "{} calls", again.calls);
    let txn = json!({"txn": {"appId": "another", "version": 7}});
    let moved = race("mode=overwrite", &[3], &[&[txn]]).await;
    assert_eq!(moved.snapshot().await.adds.len(), 1);
    assert!(moved.calls < CALLS_MAX, "{} calls", moved.calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_changed_is_planned_for_again() {
    let appended = race("", &[3], &[&[metadata(&["id", "name", "more"])]]).await;
    assert_eq!(appended.result.as_ref().unwrap().version, Some(Version(VERSIONS + 1)));
    assert_eq!(appended.new_files().await, ["3.parquet"]);
    assert!(appended.calls > CALLS_MAX, "{} calls", appended.calls);
    // The files' second column is gone: what they are would no longer be what the table holds.
    let dropped = race("", &[3], &[&[metadata(&["id"])]]).await;
    refused(dropped.result.clone(), &["3.parquet", "name"]);
    assert_eq!(dropped.snapshot().await.version, Version(VERSIONS));
    let upgraded = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
        "writerFeatures": ["rowTracking", "domainMetadata", "warpDrive"]}});
    let upgraded = race("", &[3], &[&[upgraded]]).await;
    let error = refused(upgraded.result.clone(), &["warpDrive"]);
    assert!(matches!(error, Error::Unsupported(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_another_wrote_meanwhile_is_not_written_again() {
    let txn = |app: &str, version: u64| json!({"txn": {"appId": app, "version": version}});
    let written = race("txn=app:7", &[3], &[&[txn("app", 7)]]).await;
    let summary = written.result.as_ref().unwrap();
    assert_eq!(summary.version, None);
    assert!(summary.reason.as_ref().unwrap().contains("app:7"));
    assert_eq!(written.new_files().await, [""; 0]);
    let older = race("txn=app:7", &[3], &[&[txn("app", 6)]]).await;
    assert_eq!(older.result.as_ref().unwrap().version, Some(Version(VERSIONS + 1)));
    assert!(older.calls > CALLS_MAX, "the same application's: {} calls", older.calls);
}

/// A file that is live is not added again; if it is taken away meanwhile, it has to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_needed_no_add_gets_one_when_it_was_taken_away_meanwhile() {
    for rival in [remove("3.parquet"), remove("f0")] {
        let is_taken = rival["remove"]["path"] == "3.parquet";
        let base = base().await;
        let folder = tempfile::tempdir().unwrap();
        let first = staged(&folder.path().join("first"), &case("", &[3])).await;
        commit(&table(&base.store()), &first).await.unwrap();
        let store = base.fork(None);
        store.let_in([(path(VERSIONS + 1), entry(&[rival]))]);
        let both = staged(&folder.path().join("both"), &case("", &[3, 4])).await;
        let summary = commit(&table(&store.store()), &both).await.unwrap();
        assert_eq!(summary.version, Some(Version(VERSIONS + 2)));
        assert_eq!(summary.files_added, if is_taken { 2 } else { 1 });
        let snapshot = Snapshot::load(&store.mended().store().child("t"), None).await.unwrap();
        for file in ["3.parquet", "4.parquet"] {
            assert!(snapshot.adds.contains_key(file), "{file}");
        }
    }
}

/// What another commit added under the name that ours has just got is our file's own bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_commit_took_is_in_the_table_once() {
    let race = race("", &[3], &[&[add("3.parquet")]]).await;
    assert_eq!(race.result.as_ref().unwrap().version, None);
    assert_eq!(race.new_files().await, ["3.parquet"]);
    assert_eq!(race.snapshot().await.version, Version(VERSIONS));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_rivals_that_reading_them_is_no_gain_are_not_read_one_by_one() {
    let rivals: Vec<Vec<Value>> = (0..70).map(|at| vec![add(&format!("other{at}"))]).collect();
    let base = base().await;
    let store = base.fork(None);
    let folder = tempfile::tempdir().unwrap();
    let staging = staged(folder.path(), &case("", &[3])).await;
    store.let_in((VERSIONS..).zip(&rivals).map(|(at, rival)| (path(at), entry(rival))));
    let summary = commit(&table(&store.store()), &staging).await.unwrap();
    assert_eq!(summary.version, Some(Version(VERSIONS + 70)));
    let snapshot = Snapshot::load(&store.mended().store().child("t"), None).await.unwrap();
    let ids = snapshot.adds["3.parquet"].base_row_id;
    assert_eq!((snapshot.adds.len() as u64, ids), (VERSIONS + 71, Some(100)));
}
