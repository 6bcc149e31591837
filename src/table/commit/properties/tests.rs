//! Properties: their lines, and the commits that they make, read back by delta_kernel.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields};
use serde_json::{Value, json};

use super::*;
use crate::log::action::{Action, CommitInfo};
use crate::table::Version;
use crate::table::commit::commit;
use crate::table::commit::tests::*;

fn configuration<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.configuration.get(key).map(String::as_str)
}

/// A commit's info, and the names of its other actions.
fn shape(actions: &[Action]) -> (CommitInfo, Vec<&'static str>) {
    let name = |action: &Action| match action {
        Action::Add(_) => "add",
        Action::Remove(_) => "remove",
        Action::MetaData(_) => "metaData",
        Action::Protocol(_) => "protocol",
        Action::Txn(_) => "txn",
        Action::DomainMetadata(_) => "domainMetadata",
        Action::CommitInfo(_) => "commitInfo",
        Action::Cdc(_) => "cdc",
    };
    let Some((Action::CommitInfo(info), rest)) = actions.split_first() else {
        panic!("no commitInfo first: {actions:?}")
    };
    (info.clone(), rest.iter().map(name).collect())
}

async fn table() -> Lake {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1, 2])), ("b.parquet", rows(&[3]))]).await.unwrap();
    lake
}

async fn status_of(lake: &Lake, properties: &str) -> Result<()> {
    lake.table.refresh().await.unwrap();
    check(&lake.table, properties)
}

#[test]
fn lines_set_and_take_away() {
    let properties = Properties::parse(
        "# a comment\n\n delta.appendonly = TRUE \nteam=a=b\n-delta.checkpointInterval\n- old\n\
         delta.minWriterVersion=7\ndelta.feature.v2checkpoint=supported\n",
    )
    .unwrap();
    let set: BTreeMap<String, String> =
        [("delta.appendOnly", "true"), ("team", "a=b")].map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(properties.set, set);
    assert_eq!((properties.reader, properties.writer), (None, Some(7)));
    assert!(properties.features.contains("v2Checkpoint"));
    assert_eq!(properties.unset, ["delta.checkpointInterval", "old"].map(str::to_owned).into());
    assert!(Properties::parse("\n# nothing\n").unwrap().is_empty() && !properties.is_empty());
}

#[test]
fn lines_that_say_neither_are_refused() {
    for (text, word) in [
        ("delta.appendOnly", "neither KEY=VALUE"),
        ("-delta.appendOnly=true", "neither KEY=VALUE"),
        ("=true", "no name"),
        ("-", "no name"),
        ("delta.appendOnly=true\nDELTA.appendOnly=false", "twice"),
        ("a=1\n-a", "twice"),
        ("delta.apendOnly=true", "delta.appendOnly"),
    ] {
        let error = Properties::parse(text).unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains(word)), "{error:?}");
    }
    // Case counts in a user's own names.
    Properties::parse("a=1\nA=2").unwrap();
}

#[test]
fn unsetting_alone_is_told_as_spark_tells_it() {
    let unset = Properties::parse("-a\n-b").unwrap();
    assert_eq!(unset.operation(), "UNSET TBLPROPERTIES");
    assert_eq!(unset.parameters(), json!({"properties": r#"["a","b"]"#, "ifExists": true}));
    let mixed = Properties::parse("-a\ndelta.feature.v2Checkpoint=supported").unwrap();
    assert_eq!(mixed.operation(), "SET TBLPROPERTIES");
    assert_eq!(
        mixed.parameters(),
        json!({"properties": r#"{"delta.feature.v2Checkpoint":"supported"}"#, "unset": r#"["a"]"#})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_alone_make_one_commit_without_files() {
    let lake = table().await;
    let stage = lake.stage(&[]).await;
    stage.staging.set_properties("delta.appendOnly=true\nteam=finance\n").unwrap();
    let changed = crate::table::commit::changes(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(changed, "~ delta.appendOnly=true\n~ team=finance\n");
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.kind.as_str()), (version(1), "properties"));
    assert_eq!((done.files_added, done.files_removed, done.bytes_written), (0, 0, 0));
    let actions = lake.actions(1);
    let (info, names) = shape(&actions);
    // Writer version 2 knows append-only tables.
    assert_eq!(names, ["metaData"]);
    assert_eq!(info.operation.as_deref(), Some("SET TBLPROPERTIES"));
    let parameters = &info.unknown["operationParameters"];
    let said: Value = serde_json::from_str(parameters["properties"].as_str().unwrap()).unwrap();
    assert_eq!(said, json!({"delta.appendOnly": "true", "team": "finance"}));
    assert_eq!(info.unknown["isBlindAppend"], true);
    assert_eq!(lake.ids(), [1, 2, 3]);
    assert_eq!(stage.staging.properties_text(), "");
    let again = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(again.version, None);
    let refusal = lake.sync_with("mode=overwrite", &[("c.parquet", rows(&[4]))]).await;
    assert!(matches!(refused(refusal, &["delta.appendOnly"]), Error::AppendOnly(_)));
    lake.sync_properties("-delta.appendonly", &[]).await.unwrap();
    let (info, _) = shape(&lake.actions(2));
    assert_eq!(info.operation.as_deref(), Some("UNSET TBLPROPERTIES"));
    let held = lake.snapshot().await.metadata;
    assert_eq!(
        (configuration(&held, "delta.appendOnly"), configuration(&held, "team")),
        (None, Some("finance"))
    );
    assert_eq!(lake.ids(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_already_makes_no_version_and_is_spent() {
    let lake = table().await;
    lake.sync_properties("team=finance", &[]).await.unwrap();
    let stage = lake.stage(&[]).await;
    stage.staging.set_properties("team=finance\n-other").unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, lake.snapshot().await.version), (None, Version(1)));
    assert!(done.reason.unwrap().contains("already"));
    assert_eq!(stage.staging.properties_text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_files_are_one_commit() {
    let lake = table().await;
    let file = [("c.parquet", rows(&[4]))];
    let done = lake.sync_properties("delta.enableDeletionVectors=true", &file).await.unwrap();
    assert_eq!((done.kind.as_str(), done.files_added), ("append", 1));
    let (info, names) = shape(&lake.actions(1));
    assert_eq!(names, ["protocol", "metaData", "add"]);
    assert_eq!(info.operation.as_deref(), Some("WRITE"));
    assert!(
        info.unknown["operationParameters"]["properties"].as_str().unwrap().contains("Vectors")
    );
    // Bounds are said to be exact where deletion vectors can come.
    let Some(Action::Add(add)) = lake.actions(1).pop() else { panic!("no add") };
    assert!(add.stats.unwrap().contains("\"tightBounds\":true"));
    assert_eq!(lake.ids(), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_property_brings_its_feature_and_kernel_reads_on() {
    for (line, features) in [
        ("delta.enableDeletionVectors=true", &["deletionVectors"][..]),
        ("delta.enableChangeDataFeed=true", &["changeDataFeed"]),
        ("delta.enableTypeWidening=true", &["typeWidening"]),
        ("delta.checkpointPolicy=v2", &["v2Checkpoint"]),
        ("delta.columnMapping.mode=name", &["columnMapping"]),
        ("delta.enableInCommitTimestamps=true", &["inCommitTimestamp"]),
        ("delta.enableRowTracking=true", &["rowTracking", "domainMetadata"]),
        ("delta.enableVariantShredding=true", &["variantShredding", "variantType"]),
        ("delta.enableMaterializePartitionColumnsFeature=true", &["materializePartitionColumns"]),
        ("delta.feature.vacuumProtocolCheck=supported", &["vacuumProtocolCheck"]),
        ("delta.minReaderVersion=3\ndelta.minWriterVersion=7", &["invariants"]),
        ("delta.minReaderVersion=2\ndelta.minWriterVersion=5", &["columnMapping"]),
        ("delta.appendOnly=true", &["appendOnly"]),
        ("delta.logRetentionDuration=60 days", &[]),
        ("delta.dataSkippingStatsColumns=id", &[]),
        ("delta.dataSkippingNumIndexedCols=1", &[]),
    ] {
        for is_new in [false, true] {
            let lake = Lake::new();
            let first = [("a.parquet", rows(&[1, 2]))];
            if is_new {
                lake.sync_properties(line, &first).await.unwrap();
            } else {
                lake.sync(&first).await.unwrap();
                lake.sync_properties(line, &[]).await.unwrap();
            }
            let snapshot = lake.snapshot().await;
            assert_eq!(snapshot.version, Version(u64::from(!is_new)), "{line}");
            for feature in features {
                assert!(supports(&snapshot.protocol, feature), "{line}: {feature}");
            }
            let is_kept = |key: &str| snapshot.metadata.configuration.contains_key(key);
            let keys = line.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key);
            for key in keys {
                let of_protocol = key.starts_with("delta.feature.") || key.starts_with("delta.min");
                assert_eq!(is_kept(key), !of_protocol, "{line}");
            }
            // The table goes on: with us, and for a reader by other code.
            lake.sync(&[("c.parquet", rows(&[3]))]).await.unwrap();
            assert_eq!(lake.ids(), [1, 2, 3], "{line}, new: {is_new}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_commit_times_begin_with_their_commit_and_can_end() {
    let lake = table().await;
    lake.sync_properties("delta.enableInCommitTimestamps=true", &[]).await.unwrap();
    let actions = lake.actions(1);
    let (info, names) = shape(&actions);
    assert_eq!(names, ["protocol", "metaData"]);
    let time = info.in_commit_timestamp.unwrap();
    let held = lake.snapshot().await.metadata;
    assert_eq!(configuration(&held, timestamp::ENABLEMENT[0]), Some("1"));
    assert_eq!(configuration(&held, timestamp::ENABLEMENT[1]), Some(time.to_string().as_str()));
    lake.sync_properties("team=a", &[]).await.unwrap();
    let next = shape(&lake.actions(2)).0.in_commit_timestamp.unwrap();
    assert!(next > time);
    let held = lake.snapshot().await.metadata;
    assert_eq!(configuration(&held, timestamp::ENABLEMENT[0]), Some("1"));
    lake.sync_properties("delta.enableInCommitTimestamps=false", &[]).await.unwrap();
    assert_eq!(shape(&lake.actions(3)).0.in_commit_timestamp, None);
    let held = lake.snapshot().await.metadata;
    assert!(timestamp::ENABLEMENT.iter().all(|key| configuration(&held, key).is_none()));
    lake.sync_properties("delta.enableInCommitTimestamps=true", &[]).await.unwrap();
    let held = lake.snapshot().await.metadata;
    assert_eq!(configuration(&held, timestamp::ENABLEMENT[0]), Some("4"));
    assert_eq!(lake.ids(), [1, 2, 3]);
    // A table that begins with them has no time before.
    let lake = Lake::new();
    let new = [("a.parquet", rows(&[1]))];
    lake.sync_properties("delta.enableInCommitTimestamps=true", &new).await.unwrap();
    assert!(shape(&lake.actions(0)).0.in_commit_timestamp.is_some());
    let held = lake.snapshot().await.metadata;
    assert!(timestamp::ENABLEMENT.iter().all(|key| configuration(&held, key).is_none()));
    assert_eq!(lake.ids(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_tracking_gives_every_file_its_ids_in_the_same_commit() {
    let lake = table().await;
    let done = lake
        .sync_properties("delta.enableRowTracking=true", &[("c.parquet", rows(&[4, 5]))])
        .await
        .unwrap();
    // The two that were there are said again, and are no new files.
    assert_eq!((done.kind.as_str(), done.files_added, done.files_removed), ("append", 1, 0));
    let (info, names) = shape(&lake.actions(1));
    assert_eq!(names, ["protocol", "metaData", "domainMetadata", "add", "add", "add"]);
    assert_eq!(info.unknown["operationMetrics"]["numFiles"], "1");
    assert_eq!(info.unknown["isBlindAppend"], false);
    let snapshot = lake.snapshot().await;
    let mut taken = Vec::new();
    for (path, add) in &snapshot.adds {
        assert_eq!(add.data_change, path.as_str() == "c.parquet");
        assert_eq!(add.default_row_commit_version, Some(1));
        let rows = crate::table::commit::row_ids::rows_of(add).unwrap();
        taken.extend(add.base_row_id.unwrap()..add.base_row_id.unwrap() + rows);
    }
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3, 4]);
    let mark = crate::table::commit::row_ids::row_id_mark(&snapshot.domains);
    assert_eq!(mark, Some(4));
    for key in [ROW_ID_COLUMN, ROW_VERSION_COLUMN] {
        assert!(configuration(&snapshot.metadata, key).unwrap().starts_with("_row-"));
    }
    assert_eq!(lake.ids(), [1, 2, 3, 4, 5]);
    // Off and on again: who has ids keeps them, and the columns keep their names.
    lake.sync_properties("delta.enableRowTracking=false", &[]).await.unwrap();
    lake.sync_properties("delta.enableRowTracking=true", &[]).await.unwrap();
    assert_eq!(shape(&lake.actions(3)).1, ["metaData"]);
    let again = lake.snapshot().await;
    let names = |metadata: &Metadata| {
        [ROW_ID_COLUMN, ROW_VERSION_COLUMN].map(|key| metadata.configuration[key].clone())
    };
    assert_eq!(names(&again.metadata), names(&snapshot.metadata));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_mapped_by_its_own_names_however_deep() {
    let lake = Lake::new();
    let inner = Fields::from(vec![ArrowField::new("x", ArrowType::Int64, true)]);
    let x: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let nested: ArrayRef = Arc::new(StructArray::new(inner, vec![x], None));
    let id = || -> ArrayRef { Arc::new(Int64Array::from(vec![1])) };
    let bytes = parquet_of(vec![("id", id()), ("s", nested)]);
    lake.sync(&[("day=2026-11-01/a.parquet", bytes.clone())]).await.unwrap();
    let stage = lake.stage(&[]).await;
    stage.staging.set_properties("delta.columnMapping.mode=name").unwrap();
    let changed = crate::table::commit::changes(&lake.table, &stage.staging).await.unwrap();
    let lines: Vec<&str> = changed.lines().collect();
    assert_eq!(lines[..2], ["~ delta.columnMapping.mode=name", "~ schema"]);
    assert!(lines[2].starts_with("~ protocol: reader 2, writer 7: ") && lines.len() == 3);
    commit(&lake.table, &stage.staging).await.unwrap();
    let metadata = lake.snapshot().await.metadata;
    assert_eq!(configuration(&metadata, COLUMN_MAPPING_MARK), Some("4"));
    let schema: Value = serde_json::from_str(&metadata.schema_string).unwrap();
    let field = |field: &Value| {
        let metadata = &field["metadata"];
        (
            metadata["delta.columnMapping.id"].as_i64().unwrap(),
            metadata["delta.columnMapping.physicalName"].as_str().unwrap().to_owned(),
        )
    };
    let fields = &schema["fields"];
    assert_eq!(field(&fields[1]["type"]["fields"][0]), (3, "x".into()));
    assert_eq!(field(&fields[2]), (4, "day".into()));
    lake.sync(&[("day=2026-11-02/b.parquet", bytes)]).await.unwrap();
    assert_eq!(lake.ids(), [1, 1]);
    for (line, words) in [
        ("delta.columnMapping.mode=none", &["from name to none"][..]),
        ("delta.columnMapping.mode=id", &["from name to id"]),
        ("-delta.columnMapping.mode", &["from name to none"]),
    ] {
        refused(lake.sync_properties(line, &[]).await, words);
        refused(status_of(&lake, line).await, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_no_reader_heeded_is_none_until_its_feature_comes() {
    let lake = table().await;
    let mut metadata = lake.snapshot().await.metadata;
    metadata.configuration.insert(MODE.into(), "name".into());
    lake.commit_foreign(1, &[json!({"metaData": metadata})]);
    lake.sync_properties("team=a", &[]).await.unwrap();
    assert!(!lake.snapshot().await.metadata.schema_string.contains("columnMapping"));
    lake.sync_properties("delta.feature.columnMapping=supported", &[]).await.unwrap();
    assert!(lake.snapshot().await.metadata.schema_string.contains("columnMapping.id"));
    assert_eq!(lake.ids(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mapping_by_id_is_for_new_tables_whose_files_have_ids() {
    let id = "delta.columnMapping.mode=id";
    let lake = table().await;
    refused(lake.sync_properties(id, &[]).await, &["from none to id", "name works"]);
    let lake = Lake::new();
    let without = [("a.parquet", rows(&[1]))];
    refused(lake.sync_properties(id, &without).await, &["from none to id", "field ids"]);
    let with = |field_id: &str| {
        let field = ArrowField::new("id", ArrowType::Int64, true)
            .with_metadata(HashMap::from([("PARQUET:field_id".into(), field_id.into())]));
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = arrow::array::RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    lake.sync_properties(id, &[("p=1/a.parquet", with("17"))]).await.unwrap();
    let metadata = lake.snapshot().await.metadata;
    assert!(metadata.schema_string.contains("\"delta.columnMapping.id\":17"));
    // The partition column is in no file, and has the next one.
    assert_eq!(configuration(&metadata, COLUMN_MAPPING_MARK), Some("18"));
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_cant_have_is_refused_at_close_and_at_sync() {
    let lake = table().await;
    for (line, words) in [
        ("delta.minWriterVersion=1", &["only go up"][..]),
        ("delta.dataSkippingStatsColumns=idd", &["\"idd\"", "there is \"id\""]),
        ("-delta.appendOnl", &["nearest is delta.appendOnly"]),
        ("delta.constraints.c=id > 0", &["delta.constraints.c"]),
        ("delta.enableIcebergCompatV1=true", &["Iceberg"]),
        ("delta.feature.clustering=supported", &["clustering"]),
    ] {
        refused(status_of(&lake, line).await, words);
        let stage = lake.stage(&[("c.parquet", rows(&[4]))]).await;
        stage.staging.set_properties(line).unwrap();
        let error = refused(commit(&lake.table, &stage.staging).await, words);
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        // Nothing is lost.
        assert_eq!(stage.staging.properties_text(), line);
        assert_eq!(data_files(&stage.root), ["c.parquet"]);
    }
    assert_eq!(lake.snapshot().await.version, Version(0));
    let empty = Lake::new();
    check(&empty.table, "delta.appendOnly=true").unwrap();
    refused(empty.sync_properties("delta.appendOnly=true", &[]).await, &["first file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_is_dropped_and_then_rows_can_be_added() {
    let lake = table().await;
    let mut metadata = lake.snapshot().await.metadata;
    metadata.configuration.insert("delta.constraints.positive".into(), "id > 0".into());
    metadata.configuration.insert("delta.rowTrackingSuspended".into(), "true".into());
    lake.commit_foreign(
        1,
        &[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}}),
            json!({"metaData": metadata}),
        ],
    );
    let file = [("c.parquet", rows(&[4]))];
    refused(lake.sync(&file).await, &["positive"]);
    let line = "delta.enableRowTracking=true";
    refused(lake.sync_properties(line, &[]).await, &["-delta.rowTrackingSuspended"]);
    lake.sync_properties("-delta.constraints.Positive\n-delta.rowTrackingSuspended", &file)
        .await
        .unwrap();
    assert_eq!(lake.ids(), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_log_and_properties_dont_go_together() {
    let lake = table().await;
    let stage = lake.stage(&[]).await;
    copy(&lake.path(), &stage.root);
    without_spool(&stage.root);
    stage.staging.set_properties("team=a").unwrap();
    refused(commit(&lake.table, &stage.staging).await, &["_delta_log", ".deltafs/properties"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_survive_a_daemon_and_go_with_the_commit_that_it_left() {
    let lake = table().await;
    let stage = lake.stage(&[]).await;
    stage.staging.set_properties("team=a").unwrap();
    // The entry landed, and the daemon was gone before it could tell.
    let mut metadata = lake.snapshot().await.metadata;
    metadata.configuration.insert("team".into(), "a".into());
    let sealed = stage.staging.seal().await.unwrap();
    let attempt = crate::table::staging::Attempt {
        txn_id: "ours".into(),
        version: 1,
        result: json!({"version": 1}),
        options: String::new(),
        properties: sealed.properties().to_owned(),
        log_folder: None,
        files: Vec::new(),
    };
    sealed.record_attempt(&attempt).unwrap();
    drop(sealed);
    lake.commit_foreign(
        1,
        &[json!({"commitInfo": {"txnId": "ours"}}), json!({"metaData": metadata})],
    );
    crate::table::commit::recover(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(stage.staging.properties_text(), "");
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, None);
}
