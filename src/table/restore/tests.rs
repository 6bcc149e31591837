//! Restores and imports of staged tables, on disk.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::error::Error;
use crate::log::action::Action;
use crate::table::Version;
use crate::table::commit::tests::*;
use crate::table::commit::{changes, commit};

/// A table of three versions: a and b; b alone; b and c.
async fn three_versions() -> Lake {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1])), ("b.parquet", rows(&[2]))]).await.unwrap();
    lake.sync_with("mode=overwrite", &[("b.parquet", rows(&[2]))]).await.unwrap();
    lake.sync(&[("c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!(lake.ids(), [2, 3]);
    lake
}

/// What `versions/N` shows: the files of a version and the log up to it.
async fn copy_version(lake: &Lake, version: u64, target: &Path) {
    let store = lake.table.store();
    let snapshot = crate::table::Snapshot::load(store, Some(Version(version))).await.unwrap();
    for path in snapshot.adds.keys() {
        put(&target.join(path.as_str()), &fs::read(lake.path().join(path.as_str())).unwrap());
    }
    copy_log(lake, version, target);
}

fn copy_log(lake: &Lake, version: u64, target: &Path) {
    for version in 0..=version {
        let name = format!("_delta_log/{version:020}.json");
        put(&target.join(&name), &fs::read(lake.path().join(&name)).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_version_brings_it_back_without_bytes() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    let text = changes(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(text, "+ a.parquet\n= b.parquet\n- c.parquet\n");
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.kind.as_str()), (version(3), "restore"));
    assert_eq!((done.files_added, done.files_removed, done.files_reused), (1, 1, 2));
    assert_eq!(done.bytes_written, 0);
    assert_eq!(lake.ids(), [1, 2]);
    assert!(fs::read_dir(&stage.root).unwrap().next().is_none());
    let Action::CommitInfo(info) = &lake.actions(3)[0] else { panic!() };
    assert_eq!(info.operation.as_deref(), Some("RESTORE"));
    assert_eq!(info.unknown["operationParameters"]["version"], "0");
    assert_eq!(data_files(&lake.path()), ["a.parquet", "b.parquet", "c.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_alone_is_enough_where_the_store_has_the_files() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_log(&lake, 0, &stage.root);
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_what_is_there_makes_no_version() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 2, &stage.root).await;
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.files_reused), (None, 2));
    assert!(fs::read_dir(&stage.root).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn features_in_any_order_are_no_change() {
    let lake = three_versions().await;
    lake.commit_foreign(
        3,
        &[json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["v2Checkpoint", "deletionVectors"],
            "writerFeatures": ["v2Checkpoint", "deletionVectors", "appendOnly"]}})],
    );
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 3, &stage.root).await;
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_bytes_come_back_from_a_backup() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    // a was vacuumed, b is live and was deleted by mistake.
    fs::remove_file(lake.path().join("a.parquet")).unwrap();
    fs::remove_file(lake.path().join("b.parquet")).unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.files_added, done.repaired), (1, 1));
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_directory_still_holds_is_not_made_live() {
    let lake = three_versions().await;
    fs::remove_file(lake.path().join("a.parquet")).unwrap();
    let [first, second] = [lake.stage(&[]).await, lake.stage(&[]).await];
    for stage in [&first, &second] {
        put(&stage.root.join("a.parquet"), &rows(&[1]));
        put(&stage.root.join("b.parquet"), &rows(&[2]));
        copy_log(&lake, 0, &stage.root);
    }
    // As a commit of the first leaves it that was refused after its files were published.
    fs::hard_link(first.root.join("a.parquet"), lake.path().join("a.parquet")).unwrap();
    let done = commit(&lake.table, &second.staging).await.unwrap();
    assert_eq!((done.files_added, done.files_reused), (1, 1));
    fs::write(first.root.join("a.parquet"), b"written to again").unwrap();
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_version_names_are_new_before_they_are_named() {
    let lake = three_versions().await;
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(90 * 24 * 3600);
    let age = |name: &str| {
        let path = lake.path().join(name);
        fs::metadata(path).unwrap().modified().unwrap().elapsed().unwrap().as_secs()
    };
    for name in ["a.parquet", "b.parquet"] {
        fs::File::open(lake.path().join(name)).unwrap().set_modified(old).unwrap();
    }
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    commit(&lake.table, &stage.staging).await.unwrap();
    assert!(age("a.parquet") < 3600, "a came back");
    assert!(age("b.parquet") > 3600, "b was live all the time");
    assert_eq!(lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_with_other_links_stays_what_it_is() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 2, &stage.root).await;
    fs::hard_link(lake.path().join("c.parquet"), lake.path().join("../backup.parquet")).unwrap();
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_vector_that_is_still_held_is_busy_unless_a_version_names_it() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1, 2]))]).await.unwrap();
    let live = lake.snapshot().await.adds.into_values().next().unwrap();
    let mut add = serde_json::to_value(&live).unwrap();
    add["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
        "offset": 1, "sizeInBytes": 36, "cardinality": 1});
    let vector = "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";
    let entry = [
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}}),
        json!({ "remove": live.to_remove(1) }),
        json!({ "add": add }),
    ];
    let stage = lake.stage(&[(vector, b"bits".to_vec())]).await;
    copy_log(&lake, 0, &stage.root);
    let lines = entry.each_ref().map(ToString::to_string).join("\n");
    put(&stage.root.join("_delta_log/00000000000000000001.json"), lines.as_bytes());
    put(&lake.path().join("../held.bin"), b"bits");
    fs::create_dir(lake.path().join("ab")).unwrap();
    fs::hard_link(lake.path().join("../held.bin"), lake.path().join(vector)).unwrap();
    let error = refused(commit(&lake.table, &stage.staging).await, &[vector, "staging/"]);
    assert!(matches!(error, Error::Busy(_)));
    lake.commit_foreign(1, &entry);
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_bytes_of_the_newest_version_need_no_commit() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 2, &stage.root).await;
    fs::remove_file(lake.path().join("c.parquet")).unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.repaired), (None, 1));
    assert_eq!(lake.ids(), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_original_is_replaced_under_a_new_name() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 2, &stage.root).await;
    let mut damaged = rows(&[3]);
    damaged[20] ^= 0xff;
    fs::write(lake.path().join("c.parquet"), &damaged).unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.files_added, done.files_removed), (1, 1));
    assert_eq!(lake.ids(), [2, 3]);
    assert_eq!(fs::read(lake.path().join("c.parquet")).unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_nowhere_is_named() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_log(&lake, 0, &stage.root);
    fs::remove_file(lake.path().join("a.parquet")).unwrap();
    let result = commit(&lake.table, &stage.staging).await;
    assert!(matches!(refused(result, &["a.parquet", "neither staged"]), Error::Damaged(_)));
    put(&stage.root.join("a.parquet"), &rows(&[1, 2, 3, 4]));
    let result = commit(&lake.table, &stage.staging).await;
    refused(result, &["a.parquet", "bytes", "log says"]);
    assert_eq!(lake.snapshot().await.version, Version(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_staged_log_does_not_know_is_named() {
    let lake = three_versions().await;
    let stage = lake.stage(&[("stranger.parquet", rows(&[9]))]).await;
    copy_version(&lake, 1, &stage.root).await;
    refused(commit(&lake.table, &stage.staging).await, &["stranger.parquet", "_delta_log"]);
    // Files of older versions than the newest are no strangers.
    fs::remove_file(stage.root.join("stranger.parquet")).unwrap();
    put(&stage.root.join("a.parquet"), &rows(&[1]));
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(lake.ids(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_the_files_of_its_log_is_not_appended() {
    let lake = three_versions().await;
    let stage = lake.stage(&[("b.parquet", rows(&[2])), ("c.parquet", rows(&[3]))]).await;
    fs::create_dir(stage.root.join("_delta_log")).unwrap();
    let error = refused(commit(&lake.table, &stage.staging).await, &["_delta_log is empty"]);
    assert!(matches!(error, Error::Busy(_)));
    assert!(changes(&lake.table, &stage.staging).await.unwrap().starts_with("! _delta_log"));
    // An empty file of an interrupted tool is no log either.
    put(&stage.root.join("_delta_log/.00000000000000000000.json.Xy12Zz"), b"");
    refused(commit(&lake.table, &stage.staging).await, &["_delta_log is empty"]);
    assert_eq!(lake.snapshot().await.version, Version(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_for_appends_have_no_place_beside_a_log() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    stage.staging.set_options("mode=overwrite").unwrap();
    refused(commit(&lake.table, &stage.staging).await, &["mode"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_properties_and_protocol_go_back_as_they_should() {
    let lake = three_versions().await;
    let before = lake.snapshot().await;
    let mut metadata = before.metadata.clone();
    metadata.configuration.insert("delta.checkpointInterval".into(), "3".into());
    lake.commit_foreign(
        3,
        &[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
                "writerFeatures": ["appendOnly", "invariants"]}}),
            json!({ "metaData": metadata }),
            json!({"txn": {"appId": "app", "version": 4}}),
        ],
    );
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 2, &stage.root).await;
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.files_added, done.files_removed), (version(4), 0, 0));
    let after = lake.snapshot().await;
    assert_eq!(after.metadata, before.metadata);
    assert_eq!(after.protocol.min_writer_version, 7);
    assert_eq!(after.txns["app"].version, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_vectors_tell_two_states_of_a_file_apart() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1, 2, 3]))]).await.unwrap();
    let live = lake.snapshot().await.adds.into_values().next().unwrap();
    // Row 0 is deleted, by the log's own words.
    let vector = json!({"storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44, "cardinality": 6});
    let mut with_vector = serde_json::to_value(&live).unwrap();
    with_vector["deletionVector"] = vector;
    lake.commit_foreign(
        1,
        &[
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}}),
            json!({ "remove": live.to_remove(1) }),
            json!({ "add": with_vector }),
        ],
    );
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.files_added, done.files_removed, done.bytes_written), (1, 1, 0));
    assert_eq!(lake.ids(), [1, 2, 3]);
    let snapshot = lake.snapshot().await;
    assert_eq!(snapshot.protocol.min_reader_version, 3);
    assert!(snapshot.adds.values().all(|add| add.deletion_vector.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_appears_at_once_with_its_whole_history() {
    let lake = three_versions().await;
    let other = lake.other("copies/new");
    let stage = stage(&other, &[]).await;
    copy(&lake.path(), &stage.root);
    without_spool(&stage.root);
    let done = commit(&other, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.kind.as_str()), (version(2), "create"));
    let folder = lake.path().parent().unwrap().join("copies/new");
    assert_eq!(ids(&folder), [2, 3]);
    assert_eq!(data_files(&folder), data_files(&lake.path()));
    assert_eq!(other.read(|history| history.versions().len()).unwrap(), 3);
    let again = commit(&other, &stage.staging).await.unwrap();
    assert_eq!(again.version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_no_proof_of_an_import() {
    let lake = three_versions().await;
    let other = lake.other("new");
    let stage = stage(&other, &[]).await;
    copy_version(&lake, 2, &stage.root).await;
    let log = stage.root.join("_delta_log");
    let found = fs::metadata(&log).unwrap();
    let attempt = journal_import(&stage, &found, 2).await;
    // The user took the log away, and somebody else made a table.
    fs::rename(&log, lake.path().join("../kept")).unwrap();
    let folder = lake.path().join("../new");
    fs::create_dir_all(&folder).unwrap();
    copy(&lake.path(), &folder);
    crate::table::commit::recover(&other, &stage.staging).await.unwrap();
    assert_eq!(data_files(&stage.root), ["b.parquet", "c.parquet"]);
    // The very folder is.
    stage.staging.hold().unwrap().record_attempt(&attempt).unwrap();
    fs::rename(folder.join("_delta_log"), lake.path().join("../gone")).unwrap();
    fs::rename(lake.path().join("../kept"), folder.join("_delta_log")).unwrap();
    crate::table::commit::recover(&other, &stage.staging).await.unwrap();
    assert!(data_files(&stage.root).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_table_that_lacks_a_file_does_not_appear() {
    let lake = three_versions().await;
    let other = lake.other("new");
    let stage = stage(&other, &[]).await;
    copy_version(&lake, 2, &stage.root).await;
    fs::remove_file(stage.root.join("c.parquet")).unwrap();
    let result = commit(&other, &stage.staging).await;
    assert!(matches!(refused(result, &["c.parquet", "not staged"]), Error::Damaged(_)));
    let folder = lake.path().parent().unwrap().join("new");
    assert!(!folder.join("_delta_log").exists());
    put(&stage.root.join("c.parquet"), &rows(&[3]));
    put(&stage.root.join("x.parquet"), &rows(&[4]));
    refused(commit(&other, &stage.staging).await, &["x.parquet", "doesn't name"]);
    fs::remove_file(stage.root.join("x.parquet")).unwrap();
    commit(&other, &stage.staging).await.unwrap();
    assert_eq!(ids(&folder), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_does_not_appear_with_a_file_that_another_directory_holds() {
    let lake = three_versions().await;
    let other = lake.other("new");
    let [first, second] = [stage(&other, &[]).await, stage(&other, &[]).await];
    copy_version(&lake, 2, &second.root).await;
    put(&first.root.join("c.parquet"), &rows(&[3]));
    let orphan = lake.path().parent().unwrap().join("new/c.parquet");
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::hard_link(first.root.join("c.parquet"), &orphan).unwrap();
    let result = commit(&other, &second.staging).await;
    assert!(matches!(refused(result, &["c.parquet"]), Error::Busy(_)));
    fs::remove_file(first.root.join("c.parquet")).unwrap();
    commit(&other, &second.staging).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_does_not_match_refuses_all() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    let sums = |root: &Path| {
        let output = std::process::Command::new("sh")
            .args(["-c", "find . -type f | xargs sha256sum > SHA256SUMS"])
            .current_dir(root)
            .status();
        assert!(output.unwrap().success());
    };
    sums(&stage.root);
    let list = fs::read_to_string(stage.root.join("SHA256SUMS")).unwrap();
    let wrong: Vec<String> = list
        .lines()
        .filter(|line| !line.ends_with("SHA256SUMS"))
        .map(|line| match line.ends_with("a.parquet") {
            true => format!("{}{}", "0".repeat(64), &line[64..]),
            false => line.to_owned(),
        })
        .collect();
    put(&stage.root.join("SHA256SUMS"), wrong.join("\n").as_bytes());
    refused(commit(&lake.table, &stage.staging).await, &["a.parquet", "SHA256SUMS"]);
    fs::remove_file(stage.root.join("SHA256SUMS")).unwrap();
    sums(&stage.root);
    let list = fs::read_to_string(stage.root.join("SHA256SUMS")).unwrap();
    let right: Vec<&str> = list.lines().filter(|line| !line.ends_with("SHA256SUMS")).collect();
    put(&stage.root.join("SHA256SUMS"), right.join("\n").as_bytes());
    // The log counts as well: one that was damaged may be another version of the table.
    let log = stage.root.join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("WRITE", "WROTE", 1) + "\n").unwrap();
    refused(commit(&lake.table, &stage.staging).await, &["00000.json", "SHA256SUMS"]);
    put(&stage.root.join("_change_data/c.parquet"), b"c");
    put(&log, b"not JSON at all");
    refused(commit(&lake.table, &stage.staging).await, &["00000.json", "SHA256SUMS"]);
    put(&log, text.as_bytes());
    let more = format!("{}\n{}  _change_data/c.parquet\n", right.join("\n"), "0".repeat(64));
    put(&stage.root.join("SHA256SUMS"), more.as_bytes());
    refused(commit(&lake.table, &stage.staging).await, &["c.parquet", "SHA256SUMS"]);
    // A file of the list that is neither here nor in the table got lost on the way.
    fs::remove_file(stage.root.join("_change_data/c.parquet")).unwrap();
    refused(commit(&lake.table, &stage.staging).await, &["c.parquet", "neither here"]);
    put(&stage.root.join("SHA256SUMS"), right.join("\n").as_bytes());
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, version(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_absolute_over_a_commit_that_got_in_between() {
    let lake = three_versions().await;
    let stage = lake.stage(&[]).await;
    copy_version(&lake, 0, &stage.root).await;
    lake.sync(&[("d.parquet", rows(&[4]))]).await.unwrap();
    let done = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.files_removed), (version(4), 2));
    assert_eq!(lake.ids(), [1, 2]);
}
