//! What the tests of commits stand on: a lake in a scratch folder, files to stage, and an oracle
//! that reads the table back by other code than ours.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::storage::store_from_url;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use url::Url;

use super::*;
use crate::log::action::Action;
use crate::store::Store;
use crate::table::staging::{Attempt, Owner, Staging};
use crate::table::{Budget, Snapshot, Version};

/// A lake with one table `t` that need not exist yet.
pub struct Lake {
    folder: TempDir,
    pub table: Arc<Table>,
}

/// A staging directory and its folder on disk.
pub struct Stage {
    pub staging: Arc<Staging>,
    pub root: PathBuf,
}

impl Lake {
    pub fn new() -> Lake {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let table =
            Arc::new(Table::new("t".into(), store.child("t"), false, Budget::new(usize::MAX)));
        Lake { folder, table }
    }

    /// The table's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("t")
    }

    /// Another table of the lake.
    pub fn other(&self, name: &str) -> Arc<Table> {
        let store = Store::open(self.folder.path().to_str().unwrap()).unwrap();
        Arc::new(Table::new(name.into(), store.child(name), false, Budget::new(usize::MAX)))
    }

    pub async fn stage(&self, files: &[(&str, Vec<u8>)]) -> Stage {
        stage(&self.table, files).await
    }

    /// Stages files and commits them.
    pub async fn sync(&self, files: &[(&str, Vec<u8>)]) -> Result<CommitSummary> {
        let stage = self.stage(files).await;
        commit(&self.table, &stage.staging).await
    }

    /// As `sync`, with options.
    pub async fn sync_with(
        &self,
        options: &str,
        files: &[(&str, Vec<u8>)],
    ) -> Result<CommitSummary> {
        let stage = self.stage(files).await;
        stage.staging.set_options(options).unwrap();
        commit(&self.table, &stage.staging).await
    }

    /// As `sync`, with properties.
    pub async fn sync_properties(
        &self,
        properties: &str,
        files: &[(&str, Vec<u8>)],
    ) -> Result<CommitSummary> {
        let stage = self.stage(files).await;
        stage.staging.set_properties(properties).unwrap();
        commit(&self.table, &stage.staging).await
    }

    pub async fn snapshot(&self) -> Snapshot {
        Snapshot::load(self.table.store(), None).await.unwrap()
    }

    /// A commit's actions.
    pub fn actions(&self, version: u64) -> Vec<Action> {
        let path = self.path().join(format!("_delta_log/{version:020}.json"));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| Action::from_line(line.as_bytes()).unwrap().unwrap()).collect()
    }

    /// Writes a commit as another engine would.
    pub fn commit_foreign(&self, version: u64, actions: &[serde_json::Value]) {
        let log = self.path().join("_delta_log");
        fs::create_dir_all(&log).unwrap();
        let lines: Vec<String> = actions.iter().map(|action| action.to_string()).collect();
        fs::write(log.join(format!("{version:020}.json")), lines.join("\n")).unwrap();
    }

    /// The ids of all rows, as delta_kernel reads them; sorted.
    pub fn ids(&self) -> Vec<i64> {
        ids(&self.path())
    }
}

/// Stages files in a new staging directory.
pub async fn stage(table: &Arc<Table>, files: &[(&str, Vec<u8>)]) -> Stage {
    let owner =
        Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let name = uuid::Uuid::new_v4().to_string();
    let staging = table.staging().begin(name.as_ref(), 0o755, owner).unwrap();
    let root = staging.files_path().to_path_buf();
    for (path, bytes) in files {
        put(&root.join(path), bytes);
    }
    Stage { staging, root }
}

/// Journals that the staged table was sent as the log folder `found`.
pub async fn journal_import(stage: &Stage, found: &fs::Metadata, version: u64) -> Attempt {
    let sealed = stage.staging.seal().await.unwrap();
    let attempt = Attempt {
        txn_id: "import-1".into(),
        version,
        result: serde_json::json!({"version": version}),
        options: String::new(),
        properties: String::new(),
        log_folder: Some((found.dev(), found.ino())),
        files: sealed.files().unwrap().into_iter().map(|entry| entry.identity).collect(),
    };
    sealed.record_attempt(&attempt).unwrap();
    attempt
}

pub fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Copies a folder as `cp -a SOURCE/. TARGET/` does, but for the staging area.
pub fn copy(source: &Path, target: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(format!("{}/.", source.display()))
        .arg(target)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Takes the files out of a copied table that no log names.
pub fn without_spool(target: &Path) {
    for entry in fs::read_dir(target).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(".deltafs") {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

/// A Parquet file with the columns `id` and `name`.
pub fn rows(ids: &[i64]) -> Vec<u8> {
    let names: Vec<String> = ids.iter().map(|id| format!("row {id}")).collect();
    let names: ArrayRef = Arc::new(StringArray::from(names));
    parquet_of(vec![("id", Arc::new(Int64Array::from(ids.to_vec()))), ("name", names)])
}

pub fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// What delta_kernel reads of a table's newest version.
pub fn kernel(folder: &Path) -> std::result::Result<Vec<RecordBatch>, String> {
    let url = Url::from_directory_path(folder).unwrap();
    let text = |error: delta_kernel::KernelError| error.to_string();
    tokio::task::block_in_place(|| {
        let engine = Arc::new(DefaultEngineBuilder::new(store_from_url(&url).unwrap()).build());
        let builder = delta_kernel::Snapshot::builder_for(url.as_str());
        let snapshot = builder.build(engine.as_ref()).map_err(text)?;
        let scan = snapshot.scan_builder().build().map_err(text)?;
        let read = |data| ArrowEngineData::try_from_engine_data(data).map(|data| (*data).into());
        let batches = scan.execute(engine).map_err(text)?;
        batches.map(|data| data.and_then(read).map_err(text)).collect()
    })
}

pub fn ids(folder: &Path) -> Vec<i64> {
    let batches = kernel(folder).unwrap();
    let column = |batch: &RecordBatch| {
        let array = batch.column_by_name("id").unwrap().clone();
        array.as_primitive::<Int64Type>().values().to_vec()
    };
    let mut ids: Vec<i64> = batches.iter().flat_map(column).collect();
    ids.sort_unstable();
    ids
}

/// Names of a folder's files, below it, without the log and what is ours.
pub fn data_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(here) = folders.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match path.is_dir() {
                _ if name.starts_with(".deltafs") || name == "_delta_log" => {}
                true => folders.push(path),
                false => {
                    let below = path.strip_prefix(folder).unwrap();
                    found.push(below.to_str().unwrap().to_owned());
                }
            }
        }
    }
    found.sort();
    found
}

pub fn version(version: u64) -> Option<Version> {
    Some(Version(version))
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) -> Error {
    let error = result.expect_err("not refused");
    for word in words {
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_created_and_appended_to() {
    let lake = Lake::new();
    let created = lake.sync(&[("a.parquet", rows(&[1, 2])), ("_SUCCESS", vec![])]).await.unwrap();
    assert_eq!((created.version, created.kind.as_str()), (version(0), "create"));
    assert_eq!(created.left_out, ["_SUCCESS"]);
    assert_eq!(lake.ids(), [1, 2]);
    let appended = lake.sync(&[("b.parquet", rows(&[3]))]).await.unwrap();
    assert_eq!((appended.version, appended.kind.as_str()), (version(1), "append"));
    assert_eq!(appended.bytes_written, rows(&[3]).len() as u64);
    assert_eq!(lake.ids(), [1, 2, 3]);
    assert_eq!(data_files(&lake.path()), ["a.parquet", "b.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sync_makes_no_version_and_the_directory_is_empty() {
    let lake = Lake::new();
    let stage = lake.stage(&[("p=1/a.parquet", rows(&[1]))]).await;
    commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(fs::read_dir(&stage.root).unwrap().count(), 0);
    let again = commit(&lake.table, &stage.staging).await.unwrap();
    assert_eq!(again.version, None);
    let result: serde_json::Value = serde_json::from_str(&stage.staging.result_text()).unwrap();
    assert_eq!(result["state"], "nothing");
    assert_eq!(lake.snapshot().await.version, Version(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_log_has_no_more_is_not_sent_again() {
    let lake = Lake::new();
    let stage = lake.stage(&[("b.parquet", rows(&[2]))]).await;
    for id in 0..3 {
        lake.sync(&[(&format!("{id}.parquet"), rows(&[id]))]).await.unwrap();
    }
    let sealed = stage.staging.seal().await.unwrap();
    let files = sealed.files().unwrap().into_iter().map(|entry| entry.identity).collect();
    let (txn_id, result) = ("sent".to_owned(), serde_json::json!({}));
    let (options, properties) = (String::new(), String::new());
    let attempt =
        Attempt { txn_id, version: 1, result, options, properties, log_folder: None, files };
    sealed.record_attempt(&attempt).unwrap();
    drop(sealed);
    checkpoint::write(lake.table.store(), Version(2)).await.unwrap();
    fs::remove_file(lake.path().join("_delta_log/00000000000000000001.json")).unwrap();
    for _ in 0..2 {
        let result = commit(&lake.table, &stage.staging).await;
        assert!(matches!(refused(result, &["version 1", "rm -r"]), Error::Unknown(_)));
    }
    assert_eq!(data_files(&stage.root), ["b.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_leaves_all_as_it_was_and_tells_why() {
    let lake = Lake::new();
    lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
    let short = rows(&[2])[..100].to_vec();
    let stage = lake.stage(&[("b.parquet", rows(&[2])), ("c.parquet", short)]).await;
    refused(commit(&lake.table, &stage.staging).await, &["c.parquet", "cut short"]);
    assert_eq!(data_files(&lake.path()), ["a.parquet"]);
    assert_eq!(data_files(&stage.root), ["b.parquet", "c.parquet"]);
    let result: serde_json::Value = serde_json::from_str(&stage.staging.result_text()).unwrap();
    assert_eq!(result["state"], "refused");
    assert!(result["error"].as_str().unwrap().contains("c.parquet"));
    fs::remove_file(stage.root.join("c.parquet")).unwrap();
    assert_eq!(commit(&lake.table, &stage.staging).await.unwrap().version, version(1));
    assert_eq!(lake.ids(), [1, 2]);
}
