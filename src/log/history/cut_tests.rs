//! Every file of golden logs, cut at every offset: an error that names the file, or exactly what
//! the uncut log says; never fewer versions or files, never a panic.
//!
//! One cut can't be told: at the end of a line of JSON, which is also the end of a shorter commit
//! or of a shorter V2 checkpoint, for neither has its length written anywhere. Then versions before
//! that file's are still exact, and the newest is still the newest, or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::log::checkpoint;
use crate::log::listing;
use crate::log::snapshot::Snapshot;

/// A golden log; whether commits that its checkpoint covers are taken away first; which of its
/// files are cut. Where the commits are there, no cut of a checkpoint is seen.
/// Checksums lead to no version; `checksum` has tests of its own.
const LOGS: [(&str, bool, &[&str]); 5] = [
    ("table-with-dv-small", false, &["json"]),
    ("app-txn-checkpoint", false, &["json"]),
    ("app-txn-checkpoint", true, &["json", "parquet", "_last_checkpoint"]),
    ("v2-parquet-sidecars-struct-stats-only", true, &["json", "parquet"]),
    ("v2-json-sidecars-struct-stats-only", true, &["json"]),
];
/// Of Parquet files, one cut of so many is also read as a snapshot, by the same reader of footers.
const SNAPSHOT_EACH: usize = 16;

/// Path, size and deletion vector of each live file.
type Files = Vec<(String, u64, Option<String>)>;

/// A log in memory with the truth about it.
struct Log {
    name: String,
    objects: InMemory,
    /// Paths within the table's folder.
    files: Vec<(String, Bytes)>,
    /// By version: its files, and what a snapshot has.
    truth: BTreeMap<Version, (Files, String)>,
}

#[derive(Debug, Default)]
struct Counts {
    cuts: usize,
    exact: usize,
    refused: usize,
    /// At the end of a line.
    untold: usize,
}

fn store(objects: InMemory) -> Store {
    Store::from_object_store(Arc::new(objects))
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<(String, Bytes)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => read_folder(&entry.path(), &path, files),
            false => files.push((path, std::fs::read(entry.path()).unwrap().into())),
        }
    }
}

fn files_of(history: &History, version: Version) -> Files {
    let live = history.intervals().live_files(version);
    live.map(|file| {
        let vector = file.deletion_vector.map(|vector| vector.unique_id());
        (file.path.to_owned(), file.size, vector)
    })
    .collect()
}

/// Without what a checkpoint need not have: statistics as JSON, dataChange, old tombstones.
fn state_of(snapshot: &Snapshot) -> String {
    let Snapshot { protocol, metadata, adds, txns, domains, .. } = snapshot;
    let adds: Vec<String> = adds
        .iter()
        .map(|(path, add)| {
            let vector = add.deletion_vector.as_ref();
            let ids = (add.base_row_id, add.default_row_commit_version);
            format!(
                "{path} {} {} {:?} {vector:?} {ids:?}",
                add.size, add.modification_time, add.partition_values
            )
        })
        .collect();
    format!("{protocol:?} {metadata:?} {txns:?} {domains:?} {adds:#?}")
}

impl Log {
    async fn open(golden: &Path, name: &str, is_cleaned: bool) -> Log {
        let mut files = Vec::new();
        let folder = golden.join("features").join(name).join(listing::LOG_DIRECTORY);
        read_folder(&folder, listing::LOG_DIRECTORY, &mut files);
        let objects = InMemory::new();
        for (path, bytes) in &files {
            objects.put(&path.as_str().into(), bytes.clone().into()).await.unwrap();
        }
        if is_cleaned {
            let listed = listing::list_log(&store(objects.fork())).await.unwrap().files;
            let complete = checkpoint::complete(&listed);
            let (newest, _) = complete.last_key_value().unwrap();
            for file in &listed {
                if file.kind == LogFileKind::Commit && file.version < *newest {
                    objects.delete(&file.path().into()).await.unwrap();
                    files.retain(|(path, _)| *path != file.path());
                }
            }
        }
        let mut log =
            Log { name: format!("{name} {is_cleaned}"), objects, files, truth: BTreeMap::new() };
        let whole = store(log.objects.fork());
        let history = History::load(&whole).await.unwrap();
        history.newest().unwrap();
        for version in history.versions() {
            let snapshot = Snapshot::load(&whole, Some(version)).await.unwrap();
            let files = files_of(&history, version);
            assert_eq!(files.len(), snapshot.adds.len(), "{}", log.name);
            log.truth.insert(version, (files, state_of(&snapshot)));
        }
        log
    }

    /// Reads the log with one file cut.
    async fn cut(&self, path: &str, bytes: &Bytes, at: usize, counts: &mut Counts) {
        let objects = self.objects.fork();
        objects.put(&path.into(), bytes.slice(..at).into()).await.unwrap();
        let store = store(objects);
        let name = path.split_once('/').unwrap().1;
        let version = listing::parse_name(name).map_or(Version(0), |(version, _)| version);
        let is_line_end = at > 0 && (bytes[at] == b'\n' || bytes[at - 1] == b'\n');
        let is_untold = path.ends_with(".json") && is_line_end;
        let told = format!("{} {path} cut at {at}", self.name);
        let (newest, _) = self.truth.last_key_value().unwrap();
        let must_name = |error: &Error| {
            assert!(matches!(error, Error::Damaged(_)), "{told}: {error:?}");
            assert!(is_untold || error.to_string().contains(name), "{told}: {error}");
        };
        let history = History::load(&store).await.unwrap_or_else(|error| panic!("{told}: {error}"));
        for listed in history.versions() {
            if !is_untold || listed < version {
                assert_eq!(files_of(&history, listed), self.truth[&listed].0, "{told}: {listed}");
            }
        }
        let found = history.newest();
        match &found {
            Ok(found) => assert_eq!(found, newest, "{told}"),
            Err(error) => must_name(error),
        }
        let is_sampled = !path.ends_with("parquet") || at.is_multiple_of(SNAPSHOT_EACH);
        for wanted in BTreeSet::from([version, *newest]).into_iter().filter(|_| is_sampled) {
            let truth = self.truth.get(&wanted).map(|(_, state)| state.as_str());
            match Snapshot::load(&store, Some(wanted)).await {
                Ok(_) if is_untold => {}
                Ok(snapshot) => {
                    assert_eq!(Some(state_of(&snapshot).as_str()), truth, "{told}: {wanted}");
                    assert!(wanted < *newest || found.is_ok(), "{told}: {found:?}");
                }
                Err(error) if truth.is_some() => must_name(&error),
                Err(_) => {}
            }
        }
        counts.cuts += 1;
        match found {
            _ if is_untold => counts.untold += 1,
            Ok(_) => counts.exact += 1,
            Err(_) => counts.refused += 1,
        }
    }
}

/// Cuts every file of a log everywhere, on all processors.
fn cut_all(log: &Log, endings: &[&str]) -> Counts {
    let cuts: Vec<(&str, &Bytes, usize)> = log
        .files
        .iter()
        .filter(|(path, _)| endings.iter().any(|ending| path.ends_with(ending)))
        .flat_map(|(path, bytes)| (0..bytes.len()).map(move |at| (path.as_str(), bytes, at)))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |share: &[(&str, &Bytes, usize)]| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut counts = Counts::default();
        for (path, bytes, at) in share {
            runtime.block_on(log.cut(path, bytes, *at, &mut counts));
        }
        counts
    };
    let mut all = Counts::default();
    std::thread::scope(|scope| {
        let shares = cuts.chunks(cuts.len().div_ceil(threads * 8));
        for shares in shares.collect::<Vec<_>>().chunks(threads) {
            let running: Vec<_> = shares.iter().map(|share| scope.spawn(|| work(share))).collect();
            for thread in running {
                let counts = thread.join().unwrap();
                all.cuts += counts.cuts;
                all.exact += counts.exact;
                all.refused += counts.refused;
                all.untold += counts.untold;
            }
        }
    });
    all
}

#[test]
fn a_log_cut_anywhere_is_an_error_or_the_uncut_log() {
    let Some(golden) = std::env::var_os("DELTAFS_GOLDEN").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
        println!("SKIPPED: DELTAFS_GOLDEN isn't set, no log was cut");
        return;
    };
    for (name, is_cleaned, endings) in LOGS {
        let began = std::time::Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = runtime.block_on(Log::open(&golden, name, is_cleaned));
        let counts = cut_all(&log, endings);
        println!("{name}, cleaned up: {is_cleaned}: {counts:?} in {:?}", began.elapsed());
        assert!(counts.untold > 0, "{name}: {counts:?}");
        // Only where nothing else leads to the newest version is a cut seen.
        let has_checkpoint = log.files.iter().any(|(path, _)| path.contains("checkpoint"));
        let enough = counts.cuts / if is_cleaned { 2 } else { 4 };
        let expected = if is_cleaned || !has_checkpoint { counts.refused } else { counts.exact };
        assert!(expected > enough, "{name}: {counts:?}");
    }
}
