//! What a crash, a failing disk, or a link outside of the tree leaves behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::journal_fault::{self, Step};
use super::tests::*;
use super::{Attempt, RenameMode, Sealed, SetAttributes, StagedIdentity, Staging};
use crate::error::{Error, Result};

async fn seal_now(staging: &Arc<Staging>) -> Result<Sealed> {
    staging.hold()?.seal_within(None, Duration::ZERO).await
}

fn identities(sealed: &Sealed) -> Vec<StagedIdentity> {
    sealed.files().unwrap().into_iter().map(|entry| entry.identity).collect()
}

fn attempt(files: Vec<StagedIdentity>) -> Attempt {
    Attempt {
        txn_id: "a-b-c".into(),
        version: 7,
        result: Value::Null,
        options: String::new(),
        properties: String::new(),
        log_folder: None,
        files,
    }
}

/// The directory as the next daemon has it.
fn again(lake: &Lake, staging: Arc<Staging>) -> Arc<Staging> {
    drop(staging);
    let mut held = lake.area().open_all().unwrap();
    assert_eq!(held.len(), 1, "the staging directory is not there any more");
    held.remove(0)
}

#[test]
fn a_tree_too_deep_for_a_commit_is_there_after_a_restart() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let mut parent = staging.root_id();
    for _ in 0..130 {
        parent = staging.make_directory(parent, name("d"), 0o755, me()).unwrap().id;
    }
    put(&staging, "f", b"x");
    assert_eq!(content(&again(&lake, staging), "f"), b"x");
}

#[test]
fn one_damaged_leftover_keeps_no_other_staging_directory_away() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "f", b"x");
    fs::create_dir_all(lake.spool().join(".deltafs-new-other/unknown/deeper")).unwrap();
    assert_eq!(content(&again(&lake, staging), "f"), b"x");
}

#[test]
fn what_another_daemon_holds_is_not_waited_for_one_by_one() {
    let lake = Lake::new();
    let area = lake.area();
    for count in 0..6 {
        area.begin(name(&format!("load-{count}")), 0o755, me()).unwrap();
    }
    let started = Instant::now();
    assert!(lake.area().open_all().unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
}

/// A mapping outlives its descriptor: its pages are written after the close, before the release.
#[test]
fn a_file_that_was_written_after_its_last_close_is_whole_when_it_is_released() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (mapped, failed) = (create(&staging, "mapped"), create(&staging, "failed"));
    mapped.flush().unwrap();
    mapped.write(0, b"whole", false).unwrap();
    failed.write(0, b"half", false).unwrap();
    assert!(failed.write(1 << 62, b"x", false).is_err());
    mapped.release();
    failed.release();
    let lake = lake.as_left_by_a_kill();
    let staging = lake.area().open_all().unwrap().remove(0);
    let status = staging.status_text();
    assert!(status.contains("failed_files=1\n") && status.contains("\"failed\""), "{status}");
}

#[test]
fn space_that_was_reserved_is_a_file_that_is_being_written() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = create(&staging, "f");
    file.allocate(0, 4096, 0).unwrap();
    let lake = lake.as_left_by_a_kill();
    let left = lake.area().open_all().unwrap().remove(0);
    assert!(left.status_text().contains("failed_files=1\n"), "{}", left.status_text());
    drop(file);
}

/// What a commit published and then failed has a link in the table's folder.
#[tokio::test]
async fn a_failed_write_is_forgotten_with_the_last_name_that_the_user_knows() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    for path in ["unlinked", "replaced"] {
        put(&staging, path, b"x");
        fs::hard_link(staging.files_path().join(path), lake.folder.join(path)).unwrap();
        let file = staging.open(id(&staging, path), WRITE).unwrap();
        assert!(file.write(1 << 62, b"x", false).is_err());
    }
    assert!(seal_now(&staging).await.is_err());
    let late = staging.open(id(&staging, "unlinked"), WRITE).unwrap();
    staging.unlink(root, name("unlinked")).unwrap();
    assert!(late.write(1 << 62, b"x", false).is_err());
    drop(late);
    put(&staging, "whole", b"x");
    staging.rename(root, name("whole"), root, name("replaced"), RenameMode::Replace).unwrap();
    assert!(seal_now(&staging).await.is_ok());
}

#[tokio::test]
async fn an_open_file_whose_name_went_during_its_commit_can_be_read_and_no_more() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let set = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
    for path in ["unlinked", "replaced"] {
        let file = put(&staging, path, b"x");
        let reader = staging.open(file, READ).unwrap();
        let sealed = staging.seal().await.unwrap();
        let committed = identities(&sealed);
        let published = lake.folder.join(path);
        fs::hard_link(sealed.root().join(path), &published).unwrap();
        match path {
            "unlinked" => staging.unlink(root, name(path)).unwrap(),
            _ => {
                put(&staging, "new", b"y");
                staging.rename(root, name("new"), root, name(path), RenameMode::Replace).unwrap();
            }
        }
        let (held, edition) = sealed.open();
        held.empty(&committed, edition).unwrap();
        drop(held);
        assert_eq!(reader.read(0, 9).unwrap(), b"x");
        let changed = staging.set_attributes(file, set);
        assert!(matches!(changed, Err(Error::NotFound(_))), "{path}: {changed:?}");
        assert_eq!(fs::metadata(&published).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

/// An import is proved by its folder's inode number, which must not become another folder's.
#[tokio::test]
async fn the_links_of_a_commit_stay_until_its_outcome_is_known() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "_delta_log");
    put(&staging, "_delta_log/0.json", b"{}\n");
    let links = lake.spool().join("load/sealed");
    let sealed = staging.seal().await.unwrap();
    let files = identities(&sealed);
    sealed.record_attempt(&attempt(files.clone())).unwrap();
    drop(sealed.open());
    assert!(links.join("_delta_log").exists());
    let staging = again(&lake, staging);
    assert!(links.join("_delta_log").exists());
    let held = staging.hold().unwrap();
    held.empty(&files, held.edition()).unwrap();
    drop(held);
    assert!(!links.exists());
}

#[tokio::test]
async fn files_of_an_unsettled_attempt_are_found_however_long_their_path_is() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let mut parent = staging.root_id();
    for _ in 0..24 {
        parent = staging.make_directory(parent, name(&"d".repeat(200)), 0o755, me()).unwrap().id;
    }
    let (stat, file) = staging.create(parent, name("f"), 0o644, me(), NEW).unwrap();
    drop(file);
    let sealed = staging.seal().await.unwrap();
    let files = identities(&sealed);
    sealed.record_attempt(&attempt(files.clone())).unwrap();
    drop(sealed);
    let staging = again(&lake, staging);
    let changed = set_size(&staging, stat.id, 7);
    assert!(matches!(changed, Err(Error::Busy(_))), "{changed:?}");
    let held = staging.hold().unwrap();
    held.empty(&files, held.edition()).unwrap();
    drop(held);
    assert!(staging.list(staging.root_id()).unwrap().is_empty());
}

#[tokio::test]
async fn a_journal_that_was_cleared_holds_nothing_whatever_failed_after_it() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", b"x");
    let sealed = staging.seal().await.unwrap();
    sealed.record_attempt(&attempt(identities(&sealed))).unwrap();
    let fails = |step, _: &str| match step {
        Step::After => Err(Error::Damaged("sync the journal's folder".into())),
        Step::Before | Step::Middle => Ok(()),
    };
    journal_fault::set(&staging.folder, Some(Arc::new(fails)));
    assert!(sealed.clear_attempt().is_err());
    journal_fault::set(&staging.folder, None);
    drop(sealed);
    assert!(!staging.status_text().contains("unsettled"));
    staging.open(file, TRUNCATE).unwrap();
}

/// Names move while the files of an unsettled attempt are linked aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_attempt_only_its_own_files_are_sealed_while_others_take_their_names() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    for round in 0..300 {
        let old = put(&staging, "f", b"old");
        let sealed = staging.seal().await.unwrap();
        let sent = attempt(identities(&sealed));
        sealed.record_attempt(&sent).unwrap();
        drop(sealed);
        put(&staging, "new", b"new");
        let mover = {
            let staging = staging.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(round));
                staging.rename(root, name("new"), root, name("f"), RenameMode::Replace).unwrap();
            })
        };
        let held = staging.hold().unwrap();
        let sealed = held.seal(Some(sent.clone())).await.unwrap();
        mover.join().unwrap();
        for file in sealed.files().unwrap() {
            assert_eq!(file.identity, sent.files[0], "round {round}");
        }
        sealed.clear_attempt().unwrap();
        drop(sealed);
        staging.unlink(root, name("f")).unwrap();
        assert!(staging.stat(old).is_err());
    }
}
