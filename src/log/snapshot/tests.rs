//! Whole actions: how they are reconciled, and that every way to a version gives the same ones.

use std::path::PathBuf;

use super::*;

fn state(lines: &[&str]) -> State {
    let mut state = State::default();
    for line in lines {
        state.take(Action::from_line(line.as_bytes()).unwrap().unwrap()).unwrap();
    }
    state
}

fn file(path: &str) -> FilePath {
    FilePath::from_decoded(path).unwrap()
}

#[test]
fn the_newest_reference_to_a_logical_file_counts() {
    let vector = r#""deletionVector":{"storageType":"u","pathOrInlineDv":"^-aqEH.-t@S}K{vb[*k^","offset":1,"sizeInBytes":2,"cardinality":3}"#;
    let state = state(&[
        r#"{"add":{"path":"a%20b","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":1}","tags":{"t":"1"},"baseRowId":7,"defaultRowCommitVersion":2}}"#,
        r#"{"add":{"path":"gone","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
        r#"{"remove":{"path":"gone","dataChange":true,"deletionTimestamp":5}}"#,
        r#"{"add":{"path":"back","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
        r#"{"remove":{"path":"back","dataChange":true}}"#,
        r#"{"add":{"path":"back","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
        r#"{"add":{"path":"v","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
        &format!(
            r#"{{"add":{{"path":"v","partitionValues":{{}},"size":1,"modificationTime":1,"dataChange":true,{vector}}}}}"#
        ),
        r#"{"remove":{"path":"v","dataChange":true}}"#,
    ]);
    let paths: Vec<&str> = state.adds.keys().map(FilePath::as_str).collect();
    assert_eq!(paths, ["a b", "back", "v"]);
    let add = &state.adds[&file("a b")];
    assert_eq!((add.base_row_id, add.default_row_commit_version), (Some(7), Some(2)));
    assert!(add.stats.is_some() && add.tags.is_some());
    assert!(state.adds[&file("v")].deletion_vector.is_some());
    let tombstones: Vec<(&str, bool)> =
        state.removes.keys().map(|(path, vector)| (path.as_str(), vector.is_some())).collect();
    assert_eq!(tombstones, [("gone", false), ("v", false)]);
}

#[test]
fn a_removed_domain_is_gone_and_the_last_transaction_counts() {
    let state = state(&[
        r#"{"domainMetadata":{"domain":"kept","configuration":"1","removed":false}}"#,
        r#"{"domainMetadata":{"domain":"kept","configuration":"2","removed":false}}"#,
        r#"{"domainMetadata":{"domain":"gone","configuration":"1","removed":false}}"#,
        r#"{"domainMetadata":{"domain":"gone","configuration":"","removed":true}}"#,
        r#"{"txn":{"appId":"app","version":1}}"#,
        r#"{"txn":{"appId":"app","version":2,"lastUpdated":3}}"#,
    ]);
    assert_eq!(state.domains.keys().collect::<Vec<_>>(), ["kept"]);
    assert_eq!(state.domains["kept"].configuration, "2");
    assert_eq!(state.txns["app"].version, 2);
}

/// Leaves out what a checkpoint may say otherwise: it changes no data, has an empty map where there
/// are no tags, and perhaps its statistics as structs alone.
fn comparable(snapshot: &Snapshot, with_stats: bool) -> BTreeMap<FilePath, Add> {
    let mut adds = snapshot.adds.clone();
    for add in adds.values_mut() {
        add.data_change = false;
        add.tags = add.tags.take().filter(|tags| !tags.is_empty());
        add.stats = add.stats.take().filter(|_| with_stats);
    }
    adds
}

#[tokio::test]
async fn every_way_to_a_version_gives_the_same_actions() {
    let Some(golden) = std::env::var_os("DELTAFS_GOLDEN") else {
        assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
        println!("SKIPPED: DELTAFS_GOLDEN isn't set, no golden table was read");
        return;
    };
    let tables = [
        ("app-txn-checkpoint", true),
        ("external-table-different-nullability", true),
        ("with_checkpoint_no_last_checkpoint", true),
        ("v1-multi-part-partitioned-struct-stats-only", false),
        ("v1-multi-part-struct-stats-only", false),
        ("v1-single-part-struct-stats-only", false),
        ("v2-classic-parquet-struct-stats-only", false),
        ("v2-json-sidecars-struct-stats-only", false),
        ("v2-parquet-sidecars-struct-stats-only", false),
    ];
    for (table, with_stats) in tables {
        let folder = PathBuf::from(&golden).join("features").join(table);
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let segments = Segments::new(&listing::list_log(&store).await.unwrap().files);
        let newest = segments.newest().unwrap();
        let mut found = Vec::new();
        for route in segments.routes(newest) {
            found.push(load_route(&store, &segments, newest, route).await.unwrap());
        }
        assert!(found.len() > 1, "{table} has one way only");
        let last = found.pop().unwrap();
        for other in found {
            let (one, same) = (comparable(&other, with_stats), comparable(&last, with_stats));
            assert_eq!(one, same, "{table}");
            assert_eq!(other.txns, last.txns, "{table}");
            assert_eq!(other.domains, last.domains, "{table}");
            assert_eq!(other.protocol, last.protocol, "{table}");
            assert_eq!(other.metadata, last.metadata, "{table}");
            assert_eq!(other.commit_time_ms, last.commit_time_ms, "{table}");
            // Expired ones aren't in a checkpoint.
            assert!(other.removes.keys().all(|key| last.removes.contains_key(key)), "{table}");
        }
    }
}
