//! Staged files that have the bytes of a data file of the table.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tests::*;
use super::{Content, Reference, RenameMode, Staging, reference};
use crate::error::Error;

const SIZE: usize = 300_000;

/// Whether a path of the staging directory `load` is a placeholder on disk.
fn is_reference(lake: &Lake, path: &str) -> bool {
    let path = lake.spool().join("load/files").join(path);
    reference::read(fs::File::open(path).unwrap()).unwrap().is_some()
}

/// Nothing that is done to staging may reach the table.
fn assert_source_untouched(lake: &Lake) {
    assert_eq!(fs::read(lake.table.join(DATA)).unwrap(), bytes(SIZE));
}

#[test]
fn a_link_has_the_bytes_and_the_times_and_takes_no_space() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let stat = refer(&lake, &staging, "f");
    assert_eq!((stat.size, stat.mode, stat.nlink), (SIZE as u64, 0o644, 1));
    assert_eq!(stat.blocks, (SIZE as u64).div_ceil(512), "tools skip files without blocks");
    assert_eq!(stat.mtime, SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
    assert_eq!(staging.stat(stat.id).unwrap(), stat);
    assert_eq!(staging.list(staging.root_id()).unwrap()[0].1, stat);
    assert_eq!(content(&staging, "f"), bytes(SIZE));
    let disk = fs::metadata(lake.spool().join("load/files/f")).unwrap();
    assert!(disk.blocks() <= 8, "{} blocks", disk.blocks());
    let file = staging.open(stat.id, READ).unwrap();
    assert_eq!(file.read(SIZE as u64 - 3, 10).unwrap(), bytes(SIZE)[SIZE - 3..]);
    assert_eq!(file.read(SIZE as u64, 10).unwrap(), b"");
    assert_eq!((file.seek(5, 3).unwrap(), file.seek(5, 4).unwrap()), (5, SIZE as i64));
    assert!(file.seek(SIZE as i64, 3).is_err());
}

#[test]
fn the_name_of_a_link_must_be_new() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "f", b"mine");
    let (reference, source) = lake.reference(DATA);
    let root = staging.root_id();
    let error = staging.link_reference(&reference, &source, root, name("f"), me()).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error:?}");
    assert_eq!(content(&staging, "f"), b"mine");
    assert_eq!(fs::read_dir(lake.spool().join("load")).unwrap().count(), 2, "lock and files");
}

#[test]
fn the_first_write_breaks_away_and_leaves_the_source() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    let reader = staging.open(id, READ).unwrap();
    let writer = staging.open(id, WRITE).unwrap();
    assert!(is_reference(&lake, "f"), "opening for writing is no write");
    assert!(!writer.has_own_bytes(), "the first write is known to copy");
    writer.write(1000, b"changed", false).unwrap();
    assert!(writer.has_own_bytes() && reader.has_own_bytes());
    let mut expected = bytes(SIZE);
    expected[1000..1007].copy_from_slice(b"changed");
    assert_eq!(reader.read(0, SIZE + 1).unwrap(), expected, "an older handle sees it");
    assert!(!is_reference(&lake, "f"));
    assert_source_untouched(&lake);
}

#[test]
fn allocating_breaks_away_too() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    let file = staging.open(id, WRITE).unwrap();
    file.allocate(0, 4096, 0b11).unwrap();
    let mut expected = bytes(SIZE);
    expected[..4096].fill(0);
    assert_eq!(content(&staging, "f"), expected);
    assert_source_untouched(&lake);
}

#[test]
fn changes_of_mode_and_time_do_not_break_away() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    set_mtime(&staging, id, super::SetTime::Now).unwrap();
    let set = super::SetAttributes { mode: Some(0o600), ..Default::default() };
    let stat = staging.set_attributes(id, set).unwrap();
    assert_eq!(stat.blocks, (SIZE as u64).div_ceil(512));
    staging.open(id, WRITE).unwrap().sync().unwrap();
    assert!(is_reference(&lake, "f"));
}

#[test]
fn a_reference_that_its_owner_closes_to_himself_breaks_away() {
    if me().uid == 0 {
        println!("skipped: root can read every file");
        return;
    }
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    for mode in [0o444, 0o200, 0o644] {
        let set = super::SetAttributes { mode: Some(mode), ..Default::default() };
        assert_eq!(staging.set_attributes(id, set).unwrap().mode, mode);
    }
    assert!(!is_reference(&lake, "f"));
    assert_eq!(content(&staging, "f"), bytes(SIZE));
    let id = refer(&lake, &staging, "g").id;
    let file = staging.open(id, WRITE).unwrap();
    let set = super::SetAttributes { mode: Some(0o444), ..Default::default() };
    staging.set_attributes(id, set).unwrap();
    file.write(0, &[9], false).unwrap();
    assert!(!is_reference(&lake, "g"));
    assert_eq!(file.stat().unwrap().mode, 0o444);
}

#[test]
fn truncating_keeps_a_shorter_reference_and_growing_breaks_away() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    set_size(&staging, id, 100_000).unwrap();
    assert!(is_reference(&lake, "f"));
    assert_eq!(content(&staging, "f"), bytes(SIZE)[..100_000]);
    set_size(&staging, id, 100_010).unwrap();
    assert!(!is_reference(&lake, "f"));
    let grown = [&bytes(SIZE)[..100_000], &[0; 10]].concat();
    assert_eq!(content(&staging, "f"), grown);
    assert_source_untouched(&lake);
}

#[test]
fn truncating_to_nothing_and_opening_to_truncate_end_the_reference() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    let other = refer(&lake, &staging, "g").id;
    let file = staging.open(id, TRUNCATE).unwrap();
    assert_eq!(file.write(0, b"new", false).unwrap(), 3);
    set_size(&staging, other, 0).unwrap();
    assert!(!is_reference(&lake, "f") && !is_reference(&lake, "g"));
    assert_eq!((content(&staging, "f"), content(&staging, "g")), (b"new".to_vec(), vec![]));
    assert_source_untouched(&lake);
}

/// Copies as `cp` does: in steps, until there is no more.
fn copy(lake: &Lake, staging: &Arc<Staging>, path: &str, source: &str, step: u64) -> u64 {
    let (reference, open) = lake.reference(source);
    let file = create(staging, path);
    let mut at = 0;
    loop {
        let copied = file.copy_from_reference(&reference, &open, at, at, step).unwrap();
        at += copied;
        if copied == 0 {
            file.flush().unwrap();
            return at;
        }
    }
}

#[test]
fn copying_a_whole_file_in_order_makes_a_reference() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    for (path, step) in [("one", u64::MAX), ("many", 70_001)] {
        assert_eq!(copy(&lake, &staging, path, DATA, step), SIZE as u64);
        assert!(is_reference(&lake, path), "{path}");
        assert_eq!(content(&staging, path), bytes(SIZE));
    }
}

#[test]
fn any_other_copy_copies_the_bytes() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (reference, source) = lake.reference(DATA);
    let shifted = create(&staging, "shifted");
    assert_eq!(shifted.copy_from_reference(&reference, &source, 10, 0, 100).unwrap(), 100);
    assert_eq!(content(&staging, "shifted"), bytes(SIZE)[10..110]);
    let after = create(&staging, "after");
    after.write(0, b"head", false).unwrap();
    assert_eq!(after.copy_from_reference(&reference, &source, 4, 4, 100).unwrap(), 100);
    assert_eq!(content(&staging, "after"), [b"head", &bytes(SIZE)[4..104]].concat());
    let back = create(&staging, "back");
    back.copy_from_reference(&reference, &source, 0, 0, 1000).unwrap();
    back.copy_from_reference(&reference, &source, 0, 0, 10).unwrap();
    assert_eq!(content(&staging, "back"), bytes(SIZE)[..1000]);
    for path in ["shifted", "after", "back"] {
        assert!(!is_reference(&lake, path), "{path}");
    }
    assert_source_untouched(&lake);
}

#[test]
fn copies_between_staged_files_copy_the_bytes() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let source = staging.open(refer(&lake, &staging, "r").id, READ).unwrap();
    let target = create(&staging, "t");
    assert_eq!(target.copy_from_staged(&source, 5, 0, u64::MAX).unwrap(), SIZE as u64 - 5);
    assert_eq!(target.copy_from_staged(&source, SIZE as u64, 0, 10).unwrap(), 0);
    assert_eq!(content(&staging, "t"), bytes(SIZE)[5..]);
    let again = create(&staging, "again");
    assert_eq!(again.copy_from_staged(&target, 0, 3, 10).unwrap(), 10);
    assert_eq!(content(&staging, "again"), [&[0; 3], &bytes(SIZE)[5..15]].concat());
    assert!(is_reference(&lake, "r"));
}

#[test]
fn files_of_the_log_are_always_copied() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    make_directory(&staging, "_delta_log");
    let log = "_delta_log/00000000000000000000.json";
    let (reference, source) = lake.reference(log);
    let folder = id(&staging, "_delta_log");
    staging.link_reference(&reference, &source, folder, name("0.json"), me()).unwrap();
    staging.link_reference(&reference, &source, staging.root_id(), name("out"), me()).unwrap();
    assert_eq!(copy(&lake, &staging, "_delta_log/1.json", log, u64::MAX), 3);
    refer(&lake, &staging, "_delta_log/data");
    copy(&lake, &staging, "_delta_log/copied", DATA, u64::MAX);
    for path in ["_delta_log/0.json", "out", "_delta_log/1.json", "_delta_log/data"] {
        assert!(!is_reference(&lake, path), "{path}");
    }
    assert!(!is_reference(&lake, "_delta_log/copied"));
    assert_eq!(content(&staging, "_delta_log/0.json"), b"{}\n");
}

#[test]
fn a_reference_too_long_for_an_attribute_is_a_copy() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (mut reference, source) = lake.reference(DATA);
    reference.path = format!("{}/f", vec!["d".repeat(240); 60].join("/"));
    let root = staging.root_id();
    staging.link_reference(&reference, &source, root, name("f"), me()).unwrap();
    assert!(!is_reference(&lake, "f"));
    assert_eq!(content(&staging, "f"), bytes(SIZE));
}

#[test]
fn a_source_that_is_lost_or_short_fails_the_open() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let id = refer(&lake, &staging, "f").id;
    fs::write(lake.table.join(DATA), b"short").unwrap();
    assert!(matches!(staging.open(id, READ), Err(Error::Damaged(_))));
    let (mut reference, source) = lake.reference(DATA);
    reference.size = 7;
    let linked = staging.link_reference(&reference, &source, staging.root_id(), name("g"), me());
    assert!(matches!(linked, Err(Error::Damaged(_))));
    fs::remove_file(lake.table.join(DATA)).unwrap();
    let error = staging.open(id, READ).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)) && error.to_string().contains(DATA), "{error}");
    assert!(staging.open(id, TRUNCATE).is_ok(), "its bytes aren't needed");
}

#[test]
fn a_forged_reference_does_not_leave_the_table() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    fs::write(lake.folder.join("secret"), bytes(SIZE)).unwrap();
    std::os::unix::fs::symlink(lake.folder.join("secret"), lake.table.join("link")).unwrap();
    for path in ["../secret", "/etc/passwd", "link", "a/../../secret"] {
        let forged = Reference { path: path.into(), size: SIZE as u64, modified_ms: 0 };
        assert!(forged.open_source(&lake.table).is_err(), "{path}");
    }
    drop(staging);
}

#[tokio::test]
async fn a_reference_of_one_block_is_still_one() {
    let lake = Lake::new();
    fs::write(lake.table.join("small"), bytes(700)).unwrap();
    let staging = lake.begin("load");
    let (to, source) = lake.reference("small");
    staging.link_reference(&to, &source, staging.root_id(), name("f"), me()).unwrap();
    assert_eq!(content(&staging, "f"), bytes(700));
    let files = staging.seal().await.unwrap().files().unwrap();
    assert_eq!(files[0].content, Content::Reference(to));
}

#[test]
fn a_crash_while_breaking_away_leaves_the_reference() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    refer(&lake, &staging, "f");
    drop(staging);
    // Some bytes were copied in, and the attribute is still there.
    let path = lake.spool().join("load/files/f");
    let half = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&half, &bytes(SIZE)[..9000], 0).unwrap();
    let staging = lake.area().open_all().unwrap().remove(0);
    assert!(is_reference(&lake, "f"));
    let id = id(&staging, "f");
    staging.open(id, WRITE).unwrap().write(0, b"!", false).unwrap();
    assert_eq!(content(&staging, "f")[1..], bytes(SIZE)[1..]);
}

#[test]
fn a_crash_while_a_reference_is_made_or_truncated_leaves_an_empty_file() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (to, _) = lake.reference(DATA);
    put(&staging, "f", b"");
    let path = lake.spool().join("load/files/f");
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    assert!(reference::attach(&file, &to).unwrap());
    assert_eq!(content(&staging, "f"), b"");
    let id = id(&staging, "f");
    staging.open(id, WRITE).unwrap().write(0, b"new", false).unwrap();
    assert_eq!(content(&staging, "f"), b"new");
    assert!(!is_reference(&lake, "f"));
}

#[tokio::test]
async fn a_seal_lists_whole_references_and_copies_the_others_in() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    refer(&lake, &staging, "whole");
    staging.link(id(&staging, "whole"), root, name("linked")).unwrap();
    let half = refer(&lake, &staging, "half").id;
    set_size(&staging, half, 1000).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 5);
    set_mtime(&staging, half, super::SetTime::At(time)).unwrap();
    make_directory(&staging, "_delta_log");
    refer(&lake, &staging, "moved");
    let log = id(&staging, "_delta_log");
    staging.rename(root, name("moved"), log, name("moved"), RenameMode::Replace).unwrap();
    let reader = staging.open(half, READ).unwrap();

    let sealed = staging.seal().await.unwrap();
    let files = sealed.files().unwrap();
    let is_whole = |path: &str| {
        let entry = files.iter().find(|entry| entry.path == path).unwrap();
        match &entry.content {
            Content::Reference(to) => *to == lake.reference(DATA).0,
            Content::Spooled(path) => {
                assert!(fs::read(path).unwrap() == bytes(SIZE)[..entry.size as usize]);
                assert!(path.starts_with(sealed.root()) && path.is_absolute());
                false
            }
        }
    };
    assert!(is_whole("whole") && is_whole("linked"));
    assert!(!is_whole("half") && !is_whole("_delta_log/moved"));
    assert_eq!(staging.stat(half).unwrap().mtime, time);
    assert_eq!(reader.read(0, 2000).unwrap(), bytes(SIZE)[..1000]);
    assert!(Path::new(sealed.root()).join("half").exists());
}
