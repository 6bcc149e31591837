//! Checksums that other writers left beside their tables, and each field gone wrong.

use serde_json::json;

use super::*;
use crate::log::golden_tests;
use crate::log::history::History;
use crate::log::listing::log_path;
use crate::store::Store;

fn state() -> VersionState {
    let metadata = json!({
        "id": "t", "schemaString": r#"{"type":"struct","fields":[]}"#,
        "configuration": {"delta.enableInCommitTimestamps": "true"}, "createdTime": 4
    });
    let features = vec!["deletionVectors".to_owned()];
    VersionState {
        txn_id: Some("x".into()),
        live: Totals { files: 2, bytes: 30, vectors: 1, deleted_rows: 12 },
        in_commit_timestamp: Some(7),
        protocol: Arc::new(Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: Some(features.clone()),
            writer_features: Some(features),
        }),
        metadata: Arc::new(serde_json::from_value(metadata).unwrap()),
        txns: vec![Txn { app_id: "app".into(), version: 3, last_updated: Some(1) }],
        domains: vec![DomainMetadata {
            domain: "d".into(),
            configuration: "{}".into(),
            removed: false,
        }],
        files: Some(vec![
            StateFile { path: "a b".into(), vector: None, size: 10, deleted_rows: 0 },
            StateFile { path: "c".into(), vector: Some("uv@1".into()), size: 20, deleted_rows: 12 },
        ]),
    }
}

/// A whole checksum of `state`, with everything that another writer may put in.
fn whole() -> Value {
    let mut value: Value = serde_json::from_str(&encode(&state())).unwrap();
    value["fileSizeHistogram"] = json!({
        "sortedBinBoundaries": [0, 15, 40], "fileCounts": [1, 1, 0], "totalBytes": [10, 20, 0]
    });
    value["deletedRecordCountsHistogramOpt"] =
        json!({"deletedRecordCounts": [1, 0, 1, 0, 0, 0, 0, 0, 0, 0]});
    let vector = json!({
        "storageType": "u", "pathOrInlineDv": "v", "offset": 1, "sizeInBytes": 1, "cardinality": 12
    });
    value["allFiles"] = json!([
        {"path": "a%20b", "partitionValues": {}, "size": 10, "modificationTime": 1},
        {"path": "c", "partitionValues": {}, "size": 20, "deletionVector": vector},
    ]);
    value["inventedLater"] = json!([1]);
    value
}

fn found(value: &Value) -> Vec<String> {
    mismatches(value.to_string().as_bytes(), &state())
}

#[test]
fn what_is_written_matches_and_so_does_all_that_others_put_in() {
    assert_eq!(mismatches(encode(&state()).as_bytes(), &state()), [""; 0]);
    assert_eq!(found(&whole()), [""; 0]);
    // Spark's name for it, and fields that older writers left out.
    let mut value = whole();
    let histogram = value.as_object_mut().unwrap().remove("fileSizeHistogram").unwrap();
    value["histogramOpt"] = histogram;
    for field in ["metadata", "protocol", "setTransactions", "domainMetadata", "allFiles"] {
        value.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(found(&value), [""; 0]);
}

#[test]
fn each_field_that_differs_is_named() {
    let wrong = [
        ("tableSizeBytes", json!(31)),
        ("numFiles", json!(-1)),
        ("numDeletedRecordsOpt", json!(0)),
        ("numDeletionVectorsOpt", json!(2)),
        ("numMetadata", json!(2)),
        ("numProtocol", json!(0)),
        ("txnId", json!("y")),
        ("inCommitTimestampOpt", json!(8)),
        ("inCommitTimestampOpt", Value::Null),
        ("setTransactions", json!([])),
        ("setTransactions", json!([{"appId": "app", "version": 4}])),
        ("domainMetadata", json!([{"domain": "d", "configuration": "", "removed": false}])),
        ("protocol", json!({"minReaderVersion": 1, "minWriterVersion": 2})),
        ("metadata", json!({"id": "u", "schemaString": "{}"})),
        ("allFiles", json!([{"path": "c", "size": 20}])),
        (
            "fileSizeHistogram",
            json!({"sortedBinBoundaries": [0], "fileCounts": [2], "totalBytes": [31]}),
        ),
        (
            "fileSizeHistogram",
            json!({"sortedBinBoundaries": [15], "fileCounts": [2], "totalBytes": [30]}),
        ),
        ("deletedRecordCountsHistogramOpt", json!({"deletedRecordCounts": [2]})),
    ];
    for (field, value) in wrong {
        let mut checksum = whole();
        checksum[field] = value.clone();
        let found = found(&checksum);
        assert_eq!(found.len(), 1, "{field} {value}: {found:?}");
        assert!(found[0].contains(field), "{field} {value}: {found:?}");
    }
}

#[test]
fn a_checksum_cut_anywhere_is_a_mismatch_and_no_panic() {
    let text = whole().to_string();
    for cut in 0..text.len() {
        let found = mismatches(&text.as_bytes()[..cut], &state());
        assert!(found.len() == 1 && found[0].contains("torn"), "cut at {cut}: {found:?}");
    }
    let twice = format!("{text}{text}");
    assert_eq!(mismatches(twice.as_bytes(), &state()).len(), 1);
}

#[test]
fn transactions_that_may_expire_are_neither_listed_nor_missed() {
    let mut state = state();
    let mut metadata = (*state.metadata).clone();
    let property = "delta.setTransactionRetentionDuration".to_owned();
    metadata.configuration.insert(property, "interval 1 day".into());
    state.metadata = Arc::new(metadata);
    let mut value: Value = serde_json::from_str(&encode(&state)).unwrap();
    assert!(value.get("setTransactions").is_none(), "{value}");
    value["setTransactions"] = json!([]);
    assert_eq!(mismatches(value.to_string().as_bytes(), &state), [""; 0]);
    value["setTransactions"] = json!([{"appId": "app", "version": 9}]);
    assert_eq!(mismatches(value.to_string().as_bytes(), &state).len(), 1);
}

/// Golden tables whose checksum is wrong on purpose, and what the sentences say.
const WRONG: &[(&str, &[&str])] = &[
    // Made up beside a log of two lines, to try a parser with every field.
    (
        "crc-full",
        &[
            "tableSizeBytes is 5259, by the log it is 0",
            "numFiles is 10, by the log it is 0",
            "setTransactions says \"42\" of \"spark-app-1\", the log says nothing",
            "domainMetadata",
            "allFiles",
            "fileSizeHistogram",
            "deletedRecordCountsHistogramOpt",
        ],
    ),
];

/// What is written for a version is, field by field, what its own writer wrote.
fn assert_written_alike(theirs: &Value, state: &VersionState, at: &str) {
    let ours: Value = serde_json::from_str(&encode(state)).unwrap();
    for (field, ours) in ours.as_object().unwrap() {
        let Some(theirs) = theirs.get(field) else { continue };
        let sorted = |value: &Value| -> BTreeSet<String> {
            value.as_array().into_iter().flatten().map(Value::to_string).collect()
        };
        match field.as_str() {
            "setTransactions" | "domainMetadata" => assert_eq!(sorted(ours), sorted(theirs)),
            "protocol" => {
                for list in ["readerFeatures", "writerFeatures"] {
                    assert_eq!(sorted(&ours[list]), sorted(&theirs[list]), "{at} {list}");
                }
            }
            _ => assert_eq!(ours, theirs, "{at} {field}"),
        }
    }
}

#[tokio::test]
async fn every_checksum_of_the_golden_tables_matches_what_is_computed() {
    let Some(golden) = golden_tests::golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (mut checked, mut right, mut wrong, mut written) = (0, 0, 0, 0);
    for (name, folder) in golden_tests::tables(&golden, scratch.path()) {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let Ok(history) = History::load(&store).await else { continue };
        for version in history.versions() {
            let at = format!("{name} {version}");
            let state = history.version_state(version).unwrap();
            let whole = match history.facts(version).unwrap().unreadable {
                Some(_) => None,
                None => Some(Snapshot::load(&store, Some(version)).await.unwrap()),
            };
            let whole = whole.map(|snapshot| VersionState::of(&snapshot));
            if let Some(whole) = &whole {
                let (txn_id, files) = (state.txn_id.clone(), whole.files.clone());
                let mut equal = VersionState { txn_id, files, ..whole.clone() };
                equal.metadata = state.metadata.clone();
                assert_eq!(
                    VersionState { files: equal.files.clone(), ..state.clone() },
                    equal,
                    "{at}"
                );
                // What we would write is right, by the other reader.
                assert_eq!(mismatches(encode(&state).as_bytes(), whole), [""; 0], "{at}");
                written += 1;
            }
            let Ok(bytes) = store.read(&log_path(&checksum_name(version))).await else { continue };
            checked += 1;
            let mut found = mismatches(&bytes, &state);
            found.extend(whole.iter().flat_map(|whole| mismatches(&bytes, whole)));
            match WRONG.iter().find(|(table, _)| *table == name) {
                Some((_, words)) => {
                    wrong += 1;
                    for word in *words {
                        assert!(found.iter().any(|text| text.starts_with(word)), "{at}: {found:?}");
                    }
                }
                None => {
                    assert_eq!(found, [""; 0], "{at}");
                    right += 1;
                    assert_written_alike(&serde_json::from_slice(&bytes).unwrap(), &state, &at);
                }
            }
        }
    }
    println!("{checked} checksums: {right} match, {wrong} don't, on purpose; {written} computed");
    assert!(right >= 80 && wrong == WRONG.len(), "golden checksums are missing");
}

#[tokio::test]
async fn sizes_that_no_number_holds_are_summed_up_to_the_largest() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("_delta_log");
    std::fs::create_dir(&log).unwrap();
    let mut lines = vec![
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        json!({"metaData": {"id": "t", "schemaString": r#"{"type":"struct","fields":[]}"#}}),
    ];
    // The largest size that is believed, once more often than a number holds.
    for path in 0..=16 {
        let add = json!({"path": path.to_string(), "size": 1_u64 << 60, "modificationTime": 1});
        lines.push(json!({ "add": add }));
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(log.join("00000000000000000000.json"), lines.join("\n")).unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let snapshot = Snapshot::load(&store, None).await.unwrap();
    assert_eq!(VersionState::of(&snapshot).live.bytes, u64::MAX);
}
