//! A commit that is stopped at every store call: the table is as before or as after, and a second
//! sync brings it to after, once.

use std::collections::BTreeSet;
use std::path::Path;

use super::tests::*;
use super::*;
use crate::store::Store;
use crate::store::fault::{Fault, FaultStore};
use crate::table::staging::StagingArea;
use crate::table::{Budget, Snapshot, Version};

/// What is staged, and with which options.
pub(super) struct Case {
    name: &'static str,
    options: &'static str,
    /// A property and its value, or nothing.
    property: Option<(&'static str, &'static str)>,
    files: Vec<(String, Vec<u8>)>,
    /// Whether the table exists before.
    exists: bool,
    before: &'static [i64],
    after: &'static [i64],
}

pub(super) fn case(
    name: &'static str,
    options: &'static str,
    ids: &[i64],
    before: &'static [i64],
    after: &'static [i64],
) -> Case {
    let files = ids.iter().map(|id| (format!("{id}.parquet"), rows(&[*id]))).collect();
    Case { name, options, property: None, files, exists: !before.is_empty(), before, after }
}

pub(super) fn table(store: &Store) -> Arc<Table> {
    Arc::new(Table::new("t".into(), store.child("t"), false, Budget::new(usize::MAX)))
}

/// A staging directory outside of the store that fails.
pub(super) async fn staged(folder: &Path, case: &Case) -> Arc<Staging> {
    let area = StagingArea::new(folder, false);
    let owner = crate::table::staging::Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    let staging = area.begin("s".as_ref(), 0o755, owner).unwrap();
    let root = staging.seal().await.unwrap().root().to_path_buf();
    for (path, bytes) in &case.files {
        put(&root.join(path), bytes);
    }
    staging.set_options(case.options).unwrap();
    if let Some((key, value)) = case.property {
        staging.set_properties(&format!("{key}={value}")).unwrap();
    }
    staging
}

/// The ids that the table holds, by its statistics, whether it has the property of a case that has
/// one, and its newest version.
async fn state(store: &Store, case: &Case) -> (Vec<i64>, bool, Option<Version>) {
    let snapshot = match Snapshot::load(&store.child("t"), None).await {
        Ok(snapshot) => snapshot,
        Err(Error::NotFound(_)) => return (Vec::new(), false, None),
        Err(error) => panic!("{error}"),
    };
    let mut ids = Vec::new();
    for (path, add) in &snapshot.adds {
        let stats: serde_json::Value = serde_json::from_str(add.stats.as_ref().unwrap()).unwrap();
        ids.push(stats["minValues"]["id"].as_i64().unwrap());
        let file = store.child("t").head(path.as_str()).await.unwrap();
        assert_eq!(file.unwrap().size, u64::try_from(add.size).unwrap(), "{path}");
    }
    ids.sort_unstable();
    let held = &snapshot.metadata.configuration;
    let is_set = case.property.is_some_and(|(key, value)| held.get(key) == Some(&value.into()));
    (ids, is_set, Some(snapshot.version))
}

/// Commits under one fault. False: there were fewer calls than it waited for.
async fn stop_at(base: &FaultStore, case: &Case, fault: Fault) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let staging = staged(folder.path(), case).await;
    let failing = base.fork(Some(fault));
    let before = state(&failing.mended().store(), case).await;
    assert_eq!((before.0.as_slice(), before.1), (case.before, false));
    let result = commit(&table(&failing.store()), &staging).await;
    let was_hit = failing.calls() > fault.at;
    let mended = failing.mended().store();
    let now = state(&mended, case).await;
    let told = format!("{} {fault:?}: {result:?}", case.name);
    let next = before.2.map_or(Version(0), Version::next);
    let after = (case.after.to_vec(), case.property.is_some(), Some(next));
    match &result {
        Ok(summary) => assert_eq!((&now, summary.version), (&after, Some(next)), "{told}"),
        Err(Error::Unknown(_)) => assert!(now == before || now == after, "{told}: {now:?}"),
        Err(_) => assert_eq!(now, before, "{told}"),
    }
    let again = commit(&table(&mended), &staging).await;
    let again = again.unwrap_or_else(|error| panic!("{told}, then {error}"));
    // Another commit of the same may only be told of as the first one.
    assert!(again.version == Some(next) || result.is_ok(), "{told}, then {again:?}");
    assert_eq!(state(&mended, case).await, after, "{told}");
    assert!(staging.peek().unwrap().is_empty(), "{told}");
    assert_eq!(staging.properties_text(), "", "{told}");
    was_hit
}

async fn base(exists: bool) -> FaultStore {
    let base = FaultStore::default();
    if exists {
        let folder = tempfile::tempdir().unwrap();
        let first = case("first", "", &[1, 2], &[], &[1, 2]);
        let staging = staged(folder.path(), &first).await;
        commit(&table(&base.store()), &staging).await.unwrap();
    }
    base
}

async fn stop_everywhere(case: Case) {
    let base = base(case.exists).await;
    let mut hits = BTreeSet::new();
    for (applied, for_good) in [(false, false), (true, false), (false, true), (true, true)] {
        for at in 0.. {
            if !stop_at(&base, &case, Fault { at, applied, for_good }).await {
                break;
            }
            hits.insert(at);
            assert!(at < 200, "the commit never ends");
        }
    }
    assert!(hits.len() > 5, "{}: too few calls to be true: {hits:?}", case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_before_or_after() {
    stop_everywhere(case("append", "txn=app:1", &[3, 4], &[1, 2], &[1, 2, 3, 4])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_is_before_or_after() {
    stop_everywhere(case("overwrite", "mode=overwrite", &[2, 3], &[1, 2], &[2, 3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_before_or_after() {
    stop_everywhere(case("create", "", &[1, 2], &[], &[1, 2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_are_before_or_after() {
    let property = Some(("delta.enableRowTracking", "true"));
    let alone = case("properties", "txn=app:1", &[], &[1, 2], &[1, 2]);
    stop_everywhere(Case { property, ..alone }).await;
    let with_files = case("properties and files", "", &[3], &[1, 2], &[1, 2, 3]);
    stop_everywhere(Case { property, ..with_files }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_before_or_after() {
    // A table of 5 and 6, copied with its log, takes the place of the one of 1 and 2.
    let other = FaultStore::default();
    let folder = tempfile::tempdir().unwrap();
    let first = case("other", "", &[5, 6], &[], &[5, 6]);
    let staging = staged(folder.path(), &first).await;
    commit(&table(&other.store()), &staging).await.unwrap();
    let log = "_delta_log/00000000000000000000.json";
    let bytes = other.store().read(&format!("t/{log}")).await.unwrap();
    let mut files = first.files;
    files.push((log.to_owned(), bytes.to_vec()));
    let case = Case { files, ..case("restore", "", &[], &[1, 2], &[5, 6]) };
    stop_everywhere(case).await;
}
