//! Tables whose log names files outside of their folder, as shallow clones do: shown, written to,
//! restored and brought where the mount allows the place, refused by name where it doesn't.

use std::fs;
use std::path::PathBuf;

use super::tests::*;
use super::*;
use crate::log::action::Action;
use crate::log::protocol::with_features;
use crate::store::{Store, allowed_place};
use crate::table::{Budget, Snapshot, Version, describe};

/// A shallow clone `clone` of a table of two files, beside it in a lake.
struct Clone {
    lake: Lake,
    table: Arc<Table>,
    /// The same table, as a mount has it that allows nothing.
    strict: Arc<Table>,
}

impl Clone {
    async fn new() -> Clone {
        let lake = Lake::new();
        lake.sync(&[("a b.parquet", rows(&[1])), ("b.parquet", rows(&[2]))]).await.unwrap();
        let (root, strict) = (lake.path().canonicalize().unwrap(), lake.other("clone"));
        let lines = lake.actions(0).into_iter().map(|action| match action {
            // As Spark writes it: a URI, with the path encoded once.
            Action::Add(mut add) => {
                add.path = format!("file:{}/{}", root.display(), add.path);
                Action::Add(add).to_line()
            }
            action => action.to_line(),
        });
        let log = lake.path().parent().unwrap().join("clone/_delta_log");
        fs::create_dir_all(&log).unwrap();
        let lines: Vec<String> = lines.collect();
        fs::write(log.join("00000000000000000000.json"), lines.join("\n")).unwrap();
        let place = allowed_place(root.to_str().unwrap()).unwrap();
        let store = Store::open(root.parent().unwrap().to_str().unwrap()).unwrap();
        let store = store.allowing(vec![place]);
        let table = Arc::new(Table::new(
            "clone".into(),
            store.child("clone"),
            false,
            Budget::new(usize::MAX),
        ));
        Clone { lake, table, strict }
    }

    fn path(&self) -> PathBuf {
        self.lake.path().parent().unwrap().join("clone")
    }

    fn ids(&self) -> Vec<i64> {
        ids(&self.path())
    }

    async fn sync_with(&self, options: &str, files: &[(&str, Vec<u8>)]) -> Result<CommitSummary> {
        let stage = stage(&self.table, files).await;
        stage.staging.set_options(options).unwrap();
        commit(&self.table, &stage.staging).await
    }

    /// Stages the log up to a version, and the files in the table's folder that it names.
    async fn stage_version(&self, table: &Arc<Table>, version: u64) -> Stage {
        let snapshot = Snapshot::load(self.table.store(), Some(Version(version))).await.unwrap();
        let stage = stage(table, &[]).await;
        for path in snapshot.adds.keys() {
            let bytes = fs::read(self.path().join(path.as_str())).unwrap();
            put(&stage.root.join(path.as_str()), &bytes);
        }
        for version in 0..=version {
            let name = format!("_delta_log/{version:020}.json");
            put(&stage.root.join(&name), &fs::read(self.path().join(&name)).unwrap());
        }
        stage
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_is_read_where_its_place_is_allowed() {
    let clone = Clone::new().await;
    assert_eq!(clone.ids(), [1, 2]);
    clone.table.refresh().await.unwrap();
    clone.strict.refresh().await.unwrap();
    let why = |table: &Arc<Table>| {
        let facts = |history: &crate::table::Timeline| history.facts(Version(0)).cloned();
        table.read(facts).unwrap().unwrap().unreadable
    };
    assert_eq!(why(&clone.table), None);
    assert!(why(&clone.strict).unwrap().contains("--allow-outside"));
    refused(Snapshot::load(clone.strict.store(), None).await, &["a b.parquet", "--allow-outside"]);
    // No directory shows them, and `files` tells where they are.
    let files = clone.table.files(Version(0)).await.unwrap();
    assert_eq!(files.read(|era| era.intervals().live_files(Version(0)).count()), 0);
    let snapshot = Snapshot::load(clone.table.store(), None).await.unwrap();
    let text = describe::files(&snapshot);
    let origin = clone.lake.path().canonicalize().unwrap();
    assert!(text.contains(&format!("\n{}/a b.parquet\t", origin.display())), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_and_no_checkpoint_loses_a_file_outside() {
    let clone = Clone::new().await;
    clone.sync_with("", &[("c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!(clone.ids(), [1, 2, 3]);
    checkpoint::write(clone.table.store(), Version(1)).await.unwrap();
    checksum::write(&clone.table, Version(1)).await.unwrap();
    let told = crate::table::checksum::text(&clone.table, Version(1)).await.unwrap();
    assert_eq!(told, "matches\n");
    // The checkpoint alone.
    for version in 0..2 {
        let log = clone.path().join("_delta_log");
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(clone.ids(), [1, 2, 3]);
    let snapshot = Snapshot::load(clone.table.store(), None).await.unwrap();
    assert_eq!((snapshot.adds.len(), snapshot.outside.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_takes_files_outside_away_and_a_restore_brings_them_back() {
    let clone = Clone::new().await;
    let done = clone.sync_with("mode=overwrite", &[("c.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!((done.files_added, done.files_removed), (1, 2));
    assert_eq!(clone.ids(), [3]);
    let stage = clone.stage_version(&clone.table, 0).await;
    let done = commit(&clone.table, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.kind.as_str()), (version(2), "restore"));
    assert_eq!((done.files_added, done.files_removed), (2, 1));
    assert_eq!(clone.ids(), [1, 2]);
    // What is as it was makes no version, and the original is untouched.
    let stage = clone.stage_version(&clone.table, 2).await;
    assert_eq!(commit(&clone.table, &stage.staging).await.unwrap().version, None);
    assert_eq!(clone.lake.ids(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_log_with_files_outside_is_refused_where_nobody_allowed_them() {
    let clone = Clone::new().await;
    let place = ["the staged _delta_log", "a b.parquet", "--allow-outside"];
    let stage = clone.stage_version(&clone.strict, 0).await;
    refused(commit(&clone.strict, &stage.staging).await, &place);
    let new = clone.lake.other("new");
    let stage = clone.stage_version(&new, 0).await;
    refused(commit(&new, &stage.staging).await, &place);
    assert!(!new.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_clone_becomes_a_table_where_its_files_are_allowed() {
    let clone = Clone::new().await;
    clone.sync_with("", &[("c.parquet", rows(&[3]))]).await.unwrap();
    let store = Store::open(clone.lake.path().parent().unwrap().to_str().unwrap()).unwrap();
    let store = store.allowing(vec!["/".into()]);
    let new =
        Arc::new(Table::new("new".into(), store.child("new"), false, Budget::new(usize::MAX)));
    let stage = clone.stage_version(&new, 1).await;
    let done = commit(&new, &stage.staging).await.unwrap();
    assert_eq!((done.version, done.files_added), (version(1), 3));
    let path = clone.lake.path().parent().unwrap().join("new");
    assert_eq!(ids(&path), [1, 2, 3]);
    assert_eq!(data_files(&path), ["c.parquet"]);
}

/// The table's own files by absolute paths, deletion vectors too, need nobody's leave.
#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_path_into_the_tables_own_folder_is_the_file_inside() {
    let lake = Lake::new();
    lake.sync(&[("p/a b.parquet", rows(&[1, 2]))]).await.unwrap();
    let root = lake.path().canonicalize().unwrap();
    let mut add = lake.actions(0).into_iter().find_map(|action| match action {
        Action::Add(add) => Some(add),
        _ => None,
    });
    let add = add.as_mut().unwrap();
    let vector = format!("{}/v%20w.bin", root.display());
    let snapshot = lake.snapshot().await;
    let protocol = with_features(&snapshot.protocol, &["deletionVectors"]);
    let remove = Action::Remove(add.to_remove(1)).to_line();
    add.path = format!("file://{}/p/a%20b.parquet", root.display());
    add.deletion_vector = serde_json::from_value(serde_json::json!({
        "storageType": "p", "pathOrInlineDv": vector, "offset": 1, "sizeInBytes": 36,
        "cardinality": 1
    }))
    .unwrap();
    let lines = [Action::Protocol(protocol).to_line(), remove, Action::Add(add.clone()).to_line()];
    let lines = lines.map(|line| serde_json::from_str(&line).unwrap());
    lake.commit_foreign(1, &lines);
    lake.table.refresh().await.unwrap();
    let facts = lake.table.read(|history| history.facts(Version(1)).cloned()).unwrap();
    assert_eq!(facts.unwrap().unreadable, None);
    let files = lake.table.files(Version(1)).await.unwrap();
    let (live, vectors) = files.read(|era| {
        let live = era.intervals().live(Version(1), "p/a b.parquet");
        (live.unwrap().since, era.deletion_vector_files(Version(1)))
    });
    assert_eq!(live, Version(1));
    assert_eq!(vectors.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["v w.bin"]);
    let snapshot = lake.snapshot().await;
    assert_eq!((snapshot.adds.len(), snapshot.outside.len()), (1, 0));
    // The same vector elsewhere makes the version unreadable, until another commit removes it.
    let beyond = add.deletion_vector.as_mut().unwrap();
    beyond.path_or_inline_dv = "file:///elsewhere/v.bin".into();
    let beyond = Action::Add(add.clone()).to_line();
    lake.commit_foreign(2, &[serde_json::from_str(&beyond).unwrap()]);
    let gone = Action::Remove(add.to_remove(1)).to_line();
    lake.commit_foreign(3, &[serde_json::from_str(&gone).unwrap()]);
    lake.table.refresh().await.unwrap();
    let readable = |version| {
        let facts = lake.table.read(|history| history.facts(Version(version)).cloned());
        facts.unwrap().unwrap().unreadable.is_none()
    };
    assert_eq!([1, 2, 3].map(readable), [true, false, true]);
    for (version, is_readable) in [(1, true), (2, false), (3, true)] {
        let snapshot = Snapshot::load(lake.table.store(), Some(Version(version))).await;
        assert_eq!(snapshot.is_ok(), is_readable, "{version}: {snapshot:?}");
    }
}
