//! Logs on disk, whole and damaged: what is listed, what is refused, and by which sentence.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::log::listing;
use crate::log::snapshot::Snapshot;

pub(super) const PROTOCOL: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;
pub(super) const METADATA: &str = r#"{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}"#;

/// A table in a scratch folder.
pub(super) struct Scratch {
    pub(super) folder: tempfile::TempDir,
}

impl Scratch {
    /// A table whose version 0 has a protocol and metadata, and adds `f0`.
    pub(super) fn table() -> Scratch {
        let scratch = Scratch { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(scratch.log()).unwrap();
        scratch.commit(0, &[PROTOCOL, METADATA, &add("f0")]);
        scratch
    }

    /// The same, with commits that add `f1` and so on.
    pub(super) fn with_commits(versions: impl IntoIterator<Item = u64>) -> Scratch {
        let scratch = Scratch::table();
        for version in versions {
            scratch.commit(version, &[&add(&format!("f{version}"))]);
        }
        scratch
    }

    /// A copy of a golden table; `None`, said aloud, where there are none.
    pub(super) fn golden(name: &str) -> Option<Scratch> {
        let Some(golden) = std::env::var_os("DELTAFS_GOLDEN") else {
            assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
            println!("SKIPPED: DELTAFS_GOLDEN isn't set, {name} was not read");
            return None;
        };
        let scratch = Scratch { folder: tempfile::tempdir().unwrap() };
        let from = PathBuf::from(golden).join("features").join(name).join("_delta_log");
        copy_folder(&from, &scratch.log());
        Some(scratch)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("_delta_log")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.log().join(name)
    }

    pub(super) fn commit(&self, version: u64, lines: &[&str]) {
        fs::write(self.file(&commit_name(Version(version))), lines.join("\n") + "\n").unwrap();
    }

    fn set_time(&self, name: &str, modified_ms: u64) {
        let time = UNIX_EPOCH + Duration::from_millis(modified_ms);
        fs::File::options().append(true).open(self.file(name)).unwrap().set_modified(time).unwrap();
    }

    pub(super) fn store(&self) -> Store {
        Store::open(self.folder.path().to_str().unwrap()).unwrap()
    }

    pub(super) async fn load(&self) -> History {
        History::load(&self.store()).await.unwrap()
    }

    pub(super) async fn snapshot(&self, version: u64) -> Result<Snapshot> {
        Snapshot::load(&self.store(), Some(Version(version))).await
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

pub(super) fn add(path: &str) -> String {
    format!(
        r#"{{"add":{{"path":"{path}","partitionValues":{{}},"size":5,"modificationTime":1,"dataChange":true}}}}"#
    )
}

pub(super) fn remove(path: &str) -> String {
    format!(r#"{{"remove":{{"path":"{path}","deletionTimestamp":1,"dataChange":true}}}}"#)
}

pub(super) fn versions(history: &History) -> Vec<u64> {
    history.versions().iter().map(|version| version.0).collect()
}

pub(super) fn live(history: &History, version: u64) -> Vec<&str> {
    history.intervals().live_files(Version(version)).map(|file| file.path).collect()
}

#[track_caller]
pub(super) fn assert_damaged(history: &History, words: &[&str]) {
    let error = history.newest().unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} says nothing of {word:?}");
    }
}

#[tokio::test]
async fn every_version_of_a_whole_log_is_there() {
    let scratch = Scratch::with_commits(1..=3);
    scratch.commit(4, &[&remove("f1"), &add("d/f4")]);
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0, 1, 2, 3, 4]);
    assert_eq!(history.newest().unwrap(), Version(4));
    assert_eq!(live(&history, 1), ["f0", "f1"]);
    assert_eq!(live(&history, 4), ["d/f4", "f0", "f2", "f3"]);
    let facts = history.facts(Version(4)).unwrap();
    assert_eq!((facts.files_added, facts.files_removed), (1, 1));
    assert_eq!((facts.bytes_added, facts.bytes_removed), (5, 5));
    assert_eq!(history.log_files(Version(2)).len(), 3);
}

#[tokio::test]
async fn a_folder_without_a_log_is_no_table_and_a_log_without_versions_is_damage() {
    let scratch = Scratch { folder: tempfile::tempdir().unwrap() };
    let error = History::load(&scratch.store()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    // What a first commit leaves that didn't get to its entry is no table either.
    fs::create_dir(scratch.log()).unwrap();
    for file in ["00000000000000000000.json#1", "00000000000000000000.json#2"] {
        let error = History::load(&scratch.store()).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        fs::write(scratch.file(file), "{}").unwrap();
    }
    for file in ["_last_checkpoint", "00000000000000000000.crc", "00000000000000000000.json.tmp"] {
        fs::write(scratch.file(file), "{}").unwrap();
        let error = History::load(&scratch.store()).await.unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }
    let error = Snapshot::load(&scratch.store(), None).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
}

#[tokio::test]
async fn versions_after_a_gap_are_not_listed_and_the_newest_is_an_error() {
    let scratch = Scratch::with_commits([1, 3, 4]);
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0, 1]);
    assert_damaged(&history, &["version 4", "commit 2 is missing"]);
    let error = scratch.snapshot(4).await.unwrap_err();
    assert!(error.to_string().contains("commit 2 is missing"), "{error}");
    assert!(scratch.snapshot(1).await.is_ok());
    let error = scratch.snapshot(5).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn a_damaged_commit_keeps_the_versions_before_it() {
    let scratch = Scratch::with_commits(1..=3);
    let name = commit_name(Version(2));
    for damage in ["", "{\"add\":{\"path\":\"f2\"", "{\"add\":{\"path\":\"../f2\",\"size\":1}}\n"] {
        fs::write(scratch.file(&name), damage).unwrap();
        let history = scratch.load().await;
        assert_eq!(versions(&history), [0, 1], "{damage}");
        assert_damaged(&history, &[&name, "version 2"]);
        assert!(matches!(scratch.snapshot(3).await, Err(Error::Damaged(_))));
    }
}

#[tokio::test]
async fn a_commit_cut_at_any_offset_never_shortens_the_table_silently() {
    let scratch = Scratch::with_commits(1..=1);
    let lines = [add("x"), remove("f0"), add("y")];
    scratch.commit(2, &lines.each_ref().map(String::as_str));
    let path = scratch.file(&commit_name(Version(2)));
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let history = scratch.load().await;
        let snapshot = scratch.snapshot(2).await;
        // The one cut that can't be seen: a line's end is also a commit's.
        let unseen = cut > 0 && (whole[cut] == b'\n' || whole[cut - 1] == b'\n');
        assert_eq!(history.newest().is_ok(), unseen, "cut at {cut}");
        assert_eq!(snapshot.is_ok(), unseen, "cut at {cut}");
        assert_eq!(live(&history, 1), ["f0", "f1"]);
    }
}

#[tokio::test]
async fn a_log_without_protocol_or_metadata_says_so() {
    let scratch = Scratch::table();
    scratch.commit(0, &[PROTOCOL, &add("f0")]);
    scratch.commit(1, &[&add("f1")]);
    let history = scratch.load().await;
    assert!(versions(&history).is_empty());
    assert_damaged(&history, &["no metaData in versions 0 to 1"]);
    scratch.commit(2, &[METADATA]);
    let history = scratch.load().await;
    assert_eq!(versions(&history), [2]);
    assert_eq!(live(&history, 2), ["f0", "f1"]);
    assert_eq!(history.newest().unwrap(), Version(2));
}

#[tokio::test]
async fn a_file_outside_the_table_makes_only_its_versions_unreadable() {
    let scratch = Scratch::table();
    scratch.commit(1, &[&add("file:///other/f1")]);
    scratch.commit(2, &[&remove("/other/f1")]);
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0, 1, 2]);
    let unreadable = |version| history.facts(Version(version)).unwrap().unreadable.is_some();
    assert_eq!([0, 1, 2].map(unreadable), [false, true, false]);
    assert!(matches!(scratch.snapshot(1).await, Err(Error::Unsupported(_))));
    assert!(scratch.snapshot(2).await.is_ok());
}

#[tokio::test]
async fn an_unknown_reader_feature_is_named() {
    let scratch = Scratch::table();
    let feature = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["warpDrive"],"writerFeatures":["warpDrive"]}}"#;
    scratch.commit(1, &[feature]);
    let history = scratch.load().await;
    assert_eq!(history.newest().unwrap(), Version(1));
    assert!(history.facts(Version(0)).unwrap().unreadable.is_none());
    let unreadable = history.facts(Version(1)).unwrap().unreadable.clone().unwrap();
    assert!(unreadable.contains("warpDrive"), "{unreadable}");
    let error = scratch.snapshot(1).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported(why) if why.contains("warpDrive")), "{error:?}");
}

#[tokio::test]
async fn commit_times_are_the_files_made_monotonic_then_the_commits_own() {
    let scratch = Scratch::with_commits(1..=2);
    let enable = METADATA.replace(
        r#""configuration":{}"#,
        r#""configuration":{"delta.enableInCommitTimestamps":"true"}"#,
    );
    let info = |time: u64| {
        format!(r#"{{"commitInfo":{{"inCommitTimestamp":{time},"operation":"WRITE"}}}}"#)
    };
    scratch.commit(3, &[&info(9_000), &enable]);
    scratch.commit(4, &[&info(9_500), &add("f4")]);
    for (version, time) in [(0, 5_000), (1, 4_000), (2, 5_001), (3, 1_000), (4, 1_000)] {
        scratch.set_time(&commit_name(Version(version)), time);
    }
    let history = scratch.load().await;
    let time = |version| history.facts(Version(version)).unwrap().commit_time_ms;
    assert_eq!([0, 1, 2, 3, 4].map(time), [5_000, 5_001, 5_002, 9_000, 9_500]);
    assert_eq!(history.facts(Version(4)).unwrap().operation.as_deref(), Some("WRITE"));
    for version in 0..=4 {
        let snapshot = scratch.snapshot(version).await.unwrap();
        assert_eq!(snapshot.commit_time_ms, time(version));
        assert_eq!(snapshot.in_commit_timestamp.is_some(), version >= 3);
    }
}

#[tokio::test]
async fn new_commits_are_tailed_one_by_one() {
    let scratch = Scratch::table();
    let store = scratch.store();
    let mut history = scratch.load().await;
    assert!(History::read_next(&store, Version(0)).await.unwrap().is_none());
    scratch.commit(1, &[&add("f1")]);
    let first = History::read_next(&store, Version(0)).await.unwrap().unwrap();
    let again = first.clone();
    history.apply(first).unwrap();
    history.apply(again).unwrap();
    assert_eq!(versions(&history), [0, 1]);
    assert_eq!(history.log_files(Version(1)).len(), 2);
    scratch.commit(3, &[&add("f3")]);
    assert!(History::read_next(&store, Version(1)).await.unwrap().is_none());
    let skipped = History::read_next(&store, Version(2)).await.unwrap().unwrap();
    assert!(matches!(history.apply(skipped), Err(Error::Damaged(_))));
    assert_eq!(history.newest().unwrap(), Version(1));
    history.note_log_files(listing::list_log(&store).await.unwrap().files);
    assert_eq!(history.newest().unwrap(), Version(1), "the listing may have raced with commits");
    assert_eq!(history.log_files(Version(1)).len(), 2);
    assert_damaged(&scratch.load().await, &["commit 2 is missing"]);
    scratch.commit(2, &["{\"add\""]);
    assert!(matches!(History::read_next(&store, Version(1)).await, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn transactions_are_known_at_every_version() {
    let scratch = Scratch::table();
    for version in 1..=3 {
        let txn = format!(r#"{{"txn":{{"appId":"app","version":{}}}}}"#, version * 10);
        scratch.commit(version, &[&txn]);
    }
    let history = scratch.load().await;
    let written = |version| history.txn_version("app", Version(version));
    assert_eq!([0, 1, 2, 3].map(written), [None, Some(10), Some(20), Some(30)]);
    assert_eq!(history.txn_version("other", Version(3)), None);
}

#[tokio::test]
async fn a_checkpoint_stands_in_for_cleaned_up_commits() {
    let Some(scratch) = Scratch::golden("external-table-different-nullability") else { return };
    let whole = scratch.load().await;
    for version in 0..=1 {
        fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
    }
    fs::write(scratch.file("_last_checkpoint"), "{\"version\":77").unwrap();
    let history = scratch.load().await;
    assert_eq!(versions(&history), [2, 3, 4, 5]);
    for version in 2..=5 {
        assert_eq!(live(&history, version), live(&whole, version));
        let (facts, same) = (history.facts(Version(version)), whole.facts(Version(version)));
        assert_eq!(facts.unwrap().operation, same.unwrap().operation);
    }
    fs::remove_file(scratch.file(&commit_name(Version(2)))).unwrap();
    let history = scratch.load().await;
    assert_eq!(versions(&history), [2, 3, 4, 5]);
    let modified = fs::metadata(scratch.file("00000000000000000002.checkpoint.parquet")).unwrap();
    let modified = modified.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let time = history.facts(Version(2)).unwrap().commit_time_ms;
    assert_eq!(u128::try_from(time).unwrap(), modified.as_millis());
}

#[tokio::test]
async fn a_damaged_checkpoint_matters_only_where_it_is_needed() {
    let Some(scratch) = Scratch::golden("external-table-different-nullability") else { return };
    let name = "00000000000000000002.checkpoint.parquet";
    let whole = fs::read(scratch.file(name)).unwrap();
    fs::write(scratch.file(name), &whole[..whole.len() / 2]).unwrap();
    let history = scratch.load().await;
    assert_eq!(history.newest().unwrap(), Version(5));
    assert!(scratch.snapshot(5).await.is_ok(), "the commits lead there too");
    fs::remove_file(scratch.file(&commit_name(Version(1)))).unwrap();
    let history = scratch.load().await;
    assert_eq!(versions(&history), [0]);
    assert_damaged(&history, &[name, "version 2"]);
    assert!(matches!(scratch.snapshot(5).await, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn a_checkpoint_cut_or_changed_anywhere_is_an_error_or_read_never_a_panic() {
    let Some(scratch) = Scratch::golden("app-txn-checkpoint") else { return };
    fs::remove_file(scratch.file(&commit_name(Version(0)))).unwrap();
    let name = "00000000000000000001.checkpoint.parquet";
    let whole = fs::read(scratch.file(name)).unwrap();
    assert_eq!(versions(&scratch.load().await), [1]);
    // Each cut takes a part of the footer, without which Parquet is none.
    for cut in (0..whole.len()).step_by(211) {
        fs::write(scratch.file(name), &whole[..cut]).unwrap();
        assert_damaged(&scratch.load().await, &[name]);
        assert!(matches!(scratch.snapshot(1).await, Err(Error::Damaged(_))), "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(53) {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        fs::write(scratch.file(name), &changed).unwrap();
        let history = scratch.load().await;
        let newest = history.newest();
        assert!(
            matches!(newest, Ok(Version(1)) | Err(Error::Damaged(_) | Error::Unsupported(_))),
            "byte {at}: {newest:?}"
        );
        drop(scratch.snapshot(1).await);
    }
}

#[tokio::test]
async fn sidecars_are_listed_from_the_checkpoint_that_refers_to_them() {
    for name in ["v2-parquet-sidecars-struct-stats-only", "v2-json-sidecars-struct-stats-only"] {
        let Some(scratch) = Scratch::golden(name) else { return };
        fs::write(scratch.log().join("_sidecars/orphan.parquet"), "x").unwrap();
        let history = scratch.load().await;
        let sidecars = |version| {
            let files = history.log_files(Version(version));
            files.iter().filter(|file| file.kind == LogFileKind::Sidecar).count()
        };
        let on_disk = fs::read_dir(scratch.log().join("_sidecars")).unwrap().count();
        assert_eq!((sidecars(4), sidecars(5)), (0, on_disk - 1), "{name}");
        let before = live(&history, 5).len();
        for version in 0..=4 {
            fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
        }
        let history = scratch.load().await;
        assert_eq!(live(&history, 5).len(), before, "{name} from its V2 checkpoint");
        let sidecar = fs::read_dir(scratch.log().join("_sidecars")).unwrap();
        let mut sidecar = sidecar.map(|entry| entry.unwrap().path());
        let sidecar = sidecar.find(|path| !path.ends_with("orphan.parquet")).unwrap();
        fs::remove_file(sidecar).unwrap();
        assert_damaged(&scratch.load().await, &["_sidecars/", "missing"]);
    }
}
