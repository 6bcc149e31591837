//! The interval table against a naive model: one whole map of files for every version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;

type Model = BTreeMap<String, FileState>;

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

fn vector(number: u64) -> Option<Box<DeletionVector>> {
    (number > 0).then(|| {
        Box::new(DeletionVector {
            storage_type: "u".into(),
            path_or_inline_dv: "^-aqEH.-t@S}K{vb[*k^".into(),
            offset: Some(i32::try_from(number).unwrap()),
            size_in_bytes: 1,
            cardinality: 1,
        })
    })
}

fn state(size: u64, vector_number: u64) -> FileState {
    FileState {
        size,
        modified_ms: 1,
        partition_values: Arc::default(),
        deletion_vector: vector(vector_number),
    }
}

/// One random commit, done to the table and to the model.
fn commit(
    random: &mut Random,
    table: &mut Intervals,
    version: Version,
    model: &mut Model,
) -> Effect {
    let mut effect = Effect::default();
    for _ in 0..random.below(8) {
        let path = path(random.below(60));
        let number = random.below(3);
        if random.below(5) < 3 {
            let state = state(random.below(2), number);
            table.add(version, path.clone(), state.clone(), &mut effect);
            model.insert(path.as_str().to_owned(), state);
        } else {
            table.remove(version, path.as_str(), vector(number).as_deref(), &mut effect);
            let same = |held: &FileState| held.deletion_vector == vector(number);
            if model.get(path.as_str()).is_some_and(same) {
                model.remove(path.as_str());
            }
        }
    }
    effect
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
    let live: Vec<(&str, u64, Option<&DeletionVector>)> = table
        .live_files(version)
        .map(|file| (file.path, file.size, file.deletion_vector))
        .collect();
    let wanted: Vec<(&str, u64, Option<&DeletionVector>)> = model
        .iter()
        .map(|(path, state)| (path.as_str(), state.size, state.deletion_vector.as_deref()))
        .collect();
    assert_eq!(live, wanted, "seed {seed}, version {version}");
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
                let parse = |path: &String| FilePath::from_decoded(path).unwrap();
                let files = model.iter().map(|(path, state)| (parse(path), state.clone()));
                table.rebase(version, files.collect());
            }
            versions.push(model.clone());
        }
        table.compact();
        for (number, model) in versions.iter().enumerate() {
            assert_same(&table, Version(number as u64), model, seed);
        }
        let held: BTreeSet<&str> =
            versions.iter().flat_map(|model| model.keys().map(String::as_str)).collect();
        assert!(held.iter().all(|path| table.ever_held(path)));
    }
}

/// Files in less files out is what the commit changed.
fn assert_effect(before: &Model, after: &Model, effect: Effect) {
    let files = |model: &Model| i64::try_from(model.len()).unwrap();
    let bytes = |model: &Model| model.values().map(|state| state.size).sum::<u64>().cast_signed();
    let added = effect.files_added.cast_signed() - effect.files_removed.cast_signed();
    assert_eq!(added, files(after) - files(before));
    let added = effect.bytes_added.cast_signed() - effect.bytes_removed.cast_signed();
    assert_eq!(added, bytes(after) - bytes(before));
}

#[test]
fn a_new_deletion_vector_is_one_file_out_and_one_in_whatever_the_order() {
    for remove_first in [true, false] {
        let mut table = Intervals::default();
        let path = path(1);
        table.add(Version(0), path.clone(), state(5, 0), &mut Effect::default());
        let mut effect = Effect::default();
        if remove_first {
            table.remove(Version(1), path.as_str(), None, &mut effect);
        }
        table.add(Version(1), path.clone(), state(5, 1), &mut effect);
        if !remove_first {
            table.remove(Version(1), path.as_str(), None, &mut effect);
        }
        assert_eq!((effect.files_added, effect.files_removed), (1, 1));
        assert!(table.live(Version(0), path.as_str()).unwrap().deletion_vector.is_none());
        assert!(table.live(Version(1), path.as_str()).unwrap().deletion_vector.is_some());
    }
}

#[test]
fn an_add_that_only_rewrites_statistics_changes_nothing() {
    let mut table = Intervals::default();
    table.add(Version(0), path(1), state(5, 0), &mut Effect::default());
    let mut effect = Effect::default();
    table.add(Version(1), path(1), state(5, 0), &mut effect);
    assert_eq!(effect, Effect::default());
    assert_eq!(table.live(Version(1), path(1).as_str()).unwrap().since, Version(0));
}

#[test]
fn a_name_that_is_file_and_directory_is_told_only_where_both_are_live() {
    let mut table = Intervals::default();
    let add = |table: &mut Intervals, version, path: &str| {
        let path = FilePath::from_decoded(path).unwrap();
        table.add(Version(version), path, state(1, 0), &mut Effect::default());
    };
    add(&mut table, 0, "x/y/f");
    add(&mut table, 1, "x");
    table.remove(Version(2), "x/y/f", None, &mut Effect::default());
    assert_eq!(table.collision(Version(0)), None);
    assert_eq!(table.collision(Version(1)), Some("x"));
    assert_eq!(table.collision(Version(2)), None);
    add(&mut table, 3, "x/z");
    assert_eq!(table.collision(Version(3)), Some("x"));
}

#[test]
fn an_entry_costs_sixty_four_bytes_beside_its_path() {
    assert_eq!(size_of::<(FilePath, Lives)>(), 64);
}
