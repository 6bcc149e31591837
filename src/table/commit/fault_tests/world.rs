//! A copy of a scene that one fault is tried on, and what is to be seen of it.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::scene::{Files, Scene, files_of};
use crate::error::Error;
use crate::log::action::Action;
use crate::log::checksum::checksum_name;
use crate::log::listing::{LAST_CHECKPOINT, commit_name, log_path};
use crate::store::Store;
use crate::store::fault::{Fault, FaultStore};
use crate::table::restore::vector_files;
use crate::table::staging::{Owner, Reference, Staging, StagingArea};
use crate::table::{Snapshot, Version};

/// The time of every staged file, seconds since the epoch.
const STAGED_AT: u64 = 1_000_000_000;

/// A folder that goes with the test, in memory where the machine has such a place.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The folder of the staging directory of a table.
pub fn spool(table: &Path) -> PathBuf {
    let name = table.file_name().unwrap();
    table.parent().unwrap().join(".deltafs").join(name).join("s")
}

/// A staging directory beside a table's folder.
pub async fn staged_in(
    table: &Path,
    files: &Files,
    options: &str,
    properties: &str,
) -> Arc<Staging> {
    let owner =
        Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let staging = StagingArea::new(table, false).begin("s".as_ref(), 0o755, owner).unwrap();
    let root = spool(table).join("files");
    for (path, bytes) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(STAGED_AT);
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    staging.set_options(options).unwrap();
    staging.set_properties(properties).unwrap();
    staging
}

/// What a table says and holds; random names are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub version: Option<u64>,
    pub content: String,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {:?} of\n{}", self.version, self.content)
    }
}

/// Everything in the table's folder, by hash.
pub type Dump = BTreeMap<String, u64>;

/// A copy of a scene.
pub struct World {
    pub store: FaultStore,
    /// The staging directory's; with the lake, where that is on a disk.
    folder: TempDir,
    is_new: bool,
}

impl World {
    /// The scene before anything happened.
    pub fn of(scene: &Scene) -> World {
        let folder = scratch();
        let store = match &scene.folder {
            None => scene.store.fork(None),
            Some(lake) => {
                copy(lake.path(), folder.path());
                let store = FaultStore::on_disk(folder.path().to_str().unwrap());
                scene.rivals.iter().for_each(|rival| store.let_in([rival.clone()]));
                store
            }
        };
        World { store, folder, is_new: false }
    }

    /// Without the ids that are made anew with each table.
    pub fn of_new_table(self) -> World {
        World { is_new: true, ..self }
    }

    fn table(&self) -> PathBuf {
        self.folder.path().join("t")
    }

    pub fn spool(&self) -> PathBuf {
        spool(&self.table())
    }

    pub async fn stage(&self, scene: &Scene) -> Arc<Staging> {
        let (options, properties) = (scene.options, scene.properties);
        let staging = staged_in(&self.table(), &scene.staged, options, properties).await;
        for (name, source) in &scene.references {
            let file = std::fs::File::open(self.table().join(source)).unwrap();
            let size = file.metadata().unwrap().len();
            let reference = Reference { path: (*source).into(), size, modified_ms: 0 };
            let owner = Owner { uid: 0, gid: 0 };
            let root = staging.root_id();
            staging.link_reference(&reference, &file, root, name.as_ref(), owner).unwrap();
        }
        staging
    }

    /// The staging directory, as the next daemon finds it.
    pub fn adopt(&self) -> Result<Arc<Staging>, String> {
        let area = StagingArea::new(&self.table(), false);
        let mut found = area.open_all().map_err(|error| format!("it can't be adopted: {error}"))?;
        found.pop().ok_or_else(|| "the staging directory is gone".into())
    }

    /// The same table for another daemon.
    pub fn session(&self, fault: Option<Fault>) -> FaultStore {
        self.store.again(fault)
    }

    /// What is staged.
    pub fn staged(&self) -> Files {
        files_of(&self.spool().join("files"))
    }

    /// Names of staged files whose time isn't what their user gave them.
    pub fn touched(&self, scene: &Scene) -> Vec<String> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(STAGED_AT);
        let is_touched = |path: &String| {
            let metadata = std::fs::metadata(self.spool().join("files").join(path));
            metadata.is_ok_and(|metadata| metadata.modified().unwrap() != time)
        };
        scene.staged.iter().map(|(path, _)| path.clone()).filter(is_touched).collect()
    }

    pub async fn dump(&self) -> Dump {
        let objects = self.store.dump().await.into_iter();
        let objects = objects.filter(|(path, _)| path.starts_with("t/"));
        objects.map(|(path, bytes)| (path, hash(&bytes))).collect()
    }

    /// Lays the table down in a folder of its own, for readers of files.
    pub async fn lay_down(&self) -> TempDir {
        let folder = scratch();
        for (path, bytes) in self.store.dump().await {
            if path.starts_with("t/") {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        folder
    }

    /// Reads the newest version, with every file that it names. Errors: what is wrong with it.
    pub async fn observe(&self) -> Result<State, String> {
        let store = self.store.mended().store().child("t");
        let snapshot = match Snapshot::load(&store, None).await {
            Ok(snapshot) => snapshot,
            Err(Error::NotFound(_)) => return Ok(State { version: None, content: String::new() }),
            Err(error) => return Err(format!("the table doesn't open: {error}")),
        };
        let mut lines = Vec::new();
        for (path, add) in &snapshot.adds {
            let bytes = read(&store, path.as_str()).await?;
            if i64::try_from(bytes.len()) != Ok(add.size) {
                return Err(format!("{path} has {} bytes, its add {}", bytes.len(), add.size));
            }
            let vector = add.deletion_vector.as_ref().map(|vector| vector.unique_id());
            lines.push(format!(
                "{:016x} {:?} {:?} {vector:?} {:?} {:?}",
                hash(&bytes),
                add.partition_values,
                add.stats,
                add.base_row_id,
                add.default_row_commit_version
            ));
        }
        for path in vector_files(&snapshot).map_err(|error| error.to_string())? {
            lines.push(format!("{path} {:016x}", hash(&read(&store, path.as_str()).await?)));
        }
        lines.sort();
        let mut content = lines.join("\n");
        let metadata = &snapshot.metadata;
        write!(
            content,
            "\n{:?}\n{:?} {:?} {:?}\n{:?}\n{:?} {:?}\n{}",
            snapshot.protocol,
            metadata.schema_string,
            metadata.partition_columns,
            metadata.configuration,
            (!self.is_new).then_some((&metadata.id, &metadata.created_time)),
            snapshot.txns.values().map(|txn| (&txn.app_id, txn.version)).collect::<Vec<_>>(),
            snapshot.domains,
            snapshot.removes.len(),
        )
        .unwrap();
        self.check_log(&store, &snapshot).await?;
        Ok(State { version: Some(snapshot.version.0), content: without_random(&content) })
    }

    /// Every commit has an id of its own, and a checksum says what is so.
    async fn check_log(&self, store: &Store, snapshot: &Snapshot) -> Result<(), String> {
        let mut ids = Vec::new();
        for version in 0..=snapshot.version.0 {
            let bytes = match store.read(&log_path(&commit_name(Version(version)))).await {
                Ok(bytes) => bytes,
                Err(Error::NotFound(_)) => continue,
                Err(error) => return Err(error.to_string()),
            };
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match Action::from_line(line) {
                    Ok(Some(Action::CommitInfo(info))) => ids.extend(info.txn_id),
                    Ok(_) => {}
                    Err(error) => return Err(format!("version {version}: {error}")),
                }
            }
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        if ids.len() != count {
            return Err("one commit has two versions".into());
        }
        let Ok(bytes) = store.read(&log_path(&checksum_name(snapshot.version))).await else {
            return Ok(());
        };
        let checksum: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("the checksum isn't whole: {error}"))?;
        let sizes: i64 = snapshot.live().map(|add| add.size).sum();
        let said = (checksum["numFiles"].as_u64(), checksum["tableSizeBytes"].as_i64());
        if said != (Some(snapshot.live_count() as u64), Some(sizes)) {
            return Err(format!("the checksum says {said:?}"));
        }
        Ok(())
    }
}

/// The first thing that is gone, or has other bytes. The hint alone may change.
pub fn lost(before: &Dump, after: &Dump) -> Option<String> {
    let is_kept = |path: &String, hash: &u64| {
        path.ends_with(LAST_CHECKPOINT) || after.get(path) == Some(hash)
    };
    let lost = before.iter().find(|(path, hash)| !is_kept(path, hash));
    lost.map(|(path, _)| path.clone())
}

async fn read(store: &Store, path: &str) -> Result<bytes::Bytes, String> {
    store.read(path).await.map_err(|error| format!("a live file is lost: {error}"))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Physical names of columns are made anew with each attempt, and the time from which on commits
/// have one of their own.
fn without_random(text: &str) -> String {
    let enabled = "inCommitTimestampEnablementTimestamp\": \"";
    let text = match text.split_once(enabled) {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{enabled}{after}")
        }
        None => text.to_owned(),
    };
    let mut parts = text.split("col-");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_random = part.get(..36).is_some_and(|id| uuid::Uuid::try_parse(id).is_ok());
        plain += "col-";
        plain += if is_random { &part[36..] } else { part };
    }
    plain
}

fn copy(source: &Path, target: &Path) {
    for (path, bytes) in files_of(source) {
        // Staging directories of the scene's own commits are no part of it.
        if !path.starts_with(".deltafs") {
            let path = target.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}
