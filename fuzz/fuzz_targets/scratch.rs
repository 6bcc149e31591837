//! A table in a scratch folder, whose log is what the fuzzer wants it to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use deltafs::error::Error;
use deltafs::log::checksum::VersionState;
use deltafs::log::history::History;
use deltafs::log::snapshot::Snapshot;
use deltafs::store::Store;
use tokio::runtime::{Builder, Runtime};

/// A log with one version that is whole.
pub const FIRST: &str = concat!(
    r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","v2Checkpoint"],"writerFeatures":["deletionVectors","v2Checkpoint"]}}"#,
    "\n",
    r#"{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}"#,
    "\n",
    r#"{"add":{"path":"f0","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
    "\n",
);

pub struct Scratch {
    folder: PathBuf,
    store: Store,
    runtime: Runtime,
    /// What the last input left in the log.
    left: Vec<PathBuf>,
}

impl Scratch {
    pub fn new() -> Scratch {
        let folder = std::env::temp_dir().join(format!("deltafs-fuzz-{}", std::process::id()));
        fs::create_dir_all(folder.join("_delta_log/_sidecars")).unwrap();
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Scratch { folder, store, runtime, left: Vec::new() }
    }

    /// Makes the log these files and no others.
    pub fn set(&mut self, files: &[(&str, &[u8])]) {
        for path in self.left.drain(..) {
            fs::remove_file(path).unwrap();
        }
        for (name, bytes) in files {
            let path = self.folder.join("_delta_log").join(name);
            fs::write(&path, bytes).unwrap();
            self.left.push(path);
        }
    }

    /// The newest version.
    #[allow(dead_code, reason = "not every target asks for it")]
    pub fn snapshot(&self) -> Snapshot {
        self.runtime.block_on(Snapshot::load(&self.store, None)).unwrap()
    }

    /// Reads the newest version both ways, and lets nothing pass but agreement or a sentence.
    /// True: it can be read.
    #[allow(dead_code, reason = "not every target asks for it")]
    pub fn read(&self) -> bool {
        let history = self.runtime.block_on(History::load(&self.store));
        let snapshot = self.runtime.block_on(Snapshot::load(&self.store, None));
        let history = match history {
            Ok(history) => history,
            Err(error) => {
                assert!(is_a_sentence(&error), "history: {error:?}");
                assert!(snapshot.is_err(), "only a snapshot can be read, not {error:?}");
                return false;
            }
        };
        let newest = history.newest();
        if let Err(error) = &newest {
            assert!(is_a_sentence(error), "newest: {error:?}");
        }
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                assert!(is_a_sentence(&error), "snapshot: {error:?}");
                return false;
            }
        };
        assert_eq!(newest.ok(), Some(snapshot.version));
        agree(&history, &snapshot);
        true
    }
}

/// Both ways lead to one state.
fn agree(history: &History, snapshot: &Snapshot) {
    let version = snapshot.version;
    let live = history.intervals().live_files(version);
    let live: BTreeMap<&str, u64> = live.map(|file| (file.path, file.size)).collect();
    let size = |size: i64| u64::try_from(size).expect("a negative size was let in");
    let adds = snapshot.adds.iter().map(|(path, add)| (path.as_str(), size(add.size)));
    assert_eq!(live, adds.collect());
    let told = history.version_state(version).unwrap();
    let counted = VersionState::of(snapshot);
    assert_eq!(told.live.files, counted.live.files);
    assert_eq!(told.live.vectors, counted.live.vectors);
    assert_eq!(told.protocol, counted.protocol);
    assert_eq!(told.metadata, counted.metadata);
    assert_eq!(told.in_commit_timestamp, counted.in_commit_timestamp);
    let names = |state: &VersionState| -> (BTreeSet<String>, BTreeSet<String>) {
        let txns = state.txns.iter().map(|txn| format!("{txn:?}"));
        (txns.collect(), state.domains.iter().map(|domain| format!("{domain:?}")).collect())
    };
    assert_eq!(names(&told), names(&counted));
}

/// What a log may be refused with, whatever is in it.
fn is_a_sentence(error: &Error) -> bool {
    !error.to_string().contains("BUG")
        && matches!(error, Error::Damaged(_) | Error::Unsupported(_) | Error::NameTooLong(_))
}
