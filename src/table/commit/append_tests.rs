//! Appends, overwrites and new tables, on disk.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};

use super::tests::*;
use super::*;
use crate::log::action::Action;
use crate::log::protocol::with_features;
use crate::log::schema::Schema;
use crate::table::staging::Reference;
use crate::table::{Snapshot, Version};

fn ids_of(ids: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(ids.to_vec()))
}

fn stats(action: &Action) -> Value {
    let Action::Add(add) = action else { panic!("no add: {action:?}") };
    serde_json::from_str(add.stats.as_ref().unwrap()).unwrap()
}

fn adds(actions: &[Action]) -> Vec<&crate::log::action::Add> {
    let mut adds = Vec::new();
    for action in actions {
        if let Action::Add(add) = action {
            adds.push(add);
        }
    }
    adds
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_entry_has_all_that_the_protocol_wants() {
    let lake = Lake::new();
    lake.sync(&[("a b.parquet", rows(&[1, 2]))]).await.unwrap();
    lake.sync_with("txn=app:7\n", &[("c.parquet", rows(&[3]))]).await.unwrap();
    let created = lake.actions(0);
    let Action::CommitInfo(info) = &created[0] else { panic!("{created:?}") };
    assert!(info.txn_id.is_some() && info.timestamp.is_some());
    assert!(matches!(created[1], Action::Protocol(_)) && matches!(created[2], Action::MetaData(_)));
    assert_eq!(adds(&created)[0].path, "a%20b.parquet");
    assert_eq!(stats(&created[3])["numRecords"], 2);
    assert_eq!(stats(&created[3])["maxValues"], json!({"id": 2, "name": "row 2"}));
    let appended = lake.actions(1);
    let Action::CommitInfo(info) = &appended[0] else { panic!("{appended:?}") };
    assert_eq!(info.operation.as_deref(), Some("WRITE"));
    assert_eq!(info.unknown["readVersion"], 0);
    assert_eq!(info.unknown["isBlindAppend"], true);
    assert_eq!(info.unknown["operationMetrics"]["numOutputRows"], "1");
    assert!(matches!(&appended[1], Action::Txn(txn) if txn.app_id == "app" && txn.version == 7));
    assert_eq!(appended.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_written_once() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    lake.sync_with("txn=app:7", &[("b.parquet", rows(&[2]))]).await.unwrap();
    for txn in ["txn=app:7", "txn=app:6"] {
        let again = lake.sync_with(txn, &[("c.parquet", rows(&[2]))]).await.unwrap();
        assert_eq!(again.version, None);
    }
    lake.sync_with("txn=app:8", &[("c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!(lake.ids(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_one_commits_own_and_the_mode_stays() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let stage = lake.stage(&[("b.parquet", rows(&[2]))]).await;
    stage.staging.set_options("mode=overwrite\ntxn=app:7").unwrap();
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(stage.staging.options_text(), "mode=overwrite\n");
    put(&stage.root.join("c.parquet"), &rows(&[3]));
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, version(2));
    assert_eq!(lake.ids(), [3]);
    // A success without a version says why.
    put(&stage.root.join("d.parquet"), &rows(&[4]));
    stage.staging.set_options("txn=app:7").unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    let reason = "txn app:7 is in the table already; 1 staged file was taken away";
    assert_eq!((done.version, done.reason.as_deref()), (None, Some(reason)));
    let result: Value = serde_json::from_str(&stage.staging.result_text()).unwrap();
    assert_eq!((&result["state"], &result["reason"]), (&json!("nothing"), &json!(reason)));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_of_later_runs_get_new_names() {
    let lake = Lake::new();
    lake.sync(&[("part-00000-of-00001", rows(&[1]))]).await.unwrap();
    lake.sync(&[("part-00000-of-00001", rows(&[2]))]).await.unwrap();
    assert_eq!(lake.ids(), [1, 2]);
    let files = data_files(&lake.path());
    assert_eq!(files[0], "part-00000-of-00001");
    assert!(files[1].starts_with("part-00000-of-00001-") && files[1].ends_with(".parquet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_store_has_is_not_overwritten() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    put(&lake.path().join("b.parquet"), &rows(&[99]));
    lake.sync(&[("b.parquet", rows(&[2]))]).await.unwrap();
    assert_eq!(fs::read(lake.path().join("b.parquet")).unwrap(), rows(&[99]));
    assert_eq!(lake.ids(), [1, 2]);
    // The same bytes may be another writer's, who has not committed yet: each has his own.
    put(&lake.path().join("c.parquet"), &rows(&[3]));
    lake.sync(&[("c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!(data_files(&lake.path()).iter().filter(|name| name.starts_with('c')).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_has_is_not_staged_a_second_time() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let again = lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    assert_eq!((again.version, again.files_reused, again.bytes_written), (None, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_takes_the_place_of_all_and_a_file_comes_back_without_bytes() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1])), ("b.parquet", rows(&[2]))]).await.unwrap();
    let done = lake
        .sync_with("mode=overwrite", &[("b.parquet", rows(&[2])), ("c.parquet", rows(&[3]))])
        .await
        .unwrap();
    assert_eq!((done.files_added, done.files_removed, done.files_reused), (1, 1, 1));
    assert_eq!(lake.ids(), [2, 3]);
    let Some(Action::Remove(remove)) =
        lake.actions(1).into_iter().find(|action| matches!(action, Action::Remove(_)))
    else {
        panic!("no remove")
    };
    assert_eq!(remove.extended_file_metadata, Some(true));
    assert!(remove.deletion_timestamp.is_some() && remove.size.is_some());
    let back = lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    assert_eq!((back.files_added, back.files_reused, back.bytes_written), (1, 1, 0));
    assert_eq!(lake.ids(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_table_refuses_to_lose_files() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    metadata.configuration.insert("delta.appendOnly".into(), "true".into());
    lake.commit_foreign(1, &[json!({ "metaData": metadata })]);
    let result = lake.sync_with("mode=overwrite", &[("b.parquet", rows(&[2]))]).await;
    assert!(matches!(refused(result, &["appendOnly"]), Error::AppendOnly(_)));
    lake.sync(&[("b.parquet", rows(&[2]))]).await.unwrap();
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_follow_from_directories() {
    let lake = Lake::new();
    let id = |id| parquet_of(vec![("id", ids_of(&[id]))]);
    lake.sync(&[
        ("day=2026-11-01/k=1/a.parquet", id(1)),
        ("day=2026-11-02/k=2/b.parquet", id(2)),
        ("day=__HIVE_DEFAULT_PARTITION__/k=3/c.parquet", id(3)),
    ])
    .await
    .unwrap();
    let metadata = lake.snapshot().await.metadata;
    assert_eq!(metadata.partition_columns, ["day", "k"]);
    let schema = Schema::from_json(&metadata.schema_string).unwrap();
    let types: Vec<String> = schema.fields.iter().map(|f| f.data_type.to_string()).collect();
    assert_eq!(types, ["long", "date", "integer"]);
    let snapshot = lake.snapshot().await;
    let values: Vec<_> =
        snapshot.adds.values().map(|add| add.partition_values["day"].as_deref()).collect();
    assert_eq!(values, [Some("2026-11-01"), Some("2026-11-02"), None]);
    assert_eq!(lake.ids(), [1, 2, 3]);
    for (path, words) in [
        ("a.parquet", &["partitioned by", "a.parquet"][..]),
        ("day=2026-11-01/a.parquet", &["k=VALUE"]),
        ("day=yesterday/k=1/a.parquet", &["\"yesterday\" is no date"]),
        ("day=2026-11-01/k=1/z=1/a.parquet", &["z=…", "no partition column"]),
    ] {
        let error = refused(lake.sync(&[(path, id(4))]).await, words);
        assert!(matches!(error, Error::Refused(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn special_characters_in_partition_values_come_back() {
    let lake = Lake::new();
    let files = [
        ("p=a%2Fb/a.parquet", rows(&[1])),
        ("p=a b%25c=d/b.parquet", rows(&[2])),
        ("p=é\"#?/c.parquet", rows(&[3])),
    ];
    lake.sync(&files).await.unwrap();
    let snapshot = lake.snapshot().await;
    let mut values: Vec<&str> =
        snapshot.adds.values().map(|add| add.partition_values["p"].as_deref().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["a b%c=d", "a/b", "é\"#?"]);
    assert_eq!(lake.ids(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_only_where_it_is_asked_for() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
    let wide = parquet_of(vec![("id", ids_of(&[2])), ("seen", time)]);
    refused(lake.sync(&[("b.parquet", wide.clone())]).await, &["b.parquet", "merge_schema"]);
    lake.sync_with("merge_schema=true", &[("b.parquet", wide)]).await.unwrap();
    let snapshot = lake.snapshot().await;
    let schema = Schema::from_json(&snapshot.metadata.schema_string).unwrap();
    assert_eq!(schema.fields[2].name, "seen");
    // A timestamp without a zone is a feature that the table didn't have.
    assert_eq!(snapshot.protocol.reader_features.unwrap(), ["timestampNtz"]);
    assert_eq!(lake.ids(), [1, 2]);
    let narrow = parquet_of(vec![("id", Arc::new(Int32Array::from(vec![3])) as ArrayRef)]);
    refused(lake.sync(&[("c.parquet", narrow)]).await, &["\"id\"", "long", "integer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_are_refused_where_the_table_takes_none() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    metadata.schema_string = metadata.schema_string.replacen("true", "false", 1);
    lake.commit_foreign(1, &[json!({ "metaData": metadata })]);
    let holed: ArrayRef = Arc::new(Int64Array::from(vec![Some(2), None]));
    let holed = parquet_of(vec![("id", holed)]);
    refused(lake.sync(&[("b.parquet", holed)]).await, &["b.parquet", "\"id\"", "null"]);
    lake.sync(&[("c.parquet", rows(&[3]))]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_rules_for_rows_takes_no_new_ones() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    metadata.configuration.insert("delta.constraints.positive".into(), "id > 0".into());
    lake.commit_foreign(1, &[json!({ "metaData": metadata })]);
    let error = refused(lake.sync(&[("b.parquet", rows(&[2]))]).await, &["positive"]);
    assert!(matches!(error, Error::Unsupported(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ids_go_up_and_a_file_that_comes_back_keeps_its_own() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1, 2]))]).await.unwrap();
    lake.commit_foreign(
        1,
        &[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
                "writerFeatures": ["rowTracking", "domainMetadata"]}}),
            json!({"domainMetadata": {"domain": "delta.rowTracking", "removed": false,
                "configuration": "{\"rowIdHighWaterMark\":9}"}}),
        ],
    );
    lake.sync(&[("b.parquet", rows(&[3, 4, 5])), ("c.parquet", rows(&[6]))]).await.unwrap();
    let actions = lake.actions(2);
    let bases: Vec<_> = adds(&actions).iter().map(|add| add.base_row_id).collect();
    assert_eq!(bases, [Some(10), Some(13)]);
    assert!(adds(&actions).iter().all(|add| add.default_row_commit_version == Some(2)));
    assert!(actions.iter().any(|action| matches!(action,
        Action::DomainMetadata(domain) if domain.configuration == "{\"rowIdHighWaterMark\":13}")));
    lake.sync_with("mode=overwrite", &[("d.parquet", rows(&[7]))]).await.unwrap();
    lake.sync(&[("b.parquet", rows(&[3, 4, 5]))]).await.unwrap();
    let back = &lake.actions(4);
    assert_eq!(adds(back)[0].base_row_id, Some(10));
    assert_eq!(adds(back)[0].default_row_commit_version, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_commit_timestamps_come_first_and_go_up() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let mut metadata = lake.snapshot().await.metadata;
    let properties = &mut metadata.configuration;
    properties.insert("delta.enableInCommitTimestamps".into(), "true".into());
    properties.insert("delta.inCommitTimestampEnablementVersion".into(), "1".into());
    let future = i64::MAX / 2;
    lake.commit_foreign(
        1,
        &[
            json!({"commitInfo": {"inCommitTimestamp": future, "timestamp": future}}),
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
                "writerFeatures": ["inCommitTimestamp"]}}),
            json!({ "metaData": metadata }),
        ],
    );
    lake.sync(&[("b.parquet", rows(&[2]))]).await.unwrap();
    let Action::CommitInfo(info) = &lake.actions(2)[0] else { panic!() };
    assert_eq!(info.in_commit_timestamp, Some(future + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_added_without_bytes() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1])), ("b.parquet", rows(&[2]))]).await.unwrap();
    lake.sync_with("mode=overwrite", &[("b.parquet", rows(&[2]))]).await.unwrap();
    let stage = lake.stage(&[]).await;
    let source = lake.path().join("a.parquet");
    let file = fs::File::open(&source).unwrap();
    let size = file.metadata().unwrap().len();
    let owner = crate::table::staging::Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    let reference = Reference { path: "a.parquet".into(), size, modified_ms: 0 };
    let root = stage.staging.root_id();
    for name in ["a.parquet", "copy.parquet"] {
        stage.staging.link_reference(&reference, &file, root, name.as_ref(), owner).unwrap();
    }
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.files_added, done.files_reused, done.bytes_written), (2, 1, 0));
    assert_eq!(lake.ids(), [1, 1, 2]);
    // The two share their bytes now, and a third that came so could be anybody's.
    stage.staging.link_reference(&reference, &file, root, "more.parquet".as_ref(), owner).unwrap();
    commit(&lake.table, &stage.staging).await.unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(lake.path().join("more.parquet")).unwrap().nlink(), 1);
    assert_eq!(lake.ids(), [1, 1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_tell_what_sync_would_do_and_change_nothing() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1])), ("b.parquet", rows(&[2]))]).await.unwrap();
    let stage = lake.stage(&[("a.parquet", rows(&[1])), ("c", rows(&[3])), ("_x", vec![1])]).await;
    stage.staging.set_options("mode=overwrite").unwrap();
    let text = changes(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(text, "= a.parquet\n- b.parquet\n+ c\n! _x is left out\n");
    put(&stage.root.join("d"), b"no Parquet");
    let text = changes(&lake.table, &stage.staging).await.unwrap();
    assert!(text.starts_with("! d: is not Parquet"), "{text}");
    assert_eq!(lake.snapshot().await.version, Version(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn published_files_are_new_and_readable_to_all() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let lake = Lake::new();
    let stage = lake.stage(&[("a.parquet", rows(&[1]))]).await;
    let staged = stage.root.join("a.parquet");
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o600)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    fs::File::open(&staged).unwrap().set_modified(old).unwrap();
    commit(&lake.table, &stage.staging).await.unwrap();
    let metadata = fs::metadata(lake.path().join("a.parquet")).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o644);
    assert!(metadata.mtime() > 1_000_000);
    let snapshot = lake.snapshot().await;
    assert_eq!(snapshot.adds.values().next().unwrap().modification_time, 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_directories_commit_at_once_and_nothing_is_lost() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[0]))]).await.unwrap();
    let commits = (1..=20).map(|id| {
        let table = lake.other("t");
        async move {
            let stage = stage(&table, &[("same.parquet", rows(&[id]))]).await;
            commit(&table, &stage.staging).await.unwrap()
        }
    });
    futures::future::join_all(commits).await;
    assert_eq!(lake.ids(), (0..=20).collect::<Vec<_>>());
    assert_eq!(lake.snapshot().await.version, Version(20));
    // Whoever had to plan again kept what he had published.
    assert_eq!(data_files(&lake.path()).len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_loses_no_statistics_however_the_table_wants_them() {
    let properties: [&[(&str, &str)]; 4] = [
        &[("delta.checkpoint.writeStatsAsJson", "false")],
        &[("delta.checkpoint.writeStatsAsStruct", "true")],
        &[("delta.checkpointPolicy", "v2")],
        &[],
    ];
    for (properties, strips) in properties.into_iter().flat_map(|p| [(p, false), (p, true)]) {
        let lake = Lake::new();
        lake.sync(&[("a.parquet", rows(&[1, 2]))]).await.unwrap();
        let snapshot = lake.snapshot().await;
        let (mut metadata, mut add) = (snapshot.metadata, snapshot.adds.into_values().next());
        let pairs = properties.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        metadata.configuration.extend(pairs);
        let protocol = with_features(&snapshot.protocol, &["v2Checkpoint"]);
        add.iter_mut().filter(|_| strips).for_each(|add| add.stats = None);
        let actions = [
            json!({ "protocol": protocol }),
            json!({ "metaData": metadata }),
            json!({ "add": add }),
        ];
        lake.commit_foreign(1, &actions);
        checkpoint::write(lake.table.store(), Version(1)).await.unwrap();
        let log = lake.path().join("_delta_log");
        for version in 0..=1 {
            fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
        let alone = Snapshot::load(lake.table.store(), None).await.unwrap();
        let parsed = |stats: Option<String>| {
            stats.map(|stats| serde_json::from_str::<Value>(&stats).unwrap())
        };
        let back = parsed(alone.adds.into_values().next().unwrap().stats);
        assert_eq!(back, parsed(add.unwrap().stats), "{properties:?}");
        assert_eq!(back.is_none(), strips);
        assert_eq!(lake.ids(), [1, 2], "{properties:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_written_at_the_tables_interval() {
    let lake = Lake::new();
    for id in 0..=10 {
        lake.sync(&[(&format!("{id}.parquet"), rows(&[id]))]).await.unwrap();
    }
    let log = lake.path().join("_delta_log");
    let hint = log.join("_last_checkpoint");
    for _ in 0..200 {
        if hint.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let hint: Value = serde_json::from_slice(&fs::read(hint).unwrap()).unwrap();
    assert_eq!((hint["version"].as_u64(), hint["numOfAddFiles"].as_u64()), (Some(10), Some(11)));
    for version in 0..10 {
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(lake.ids(), (0..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_rows_and_columns_of_text_are_fine() {
    let lake = Lake::new();
    let names: ArrayRef = Arc::new(StringArray::from(Vec::<Option<&str>>::new()));
    let empty = parquet_of(vec![("id", ids_of(&[])), ("name", names)]);
    lake.sync(&[("a", rows(&[1])), ("b", empty)]).await.unwrap();
    assert_eq!(lake.ids(), [1]);
    assert_eq!(lake.snapshot().await.adds.len(), 2);
}
