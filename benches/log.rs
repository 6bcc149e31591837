//! One measurement of the log engine, in a process of its own so that its peak memory means
//! something: `scripts/bench log` makes the tables, runs the cases and prints the table.
//!
//!     log SUBJECT CASE TABLE [ARGUMENT]
//!
//! SUBJECT is `deltafs`, the code path of the daemon; `kernel`, delta_kernel with its default
//! engine, asked for the files and neither statistics nor row transforms; or `kernel-default`, the
//! same without those wishes. CASE is `newest`, `every-version` or `next`. Whoever lists looks
//! at each file's path, size, deletion vector and partition values; what they add up to is told, so
//! that subjects can be compared. Prints one JSON object.

// A bench prints, and what it can't do is its end.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delta_kernel::arrow::array::{
    Array, Int64Array, MapArray, RecordBatch, StringArray, StructArray,
};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::StatsOptions;
use delta_kernel::{Engine, SnapshotRef};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::storage::store_from_url;
use deltafs::log::history::History;
use deltafs::log::version::Version;
use deltafs::store::Store;
use serde_json::json;
use tokio::runtime::Runtime;
use url::Url;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [subject, case, table, rest @ ..] = arguments.as_slice() else {
        // `cargo bench` without more: there is nothing to measure.
        println!("usage: scripts/bench log");
        return;
    };
    let runtime = Runtime::new().unwrap();
    let before = memory();
    let mut told = match *subject {
        "deltafs" => ours(&runtime, case, table, rest),
        "kernel" => theirs(&runtime, Asked::Listing, case, table, rest),
        "kernel-default" => theirs(&runtime, Asked::Default, case, table, rest),
        other => panic!("no subject {other}"),
    };
    told["peak_bytes"] = json!(memory().peak);
    told["before_bytes"] = json!(before.resident);
    told["cpu_seconds"] = json!(cpu_seconds());
    println!("{told}");
}

/// Resident bytes now, and at most since the start.
struct Memory {
    resident: u64,
    peak: u64,
}

fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

/// Of all threads, in user mode, since the start: on a busy machine it says more than the clock.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    // The 14th field of all (proc_pid_stat(5)), in hundredths.
    after_name.split_whitespace().nth(11).unwrap().parse::<f64>().unwrap() / 100.0
}

/// What the files of a version add up to.
#[derive(Default)]
struct Sums {
    files: u64,
    path_bytes: u64,
    bytes: u64,
    vectors: u64,
    values: u64,
}

impl Sums {
    fn told(&self) -> [u64; 5] {
        [self.files, self.path_bytes, self.bytes, self.vectors, self.values]
    }
}

/// What a subject is asked for.
#[derive(Clone, Copy)]
enum Asked {
    Listing,
    Default,
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn ours(runtime: &Runtime, case: &str, table: &str, rest: &[&str]) -> serde_json::Value {
    let store = Store::open(table).unwrap();
    let began = Instant::now();
    // On a thread of the runtime, as the daemon does it.
    let load = async move { (History::load(&store).await.unwrap(), store) };
    let (mut history, store) = runtime.block_on(async { tokio::spawn(load).await.unwrap() });
    let newest = history.newest().unwrap();
    let load = seconds(began.elapsed());
    match case {
        "newest" => {
            let resident = memory().resident;
            let listing = Instant::now();
            let sums = list(&history, newest);
            let list = seconds(listing.elapsed());
            json!({"seconds": load + list, "load": load, "files": sums.files,
                "sums": sums.told(), "resident_bytes": resident})
        }
        "every-version" => {
            let listing = Instant::now();
            let mut files = 0;
            for version in history.versions() {
                files += history.intervals().children(version, "").len();
            }
            let list = seconds(listing.elapsed());
            json!({"seconds": load + list, "load": load, "list": list, "files": files})
        }
        "next" => {
            let mut times = Vec::new();
            for commit in rest {
                put_commit(table, commit, newest.next().0 + times.len() as u64);
                let began = Instant::now();
                let newest = history.newest().unwrap();
                let read = History::read_next(&store, newest);
                let commit = runtime.block_on(read).unwrap().unwrap();
                history.apply(commit).unwrap();
                times.push(seconds(began.elapsed()));
            }
            let files = history.intervals().live_files(history.newest().unwrap()).count();
            json!({"seconds": median(times), "files": files})
        }
        other => panic!("no case {other}"),
    }
}

fn list(history: &History, version: Version) -> Sums {
    let mut sums = Sums::default();
    for file in history.intervals().live_files(version) {
        sums.files += 1;
        sums.path_bytes += file.path.len() as u64;
        sums.bytes += file.size;
        sums.vectors += u64::from(file.deletion_vector.is_some());
        sums.values += file.partition_values.iter().count() as u64;
    }
    sums
}

/// Copies a commit file into the log, as another writer would.
fn put_commit(table: &str, commit: &str, version: u64) {
    let to = Path::new(table).join("_delta_log").join(format!("{version:020}.json"));
    std::fs::copy(commit, to).unwrap();
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn theirs(
    runtime: &Runtime,
    asked: Asked,
    case: &str,
    table: &str,
    rest: &[&str],
) -> serde_json::Value {
    let url = Url::from_directory_path(table).unwrap();
    let engine = DefaultEngineBuilder::new(store_from_url(&url).unwrap())
        .with_task_executor(Arc::new(TokioMultiThreadExecutor::new(runtime.handle().clone())))
        .build();
    let at = |version: Option<Version>| {
        let mut builder = delta_kernel::Snapshot::builder_for(url.as_str());
        if let Some(version) = version {
            builder = builder.at_version(version.0);
        }
        builder.build(&engine).unwrap()
    };
    let began = Instant::now();
    match case {
        "newest" => {
            let snapshot = at(None);
            let sums = list_theirs(&engine, &snapshot, asked);
            let time = seconds(began.elapsed());
            json!({"seconds": time, "files": sums.files, "sums": sums.told()})
        }
        "every-version" => {
            // Some versions, evenly spread, stand for all of them.
            let [versions, samples] = [rest[0], rest[1]].map(|text| text.parse::<u64>().unwrap());
            let mut files = 0;
            for sample in 0..samples {
                let version = Version((2 * sample + 1) * versions / (2 * samples));
                files += list_theirs(&engine, &at(Some(version)), asked).files;
            }
            let measured = seconds(began.elapsed());
            let all = measured / samples as f64 * versions as f64;
            json!({"seconds": all, "measured": measured, "samples": samples, "files": files})
        }
        "next" => {
            let mut snapshot = at(None);
            list_theirs(&engine, &snapshot, asked);
            let (mut times, mut with_files, mut files) = (Vec::new(), Vec::new(), 0);
            for commit in rest {
                put_commit(table, commit, snapshot.version() + 1);
                let began = Instant::now();
                let builder = delta_kernel::Snapshot::builder_from(snapshot.clone());
                snapshot = builder.build(&engine).unwrap();
                times.push(seconds(began.elapsed()));
                files = list_theirs(&engine, &snapshot, asked).files;
                with_files.push(seconds(began.elapsed()));
            }
            json!({"seconds": median(with_files), "without_files": median(times), "files": files})
        }
        other => panic!("no case {other}"),
    }
}

/// Goes over every file of a version, as whoever lists it must.
fn list_theirs(engine: &dyn Engine, snapshot: &SnapshotRef, asked: Asked) -> Sums {
    let mut builder = snapshot.clone().scan_builder();
    if let Asked::Listing = asked {
        builder = builder.with_stats(StatsOptions::none()).without_row_transforms();
    }
    let scan = builder.build().unwrap();
    let mut sums = Sums::default();
    for metadata in scan.scan_metadata(engine).unwrap() {
        let (data, selected) = metadata.unwrap().scan_files.into_parts();
        let batch: RecordBatch = ArrowEngineData::try_from_engine_data(data).unwrap().into();
        let [path, size, vector, constants] =
            ["path", "size", "deletionVector", "fileConstantValues"]
                .map(|name| batch.column_by_name(name).unwrap().as_any());
        let path: &StringArray = path.downcast_ref().unwrap();
        let size: &Int64Array = size.downcast_ref().unwrap();
        let vector: &StructArray = vector.downcast_ref().unwrap();
        let constants: &StructArray = constants.downcast_ref().unwrap();
        let values = constants.column_by_name("partitionValues").unwrap();
        let values: &MapArray = values.as_any().downcast_ref().unwrap();
        for row in 0..batch.num_rows() {
            // Rows beyond the selection are selected.
            if selected.get(row) == Some(&false) {
                continue;
            }
            sums.files += 1;
            sums.path_bytes += path.value(row).len() as u64;
            sums.bytes += size.value(row) as u64;
            sums.vectors += u64::from(vector.is_valid(row));
            sums.values += values.value_length(row) as u64;
        }
    }
    sums
}
