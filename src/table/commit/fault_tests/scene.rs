//! A scripted commit: the table as it is before, and what is staged.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::session::{self, Ended};
use super::world::{scratch, spool, staged_in};
use crate::log::listing::{LOG_DIRECTORY, commit_name, log_path};
use crate::store::Store;
use crate::store::fault::FaultStore;
use crate::table::restore::vector_files;
use crate::table::{Snapshot, Version};

/// Names and bytes.
pub type Files = Vec<(String, Vec<u8>)>;

/// What one commit finds and brings.
pub struct Scene {
    pub name: &'static str,
    /// A lake with the table `t`, which need not exist.
    pub store: FaultStore,
    /// The lake, where it is on a disk.
    pub folder: Option<TempDir>,
    pub staged: Files,
    /// Staged names, and the table's files that they refer to.
    pub references: Vec<(&'static str, &'static str)>,
    pub options: &'static str,
    pub properties: &'static str,
    /// Commits of others that come first: the names and texts of each.
    pub rivals: Vec<(String, String)>,
}

impl Scene {
    /// In memory.
    pub fn new(name: &'static str) -> Scene {
        Scene {
            name,
            store: FaultStore::default(),
            folder: None,
            staged: Vec::new(),
            references: Vec::new(),
            options: "",
            properties: "",
            rivals: Vec::new(),
        }
    }

    pub fn on_disk(name: &'static str) -> Scene {
        let folder = scratch();
        let store = FaultStore::on_disk(folder.path().to_str().unwrap());
        Scene { store, folder: Some(folder), ..Scene::new(name) }
    }

    /// The same table before, under another name.
    pub fn files(mut self, files: &[(&str, Vec<u8>)]) -> Scene {
        self.staged.extend(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())));
        self
    }

    pub fn brings(mut self, files: Files) -> Scene {
        self.staged.extend(files);
        self
    }

    pub fn options(self, options: &'static str) -> Scene {
        Scene { options, ..self }
    }

    pub fn properties(self, properties: &'static str) -> Scene {
        Scene { properties, ..self }
    }

    /// A commit of another writer that has its version just before we send ours.
    pub fn rival(mut self, version: u64, actions: &[Value]) -> Scene {
        let rival = (format!("t/{}", log_path(&commit_name(Version(version)))), lines(actions));
        self.store.let_in([rival.clone()]);
        self.rivals.push(rival);
        self
    }

    /// The table's folder.
    pub fn table(&self) -> Store {
        self.store.mended().store().child("t")
    }

    /// Commits, as a part of what is before.
    pub async fn commit(&self, options: &str, properties: &str, files: &[(&str, Vec<u8>)]) {
        let folder = scratch();
        let files: Files =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        let table = folder.path().join("t");
        let staging = staged_in(&table, &files, options, properties).await;
        let spool = spool(&table);
        let store = self.store.mended();
        let ended = session::run(&store, (staging, &spool), None, false).await.unwrap();
        assert!(matches!(ended, Ended::Committed(_)), "{}: {ended:?}", self.name);
    }

    /// Writes a commit as another engine would.
    pub async fn foreign(&self, version: u64, actions: &[Value]) {
        let path = log_path(&commit_name(Version(version)));
        self.table().create(&path, lines(actions).into()).await.unwrap();
    }

    pub async fn snapshot(&self) -> Snapshot {
        Snapshot::load(&self.table(), None).await.unwrap()
    }

    /// The log up to a version.
    pub async fn log(&self, version: u64) -> Files {
        let store = self.table();
        let mut files = Vec::new();
        for entry in store.list(LOG_DIRECTORY).await.unwrap().files {
            let number = entry.name().get(..20).and_then(|digits| digits.parse::<u64>().ok());
            if number.is_some_and(|number| number <= version) {
                files.push((entry.path.clone(), store.read(&entry.path).await.unwrap().to_vec()));
            }
        }
        files
    }

    /// What `versions/N` shows: the log up to it, its data files and its deletion vectors.
    pub async fn version(&self, version: u64) -> Files {
        let store = self.table();
        let snapshot = Snapshot::load(&store, Some(Version(version))).await.unwrap();
        let mut files = self.log(version).await;
        let vectors = vector_files(&snapshot).unwrap();
        for path in snapshot.adds.keys().chain(&vectors) {
            files.push((path.as_str().into(), store.read(path.as_str()).await.unwrap().to_vec()));
        }
        files
    }

    /// Puts files into the table's folder, whatever its log says.
    pub async fn put(&self, files: &Files) {
        for (path, bytes) in files {
            self.table().create(path, bytes.clone().into()).await.unwrap();
        }
    }
}

fn lines(actions: &[Value]) -> String {
    actions.iter().map(|action| format!("{action}\n")).collect()
}

/// All files of a folder on disk.
pub fn files_of(folder: &Path) -> Files {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.push((below, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
