//! The log engine against delta_kernel: every golden table, at every version that its log names.
//!
//! At each version the kernel and we must give the same files (path, size, time, partition values,
//! deletion vector), protocol and metadata, or both must fail. Where one reads what the other
//! refuses, [`DIFFERENCES`] says why, and an entry that isn't needed any more fails the test. Our
//! two readers, history and snapshot, must both equal the kernel. Tables with files outside of
//! their folder are compared as a mount shows them that allows every place, too.

mod checkpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::{Engine, SnapshotRef};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::storage::store_from_url;
use tokio::runtime::Runtime;
use url::Url;

use super::action::{DeletionVector, Metadata, PartitionValues, Protocol};
use super::checkpoint::column::{Fields, integer_at, text_at};
use super::history::History;
use super::path::FilePath;
use super::snapshot::Snapshot;
use super::timestamp;
use super::version::Version;
use crate::error::Error;
use crate::store::Store;

/// Tables are compared side by side.
const THREADS: usize = 4;

/// Where we and the kernel differ: what a table's name begins with, how, and why that is right.
const DIFFERENCES: &[(&str, Differs, &str)] = &[
    (
        "app-txn-with-last-updated",
        Differs::Otherwise,
        "transactions past their retention still count: what was committed isn't done again",
    ),
    (
        "canonicalized-paths-",
        Differs::OnlyTheKernelReads,
        "a file outside the table's folder is live: refused by name",
    ),
    (
        "canonicalized-paths-",
        Differs::Otherwise,
        "file:/a removes /a, as in Spark; the kernel takes them for two files",
    ),
    (
        "allowed: canonicalized-paths-",
        Differs::Otherwise,
        "file:/a removes /a, as in Spark; the kernel takes them for two files",
    ),
    (
        "parquet_row_group_skipping",
        Differs::Otherwise,
        "the checkpoint has other metadata than the commits, which history goes by",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    OnlyWeRead,
    OnlyTheKernelReads,
    /// Both read it, and not the same.
    Otherwise,
}

/// What stands before the name of a table that is compared with every place allowed.
const ALLOWED: &str = "allowed: ";

/// A file as both sides see it; null and empty partition values are one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    size: u64,
    modified_ms: i64,
    partition_values: BTreeMap<String, String>,
    deletion_vector: Option<String>,
}

#[derive(Debug, PartialEq)]
struct State {
    files: BTreeMap<String, File>,
    reader: (i32, BTreeSet<String>),
    writer: (i32, BTreeSet<String>),
    metadata: (String, Option<String>, Option<String>, Option<i64>),
    /// As JSON: a checkpoint may space it otherwise.
    schema: serde_json::Value,
    partition_columns: Vec<String>,
    configuration: BTreeMap<String, String>,
    txns: BTreeMap<String, i64>,
    /// Where in-commit timestamps are on; file times are adjusted by us only.
    commit_time_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Counts {
    tables: usize,
    versions: usize,
    same: usize,
    both_fail: usize,
    skipped: BTreeMap<String, usize>,
    /// Entries of [`DIFFERENCES`] that were met.
    met: BTreeSet<usize>,
    wrong: Vec<String>,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.tables += other.tables;
        self.versions += other.versions;
        self.same += other.same;
        self.both_fail += other.both_fail;
        for (reason, versions) in other.skipped {
            *self.skipped.entry(reason).or_default() += versions;
        }
        self.met.extend(other.met);
        self.wrong.extend(other.wrong);
    }

    fn differ(&mut self, table: &str, version: Version, differs: Differs, how: &str) {
        let known =
            |entry: &(&str, Differs, &str)| table.starts_with(entry.0) && entry.1 == differs;
        match DIFFERENCES.iter().position(known) {
            Some(at) => {
                self.met.insert(at);
                let reason = format!("{differs:?}: {}", DIFFERENCES[at].2);
                *self.skipped.entry(reason).or_default() += 1;
            }
            None => self.wrong.push(format!("{table} {version}: {differs:?}: {how}")),
        }
    }
}

/// The folder of golden tables; says so where it isn't set, and fails where it must be.
pub fn golden() -> Option<PathBuf> {
    match std::env::var_os("DELTAFS_GOLDEN") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
            println!("SKIPPED: DELTAFS_GOLDEN isn't set, no golden table was read");
            None
        }
    }
}

/// Unpacks what is packed; returns the folders that hold a log, by name.
pub fn tables(golden: &Path, scratch: &Path) -> Vec<(String, PathBuf)> {
    let mut folders = vec![golden.join("features")];
    for kind in ["expected", "features"] {
        let target = scratch.join(kind);
        std::fs::create_dir_all(&target).unwrap();
        for entry in std::fs::read_dir(golden.join(kind)).unwrap() {
            let archive = entry.unwrap().path();
            if archive.to_string_lossy().ends_with(".tar.zst") {
                let mut tar = Command::new("tar");
                let tar = tar.arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&target);
                assert!(tar.output().unwrap().status.success(), "unpack {}", archive.display());
            }
        }
        folders.push(target);
    }
    let mut found = Vec::new();
    for folder in folders {
        find_logs(&folder, &folder, &mut found);
    }
    found.sort();
    found
}

fn find_logs(root: &Path, folder: &Path, found: &mut Vec<(String, PathBuf)>) {
    if folder.join("_delta_log").is_dir() {
        let name = folder.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        found.push((name, folder.to_owned()));
        return;
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_logs(root, &path, found);
        }
    }
}

/// The highest version that any name in the log has.
fn highest_version(table: &Path) -> u64 {
    let names = std::fs::read_dir(table.join("_delta_log")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let versions = names.filter_map(|name| super::listing::parse_name(&name));
    versions.map(|(version, _)| version.0).max().unwrap_or(0)
}

#[test]
fn every_golden_table_equals_delta_kernel_at_every_version() {
    let Some(golden) = golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let tables = tables(&golden, scratch.path());
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let threads = tables.chunks(tables.len().div_ceil(THREADS)).map(|tables| {
            let runtime = &runtime;
            scope.spawn(move || compare_tables(runtime, tables))
        });
        for thread in threads.collect::<Vec<_>>() {
            counts.add(thread.join().unwrap());
        }
    });
    let Counts { tables, versions, same, both_fail, .. } = counts;
    println!("{tables} tables, {versions} versions: {same} equal, {both_fail} fail in both");
    for (reason, versions) in &counts.skipped {
        println!("{versions} differ on purpose: {reason}");
    }
    assert!(counts.wrong.is_empty(), "{}", counts.wrong.join("\n"));
    for (at, (table, differs, _)) in DIFFERENCES.iter().enumerate() {
        assert!(counts.met.contains(&at), "{table} {differs:?} is no difference any more");
    }
    assert!(tables >= 150 && same >= 450, "golden tables are missing");
}

fn compare_tables(runtime: &Runtime, tables: &[(String, PathBuf)]) -> Counts {
    let mut counts = Counts::default();
    for (name, folder) in tables {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let has_outside = compare_table(runtime, name, folder, store.clone(), &mut counts);
        if has_outside {
            let store = store.allowing(vec!["/".into()]);
            let name = format!("{ALLOWED}{name}");
            compare_table(runtime, &name, folder, store, &mut counts);
        }
    }
    counts
}

/// Says whether a version is refused for a file outside of the table's folder.
fn compare_table(
    runtime: &Runtime,
    name: &str,
    folder: &Path,
    store: Store,
    counts: &mut Counts,
) -> bool {
    let history = runtime.block_on(History::load(&store));
    let url = Url::from_directory_path(folder).unwrap();
    let engine = DefaultEngineBuilder::new(store_from_url(&url).unwrap())
        .with_task_executor(Arc::new(TokioMultiThreadExecutor::new(runtime.handle().clone())))
        .build();
    counts.tables += 1;
    for version in (0..=highest_version(folder)).map(Version) {
        counts.versions += 1;
        let ours = ours(runtime, &store, history.as_ref(), version);
        let app_ids = ours.iter().flat_map(|ours| ours[0].txns.keys().cloned()).collect();
        let theirs = theirs(&engine, &url, version, app_ids);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours.iter().all(|ours| *ours == theirs) => counts.same += 1,
            (Ok(ours), Ok(theirs)) => {
                let how = format!("history and snapshot {ours:#?}, kernel {theirs:#?}");
                counts.differ(name, version, Differs::Otherwise, &how);
            }
            (Err(_), Err(_)) => counts.both_fail += 1,
            (Ok(_), Err(error)) => counts.differ(name, version, Differs::OnlyWeRead, &error),
            (Err(error), Ok(_)) => {
                counts.differ(name, version, Differs::OnlyTheKernelReads, &error);
            }
        }
    }
    let versions = history.iter().flat_map(|history| history.versions());
    let mut facts = versions.filter_map(|version| history.as_ref().unwrap().facts(version));
    let is_outside = |why: &String| why.contains("outside of the table's folder");
    facts.any(|facts| facts.unreadable.as_ref().is_some_and(is_outside))
}

/// What history and what a snapshot has.
fn ours(
    runtime: &Runtime,
    store: &Store,
    history: Result<&History, &Error>,
    version: Version,
) -> Result<[State; 2], String> {
    let snapshot = runtime.block_on(Snapshot::load(store, Some(version)));
    let history = history.map_err(Error::to_string)?;
    let Some(facts) = history.facts(version) else {
        assert!(snapshot.is_err(), "{} {version}: only a snapshot reads it", store.url());
        return Err(snapshot.unwrap_err().to_string());
    };
    if let Some(unreadable) = &facts.unreadable {
        assert!(matches!(snapshot, Err(Error::Unsupported(_))), "{} {version}", store.url());
        return Err(unreadable.clone());
    }
    let files = history.intervals().live_files(version).map(|file| {
        let owned = |(key, value): (&str, Option<&str>)| (key.to_owned(), value.map(str::to_owned));
        let values: PartitionValues = file.partition_values.iter().map(owned).collect();
        let state = file_of(file.size, file.modified_ms, &values, file.deletion_vector);
        (file.path.to_owned(), state)
    });
    let mut state = state(files.collect(), &facts.protocol, &facts.metadata);
    let snapshot = snapshot.unwrap();
    for app_id in snapshot.txns.keys() {
        let app_version = history.txn_version(app_id, version).unwrap();
        state.txns.insert(app_id.clone(), app_version);
    }
    if timestamp::has_in_commit_timestamps(&facts.metadata) {
        state.commit_time_ms = Some(facts.commit_time_ms);
    }
    assert_eq!(snapshot.commit_time_ms, facts.commit_time_ms, "{} {version}", store.url());
    let whole = state_of(&snapshot);
    // History keeps no files that no directory shows, but counts them.
    assert_eq!(facts.live.files, whole.files.len() as u64, "{} {version}", store.url());
    if !snapshot.outside.is_empty() {
        state.files.extend(
            whole
                .files
                .iter()
                .filter(|(path, _)| FilePath::from_log(path).is_err())
                .map(|(path, file)| (path.clone(), file.clone())),
        );
    }
    Ok([state, whole])
}

fn state_of(snapshot: &Snapshot) -> State {
    let inside = snapshot.adds.iter().map(|(path, add)| (path.as_str(), add));
    let outside = snapshot.outside.values().map(|add| (add.path.as_str(), add));
    let files = inside.chain(outside).map(|(path, add)| {
        let size = u64::try_from(add.size).unwrap();
        let vector = add.deletion_vector.as_ref();
        let state = file_of(size, add.modification_time, &add.partition_values, vector);
        (path.to_owned(), state)
    });
    for (path, vector) in snapshot.removes.keys() {
        let live = FilePath::from_decoded(path).ok().and_then(|path| snapshot.adds.get(&path));
        let live = live.map(|add| add.deletion_vector.as_ref().map(DeletionVector::unique_id));
        assert_ne!(live.as_ref(), Some(vector), "{path} is live and a tombstone");
    }
    let mut state = state(files.collect(), &snapshot.protocol, &snapshot.metadata);
    let txns = snapshot.txns.iter().map(|(app_id, txn)| (app_id.clone(), txn.version));
    state.txns = txns.collect();
    state.commit_time_ms = snapshot.in_commit_timestamp;
    state
}

fn file_of(
    size: u64,
    modified_ms: i64,
    values: &PartitionValues,
    vector: Option<&DeletionVector>,
) -> File {
    let values = values.iter().map(|(key, value)| (key.clone(), value.clone().unwrap_or_default()));
    let deletion_vector = vector.map(DeletionVector::unique_id);
    File { size, modified_ms, partition_values: values.collect(), deletion_vector }
}

fn state(files: BTreeMap<String, File>, protocol: &Protocol, metadata: &Metadata) -> State {
    let set = |names: &Option<Vec<String>>| names.iter().flatten().cloned().collect();
    State {
        files,
        reader: (protocol.min_reader_version, set(&protocol.reader_features)),
        writer: (protocol.min_writer_version, set(&protocol.writer_features)),
        metadata: (
            metadata.id.clone(),
            metadata.name.clone(),
            metadata.description.clone(),
            metadata.created_time,
        ),
        schema: serde_json::from_str(&metadata.schema_string).unwrap(),
        partition_columns: metadata.partition_columns.clone(),
        configuration: metadata.configuration.clone(),
        txns: BTreeMap::new(),
        commit_time_ms: None,
    }
}

fn theirs(
    engine: &dyn Engine,
    url: &Url,
    version: Version,
    app_ids: Vec<String>,
) -> Result<State, String> {
    let text = |error: delta_kernel::KernelError| error.to_string();
    let builder = delta_kernel::Snapshot::builder_for(url.as_str()).at_version(version.0);
    let snapshot: SnapshotRef = builder.build(engine).map_err(text)?;
    let scan = snapshot.clone().scan_builder().build().map_err(text)?;
    let mut files = BTreeMap::new();
    for metadata in scan.scan_metadata(engine).map_err(text)? {
        let (data, selected) = metadata.map_err(text)?.scan_files.into_parts();
        let batch: RecordBatch = ArrowEngineData::try_from_engine_data(data).map_err(text)?.into();
        read_their_files(&batch, &selected, &mut files);
    }
    let configuration = snapshot.table_configuration();
    let (protocol, metadata) = (configuration.protocol(), configuration.metadata());
    let names = |features: Option<&[delta_kernel::table_features::TableFeature]>| {
        features.into_iter().flatten().map(|feature| feature.as_ref().to_owned()).collect()
    };
    let pairs = metadata.configuration().iter();
    let mut txns = BTreeMap::new();
    for app_id in app_ids {
        let app_version = snapshot.get_app_id_version(&app_id, engine).map_err(text)?;
        txns.extend(app_version.map(|app_version| (app_id, app_version)));
    }
    let in_commit = metadata.configuration().get("delta.enableInCommitTimestamps");
    let commit_time_ms = match in_commit.is_some_and(|value| value == "true") {
        true => Some(snapshot.get_timestamp(engine).map_err(text)?),
        false => None,
    };
    Ok(State {
        files,
        reader: (protocol.min_reader_version(), names(protocol.reader_features())),
        writer: (protocol.min_writer_version(), names(protocol.writer_features())),
        metadata: (
            metadata.id().to_owned(),
            metadata.name().map(str::to_owned),
            metadata.description().map(str::to_owned),
            metadata.created_time(),
        ),
        schema: serde_json::from_str(metadata.schema_string()).unwrap(),
        partition_columns: metadata.partition_columns().to_vec(),
        configuration: pairs.map(|(key, value)| (key.clone(), value.clone())).collect(),
        txns,
        commit_time_ms,
    })
}

/// The kernel's rows of files to scan.
fn read_their_files(batch: &RecordBatch, selected: &[bool], files: &mut BTreeMap<String, File>) {
    let rows = arrow::array::StructArray::from(batch.clone());
    let root: arrow::array::ArrayRef = Arc::new(rows);
    let batch = RecordBatch::try_from_iter([("file", root)]).unwrap();
    let fields = Fields::of(&batch, "file").unwrap().unwrap();
    let path = fields.text_required("path").unwrap();
    let size = fields.integers_required("size").unwrap();
    let modified = fields.integers("modificationTime").unwrap();
    let constants = fields.fields("fileConstantValues").unwrap().unwrap();
    let values = constants.map("partitionValues").unwrap();
    let vectors = fields.fields("deletionVector").unwrap().unwrap();
    for row in fields.rows().filter(|row| selected.get(*row).copied().unwrap_or(true)) {
        let Some(path) = text_at(path, row) else { continue };
        let path =
            FilePath::from_log(path).map_or(path.to_owned(), |path| path.as_str().to_owned());
        let vector = (!vectors.is_null(row))
            .then(|| super::checkpoint::deletion_vector(vectors, row).unwrap());
        let values = values.and_then(|values| values.get(row)).unwrap_or_default();
        let size = u64::try_from(size.get(row).unwrap()).unwrap();
        let modified_ms = integer_at(modified, row).unwrap();
        let file = file_of(size, modified_ms, &values, vector.as_ref());
        assert!(files.insert(path.clone(), file).is_none(), "the kernel gives {path} twice");
    }
}
