//! Tables within a budget against tables without: nothing that is shown may tell the two apart.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::join_all;

use super::*;
use crate::error::Error;
use crate::log::listing::{commit_name, log_path};
use crate::store::Store;
use crate::store::fault::FaultStore;
use crate::table::commit::checkpoint;
use crate::table::{Child, Table, Timeline};

const FIRST: &str = concat!(
    r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
    "\n",
    r#"{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"#,
    r#""schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"#,
    r#""configuration":{}}}"#,
    "\n",
);
/// For how many versions a file lives.
const LIFETIME: u64 = 9;
/// Versions from one checkpoint to the next.
const INTERVAL: u64 = 8;

/// What the directory of a version shows, told from its number alone.
fn wanted(version: u64) -> Vec<String> {
    let from = (version + 1).saturating_sub(LIFETIME);
    let mut names: Vec<String> = (from..=version).map(|n| format!("d/f{n}")).collect();
    names.sort();
    names
}

/// The commit that makes it so.
fn commit(version: u64) -> String {
    let mut text = if version == 0 { FIRST.to_owned() } else { String::new() };
    text += &format!(
        "{{\"add\":{{\"path\":\"d/f{version}\",\"partitionValues\":{{}},\"size\":{version},\
         \"modificationTime\":1,\"dataChange\":true,\"stats\":\"{{\\\"numRecords\\\":1}}\"}}}}\n"
    );
    if let Some(gone) = version.checked_sub(LIFETIME) {
        text += &format!(
            "{{\"remove\":{{\"path\":\"d/f{gone}\",\"deletionTimestamp\":1,\
             \"dataChange\":true}}}}\n"
        );
    }
    text
}

/// A table in a scratch folder that others commit to.
struct Scratch {
    folder: tempfile::TempDir,
    next: AtomicU64,
}

impl Scratch {
    async fn new(versions: u64) -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("_delta_log")).unwrap();
        let scratch = Scratch { folder, next: AtomicU64::new(0) };
        scratch.commits(versions).await;
        scratch
    }

    fn store(&self) -> Store {
        Store::open(self.folder.path().to_str().unwrap()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(log_path(name))
    }

    async fn commits(&self, count: u64) {
        for _ in 0..count {
            let version = self.next.fetch_add(1, Ordering::SeqCst);
            fs::write(self.file("new"), commit(version)).unwrap();
            // All of one time: each commit's is then told from those before it.
            let new = fs::File::options().append(true).open(self.file("new")).unwrap();
            new.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
            fs::rename(self.file("new"), self.file(&commit_name(Version(version)))).unwrap();
            if version > 0 && version.is_multiple_of(INTERVAL) {
                checkpoint::write(&self.store(), Version(version)).await.unwrap();
            }
        }
    }

    fn table(&self, budget: &Arc<Budget>) -> Arc<Table> {
        Arc::new(Table::new("".into(), self.store(), false, budget.clone()))
    }
}

async fn shown(table: &Arc<Table>, version: u64) -> Vec<String> {
    let version = Version(version);
    let files = table.files(version).await.unwrap();
    names(&files, version)
}

fn names(files: &Files, version: Version) -> Vec<String> {
    files.read(|era| {
        let live = era.intervals().live_files(version);
        let live: Vec<String> = live.map(|file| file.path.to_owned()).collect();
        let listed = era.intervals().children(version, "d").into_iter();
        let listed: Vec<String> =
            listed.map(|child| format!("d/{}", Child::name(&child))).collect();
        assert_eq!(listed, live);
        live
    })
}

/// Deterministic pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

#[tokio::test]
async fn every_version_is_the_same_within_any_budget_while_commits_come_in() {
    for bytes_max in [0, 3_000, 9_000] {
        let scratch = Scratch::new(20).await;
        let budget = Budget::new(bytes_max);
        let (all, tight) = (scratch.table(&Budget::new(usize::MAX)), scratch.table(&budget));
        let mut random = Random(bytes_max as u64 + 1);
        for _ in 0..12 {
            for table in [&all, &tight] {
                table.refresh().await.unwrap();
            }
            let versions = all.read(Timeline::versions).unwrap();
            assert_eq!(tight.read(Timeline::versions).unwrap(), versions);
            for _ in 0..20 {
                let version = random.below(versions.len() as u64);
                assert_eq!(shown(&all, version).await, wanted(version));
                assert_eq!(shown(&tight, version).await, wanted(version), "{bytes_max}");
                let at = Version(version);
                let facts = |table: &Arc<Table>| table.read(|all| all.facts(at).cloned()).unwrap();
                assert_eq!(facts(&tight), facts(&all), "{bytes_max}");
                let frozen = |table: &Arc<Table>| table.frozen_log(at).unwrap();
                assert_eq!(frozen(&tight).files, frozen(&all).files);
                assert_eq!(frozen(&tight).last_checkpoint, frozen(&all).last_checkpoint);
            }
            if bytes_max > 3_000 {
                assert!(budget.bytes() <= bytes_max, "{}", budget.bytes());
            }
            scratch.commits(random.below(4)).await;
        }
    }
}

#[tokio::test]
async fn tables_push_each_other_out_and_come_back() {
    let scratches = [Scratch::new(30).await, Scratch::new(12).await, Scratch::new(3).await];
    let budget = Budget::new(9_000);
    let tables = scratches.each_ref().map(|scratch| scratch.table(&budget));
    for round in 0..6 {
        for (table, scratch) in tables.iter().zip(&scratches) {
            table.refresh().await.unwrap();
            let newest = scratch.next.load(Ordering::SeqCst) - 1;
            assert_eq!(table.newest().unwrap(), Version(newest));
            for version in [newest, round % 3] {
                assert_eq!(shown(table, version).await, wanted(version));
            }
            assert!(budget.bytes() <= 9_000);
            scratch.commits(2).await;
        }
    }
    drop(tables);
    assert_eq!(budget.bytes(), 0, "a table that is gone takes its files along");
}

#[tokio::test]
async fn what_is_held_is_read_though_it_was_forgotten_and_two_that_push_each_other_out_both_are() {
    let scratch = Scratch::new(40).await;
    let table = scratch.table(&Budget::new(0));
    table.refresh().await.unwrap();
    let (old, new) =
        (table.files(Version(2)).await.unwrap(), table.files(Version(35)).await.unwrap());
    assert_eq!(Arc::strong_count(&old), 1, "only we hold it");
    scratch.commits(3).await;
    table.refresh().await.unwrap();
    assert_eq!(names(&old, Version(2)), wanted(2));
    assert_eq!(names(&new, Version(35)), wanted(35));
    let both = (0..40).map(async |n| {
        let version = if n % 2 == 0 { 2 } else { 35 };
        assert_eq!(shown(&table, version).await, wanted(version));
    });
    tokio::time::timeout(Duration::from_secs(60), join_all(both)).await.unwrap();
}

/// The same log in memory, where calls are counted.
async fn in_memory(versions: u64) -> FaultStore {
    let objects = FaultStore::default();
    let store = Store::from_object_store(Arc::new(objects.clone()));
    for version in 0..versions {
        let name = log_path(&commit_name(Version(version)));
        store.create(&name, commit(version).into()).await.unwrap();
        if version > 0 && version.is_multiple_of(INTERVAL) {
            checkpoint::write(&store, Version(version)).await.unwrap();
        }
    }
    objects
}

#[tokio::test]
async fn many_who_wait_for_a_version_cost_one_load_and_what_is_there_costs_none() {
    let objects = in_memory(30).await;
    let store = Store::from_object_store(Arc::new(objects.clone()));
    let table = Arc::new(Table::new("".into(), store, false, Budget::new(0)));
    table.refresh().await.unwrap();
    let before = objects.calls();
    assert_eq!(shown(&table, 3).await, wanted(3));
    let one = objects.calls() - before;
    assert!(one > 0);
    assert_eq!(shown(&table, 29).await, wanted(29));
    let before = objects.calls();
    join_all((0..50).map(async |_| assert_eq!(shown(&table, 3).await, wanted(3)))).await;
    assert_eq!(objects.calls() - before, one);
    assert_eq!(shown(&table, 3).await, wanted(3));
    let waits = futures::FutureExt::now_or_never(table.files(Version(3))).is_none();
    assert!(!waits, "what is in memory is answered at once");
    assert_eq!(objects.calls() - before, one);
}

#[tokio::test]
async fn a_commit_that_is_tailed_costs_no_load_where_the_newest_version_is_in_memory() {
    let objects = in_memory(30).await;
    let store = Store::from_object_store(Arc::new(objects.clone()));
    let put = async |version| {
        let name = log_path(&commit_name(Version(version)));
        store.create(&name, commit(version).into()).await.unwrap();
    };
    let mut costs = Vec::new();
    for bytes_max in [usize::MAX, 0] {
        let table = Arc::new(Table::new("".into(), store.clone(), false, Budget::new(bytes_max)));
        table.refresh().await.unwrap();
        let newest = table.newest().unwrap().0;
        // Of a table that takes more than the budget the newest version stays all the same.
        put(newest + 1).await;
        let before = objects.calls();
        table.refresh().await.unwrap();
        costs.push(objects.calls() - before);
        assert_eq!(shown(&table, newest + 1).await, wanted(newest + 1));
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn a_version_whose_log_is_gone_says_so_and_the_table_goes_on() {
    let scratch = Scratch::new(30).await;
    let table = scratch.table(&Budget::new(0));
    table.refresh().await.unwrap();
    for version in 0..16 {
        fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
    }
    fs::remove_file(scratch.file("00000000000000000008.checkpoint.parquet")).unwrap();
    let error = table.files(Version(5)).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("version 5 were forgotten"), "{error}");
    scratch.commits(1).await;
    table.refresh().await.unwrap();
    // It was shown, and stays in the list until the log is read anew.
    assert_eq!(table.read(Timeline::versions).unwrap().len(), 31);
    assert_eq!(shown(&table, 16).await, wanted(16));
    assert_eq!(shown(&table, 30).await, wanted(30));
    let anew = scratch.table(&Budget::new(0));
    anew.refresh().await.unwrap();
    assert_eq!(anew.read(Timeline::versions).unwrap().first(), Some(&Version(16)));
}

#[tokio::test]
async fn files_of_a_table_that_was_made_again_are_not_mixed_with_those_of_the_old_one() {
    let scratch = Scratch::new(30).await;
    let table = scratch.table(&Budget::new(0));
    table.refresh().await.unwrap();
    fs::remove_dir_all(scratch.file("")).unwrap();
    fs::create_dir(scratch.file("")).unwrap();
    fs::write(scratch.file(&commit_name(Version(0))), commit(0).replace("d/f0", "d/new")).unwrap();
    let error = table.files(Version(0)).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Conflict(_) | Error::Damaged(_)), "{error:?}");
    table.refresh().await.unwrap();
    assert_eq!(shown(&table, 0).await, ["d/new"]);
    let error = table.files(Version(5)).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn listers_of_many_versions_race_with_commits() {
    let scratch = Arc::new(Scratch::new(20).await);
    for bytes_max in [0, 4_000] {
        let table = scratch.table(&Budget::new(bytes_max));
        table.refresh().await.unwrap();
        let listers = (0..8).map(|seed| {
            let table = table.clone();
            tokio::spawn(async move {
                let mut random = Random(seed + 1);
                for _ in 0..60 {
                    table.fresh(Duration::from_millis(1)).await.unwrap();
                    let newest = table.newest().unwrap().0;
                    // The newest more often than others, as people do.
                    let version = match random.below(3) {
                        0 => newest,
                        _ => random.below(newest + 1),
                    };
                    assert_eq!(shown(&table, version).await, wanted(version));
                }
            })
        });
        let listers: Vec<_> = listers.collect();
        let writer = {
            let scratch = scratch.clone();
            tokio::spawn(async move {
                for _ in 0..30 {
                    scratch.commits(1).await;
                    tokio::task::yield_now().await;
                }
            })
        };
        for task in listers.into_iter().chain([writer]) {
            tokio::time::timeout(Duration::from_secs(100), task).await.unwrap().unwrap();
        }
        table.refresh().await.unwrap();
        assert_eq!(table.newest().unwrap().0 + 1, scratch.next.load(Ordering::SeqCst));
    }
}
