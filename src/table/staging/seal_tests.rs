//! What a commit sees of a staging directory, and what it takes away.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::tests::*;
use super::{Attempt, Content, RenameMode, Sealed, StagedIdentity, Staging};
use crate::error::Error;

/// Seals without waiting for a release.
async fn seal_now(staging: &Arc<Staging>) -> crate::error::Result<Sealed> {
    staging.hold()?.seal_within(None, Duration::ZERO).await
}

fn identities(sealed: &Sealed) -> Vec<StagedIdentity> {
    sealed.files().unwrap().into_iter().map(|entry| entry.identity).collect()
}

fn attempt(files: Vec<StagedIdentity>) -> Attempt {
    let (txn_id, result) = ("a-b-c".into(), json!({"version": 7}));
    let options = "mode=overwrite".into();
    let properties = "delta.appendOnly=true".into();
    Attempt { txn_id, version: 7, result, options, properties, log_folder: None, files }
}

/// The paths of all files on disk, sorted.
fn paths(staging: &Arc<Staging>) -> Vec<String> {
    staging.peek().unwrap().into_iter().map(|entry| entry.path).collect()
}

#[tokio::test]
async fn the_manifest_is_sorted_and_has_files_only() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "p=2");
    make_directory(&staging, "p=1");
    make_directory(&staging, "empty");
    put(&staging, "p=2/b", &bytes(10));
    put(&staging, "p=1/a", b"");
    put(&staging, ".hidden", b"x");
    let sealed = staging.seal().await.unwrap();
    let files = sealed.files().unwrap();
    let listed: Vec<_> = files.iter().map(|entry| (entry.path.as_str(), entry.size)).collect();
    assert_eq!(listed, [(".hidden", 1), ("p=1/a", 0), ("p=2/b", 10)]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_millis() as i64 - files[0].modified_ms).abs() < 10_000);
    assert!(sealed.log_store().unwrap().is_none());
}

#[tokio::test]
async fn names_that_are_not_utf_8_are_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let lake = Lake::new();
    let staging = lake.begin("load");
    let odd = std::ffi::OsStr::from_bytes(b"a\xffb");
    let (_, file) = staging.create(staging.root_id(), odd, 0o644, me(), NEW).unwrap();
    file.flush().unwrap();
    drop(file);
    let error = staging.seal().await.unwrap().files().unwrap_err();
    assert!(matches!(error, Error::Refused(_)) && error.to_string().contains("a\\xFFb"), "{error}");
}

#[tokio::test]
async fn a_tree_too_deep_is_refused() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let mut parent = staging.root_id();
    for _ in 0..130 {
        parent = staging.make_directory(parent, name("d"), 0o755, me()).unwrap().id;
    }
    let error = staging.seal().await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert!(!lake.spool().join("load/sealed").exists());
}

#[tokio::test]
async fn a_file_open_for_writing_is_busy_by_name() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "d");
    let file = create(&staging, "d/f");
    let started = Instant::now();
    let error = staging.seal().await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)) && error.to_string().contains("d/f"), "{error}");
    file.write(0, b"x", false).unwrap();
    file.flush().unwrap();
    file.write(1, b"y", false).unwrap();
    assert!(matches!(staging.seal().await, Err(Error::Busy(_))), "written after the close");
    assert!(started.elapsed() < Duration::from_secs(1), "no need to wait for a writer");
    drop(file);
    assert!(seal_now(&staging).await.is_ok());
}

#[tokio::test]
async fn a_closed_file_is_waited_for_until_its_release() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = create(&staging, "f");
    file.write(0, b"x", false).unwrap();
    file.flush().unwrap();
    let error = seal_now(&staging).await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)) && error.to_string().contains("\"f\""), "{error}");
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(file);
    });
    let started = Instant::now();
    let sealed = staging.seal().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(1500));
    assert_eq!(sealed.files().unwrap().len(), 1);
    release.join().unwrap();
}

#[tokio::test]
async fn a_release_that_never_comes_is_busy_in_the_end() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = create(&staging, "f");
    file.flush().unwrap();
    let started = Instant::now();
    let wait = Duration::from_millis(50);
    assert!(matches!(staging.hold().unwrap().seal_within(None, wait).await, Err(Error::Busy(_))));
    assert!(started.elapsed() >= wait);
}

#[tokio::test]
async fn readers_and_files_without_a_name_are_not_in_the_way() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = put(&staging, "f", b"x");
    let _reader = staging.open(id, READ).unwrap();
    let scratch = create(&staging, "scratch");
    staging.unlink(staging.root_id(), name("scratch")).unwrap();
    let _sealed = seal_now(&staging).await.unwrap();
    assert_eq!(scratch.write(0, b"still", false).unwrap(), 5);
}

#[tokio::test]
async fn while_sealed_what_the_commit_reads_stays_and_all_else_goes_on() {
    let lake = Lake::new();
    let area = lake.area();
    let staging = area.begin(name("load"), 0o755, me()).unwrap();
    let root = staging.root_id();
    make_directory(&staging, "d");
    for path in ["f", "g", "h", "d/i"] {
        put(&staging, path, b"x");
    }
    let file = id(&staging, "f");
    let sealed = staging.seal().await.unwrap();
    let waits = [
        staging.open(file, WRITE).map(drop),
        staging.open(file, TRUNCATE).map(drop),
        staging.create(root, name("f"), 0o644, me(), TRUNCATE).map(drop),
        set_size(&staging, file, 0).map(drop),
    ];
    for (at, result) in waits.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Sealed(_))), "call {at}: {result:?}");
    }
    let busy = [
        staging.rename(root, name("f"), root, name("j"), RenameMode::Replace),
        staging.rename(root, name("d"), root, name("e"), RenameMode::Replace),
        staging.link(file, root, name("j")).map(drop),
        area.abandon(name("load")),
        seal_now(&staging).await.map(drop),
    ];
    for (at, result) in busy.into_iter().enumerate() {
        let Err(Error::Busy(sentence)) = result else { panic!("call {at}: {result:?}") };
        assert!(sentence.contains("commit"), "{sentence}");
    }
    // The next commit's: new files, also over the names of sealed ones, which may go, too.
    let (reference, source) = lake.reference(DATA);
    staging.link_reference(&reference, &source, root, name("k"), me()).unwrap();
    put(&staging, "new", b"y");
    put(&staging, "d/new", b"y");
    staging.rename(root, name("new"), root, name("g"), RenameMode::Replace).unwrap();
    staging.unlink(root, name("h")).unwrap();
    make_directory(&staging, "n");
    staging.set_options("mode=append").unwrap();
    assert!(staging.status_text().starts_with("state=sealed\n"));
    staging.sync_directory(root).unwrap();
    assert_eq!(content(&staging, "f"), b"x");

    let files = sealed.files().unwrap();
    let listed: Vec<_> = files.iter().map(|entry| (entry.path.as_str(), entry.size)).collect();
    assert_eq!(listed, [("d/i", 1), ("f", 1), ("g", 1), ("h", 1)]);
    for entry in &files {
        let Content::Spooled(path) = &entry.content else { panic!("{entry:?}") };
        assert_eq!(fs::read(path).unwrap(), b"x", "{}", entry.path);
    }
    assert_eq!(sealed.options(), "");
    let committed = identities(&sealed);
    let (held, edition) = sealed.open();
    held.empty(&committed, edition).unwrap();
    drop(held);
    // What somebody is at work in stays, also where it is empty.
    assert_eq!(paths(&staging), ["d/new", "g", "k"]);
    assert_eq!(content(&staging, "g"), b"y");
    assert!(staging.lookup(root, name("n")).is_ok());
    assert!(matches!(staging.open(file, WRITE), Err(Error::NotFound(_))));
    assert!(!lake.spool().join("load/sealed").exists());
}

#[tokio::test]
async fn who_waits_for_a_commit_is_told_of_its_end() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", b"x");
    let sealed = staging.seal().await.unwrap();
    let mut turns = staging.turns();
    assert!(matches!(staging.open(file, WRITE), Err(Error::Sealed(_))));
    let end = std::thread::spawn(move || drop(sealed));
    tokio::time::timeout(Duration::from_secs(10), turns.next()).await.unwrap();
    end.join().unwrap();
    assert!(staging.open(file, WRITE).is_ok());
}

#[tokio::test]
async fn an_open_file_that_was_committed_can_be_read_and_no_more() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", b"x");
    let reader = staging.open(file, READ).unwrap();
    let sealed = staging.seal().await.unwrap();
    let committed = identities(&sealed);
    let published = lake.folder.join("published");
    fs::hard_link(sealed.root().join("f"), &published).unwrap();
    let before = fs::metadata(&published).unwrap().permissions();
    let (held, edition) = sealed.open();
    held.empty(&committed, edition).unwrap();
    drop(held);
    assert_eq!(reader.read(0, 9).unwrap(), b"x");
    let set = super::SetAttributes { mode: Some(0o600), ..Default::default() };
    assert!(matches!(staging.set_attributes(file, set), Err(Error::NotFound(_))));
    assert_eq!(fs::metadata(&published).unwrap().permissions(), before);
}

#[tokio::test]
async fn what_was_being_written_when_the_daemon_died_is_not_whole() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (cut, synced, twice) = (create(&staging, "cut"), create(&staging, "synced"), "twice");
    cut.write(0, b"half", false).unwrap();
    synced.write(0, b"whole", false).unwrap();
    synced.sync().unwrap();
    put(&staging, "closed", b"whole");
    let (one, other) = (create(&staging, twice), staging.open(id(&staging, twice), WRITE).unwrap());
    one.write(0, b"a", false).unwrap();
    other.write(1, b"b", false).unwrap();
    one.flush().unwrap();
    let lake = lake.as_left_by_a_kill();
    let staging = lake.area().open_all().unwrap().remove(0);
    drop((cut, synced, one, other));
    let status = staging.status_text();
    assert!(status.contains("failed_files=2\n"), "{status}");
    assert!(status.contains("\"cut\"") && status.contains("\"twice\""), "{status}");
    let error = seal_now(&staging).await.unwrap_err();
    assert!(error.to_string().contains("the daemon ended while it was being written"), "{error}");
    staging.unlink(staging.root_id(), name("twice")).unwrap();
    staging.open(id(&staging, "cut"), TRUNCATE).unwrap().flush().unwrap();
    assert!(seal_now(&staging).await.is_ok());
    let lake = lake.as_left_by_a_kill();
    let staging = lake.area().open_all().unwrap().remove(0);
    assert!(staging.status_text().contains("failed_files=0\n"), "{}", staging.status_text());
}

#[tokio::test]
async fn a_failed_write_is_remembered_until_the_file_is_made_anew() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let fail = |path: &str| {
        let file = staging.open(id(&staging, path), WRITE).unwrap();
        // Beyond what the file system takes.
        assert!(file.write(1 << 62, b"x", false).is_err());
        file.flush().unwrap();
    };
    let files = ["unlinked", "truncated", "replaced", "linked"];
    for path in files {
        put(&staging, path, b"x");
    }
    staging.link(id(&staging, "linked"), root, name("second")).unwrap();
    files.iter().for_each(|path| fail(path));
    let error = seal_now(&staging).await.unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error:?}");
    assert!(files.iter().any(|path| error.to_string().contains(path)), "{error}");
    assert!(staging.status_text().contains("failed_files=4\n"));

    staging.unlink(root, name("unlinked")).unwrap();
    staging.open(id(&staging, "truncated"), TRUNCATE).unwrap().flush().unwrap();
    put(&staging, "other", b"whole");
    staging.rename(root, name("other"), root, name("replaced"), RenameMode::Replace).unwrap();
    staging.unlink(root, name("linked")).unwrap();
    let error = seal_now(&staging).await.unwrap_err();
    assert!(error.to_string().contains("second"), "it has another name: {error}");
    set_size(&staging, id(&staging, "second"), 0).unwrap();
    assert!(seal_now(&staging).await.is_ok());
}

#[tokio::test]
async fn a_failed_write_follows_its_file_through_renames() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let file = create(&staging, ".f.tmp");
    file.write(0, b"half", false).unwrap();
    assert!(file.write(1 << 62, b"x", false).is_err());
    drop(file);
    make_directory(&staging, "d");
    let directory = id(&staging, "d");
    staging.rename(root, name(".f.tmp"), directory, name("f"), RenameMode::NoReplace).unwrap();
    staging.forget(id(&staging, "d/f"));
    let error = seal_now(&staging).await.unwrap_err();
    assert!(error.to_string().contains("d/f"), "{error}");
}

#[tokio::test]
async fn emptying_takes_what_was_committed_and_nothing_else() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "p=1");
    make_directory(&staging, "p=1/deep");
    make_directory(&staging, "kept");
    make_directory(&staging, "locked");
    for path in ["p=1/deep/a", "p=1/b", "_SUCCESS", "kept/late", "changed", "locked/c"] {
        put(&staging, path, b"x");
    }
    let set = super::SetAttributes { mode: Some(0o555), ..Default::default() };
    staging.set_attributes(id(&staging, "locked"), set).unwrap();
    let sealed = staging.seal().await.unwrap();
    let mut committed = identities(&sealed);
    committed.retain(|file| file.path != "kept/late");
    drop(sealed);
    staging.open(id(&staging, "changed"), WRITE).unwrap().write(0, b"yy", false).unwrap();

    let sealed = staging.seal().await.unwrap();
    sealed.record_attempt(&attempt(committed.clone())).unwrap();
    sealed.empty(&committed, sealed.edition()).unwrap();
    drop(sealed);
    assert_eq!(paths(&staging), ["changed", "kept/late"]);
    let root: Vec<_> = staging.list(staging.root_id()).unwrap();
    assert_eq!(root.len(), 2, "{root:?}");
    assert_eq!(content(&staging, "kept/late"), b"x");

    let again = staging.seal().await.unwrap();
    assert!(again.attempt().unwrap().is_none());
    again.empty(&committed, again.edition()).unwrap();
    assert_eq!(paths(&staging), ["changed", "kept/late"]);
}

#[tokio::test]
async fn a_new_file_under_a_committed_name_stays() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "f", b"old");
    let sealed = staging.seal().await.unwrap();
    let files = identities(&sealed);
    drop(sealed);
    put(&staging, "g", b"new");
    let root = staging.root_id();
    staging.rename(root, name("g"), root, name("f"), RenameMode::Replace).unwrap();
    let sealed = staging.seal().await.unwrap();
    sealed.empty(&files, sealed.edition()).unwrap();
    assert_eq!(content(&staging, "f"), b"new");
}

#[tokio::test]
async fn an_attempt_survives_a_crash_and_holds_off_changes_until_it_is_settled() {
    let lake = Lake::new();
    let recorded = {
        let staging = lake.begin("load");
        put(&staging, "f", b"x");
        put(&staging, "g", b"x");
        let sealed = staging.seal().await.unwrap();
        assert!(sealed.attempt().unwrap().is_none());
        let recorded = attempt(identities(&sealed));
        sealed.record_attempt(&recorded).unwrap();
        recorded
    };
    let area = lake.area();
    let staging = area.open_all().unwrap().remove(0);
    assert!(staging.status_text().starts_with("state=unsettled\n"));
    let root = staging.root_id();
    let file = id(&staging, "f");
    assert!(matches!(staging.open(file, WRITE), Err(Error::Busy(_))));
    assert!(matches!(set_size(&staging, file, 0), Err(Error::Busy(_))));
    let moved = staging.rename(root, name("f"), root, name("h"), RenameMode::Replace);
    assert!(matches!(moved, Err(Error::Busy(_))));
    assert_eq!(content(&staging, "f"), b"x");
    staging.set_options("mode=append").unwrap();
    staging.set_properties("team=since").unwrap();
    staging.unlink(root, name("g")).unwrap();

    // Another file's business is not held up.
    put(&staging, "since", b"y");

    let held = staging.hold().unwrap();
    assert_eq!(held.attempt().unwrap(), Some(recorded.clone()));
    held.set_result("{\"version\":7}").unwrap();
    held.spend_options(|_| String::new()).unwrap();
    held.spend_properties(&recorded.properties).unwrap();
    held.empty(&recorded.files, held.edition()).unwrap();
    drop(held);
    assert_eq!(paths(&staging), ["since"]);
    // Set after the commit was sent: they are for the next one.
    assert_eq!(staging.options_text(), "mode=append");
    assert_eq!(staging.properties_text(), "team=since");
    assert_eq!(staging.result_text(), "{\"version\":7}");
    put(&staging, "next", b"x");
    drop((staging, area));
    let staging = lake.area().open_all().unwrap().remove(0);
    assert_eq!(staging.result_text(), "{\"version\":7}");
    assert!(staging.seal().await.unwrap().attempt().unwrap().is_none());
}

#[tokio::test]
async fn an_attempt_that_failed_for_certain_is_taken_back() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "f", b"x");
    let sealed = staging.seal().await.unwrap();
    sealed.record_attempt(&attempt(identities(&sealed))).unwrap();
    sealed.clear_attempt().unwrap();
    sealed.clear_attempt().unwrap();
    drop(sealed);
    put(&staging, "g", b"x");
}

#[tokio::test]
async fn a_journal_that_can_not_be_read_is_damaged_and_changes_nothing() {
    let lake = Lake::new();
    put(&lake.begin("load"), "f", b"x");
    fs::write(lake.spool().join("load/attempt"), "{\"txn_id\":").unwrap();
    let staging = lake.area().open_all().unwrap().remove(0);
    let held = staging.hold().unwrap();
    assert!(matches!(held.attempt(), Err(Error::Damaged(_))));
    assert!(matches!(staging.open(id(&staging, "f"), WRITE), Err(Error::Busy(_))));
    assert_eq!(paths(&staging), ["f"]);
}

#[tokio::test]
async fn a_staged_table_is_a_store() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "_delta_log");
    put(&staging, "_delta_log/00000000000000000000.json", b"{}\n");
    let sealed = staging.seal().await.unwrap();
    let store = sealed.log_store().unwrap().unwrap();
    let log = store.read("_delta_log/00000000000000000000.json").await.unwrap();
    assert_eq!(&log[..], b"{}\n");
}

#[tokio::test]
async fn an_abandoned_directory_can_not_be_sealed() {
    let lake = Lake::new();
    let area = lake.area();
    let staging = area.begin(name("load"), 0o755, me()).unwrap();
    area.abandon(name("load")).unwrap();
    assert!(matches!(seal_now(&staging).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seals_and_writers_never_overlap() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let writer = {
        let staging = staging.clone();
        std::thread::spawn(move || {
            let mut waits = 0;
            for round in 0..300 {
                let path = format!("f{}", round % 7);
                let made = staging.create(staging.root_id(), name(&path), 0o644, me(), TRUNCATE);
                match made {
                    Ok((_, file)) => {
                        file.write(0, &bytes(100), false).unwrap();
                        file.write(100, &bytes(100), false).unwrap();
                        file.flush().unwrap();
                    }
                    Err(Error::Sealed(_)) => waits += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            waits
        })
    };
    let mut sealed = 0;
    while !writer.is_finished() {
        if let Ok(seal) = seal_now(&staging).await {
            assert!(seal.files().unwrap().iter().all(|entry| entry.size == 200));
            sealed += 1;
        }
        tokio::task::yield_now().await;
    }
    let waits = writer.join().unwrap();
    println!("{sealed} seals, {waits} changes that had to wait");
}
