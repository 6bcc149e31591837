//! Checksums after our commits, and those that are wrong.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::table::commit;
use crate::table::commit::tests::{Lake, rows};

fn file(lake: &Lake, version: u64) -> PathBuf {
    lake.path().join("_delta_log").join(checksum_name(Version(version)))
}

/// A lake with three commits, each with its checksum.
async fn lake() -> Lake {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1, 2])), ("b.parquet", rows(&[3]))]).await.unwrap();
    lake.sync_with("mode=overwrite", &[("c.parquet", rows(&[4]))]).await.unwrap();
    lake.sync_with("txn=app:7", &[("d.parquet", rows(&[5]))]).await.unwrap();
    for version in 0..3 {
        commit::checksum::write(&lake.table, Version(version)).await.unwrap();
    }
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_each_commit_matches_the_version() {
    let lake = lake().await;
    for version in (0..3).map(Version) {
        assert_eq!(text(&lake.table, version).await.unwrap(), "matches\n");
    }
    let last: Value = serde_json::from_slice(&fs::read(file(&lake, 2)).unwrap()).unwrap();
    let txn = &last["setTransactions"][0];
    assert_eq!((last["numFiles"].as_i64(), txn["version"].as_i64()), (Some(2), Some(7)), "{last}");
    let commits = lake.actions(2);
    let told = commits.iter().find_map(|action| match action {
        crate::log::action::Action::CommitInfo(info) => info.txn_id.clone(),
        _ => None,
    });
    assert_eq!(last["txnId"].as_str(), told.as_deref());
    assert_eq!(lake.ids(), [4, 5]);
}

/// The commit's own attempt at it may still be running beside the test's.
#[tokio::test]
async fn a_checksum_that_is_there_is_never_written_over() {
    let lake = lake().await;
    fs::write(file(&lake, 2), "somebody's").unwrap();
    commit::checksum::write(&lake.table, Version(2)).await.unwrap();
    assert_eq!(fs::read(file(&lake, 2)).unwrap(), b"somebody's");
}

#[tokio::test]
async fn a_mismatch_is_told_and_refuses_nothing() {
    let lake = lake().await;
    let mut wrong: Value = serde_json::from_slice(&fs::read(file(&lake, 2)).unwrap()).unwrap();
    wrong["numFiles"] = json!(9);
    wrong["numDeletedRecordsOpt"] = json!(4);
    fs::write(file(&lake, 2), wrong.to_string()).unwrap();
    fs::write(file(&lake, 1), "{\"numFiles\":").unwrap();
    lake.commit_foreign(3, &[json!({"txn": {"appId": "app", "version": 8}})]);
    let table = lake.other("t");
    table.refresh().await.unwrap();
    // Of the whole log only the newest is looked at, once.
    let expected =
        ["numFiles is 9, by the log it is 2", "numDeletedRecordsOpt is 4, by the log it is 0"];
    let first = look(&table).await;
    let second = look(&table).await;
    // The look itself may have been there before us.
    assert!(first == expected || first.is_empty(), "{first:?}");
    assert!(second.is_empty(), "{second:?}");
    let told = text(&table, Version(2)).await.unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    assert!(text(&table, Version(1)).await.unwrap().contains("torn"));
    assert_eq!(text(&table, Version(0)).await.unwrap(), "matches\n");
    assert_eq!(text(&table, Version(3)).await.unwrap(), "absent\n");
    assert_eq!(table.newest().unwrap(), Version(3));
    let files = table
        .files(Version(2))
        .await
        .map(|files| files.read(|era| era.intervals().live_files(Version(2)).count()));
    assert_eq!(files.unwrap(), 2);
}

#[tokio::test]
async fn a_version_that_was_looked_at_shows_no_checksum_that_came_later() {
    let lake = Lake::new();
    let schema = json!({"type": "struct", "fields": []}).to_string();
    lake.commit_foreign(
        0,
        &[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "t", "schemaString": schema}}),
        ],
    );
    let table = lake.other("t");
    table.refresh().await.unwrap();
    let names = |version| -> Vec<String> {
        let log = table.frozen_log(Version(version)).unwrap();
        log.files.into_iter().map(|file| file.name).collect()
    };
    assert_eq!(names(0), ["00000000000000000000.json"]);
    commit::checksum::write(&table, Version(0)).await.unwrap();
    lake.commit_foreign(1, &[json!({"txn": {"appId": "app", "version": 8}})]);
    table.refresh().await.unwrap();
    assert_eq!(names(0), ["00000000000000000000.json"]);
    let later = names(1);
    assert!(later.contains(&checksum_name(Version(0))), "{later:?}");
    let found = table.frozen_log_file(Version(0), &checksum_name(Version(0)));
    assert!(found.unwrap().is_none());
}

#[tokio::test]
async fn none_is_written_where_the_checkpoint_spells_the_metadata_otherwise() {
    let spelled = |schema: &str| {
        let metadata = json!({"metaData": {"id": "t", "schemaString": schema}});
        [json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}), metadata]
    };
    let (short, long) = (r#"{"type":"struct","fields":[]}"#, r#"{"type": "struct", "fields": []}"#);
    let lake = Lake::new();
    lake.commit_foreign(0, &spelled(short));
    commit::checkpoint::write(lake.table.store(), Version(0)).await.unwrap();
    lake.commit_foreign(0, &spelled(long));
    lake.commit_foreign(1, &[json!({"txn": {"appId": "app", "version": 1}})]);
    let table = lake.other("t");
    table.refresh().await.unwrap();
    commit::checksum::write(&table, Version(1)).await.unwrap();
    assert!(!file(&lake, 1).exists());
    // A commit after the checkpoint says it for all readers.
    lake.commit_foreign(2, &spelled(short)[1..]);
    table.refresh().await.unwrap();
    commit::checksum::write(&table, Version(2)).await.unwrap();
    assert!(file(&lake, 2).exists());
}
