//! Checkpoints, read back by us and by delta_kernel.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::log::action::{DomainMetadata, Protocol, Txn};
use crate::log::path::FilePath;
use crate::store::Store;

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

async fn read_back(encoded: &Encoded, folder: &Path) -> Snapshot {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    store.create(&format!("_delta_log/{}", encoded.name), encoded.bytes.clone()).await.unwrap();
    Snapshot::load(&store, None).await.unwrap()
}

#[tokio::test]
async fn a_snapshot_comes_back_but_for_expired_tombstones() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = snapshot(3);
    let encoded = encode(&snapshot, RETENTION_MS + 10).unwrap();
    let back = read_back(&encoded, folder.path()).await;
    assert_eq!(back.protocol, snapshot.protocol);
    assert_eq!(back.metadata, snapshot.metadata);
    assert_eq!((&back.txns, &back.domains), (&snapshot.txns, &snapshot.domains));
    let unchanged = |add: &Add| Add { data_change: false, ..add.clone() };
    let adds: Vec<Add> = snapshot.adds.values().map(unchanged).collect();
    assert_eq!(back.adds.into_values().collect::<Vec<_>>(), adds);
    let removes: Vec<&str> = back.removes.keys().map(|(path, _)| path.as_str()).collect();
    assert_eq!(removes, ["gone"]);
    let hint: serde_json::Value = serde_json::from_str(&encoded.last_checkpoint).unwrap();
    assert_eq!((hint["version"].as_u64(), hint["size"].as_u64()), (Some(10), Some(10)));
    assert_eq!(hint["numOfAddFiles"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_kernel_reads_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = snapshot(3);
    read_back(&encode(&snapshot, 0).unwrap(), folder.path()).await;
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    tokio::task::block_in_place(|| {
        let store = delta_kernel_default_engine::storage::store_from_url(&url).unwrap();
        let engine = delta_kernel_default_engine::DefaultEngineBuilder::new(store).build();
        let theirs = delta_kernel::Snapshot::builder_for(url.as_str()).build(&engine).unwrap();
        assert_eq!(theirs.version(), 10);
        let scan = theirs.scan_builder().build().unwrap();
        let mut rows = 0;
        for metadata in scan.scan_metadata(&engine).unwrap() {
            let (_, selected) = metadata.unwrap().scan_files.into_parts();
            rows += selected.iter().filter(|selected| **selected).count();
        }
        assert_eq!(rows, 5);
    });
}

#[test]
fn rows_come_in_groups_of_bounded_size() {
    let encoded = encode(&snapshot(ROW_GROUP_ROWS + 1), 0).unwrap();
    let reader = parquet::file::serialized_reader::SerializedFileReader::new(encoded.bytes);
    let metadata = parquet::file::reader::FileReader::metadata(&reader.unwrap()).clone();
    assert_eq!(metadata.num_row_groups(), 2);
    assert!(metadata.row_groups().iter().all(|group| group.num_rows() <= 50_000));
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
fn statistics_are_left_out_where_the_table_says_so() {
    let mut snapshot = snapshot(1);
    snapshot
        .metadata
        .configuration
        .insert("delta.checkpoint.writeStatsAsJson".into(), "false".into());
    let encoded = encode(&snapshot, 0).unwrap();
    let reader =
        parquet::file::serialized_reader::SerializedFileReader::new(encoded.bytes).unwrap();
    let columns = parquet::file::reader::FileReader::metadata(&reader).file_metadata();
    let has = |name: &str| {
        columns.schema_descr().columns().iter().any(|column| column.path().string() == name)
    };
    assert!(!has("add.stats") && has("add.path"));
}
