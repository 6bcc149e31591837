//! Scripted commits that are stopped, or fail, at every call of the store and every write of the
//! journal: the table is as before or as after, and a second sync brings it to after, once.
//!
//! `scene` says what a script is; `appends` and `restores` have them; `session` is one life of a
//! daemon, `world` what it works on, `trial` one fault with what must hold after it, and `walk`
//! moves the faults through. Of all faults the tests try a share; `scripts/faults --all` tries all.

mod appends;
mod restores;
mod scene;
mod session;
mod tally;
mod trial;
mod walk;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};

use self::scene::Scene;
use self::trial::Expected;
use super::tests::*;
use super::*;
use crate::store::Store;
use crate::table::{Budget, Table};

/// From one call to the next that a fault is tried at, where nobody asks for all of them.
const STRIDE: usize = 24;

/// What is staged, and with which options.
pub(super) struct Case {
    options: &'static str,
    files: Vec<(String, Vec<u8>)>,
}

pub(super) fn case(options: &'static str, ids: &[i64]) -> Case {
    let files = ids.iter().map(|id| (format!("{id}.parquet"), rows(&[*id]))).collect();
    Case { options, files }
}

pub(super) fn table(store: &Store) -> Arc<Table> {
    Arc::new(Table::new("t".into(), store.child("t"), false, Budget::new(usize::MAX)))
}

/// A staging directory outside of the store that fails.
pub(super) async fn staged(folder: &Path, case: &Case) -> Arc<Staging> {
    world::staged_in(&folder.join("t"), &case.files, case.options, "").await
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn long(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

/// A file with a column more than `rows`.
fn with_mail(id: i64) -> Vec<u8> {
    parquet_of(vec![("id", long(id)), ("name", text("name")), ("mail", text("mail"))])
}

/// A file of integers of 32 bits.
fn numbers(id: i32) -> Vec<u8> {
    parquet_of(vec![("id", Arc::new(Int32Array::from(vec![id])) as ArrayRef)])
}

/// A file of integers of 64 bits.
fn wide(id: i64) -> Vec<u8> {
    parquet_of(vec![("id", long(id))])
}

/// A file of a table that maps columns.
fn column_1(id: i64) -> Vec<u8> {
    parquet_of(vec![("col-1", long(id)), ("col-2", text("name"))])
}

/// A file of a table with partitions.
fn days(id: i64) -> Vec<u8> {
    wide(id)
}

fn no_rows() -> Vec<u8> {
    let ids: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let names: ArrayRef = Arc::new(StringArray::from(Vec::<Option<&str>>::new()));
    parquet_of(vec![("id", ids), ("name", names)])
}

async fn scenes() -> Vec<Scene> {
    let mut scenes = appends::appends().await;
    scenes.extend(appends::overwrites().await);
    scenes.extend(appends::creates().await);
    scenes.extend(appends::properties().await);
    scenes.extend(appends::on_disk().await);
    scenes.extend(restores::restores().await);
    scenes.extend(restores::imports().await);
    scenes.extend(restores::restores_on_disk().await);
    scenes.extend(restores::rivals().await);
    scenes
}

/// `DELTAFS_FAULTS`: `all`, or from one call to the next. `DELTAFS_FAULTS_IN`: a part of the name
/// of the scripts that are run.
#[test]
fn every_commit_is_before_or_after_whatever_fails() {
    let wanted = std::env::var("DELTAFS_FAULTS").unwrap_or_default();
    let stride = match wanted.as_str() {
        "" => STRIDE,
        "all" => 1,
        number => number.parse().expect("DELTAFS_FAULTS is `all` or a number"),
    };
    let part = std::env::var("DELTAFS_FAULTS_IN").unwrap_or_default();
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scripts = runtime.block_on(async {
        let mut scripts = Vec::new();
        for scene in scenes().await.into_iter().filter(|scene| scene.name.contains(&part)) {
            let expected = Expected::of(&scene).await;
            let expected = expected.unwrap_or_else(|why| panic!("{}: {why}", scene.name));
            scripts.push((Arc::new(scene), Arc::new(expected)));
        }
        scripts
    });
    println!("{} scripts after {:.1} s", scripts.len(), began.elapsed().as_secs_f64());
    let is_whole = part.is_empty();
    assert!(!is_whole || scripts.len() >= 40, "{} scripts are too few", scripts.len());
    let tally = walk::through(scripts, stride);
    tally.print(began.elapsed());
    assert_eq!(tally.violations, 0, "violations");
    assert!(!is_whole || tally.faults() > 500, "{} faults are too few", tally.faults());
}
