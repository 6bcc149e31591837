//! Random operations on a staging directory and on a plain one, which must not differ.
//!
//! The model is the file system itself: each operation is also made on a directory beside the
//! lake, by path, as a process would. What a file system doesn't have is a few lines of model:
//! commits, of which each one makes a version out of the one before or leaves all as it is.
//! Remounts, kills of the daemon at any point, and what the kernel forgets happen in between and
//! must not show.
//!
//! A case that fails is shrunk, and its seed is kept in `proptest-regressions/`, which is tried
//! first from then on; what it showed is kept as a `regression_*` below.

mod changes;
mod commits;
mod compare;
mod life;
mod operation;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use self::operation::{At, Offset, Operation, operation};
use self::world::World;

/// Cases where nobody says how many: PROPTEST_CASES does.
const CASES: u32 = 300;
const OPERATIONS_MAX: usize = 40;
/// The sides are compared after so many operations, and where it matters.
const COMPARED_EVERY: usize = 10;

/// What ran, over all cases: a test that never comes to a commit proves nothing of commits.
static TALLY: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());

fn count(what: &'static str) {
    *TALLY.lock().unwrap().entry(what).or_default() += 1;
}

fn run(operations: &[Operation]) {
    let mut world = World::new();
    for (at, operation) in operations.iter().enumerate() {
        world.step(operation);
        if at % COMPARED_EVERY == 0 {
            world.compare();
        }
        count("operations");
    }
    world.finish();
    world.compare();
    world.check_table();
    count("cases");
}

#[test]
fn random_operations_do_what_they_do_to_a_plain_directory() {
    let is_said = std::env::var_os("PROPTEST_CASES").is_some();
    let said = Config { max_shrink_iters: 4000, ..Config::with_source_file(file!()) };
    let config = if is_said { said } else { Config { cases: CASES, ..said } };
    proptest!(config, |(operations in vec(operation(), 1..OPERATIONS_MAX))| run(&operations));
    let tally = std::mem::take(&mut *TALLY.lock().unwrap());
    let told: Vec<String> = tally.iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("model: {}", told.join(", "));
    for what in ["commits", "commits refused", "kills in a commit", "kills after a commit was sent"]
    {
        assert!(tally.contains_key(what) || tally["cases"] < CASES.into(), "no {what}: {told:?}");
    }
}

#[test]
fn regression_copying_nothing_keeps_the_time_of_a_reference() {
    use Operation::*;
    run(&[
        Put { path: "a", blob: 0 },
        Commit { steps: None },
        Refer { path: "a", which: 0 },
        Create { path: "b", exclusive: true, truncate: false, mode: 0o644 },
        Open { at: At::Path("a"), truncate: false },
        Copy { file: 1, from: Ok(0), offsets: [Offset::At(0); 2], length: 10 },
    ]);
}
