//! `mode=replace_partitions`: what goes, what stays, and what rivals do to it.

use serde_json::{Value, json};

use super::fault_tests::table;
use super::tests::*;
use super::*;
use crate::log::action::Action;
use crate::log::listing::{commit_name, log_path};
use crate::store::fault::FaultStore;
use crate::table::staging::{Owner, StagingArea};
use crate::table::{Snapshot, Version};

const REPLACE: &str = "mode=replace_partitions";

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.adds.keys().map(|path| path.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_that_are_brought_are_replaced_and_the_others_stay() {
    let lake = Lake::new();
    let files = [
        ("p=1/a.parquet", rows(&[1])),
        ("p=1/b.parquet", rows(&[2])),
        ("p=2/c.parquet", rows(&[3])),
        ("p=__HIVE_DEFAULT_PARTITION__/d.parquet", rows(&[4])),
    ];
    lake.sync(&files).await.unwrap();
    // One that is there already, one that is new, and the partition of null by another name.
    let brought = [("p=01/e.parquet", rows(&[5])), files[1].clone(), ("p=/f.parquet", rows(&[6]))];
    let done = lake.sync_with(REPLACE, &brought).await.unwrap();
    assert_eq!((done.files_added, done.files_removed, done.files_reused), (2, 2, 1));
    assert_eq!(done.kind, "replace_partitions");
    assert_eq!(lake.ids(), [2, 3, 5, 6]);
    let actions = lake.actions(1);
    let Action::CommitInfo(info) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(info.operation.as_deref(), Some("WRITE"));
    assert_eq!(info.unknown["isBlindAppend"], false);
    let parameters = &info.unknown["operationParameters"];
    assert_eq!(parameters["mode"], "Overwrite");
    assert_eq!(parameters["isDynamicPartitionOverwrite"], true);
    let again = lake.sync_with(REPLACE, &brought).await.unwrap();
    assert_eq!((again.version, again.files_reused, again.bytes_written), (None, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_others_spelled_otherwise_is_the_same_and_so_are_its_vectors() {
    let lake = Lake::new();
    let first = lake.sync(&[("at=x/a.parquet", rows(&[1, 2]))]).await.unwrap();
    assert_eq!(first.version, version(0));
    let mut snapshot = lake.snapshot().await;
    snapshot.metadata.schema_string = snapshot
        .metadata
        .schema_string
        .replace(r#""name":"at","type":"string""#, r#""name":"at","type":"timestamp""#);
    let mut add = snapshot.adds.first_key_value().unwrap().1.clone();
    add.partition_values.insert("at".into(), Some("2026-11-01 00:00:00".into()));
    let remove = add.to_remove(1);
    add.deletion_vector = Some(
        serde_json::from_value(json!({"storageType": "u", "offset": 1, "sizeInBytes": 34,
            "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "cardinality": 1}))
        .unwrap(),
    );
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]});
    lake.commit_foreign(
        1,
        &[
            json!({ "protocol": protocol }),
            json!({ "metaData": snapshot.metadata }),
            json!({ "remove": remove }),
            json!({ "add": add }),
        ],
    );
    let same = [("at=2026-11-01T00%3A00%3A00.000000Z/b.parquet", rows(&[3]))];
    lake.sync_with(REPLACE, &same).await.unwrap();
    let removes: Vec<Action> = lake.actions(2);
    let removed = removes.iter().find_map(|action| match action {
        Action::Remove(remove) => Some(remove),
        _ => None,
    });
    assert_eq!(removed.unwrap().deletion_vector, add.deletion_vector);
    assert_eq!(lake.ids(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_column_that_was_renamed_is_the_same() {
    let lake = Lake::new();
    lake.sync(&[("p=1/a.parquet", rows(&[1])), ("p=2/b.parquet", rows(&[2]))]).await.unwrap();
    lake.sync_properties("delta.columnMapping.mode=name", &[]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    let renamed = metadata.schema_string.replace(r#""name":"p""#, r#""name":"q""#);
    assert_ne!(renamed, metadata.schema_string);
    metadata.schema_string = renamed;
    metadata.partition_columns = vec!["q".into()];
    lake.commit_foreign(2, &[json!({ "metaData": metadata })]);
    let done = lake.sync_with(REPLACE, &[("q=1/c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!((done.files_added, done.files_removed), (1, 1));
    assert_eq!(lake.ids(), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_partitions_or_nothing_may_go_it_is_refused() {
    let lake = Lake::new();
    let plain = [("a.parquet", rows(&[1]))];
    refused(lake.sync_with(REPLACE, &plain).await, &["no partitions", "mode=overwrite"]);
    lake.sync(&plain).await.unwrap();
    refused(lake.sync_with(REPLACE, &[("b.parquet", rows(&[2]))]).await, &["no partitions"]);
    // Without files nothing is replaced.
    assert_eq!(lake.sync_with(REPLACE, &[]).await.unwrap().version, None);

    let lake = Lake::new();
    lake.sync_with(REPLACE, &[("p=1/a.parquet", rows(&[1]))]).await.unwrap();
    lake.sync_properties("delta.appendOnly=true", &[]).await.unwrap();
    let result = lake.sync_with(REPLACE, &[("p=1/b.parquet", rows(&[2]))]).await;
    assert!(matches!(refused(result, &["appendOnly"]), Error::AppendOnly(_)));
    lake.sync_with(REPLACE, &[("p=2/b.parquet", rows(&[2]))]).await.unwrap();
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_replaced_is_told_before() {
    let lake = Lake::new();
    lake.sync(&[("p=1/a.parquet", rows(&[1])), ("p=2/b.parquet", rows(&[2]))]).await.unwrap();
    let stage = lake.stage(&[("p=1/c.parquet", rows(&[3]))]).await;
    stage.staging.set_options(REPLACE).unwrap();
    let told = changes(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(told, "- p=1/a.parquet\n+ p=1/c.parquet\n");
}

fn path(version: u64) -> String {
    format!("t/{}", log_path(&commit_name(Version(version))))
}

fn add(path: &str, p: &str) -> Value {
    json!({"add": {"path": path, "partitionValues": {"p": p}, "size": 1, "modificationTime": 1,
        "dataChange": true, "stats": "{\"numRecords\":1}"}})
}

/// What a replacement of `p=1` came to, with rivals that were first: the live files, and how often
/// the log's files were read more than by one without rivals.
async fn race(rivals: &[&[Value]]) -> (Vec<String>, usize) {
    let base = FaultStore::default();
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": true, "metadata": {}},
        {"name": "name", "type": "string", "nullable": true, "metadata": {}},
        {"name": "p", "type": "integer", "nullable": true, "metadata": {}}]});
    let metadata = json!({"metaData": {"id": "t", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": ["p"], "configuration": {}}});
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let entry = |actions: &[Value]| -> String {
        actions.iter().map(|action| format!("{action}\n")).collect()
    };
    let first = [protocol, metadata, add("old1", "1"), add("old2", "2")];
    base.store().create(&path(0), entry(&first).into()).await.unwrap();
    for version in 1..VERSIONS {
        let more = entry(&[add(&format!("more{version}"), "2")]);
        base.store().create(&path(version), more.into()).await.unwrap();
    }
    let mut calls = Vec::new();
    let mut live = Vec::new();
    for rivals in [&[], rivals] {
        let folder = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let owner = Owner { uid, gid: rustix::process::getgid().as_raw() };
        let area = StagingArea::new(folder.path(), false);
        let staging = area.begin("s".as_ref(), 0o755, owner).unwrap();
        let root = staging.files_path().to_path_buf();
        put(&root.join("p=1/new.parquet"), &rows(&[3]));
        staging.set_options(REPLACE).unwrap();
        let store = base.fork(None);
        for (version, rival) in (VERSIONS..).zip(rivals) {
            store.let_in([(path(version), entry(rival))]);
        }
        commit(&table(&store.store()), &staging).await.unwrap();
        calls.push(store.calls());
        let snapshot = Snapshot::load(&store.mended().store().child("t"), None).await.unwrap();
        let names = paths(&snapshot).into_iter().filter(|path| !path.starts_with("more"));
        live = names.map(str::to_owned).collect();
    }
    (live, calls[1] - calls[0])
}

/// Versions before anybody races; without a checkpoint, nor soon due for one.
const VERSIONS: u64 = 33;
/// Calls to the store that one lost race may cost where the plan is only moved on. A plan that is
/// made again reads the whole log, for it must know all files.
const CALLS_MAX: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn what_slips_into_a_replaced_partition_goes_and_what_comes_elsewhere_stays() {
    let (live, calls) = race(&[&[add("slipped", "01")]]).await;
    assert_eq!(live, ["old2", "p=1/new.parquet"]);
    assert!(calls > CALLS_MAX, "{calls}");
    let elsewhere = [
        add("other", "2"),
        json!({"remove": {"path": "old2", "dataChange": true,
        "deletionTimestamp": 1, "partitionValues": {"p": "2"}}}),
    ];
    let (live, calls) = race(&[&elsewhere]).await;
    assert_eq!(live, ["other", "p=1/new.parquet"]);
    assert!(calls < CALLS_MAX, "{calls}");
    // Somebody else took away what would have been replaced.
    let gone = json!({"remove": {"path": "old1", "dataChange": false, "deletionTimestamp": 1}});
    let (live, _) = race(&[&[gone, add("compacted", "1")]]).await;
    assert_eq!(live, ["old2", "p=1/new.parquet"]);
}
