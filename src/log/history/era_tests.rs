//! Eras against the history of all versions: whatever is forgotten and loaded again, every version
//! has the files that it had.

use std::fs;

use super::tests::{Scratch, add, remove};
use super::*;
use crate::log::action::PartitionValues;
use crate::log::checkpoint::write::write as write_checkpoint;
use crate::log::golden_tests::{golden, tables};
use crate::log::snapshot::Snapshot;

/// A live file with all that the log says of it but its first version.
type File = (String, u64, i64, PartitionValues, Option<String>);

fn files(intervals: &Intervals, version: Version) -> Vec<File> {
    let live = intervals.live_files(version).map(|file| {
        let vector = file.deletion_vector.map(|vector| format!("{vector:?}"));
        let own = |(key, value): (&str, Option<&str>)| (key.to_owned(), value.map(str::to_owned));
        let values: PartitionValues = file.partition_values.iter().map(own).collect();
        (file.path.to_owned(), file.size, file.modified_ms, values, vector)
    });
    live.collect()
}

/// Loads a table within a budget and compares every version, the newest first and then every third,
/// with the history of all; returns how many eras that took.
async fn assert_same(name: &str, store: &Store, all: &History, bytes_max: usize) -> usize {
    let history = History::load_within(store, bytes_max).await.unwrap();
    let (timeline, mut era) = history.into_parts();
    assert_eq!(timeline.facts, all.facts, "{name}");
    assert_eq!(timeline.newest().is_ok(), all.newest().is_ok(), "{name}");
    let versions = all.versions();
    let every_third = (0..3).flat_map(|first| versions.iter().skip(first).step_by(3));
    let mut eras = 1;
    for version in versions.last().into_iter().chain(every_third) {
        if !era.holds(*version) {
            let plan = timeline.plan_era(*version).unwrap();
            era = Era::load(store, &plan, bytes_max).await.unwrap();
            eras += 1;
        }
        assert!(era.holds(*version), "{name} {version}");
        for other in versions.iter().filter(|other| era.holds(**other)) {
            let (found, wanted) = (files(era.intervals(), *other), files(all.intervals(), *other));
            assert_eq!(found, wanted, "{name} {other}, loaded for {version}");
            assert_eq!(
                era.deletion_vector_files(*other),
                all.deletion_vector_files(*other),
                "{name} {other}"
            );
        }
    }
    eras
}

#[tokio::test]
async fn every_version_of_every_golden_table_is_the_same_within_any_budget() {
    let Some(golden) = golden() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (mut compared, mut eras) = (0, 0);
    for (name, folder) in tables(&golden, scratch.path()) {
        // 300,000 files tell nothing more than three.
        if name.starts_with("300k") {
            continue;
        }
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let Ok(all) = History::load(&store).await else { continue };
        compared += all.versions().len();
        for bytes_max in [0, 4_000] {
            eras += assert_same(&name, &store, &all, bytes_max).await;
        }
        // Every era as a whole, though nothing was forgotten.
        for version in all.versions() {
            let plan = all.plan_era(version).unwrap();
            let era = Era::load(&store, &plan, usize::MAX).await.unwrap();
            assert_eq!(files(era.intervals(), version), files(all.intervals(), version), "{name}");
        }
    }
    println!("{compared} versions, {eras} eras");
    assert!(compared >= 450, "golden tables are missing");
}

impl Scratch {
    /// Each version adds three files and removes one; a checkpoint at every seventh.
    async fn long(versions: u64) -> Scratch {
        let scratch = Scratch::table();
        for version in 1..versions {
            let added = (0..3).map(|n| add(&format!("d{}/f{version}-{n}", version % 4)));
            let removed = version - version.min(3);
            let removed = remove(&format!("d{}/f{removed}-{}", removed % 4, version % 3));
            let lines: Vec<String> = added.chain([removed]).collect();
            scratch.commit(version, &lines.iter().map(String::as_str).collect::<Vec<_>>());
            if version % 7 == 0 {
                scratch.checkpoint(version).await;
            }
        }
        scratch
    }

    async fn checkpoint(&self, version: u64) {
        let snapshot = Snapshot::load(&self.store(), Some(Version(version))).await.unwrap();
        write_checkpoint(&self.store(), snapshot.into(), 0).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_long_log_is_the_same_within_any_budget() {
    let scratch = Scratch::long(60).await;
    let (store, all) = (scratch.store(), scratch.load().await);
    let mut before = usize::MAX;
    for bytes_max in [0, 10_000, 20_000, usize::MAX] {
        let eras = assert_same("scratch", &store, &all, bytes_max).await;
        assert!(eras <= before, "more memory, more eras: {eras} and {before}");
        before = eras;
    }
    assert_eq!(before, 1, "with all the memory nothing is forgotten");
}

#[tokio::test]
async fn an_era_ends_before_the_next_checkpoint_or_where_it_is_full() {
    let scratch = Scratch::long(60).await;
    let (timeline, head) =
        History::load_within(&scratch.store(), 10_000).await.unwrap().into_parts();
    assert_eq!(head.last(), Some(Version(59)));
    assert!(head.from() > Version(42), "{}", head.from());
    let load = async |version, bytes_max| {
        let plan = timeline.plan_era(Version(version)).unwrap();
        let era = Era::load(&scratch.store(), &plan, bytes_max).await.unwrap();
        (era.from().0, era.last().unwrap().0)
    };
    assert_eq!(load(10, usize::MAX).await, (7, 13));
    assert_eq!(load(3, usize::MAX).await, (0, 6));
    assert_eq!(load(59, usize::MAX).await, (56, 59));
    let (from, last) = load(10, 0).await;
    assert!(from > 7 && last == 10, "{from} {last}");
    assert_eq!(load(7, 0).await, (7, 7));
}

#[tokio::test]
async fn what_is_left_when_all_is_forgotten_is_about_the_newest_version() {
    let scratch = Scratch::long(60).await;
    let (_, mut all) = scratch.load().await.into_parts();
    let (_, newest) = History::load_within(&scratch.store(), 0).await.unwrap().into_parts();
    let live = files(all.intervals(), Version(59)).len();
    assert!(newest.bytes() >= live * 48 && newest.bytes() < all.bytes());
    assert!(all.is_whole() && !newest.is_whole());
    assert!(!all.fit(usize::MAX, Version(59)), "there is room");
    assert!(all.fit(all.bytes() - 1, Version(56)));
    assert_eq!((all.from(), all.is_whole()), (Version(56), false));
}

#[tokio::test]
async fn a_version_whose_log_was_cleaned_up_is_damage_and_those_after_the_checkpoint_are_not() {
    let scratch = Scratch::long(30).await;
    let (timeline, _) = History::load_within(&scratch.store(), 0).await.unwrap().into_parts();
    for version in 0..14 {
        fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
    }
    fs::remove_file(scratch.file("00000000000000000007.checkpoint.parquet")).unwrap();
    for version in 0..14 {
        let plan = timeline.plan_era(Version(version)).unwrap();
        let error = Era::load(&scratch.store(), &plan, 0).await.unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
        assert!(error.to_string().contains(&format!("version {version} were")), "{error}");
    }
    for version in 14..30 {
        let plan = timeline.plan_era(Version(version)).unwrap();
        assert!(Era::load(&scratch.store(), &plan, 0).await.unwrap().holds(Version(version)));
    }
    let (again, _) = History::load_within(&scratch.store(), 0).await.unwrap().into_parts();
    assert_eq!(again.versions().first(), Some(&Version(14)));
}

#[tokio::test]
async fn a_damaged_checkpoint_is_gone_around() {
    let scratch = Scratch::long(30).await;
    let all = scratch.load().await;
    let checkpoint = scratch.file("00000000000000000014.checkpoint.parquet");
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, "no Parquet").unwrap();
    assert_same("scratch", &scratch.store(), &all, 0).await;
    fs::write(&checkpoint, whole).unwrap();
    fs::write(scratch.file(&commit_name(Version(17))), "{").unwrap();
    let load = async |version| {
        let plan = all.plan_era(Version(version)).unwrap();
        Era::load(&scratch.store(), &plan, usize::MAX).await
    };
    assert_eq!(load(16).await.unwrap().last(), Some(Version(16)));
    let error = load(18).await.unwrap_err().to_string();
    assert!(error.contains("version 18 were") && error.contains("00017.json"), "{error}");
}

#[tokio::test]
async fn every_name_that_the_log_ever_gave_is_known() {
    let scratch = Scratch::long(30).await;
    let all = scratch.load().await;
    // Version 14 is known from its checkpoint alone.
    for version in 10..15 {
        fs::remove_file(scratch.file(&commit_name(Version(version)))).unwrap();
    }
    let (timeline, _) = scratch.load().await.into_parts();
    let plan = timeline.plan_names().unwrap();
    let names = Names::load(&scratch.store(), &plan).await.unwrap();
    for version in timeline.versions() {
        for (path, ..) in files(all.intervals(), version) {
            assert!(names.contains(&FilePath::from_decoded(&path).unwrap()), "{path}");
        }
    }
    assert!(!names.contains(&FilePath::from_decoded("d1/f1-3").unwrap()));
    assert_eq!(names.newest(), Version(29));
}

#[tokio::test]
async fn names_go_on_with_the_next_commit_and_with_no_other() {
    let scratch = Scratch::with_commits(1..=1);
    let (timeline, _) = scratch.load().await.into_parts();
    let plan = timeline.plan_names().unwrap();
    let mut names = Names::load(&scratch.store(), &plan).await.unwrap();
    scratch.commit(2, &[&add("f2")]);
    scratch.commit(3, &[&add("f3")]);
    let path = |name: &str| FilePath::from_decoded(name).unwrap();
    for (version, is_known) in [(3, false), (2, true)] {
        let before = Version(version).previous().unwrap();
        let commit = History::read_next(&scratch.store(), before).await.unwrap().unwrap();
        names.take_in(&commit);
        assert_eq!(names.contains(&path(&format!("f{version}"))), is_known);
    }
    assert_eq!(names.newest(), Version(2));
}
