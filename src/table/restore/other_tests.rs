//! Restores from a backup of another table, or of one that was dropped and made anew: its names may
//! be this table's names for other bytes.

use std::fs;

use crate::error::Error;
use crate::table::commit::tests::*;
use crate::table::commit::{changes, commit};

/// A table and another one, whose file has the same name and size, and other rows.
async fn two_tables() -> (Lake, std::path::PathBuf) {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let other = lake.other("other");
    let stage = stage(&other, &[("a.parquet", rows(&[7]))]).await;
    commit(&other, &stage.staging).await.unwrap();
    let folder = lake.path().parent().unwrap().join("other");
    assert_eq!((ids(&folder), rows(&[1]).len()), (vec![7], rows(&[7]).len()));
    (lake, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_table_is_not_completed_with_this_ones_files() {
    let (lake, other) = two_tables().await;
    let stage = lake.stage(&[]).await;
    let log = "_delta_log/00000000000000000000.json";
    put(&stage.root.join(log), &fs::read(other.join(log)).unwrap());
    let text = changes(&lake.table, &stage.staging).await.unwrap();
    assert!(text.starts_with("! a.parquet"), "{text}");
    let result = commit(&lake.table, &stage.staging).await;
    let error = refused(result, &["a.parquet", "another table", "bring it"]);
    assert!(matches!(error, Error::Damaged(_)));
    put(&stage.root.join("a.parquet"), &rows(&[7]));
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(lake.ids(), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_this_tables_versions_had_stays_theirs() {
    let (lake, other) = two_tables().await;
    lake.sync_with("mode=overwrite", &[("b.parquet", rows(&[2]))]).await.unwrap();
    // As VACUUM does it: version 0 can't be read any more, and must not be read as another's rows.
    fs::remove_file(lake.path().join("a.parquet")).unwrap();
    let stage = lake.stage(&[]).await;
    copy(&other, &stage.root);
    without_spool(&stage.root);
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(lake.ids(), [7]);
    let files = data_files(&lake.path());
    assert!(files.len() == 2 && files[0].starts_with("a-"), "{files:?}");
}
