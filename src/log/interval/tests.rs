//! The interval table against a naive model: one whole map of files for every version.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::log::commit::Place;
use crate::log::file_actions::Stat;
use crate::log::path::FilePath;
use crate::log::values::SetWriter;

type Model = BTreeMap<String, FileState>;

/// What the log says of a file.
#[derive(Clone, Debug, PartialEq)]
struct FileState {
    size: u64,
    values: u64,
    deletion_vector: Option<DeletionVector>,
}

/// Deterministic pseudo-random numbers (xorshift64*), so that every failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

const DIRECTORIES: [&str; 6] = ["", "a/", "a/b/", "a-b/", "a0/", "p=x y/"];

fn path(number: u64) -> FilePath {
    let directory = DIRECTORIES[(number % 6) as usize];
    FilePath::from_decoded(&format!("{directory}f{}", number / 6)).unwrap()
}

fn vector(number: u64) -> Option<DeletionVector> {
    (number > 0).then(|| DeletionVector {
        storage_type: "u".into(),
        path_or_inline_dv: "^-aqEH.-t@S}K{vb[*k^".into(),
        offset: Some(i32::try_from(number).unwrap()),
        size_in_bytes: 1,
        cardinality: 1,
    })
}

fn state(size: u64, vector_number: u64) -> FileState {
    FileState { size, values: size, deletion_vector: vector(vector_number) }
}

fn push_add(changes: &mut FileActions, path: FilePath, state: FileState) {
    let number = state.values.to_string();
    let mut entries = vec![("p", Some(number.as_str()))];
    let values = changes.intern_entries(&mut SetWriter::default(), &mut entries).unwrap();
    let stat = Stat { size: state.size, modified_ms: 1 };
    changes.add(Place::Inside(path), stat, values, state.deletion_vector).unwrap();
}

fn push_remove(changes: &mut FileActions, path: FilePath, vector: Option<DeletionVector>) {
    changes.remove(Place::Inside(path), vector).unwrap();
}

fn add(table: &mut Intervals, version: u64, path: FilePath, state: FileState) -> Effect {
    let mut changes = FileActions::default();
    push_add(&mut changes, path, state);
    table.apply(Version(version), &mut [changes])
}

fn remove(table: &mut Intervals, version: u64, path: FilePath) -> Effect {
    let mut changes = FileActions::default();
    push_remove(&mut changes, path, None);
    table.apply(Version(version), &mut [changes])
}

/// One random commit, done to the table and to the model, in one or two pieces.
fn commit(
    random: &mut Random,
    table: &mut Intervals,
    version: Version,
    model: &mut Model,
) -> Effect {
    let mut pieces = vec![FileActions::default(), FileActions::default()];
    let count = random.below(8);
    for at in 0..count {
        let changes = &mut pieces[usize::from(at > 4)];
        let path = path(random.below(60));
        let number = random.below(3);
        if random.below(5) < 3 {
            let state = state(random.below(2), number);
            push_add(changes, path.clone(), state.clone());
            model.insert(path.as_str().to_owned(), state);
        } else {
            push_remove(changes, path.clone(), vector(number));
            let same = |held: &FileState| held.deletion_vector == vector(number);
            if model.get(path.as_str()).is_some_and(same) {
                model.remove(path.as_str());
            }
        }
    }
    table.apply(version, &mut pieces)
}

fn children_of(model: &Model, directory: &str) -> BTreeSet<(String, bool)> {
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let rest = model.keys().filter_map(|path| path.strip_prefix(&prefix));
    let child = |rest: &str| match rest.split_once('/') {
        Some((name, _)) => (name.to_owned(), true),
        None => (rest.to_owned(), false),
    };
    rest.map(child).collect()
}

fn assert_same(table: &Intervals, version: Version, model: &Model, seed: u64) {
    let found = |file: LiveFile<'_>| {
        let values = file.partition_values.get("p").unwrap().parse().unwrap();
        let deletion_vector = file.deletion_vector.cloned();
        (file.path.to_owned(), FileState { size: file.size, values, deletion_vector })
    };
    let live: Model = table.live_files(version).map(found).collect();
    assert_eq!(&live, model, "seed {seed}, version {version}");
    assert!(table.live_files(version).is_sorted_by(|one, other| one.path < other.path));
    let with_vectors: Vec<&str> =
        table.live_files_with_vectors(version).map(|(file, _)| file.path).collect();
    let wanted = model.iter().filter(|(_, state)| state.deletion_vector.is_some());
    assert_eq!(with_vectors, wanted.map(|(path, _)| path.as_str()).collect::<Vec<_>>());
    for directory in ["", "a", "a/b", "a-b", "a0", "p=x y", "nothing", "a/f1"] {
        let children = table.children(version, directory);
        let names: Vec<&str> = children.iter().map(Child::name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let found: BTreeSet<(String, bool)> = children
            .iter()
            .map(|child| (child.name().to_owned(), matches!(child, Child::Directory(_))))
            .collect();
        assert_eq!(found, children_of(model, directory), "seed {seed}, {version}, {directory:?}");
        assert_eq!(found.len(), children.len());
        let is_directory = directory.is_empty() || !found.is_empty();
        assert_eq!(table.is_directory(version, directory), is_directory, "{directory:?}");
    }
    for number in 0..60 {
        let path = path(number);
        let live = table.live(version, path.as_str()).map(|file| file.size);
        assert_eq!(live, model.get(path.as_str()).map(|state| state.size));
    }
}

#[test]
fn every_version_equals_the_model_after_random_commits() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let mut table = Intervals::default();
        let mut model = Model::new();
        let mut versions = Vec::new();
        for version in (0..25).map(Version) {
            let before = model.clone();
            let effect = commit(&mut random, &mut table, version, &mut model);
            assert_effect(&before, &model, effect);
            if random.below(10) == 0 {
                // A checkpoint that disagrees with what came before, as after a gap.
                model.retain(|_, state| state.size > 0);
                let mut changes = FileActions::default();
                for (path, state) in &model {
                    let path = FilePath::from_decoded(path).unwrap();
                    push_add(&mut changes, path, state.clone());
                }
                push_remove(&mut changes, path(7), None);
                table.rebase(version, &mut [changes]);
            }
            assert_eq!(
                table.bytes(),
                table.counted_bytes() + table.values.bytes(),
                "seed {seed}, {version}"
            );
            versions.push(model.clone());
        }
        for (number, model) in versions.iter().enumerate() {
            assert_same(&table, Version(number as u64), model, seed);
        }
        let held: BTreeSet<&str> =
            versions.iter().flat_map(|model| model.keys().map(String::as_str)).collect();
        assert!(held.iter().all(|path| table.ever_held(path)));
        for from in [0, 7, 24] {
            let before = table.bytes();
            table.forget_before(Version(from));
            for (number, model) in versions.iter().enumerate().skip(from as usize) {
                assert_same(&table, Version(number as u64), model, seed);
            }
            assert_eq!(
                table.bytes(),
                table.counted_bytes() + table.values.bytes(),
                "seed {seed}, from {from}"
            );
            assert!(table.bytes() <= before, "seed {seed}, from {from}");
        }
        // What is left goes on as if nothing had been forgotten.
        let before = model.clone();
        let effect = commit(&mut random, &mut table, Version(25), &mut model);
        assert_effect(&before, &model, effect);
        assert_same(&table, Version(25), &model, seed);
    }
}

/// What was live, with what came in and without what went out, is what is live.
fn assert_effect(before: &Model, after: &Model, effect: Effect) {
    let totals = |model: &Model| {
        let mut totals = Totals::default();
        model.values().for_each(|state| totals.put(state.size, state.deletion_vector.as_ref()));
        totals
    };
    assert_eq!(totals(before).after(&effect), totals(after));
}

#[test]
fn a_new_deletion_vector_is_one_file_out_and_one_in_whatever_the_order() {
    for remove_first in [true, false] {
        let mut table = Intervals::default();
        let path = path(1);
        add(&mut table, 0, path.clone(), state(5, 0));
        let mut changes = FileActions::default();
        if remove_first {
            push_remove(&mut changes, path.clone(), None);
        }
        push_add(&mut changes, path.clone(), state(5, 1));
        if !remove_first {
            push_remove(&mut changes, path.clone(), None);
        }
        let effect = table.apply(Version(1), &mut [changes]);
        assert_eq!((effect.added.files, effect.removed.files), (1, 1));
        assert!(table.live(Version(0), path.as_str()).unwrap().deletion_vector.is_none());
        assert!(table.live(Version(1), path.as_str()).unwrap().deletion_vector.is_some());
    }
}

#[test]
fn an_add_that_only_rewrites_statistics_changes_nothing() {
    let mut table = Intervals::default();
    add(&mut table, 0, path(1), state(5, 0));
    let effect = add(&mut table, 1, path(1), state(5, 0));
    assert_eq!(effect, Effect::default());
    assert_eq!(table.live(Version(1), path(1).as_str()).unwrap().since, Version(0));
}

#[test]
fn a_name_that_is_file_and_directory_is_told_only_where_both_are_live() {
    let path = |path: &str| FilePath::from_decoded(path).unwrap();
    let mut table = Intervals::default();
    add(&mut table, 0, path("x/y/f"), state(1, 0));
    add(&mut table, 1, path("x"), state(1, 0));
    remove(&mut table, 2, path("x/y/f"));
    assert_eq!(table.collision(Version(0)), None);
    assert_eq!(table.collision(Version(1)), Some("x"));
    assert_eq!(table.collision(Version(2)), None);
    add(&mut table, 3, path("x/z"), state(1, 0));
    assert_eq!(table.collision(Version(3)), Some("x"));
    // Names between the file and what is beneath it, and the first state of all.
    let mut table = Intervals::default();
    for (version, name) in ["a/b", "x", "x-y", "x.z", "x/y/z"].into_iter().enumerate() {
        assert_eq!(table.collision(Version(version as u64)), None);
        add(&mut table, version as u64, path(name), state(1, 0));
    }
    assert_eq!(table.collision(Version(4)), Some("x"));
    let mut changes = FileActions::default();
    for name in ["x/y/z", "x-y", "x/y"] {
        push_add(&mut changes, path(name), state(1, 0));
    }
    let mut table = Intervals::default();
    table.rebase(Version(0), &mut [changes]);
    assert_eq!(table.collision(Version(0)), Some("x/y"));
}

/// So many names between a file and what is beneath it that they are built in other parts.
#[test]
fn a_file_that_is_a_directory_too_is_told_of_a_large_first_state() {
    let path = |path: &str| FilePath::from_decoded(path).unwrap();
    for (beneath, wanted) in [("x/y", Some("x")), ("y", None), ("x0/y", None)] {
        let mut changes = FileActions::default();
        push_add(&mut changes, path(beneath), state(1, 0));
        for number in 0..40_000 {
            push_add(&mut changes, path(&format!("x-{number:06}")), state(1, 0));
        }
        push_add(&mut changes, path("x"), state(1, 0));
        let mut table = Intervals::default();
        table.rebase(Version(0), &mut [changes]);
        assert_eq!(table.overlaps, wanted.is_some(), "{beneath}");
        assert_eq!(table.collision(Version(0)), wanted, "{beneath}");
    }
}

/// Enough files for threads and many chunks, then a commit that lands in all of them.
#[test]
fn a_large_first_state_and_a_large_commit_equal_the_model() {
    let name = |number: u64| {
        let text = format!("p={}/part-{:05}-x.parquet", number % 37, number * 7919 % 100_000);
        FilePath::from_decoded(&text).unwrap()
    };
    let mut table = Intervals::default();
    let mut model = Model::new();
    let mut pieces = vec![FileActions::default(), FileActions::default()];
    for number in 0..90_000 {
        let state = state(number, u64::from(number % 11 == 0) * (1 + number % 5));
        push_add(&mut pieces[(number % 2) as usize], name(number), state.clone());
        model.insert(name(number).as_str().to_owned(), state);
    }
    table.rebase(Version(0), &mut pieces);
    assert!(table.chunks.len() > 300);
    assert_same(&table, Version(0), &model, 0);
    let first = model.clone();
    let mut changes = FileActions::default();
    for number in (0..120_000).step_by(3) {
        if number % 2 == 0 {
            let state = state(number + 1, 0);
            push_add(&mut changes, name(number), state.clone());
            model.insert(name(number).as_str().to_owned(), state);
        } else {
            let vector = model.get(name(number).as_str()).and_then(|it| it.deletion_vector.clone());
            push_remove(&mut changes, name(number), vector);
            model.remove(name(number).as_str());
        }
    }
    table.apply(Version(1), &mut [changes]);
    assert_same(&table, Version(0), &first, 0);
    assert_same(&table, Version(1), &model, 0);
}

#[test]
fn a_path_with_more_lives_than_a_chunk_holds_stays_in_one() {
    let mut table = Intervals::default();
    for name in 0..6 {
        add(&mut table, 0, path(name), state(1, 0));
    }
    let versions = chunk::LIVES_MAX as u64 * 3;
    for version in 1..=versions {
        add(&mut table, version, path(1), state(version, version % 5));
    }
    for version in 1..=versions {
        let live = table.live(Version(version), path(1).as_str()).unwrap();
        assert_eq!((live.size, live.since), (version, Version(version)));
        assert_eq!(table.live_files(Version(version)).count(), 6);
    }
}

#[test]
fn a_life_costs_forty_eight_bytes_beside_its_path() {
    assert_eq!(size_of::<Life>(), 48);
}
