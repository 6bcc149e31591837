//! A second sync where an earlier one left something behind, and names that can't be had.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::tests::*;
use super::*;

/// A staging directory whose commit was refused after its files were published.
async fn refused_when_published(lake: &Lake) -> Stage {
    let stage = lake.stage(&[("b.parquet", rows(&[2]))]).await;
    let sealed = stage.staging.seal().await.unwrap();
    fs::hard_link(sealed.root().join("b.parquet"), lake.path().join("b.parquet")).unwrap();
    drop(sealed);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_refused_commit_published_is_made_ready_again() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let stage = refused_when_published(&lake).await;
    // As a second `cp -a` of a file that is its owner's alone.
    let staged = stage.root.join("b.parquet");
    fs::write(&staged, rows(&[3])).unwrap();
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o600)).unwrap();
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(lake.ids(), [1, 3]);
    assert_eq!(data_files(&lake.path()), ["a.parquet", "b.parquet"]);
    let mode = fs::metadata(lake.path().join("b.parquet")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_something_else_than_a_file_has_is_not_asked_for_again_and_again() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    // Spark writes folders of that name, and no version knows of it.
    fs::create_dir(lake.path().join("b.parquet")).unwrap();
    let done = lake.sync(&[("b.parquet", rows(&[2]))]).await.unwrap();
    assert_eq!((done.version, done.files_added), (version(1), 1));
    assert_eq!(lake.ids(), [1, 2]);
    assert!(lake.path().join("b.parquet").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_took_files_away_takes_no_later_ones() {
    let lake = Lake::new();
    lake.sync_with("txn=app:7", &[("a.parquet", rows(&[1]))]).await.unwrap();
    let stage = lake.stage(&[]).await;
    stage.staging.set_options("mode=append\ntxn=app:7\n").unwrap();
    // Nothing was there yet that the transaction could have been meant for.
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(stage.staging.options_text(), "mode=append\ntxn=app:7\n");
    put(&stage.root.join("a.parquet"), &rows(&[1]));
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, None);
    assert_eq!((data_files(&stage.root).len(), lake.ids()), (0, vec![1]));
    assert_eq!(stage.staging.options_text(), "mode=append\n");
    put(&stage.root.join("b.parquet"), &rows(&[2]));
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, version(1));
    assert_eq!(lake.ids(), [1, 2]);
}

/// A table, brought whole to a place where none is.
async fn brought_table(lake: &Lake) -> (Arc<Table>, Stage, PathBuf) {
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let other = lake.other("new");
    let stage = stage(&other, &[]).await;
    copy(&lake.path(), &stage.root);
    without_spool(&stage.root);
    (other, stage, lake.path().with_file_name("new"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_first_commit_is_named_where_a_table_is_to_appear() {
    let lake = Lake::new();
    let (other, stage, folder) = brought_table(&lake).await;
    let unfinished = folder.join("_delta_log/00000000000000000000.json#1");
    put(&unfinished, b"{");
    let error = refused(commit(&other, &stage.staging).await, &["_delta_log", "remove"]);
    assert!(matches!(error, Error::Busy(_)));
    fs::remove_file(unfinished).unwrap();
    commit(&other, &stage.staging).await.unwrap();
    assert_eq!(ids(&folder), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_got_the_number_of_a_removed_one_is_no_proof() {
    let lake = Lake::new();
    let (other, stage, folder) = brought_table(&lake).await;
    fs::create_dir_all(&folder).unwrap();
    copy(&lake.path(), &folder);
    without_spool(&folder);
    let found = fs::metadata(folder.join("_delta_log")).unwrap();
    journal_import(&stage, &found, 0).await;
    for _ in 0..2 {
        let result = commit(&other, &stage.staging).await;
        assert!(matches!(refused(result, &["_delta_log", "rm -r"]), Error::Unknown(_)));
    }
    assert_eq!(data_files(&stage.root), ["a.parquet"]);
}
