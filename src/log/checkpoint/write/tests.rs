//! Checkpoints, read back by us and by delta_kernel. That every golden table comes back from each
//! form is tested with the other golden tests.

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use serde_json::{Value, json};

use super::draft::{RETENTION_MS, retention_ms};
use super::rows::ROW_GROUP_ROWS;
use super::*;
use crate::log::action::{Action, Add, DomainMetadata, Remove, Txn};
use crate::log::checkpoint::sidecar_names;
use crate::log::path::FilePath;
use crate::log::version::Version;
use crate::store::{Reach, Store};

const SCHEMA: &str = concat!(
    r#"{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}},"#,
    r#"{"name":"p","type":"string","nullable":true,"metadata":{}}]}"#
);

fn add(path: &str, partition: Option<&str>, vector: bool) -> (FilePath, Add) {
    let mut value = json!({
        "path": path, "partitionValues": {"p": partition}, "size": 10, "modificationTime": 20,
        "dataChange": true, "stats": r#"{"numRecords":3}"#, "tags": {"k": "v", "n": null},
        "baseRowId": 5, "defaultRowCommitVersion": 1, "clusteringProvider": "liquid",
    });
    if vector {
        value["deletionVector"] = json!({"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
            "sizeInBytes": 40, "cardinality": 6});
    }
    let add: Add = serde_json::from_value(value).unwrap();
    (add.file_path().unwrap(), add)
}

fn remove(path: &str, deletion_timestamp: i64) -> ((String, Option<String>), Remove) {
    let mut remove = add(path, Some("x"), false).1.to_remove(deletion_timestamp);
    remove.tags = None;
    ((path.to_owned(), None), remove)
}

fn snapshot(adds: usize) -> Snapshot {
    let features = vec!["deletionVectors".to_owned()];
    let mut all: BTreeMap<FilePath, Add> =
        (0..adds).map(|number| add(&format!("p=a/{number}%20x"), Some("a"), false)).collect();
    all.extend([add("p=__HIVE_DEFAULT_PARTITION__/n", None, false), add("dv", Some(""), true)]);
    Snapshot {
        version: Version(10),
        commit_time_ms: 0,
        in_commit_timestamp: None,
        protocol: Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: Some(features.clone()),
            writer_features: Some([features, vec!["domainMetadata".into()]].concat()),
        },
        metadata: serde_json::from_value(json!({
            "id": "t", "name": "n", "description": null, "schemaString": SCHEMA,
            "partitionColumns": ["p"], "configuration": {"delta.appendOnly": "false"},
            "createdTime": 7, "format": {"provider": "parquet", "options": {}},
        }))
        .unwrap(),
        adds: all,
        outside: BTreeMap::new(),
        reach: Reach::default(),
        removes: [remove("gone", 1_000), remove("old", 10)].into_iter().collect(),
        txns: [("app".to_owned(), Txn { app_id: "app".into(), version: 3, last_updated: None })]
            .into_iter()
            .collect(),
        domains: [(
            "mine".to_owned(),
            DomainMetadata { domain: "mine".into(), configuration: "{}".into(), removed: false },
        )]
        .into_iter()
        .collect(),
    }
}

/// Writes a snapshot's checkpoint in a form and gives it back with the store.
async fn written(snapshot: &Snapshot, form: Form, folder: &Path) -> (Store, Written) {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let draft = Draft::in_form(Arc::new(snapshot.clone()), form, RETENTION_MS + 10).unwrap();
    let written = write_draft(&store, draft).await.unwrap().unwrap();
    (store, written)
}

fn encoded(snapshot: Snapshot, form: Form) -> Encoded {
    let draft = Draft::in_form(Arc::new(snapshot), form, 0).unwrap();
    draft.top_level(&[], Uuid::nil()).unwrap()
}

fn footer(bytes: Bytes) -> ParquetMetaData {
    SerializedFileReader::new(bytes).unwrap().metadata().clone()
}

fn with_properties(mut snapshot: Snapshot, properties: &[(&str, &str)]) -> Snapshot {
    let pairs = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    snapshot.metadata.configuration.extend(pairs);
    snapshot
}

/// All forms there are, with two file actions a sidecar.
const FORMS: [Form; 5] = [
    Form::Classic,
    Form::Inline(TopLevel::Parquet),
    Form::Inline(TopLevel::Json),
    Form::Sidecars(TopLevel::Parquet, 2),
    Form::Sidecars(TopLevel::Json, 2),
];

#[tokio::test]
async fn a_snapshot_comes_back_but_for_expired_tombstones() {
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = snapshot(3);
        let (store, _) = written(&snapshot, form, folder.path()).await;
        let back = Snapshot::load(&store, None).await.unwrap();
        assert_eq!(back.protocol, snapshot.protocol, "{form:?}");
        assert_eq!(back.metadata, snapshot.metadata);
        assert_eq!((&back.txns, &back.domains), (&snapshot.txns, &snapshot.domains));
        let unchanged = |add: &Add| Add { data_change: false, ..add.clone() };
        let adds: Vec<Add> = snapshot.adds.values().map(unchanged).collect();
        assert_eq!(back.adds.into_values().collect::<Vec<_>>(), adds, "{form:?}");
        let removes: Vec<&str> = back.removes.keys().map(|(path, _)| path.as_str()).collect();
        assert_eq!(removes, ["gone"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_kernel_reads_the_same_files() {
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        written(&snapshot(3), form, folder.path()).await;
        let url = url::Url::from_directory_path(folder.path()).unwrap();
        tokio::task::block_in_place(|| {
            let store = delta_kernel_default_engine::storage::store_from_url(&url).unwrap();
            let engine = delta_kernel_default_engine::DefaultEngineBuilder::new(store).build();
            let theirs = delta_kernel::Snapshot::builder_for(url.as_str()).build(&engine).unwrap();
            assert_eq!(theirs.version(), 10, "{form:?}");
            let scan = theirs.scan_builder().build().unwrap();
            let mut rows = 0;
            for metadata in scan.scan_metadata(&engine).unwrap() {
                let (_, selected) = metadata.unwrap().scan_files.into_parts();
                rows += selected.iter().filter(|selected| **selected).count();
            }
            assert_eq!(rows, 5, "{form:?}");
        });
    }
}

#[tokio::test]
async fn the_hint_and_the_sidecars_actions_are_true() {
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let (store, written) = written(&snapshot(3), form, folder.path()).await;
        let hint: Value = serde_json::from_str(&written.last_checkpoint).unwrap();
        // Protocol, metadata, txn, domain, 5 adds and 1 tombstone; V2 has one more to say so.
        let sidecars = match form {
            Form::Sidecars(..) => 3,
            Form::Classic | Form::Inline(_) => 0,
        };
        let is_v2 = u64::from(form != Form::Classic);
        assert_eq!((&hint["version"], &hint["numOfAddFiles"]), (&json!(10), &json!(5)));
        assert_eq!(hint["size"], json!(10 + is_v2 + sidecars), "{form:?}");
        let log = listing::list_log(&store).await.unwrap().files;
        let top = log.iter().find(|file| file.name == written.name).unwrap();
        let names = sidecar_names(&store, top).await.unwrap();
        assert_eq!(names.len() as u64, sidecars, "{form:?}");
        let mut bytes = top.size;
        let mut told = Vec::new();
        for name in &names {
            let path = log_path(&format!("{}/{name}", listing::SIDECAR_DIRECTORY));
            let entry = store.head(&path).await.unwrap().unwrap();
            bytes += entry.size;
            told.push(json!({"path": name, "sizeInBytes": entry.size,
                "modificationTime": entry.modified_ms}));
        }
        assert_eq!(hint["sizeInBytes"], json!(bytes), "{form:?}");
        let v2 = &hint["v2Checkpoint"];
        if form == Form::Classic {
            assert!(v2.is_null() && hint["checkpointSchema"]["fields"].is_array());
        } else {
            assert_eq!((&v2["path"], &v2["sizeInBytes"]), (&json!(top.name), &json!(top.size)));
            assert_eq!(v2["sidecarFiles"], json!(told));
            assert_eq!(v2["nonFileActions"].as_array().unwrap().len(), 5);
        }
    }
}

#[tokio::test]
async fn a_version_that_has_a_checkpoint_gets_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = written(&snapshot(1), Form::Inline(TopLevel::Json), folder.path()).await;
    assert!(write(&store, Arc::new(snapshot(1)), 0).await.unwrap().is_none());
    let older = Arc::new(Snapshot { version: Version(9), ..snapshot(1) });
    assert!(write(&store, older, 0).await.unwrap().is_some());
}

#[test]
fn the_form_follows_the_policy_where_the_feature_is_there() {
    let metadata =
        |policy: &str| with_properties(snapshot(0), &[("delta.checkpointPolicy", policy)]);
    let with = crate::log::protocol::with_features(&snapshot(0).protocol, &["v2Checkpoint"]);
    let of = |protocol: &Protocol, policy: &str, actions| {
        Form::of(protocol, &metadata(policy).metadata, actions)
    };
    assert_eq!(of(&with, "v2", SIDECAR_ACTIONS), Form::Inline(TopLevel::Parquet));
    let sidecars = Form::Sidecars(TopLevel::Json, SIDECAR_ACTIONS);
    assert_eq!(of(&with, "v2", SIDECAR_ACTIONS + 1), sidecars);
    assert_eq!(of(&with, "classic", SIDECAR_ACTIONS + 1), Form::Classic);
    assert_eq!(of(&snapshot(0).protocol, "v2", 1), Form::Classic);
    assert_eq!(Form::of(&with, &snapshot(0).metadata, 1), Form::Classic);
}

#[test]
fn rows_come_in_groups_of_bounded_size() {
    let file = footer(encoded(snapshot(ROW_GROUP_ROWS + 1), Form::Classic).bytes);
    assert_eq!(file.num_row_groups(), 2);
    assert!(file.row_groups().iter().all(|group| group.num_rows() <= 50_000));
}

#[test]
fn retention_is_read_as_spark_writes_it() {
    let of = |text: &str| {
        let mut metadata = snapshot(0).metadata;
        let property = "delta.deletedFileRetentionDuration";
        metadata.configuration.insert(property.into(), text.into());
        retention_ms(&metadata)
    };
    assert_eq!(of("interval 1 week"), Some(RETENTION_MS));
    assert_eq!(of("interval 2 days 3 hours"), Some((2 * 24 + 3) * 3_600_000));
    assert_eq!(of("168 hours"), Some(RETENTION_MS));
    assert_eq!(of("interval 1 month"), None);
    assert_eq!(of("interval"), None);
}

#[test]
fn transactions_past_their_retention_are_left_out_where_the_table_forgets_them() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let kept = |properties: &[(&str, &str)]| -> Vec<String> {
        let mut table = with_properties(snapshot(0), properties);
        let txn = |app_id: &str, last_updated| {
            (app_id.to_owned(), Txn { app_id: app_id.into(), version: 1, last_updated })
        };
        let txns = [txn("old", Some(DAY_MS)), txn("new", Some(DAY_MS + 1)), txn("silent", None)];
        table.txns = txns.into_iter().collect();
        let form = Form::Inline(TopLevel::Json);
        let draft = Draft::in_form(Arc::new(table), form, 3 * DAY_MS).unwrap();
        let lines = draft.head_actions(&[]).into_iter();
        let action = |line: String| Action::from_line(line.as_bytes()).unwrap();
        let app_id = |action: Action| match action {
            Action::Txn(txn) => Some(txn.app_id),
            _ => None,
        };
        lines.filter_map(action).filter_map(app_id).collect()
    };
    let property = "delta.setTransactionRetentionDuration";
    assert_eq!(kept(&[]), ["new", "old", "silent"]);
    assert_eq!(kept(&[(property, "interval 2 days")]), ["new", "silent"]);
    assert_eq!(kept(&[(property, "as long as it takes")]), ["new", "old", "silent"]);
}

/// The leaf columns of a checkpoint of a table with such properties.
fn columns_with(properties: &[(&str, &str)]) -> Vec<String> {
    let file = encoded(with_properties(snapshot(1), properties), Form::Classic);
    let columns = footer(file.bytes).file_metadata().schema_descr().columns().to_vec();
    columns.iter().map(|column| column.path().string()).collect()
}

#[test]
fn statistics_are_in_the_forms_that_the_table_asks_for() {
    let (json, parsed) =
        ("delta.checkpoint.writeStatsAsJson", "delta.checkpoint.writeStatsAsStruct");
    for (properties, has_json, has_struct) in [
        (vec![], true, false),
        (vec![(parsed, "true")], true, true),
        (vec![(parsed, "False")], true, false),
        (vec![(json, "false"), (parsed, "true")], false, true),
        // Else the statistics would be gone.
        (vec![(json, "false")], false, true),
        (vec![(json, "false"), (parsed, "false")], false, false),
    ] {
        let columns = columns_with(&properties);
        let has = |name: &str| columns.iter().any(|column| column == name);
        assert!(has("add.path"));
        assert_eq!(has("add.stats"), has_json, "{properties:?}");
        for name in ["add.stats_parsed.numRecords", "add.partitionValues_parsed.p"] {
            assert_eq!(has(name), has_struct, "{properties:?}");
        }
    }
}

#[test]
fn partition_values_that_are_not_sure_are_not_parsed() {
    let mut snapshot =
        with_properties(snapshot(1), &[("delta.checkpoint.writeStatsAsStruct", "true")]);
    // "a" is no date, and null would be taken for the value.
    let schema = &mut snapshot.metadata.schema_string;
    *schema = schema.replace(r#""name":"p","type":"string""#, r#""name":"p","type":"date""#);
    let file = footer(encoded(snapshot, Form::Classic).bytes);
    let columns = file.file_metadata().schema_descr().columns();
    assert!(columns.iter().any(|column| column.path().string() == "add.stats_parsed.numRecords"));
    assert!(!columns.iter().any(|column| column.path().string().contains("Values_parsed")));
}

/// A table of one file with such columns and statistics, written as structs alone and read back.
async fn struct_round_trip(columns: &[(&str, &str)], stats: &str) -> Option<Value> {
    let fields: Vec<Value> = columns
        .iter()
        .map(|(name, data_type)| {
            let data_type = serde_json::from_str(data_type).unwrap_or(json!(data_type));
            json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
        })
        .collect();
    let mut snapshot =
        with_properties(snapshot(0), &[("delta.checkpoint.writeStatsAsJson", "false")]);
    snapshot.metadata.schema_string = json!({"type": "struct", "fields": fields}).to_string();
    snapshot.metadata.partition_columns.clear();
    let (path, mut add) = add("f", None, false);
    add.partition_values.clear();
    add.stats = Some(stats.to_owned());
    snapshot.adds = [(path, add)].into_iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = written(&snapshot, Form::Classic, folder.path()).await;
    let back = Snapshot::load(&store, None).await.unwrap();
    let stats = back.adds.into_values().next().unwrap().stats;
    stats.map(|stats| serde_json::from_str(&stats).unwrap())
}

#[tokio::test]
async fn statistics_as_structs_come_back_as_the_same_json() {
    let nested = json!({"type": "struct", "fields": [
        {"name": "x", "type": "timestamp", "nullable": true, "metadata": {}},
        {"name": "y", "type": "decimal(5,2)", "nullable": true, "metadata": {}}]});
    let list = json!({"type": "array", "elementType": "long", "containsNull": true});
    let (nested, list) = (nested.to_string(), list.to_string());
    let columns = [
        ("l", "long"),
        ("i", "integer"),
        ("h", "short"),
        ("b", "byte"),
        ("f", "float"),
        ("d", "double"),
        ("s", "string"),
        ("t", "date"),
        ("n", "timestamp_ntz"),
        ("z", "boolean"),
        ("r", nested.as_str()),
        ("a", list.as_str()),
        ("never", "long"),
    ];
    let stats = json!({
        "numRecords": 7,
        "minValues": {"l": i64::MIN, "i": -1, "h": -300, "b": -128, "f": 0.1, "d": 0.1,
            "s": "a\"é\u{1}", "t": "0001-01-01", "n": "1969-12-31T23:59:59.999", "z": false,
            "r": {"x": "9999-12-31T23:59:59.999Z", "y": 1.5}},
        "maxValues": {"l": i64::MAX, "f": "Infinity", "d": "NaN", "s": "", "r": {"y": 999.99}},
        "nullCount": {"l": 0, "r": {"x": 1}, "a": 3},
        "tightBounds": false,
    });
    let back = struct_round_trip(&columns, &stats.to_string()).await.unwrap();
    let mut expected = stats;
    expected["minValues"]["r"]["y"] = json!(1.50);
    assert_eq!(back, expected);
}

#[tokio::test]
async fn a_statistic_that_is_not_one_of_its_column_is_unknown() {
    let columns = [("l", "long"), ("s", "string"), ("t", "timestamp"), ("y", "binary")];
    let stats = r#"{"numRecords":"7","minValues":{"l":1.5,"s":2,"t":"1970-01-01 00:00:00","y":"AA",
        "gone":1},"maxValues":{"l":2,"s":null,"t":"1970-01-01T00:00:00Z"},"nullCount":{"l":-1.5}}"#;
    let back = struct_round_trip(&columns, stats).await.unwrap();
    assert_eq!(back, json!({"maxValues": {"l": 2, "t": "1970-01-01T00:00:00.000Z"}}));
    assert_eq!(struct_round_trip(&columns, "{").await, None);
    assert_eq!(struct_round_trip(&columns, "{}").await, Some(json!({})));
}
