//! What tools do to a destination: names, content, attributes, open files.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::tests::*;
use super::{OpenFor, Owner, RenameMode, SetAttributes, SetTime, StagedKind};
use crate::error::Error;

fn code(errno: Errno) -> i32 {
    errno.raw_os_error()
}

#[test]
fn a_file_is_created_written_read_and_listed() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "a.parquet", &bytes(10_000));
    make_directory(&staging, "p=1");
    assert_eq!(content(&staging, "a.parquet"), bytes(10_000));
    let mut listed = staging.list(staging.root_id()).unwrap();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    let kinds: Vec<_> =
        listed.iter().map(|(name, stat)| (name.to_str().unwrap(), stat.kind)).collect();
    assert_eq!(kinds, [("a.parquet", StagedKind::File), ("p=1", StagedKind::Directory)]);
    assert_eq!(listed[0].1, at(&staging, "a.parquet").unwrap());
}

#[test]
fn errors_of_the_system_arrive_unchanged() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    put(&staging, "f", b"x");
    let directory = make_directory(&staging, "d");
    put(&staging, "d/f", b"x");
    let long = "x".repeat(256);
    let fails = |result: crate::error::Result<()>, expected: Errno| {
        assert_eq!(errno(&result.unwrap_err()), code(expected));
    };
    fails(staging.lookup(root, name("none")).map(drop), Errno::NOENT);
    fails(staging.create(root, name("f"), 0o644, me(), NEW).map(drop), Errno::EXIST);
    fails(staging.create(root, name(&long), 0o644, me(), NEW).map(drop), Errno::NAMETOOLONG);
    fails(staging.make_directory(root, name("d"), 0o755, me()).map(drop), Errno::EXIST);
    fails(staging.remove_directory(root, name("d")), Errno::NOTEMPTY);
    fails(staging.remove_directory(root, name("f")), Errno::NOTDIR);
    fails(staging.unlink(root, name("d")), Errno::ISDIR);
    fails(staging.open(directory, READ).map(drop), Errno::ISDIR);
    fails(staging.link(directory, root, name("l")).map(drop), Errno::PERM);
    let rename =
        |from: &str, to: &str, mode| staging.rename(root, name(from), root, name(to), mode);
    fails(rename("f", "d", RenameMode::Replace), Errno::ISDIR);
    fails(rename("d", "f", RenameMode::NoReplace), Errno::EXIST);
    fails(rename("f", "none", RenameMode::Exchange), Errno::NOENT);
    fails(staging.rename(root, name("d"), directory, name("e"), RenameMode::Replace), Errno::INVAL);
    for bad in ["", ".", "..", "a/b"] {
        assert!(staging.lookup(root, name(bad)).is_err(), "{bad:?}");
        assert!(staging.create(root, name(bad), 0o644, me(), NEW).is_err(), "{bad:?}");
    }
}

#[test]
fn the_control_folder_can_not_be_made() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    put(&staging, "f", b"x");
    let made = staging.make_directory(root, name(".deltafs"), 0o755, me());
    assert!(matches!(made, Err(Error::Exists(_))));
    let moved = staging.rename(root, name("f"), root, name(".deltafs"), RenameMode::Replace);
    assert!(matches!(moved, Err(Error::Exists(_))));
}

#[test]
fn what_somebody_put_into_the_spool_is_not_followed() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let files = lake.spool().join("load/files");
    std::os::unix::fs::symlink(lake.table.join(DATA), files.join("link")).unwrap();
    std::os::unix::fs::symlink(&lake.table, files.join("folder")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, files.join("fifo"), fifo, mode, 0).unwrap();
    for planted in ["link", "folder", "fifo"] {
        assert!(at(&staging, planted).is_err(), "{planted}");
    }
    assert!(staging.list(staging.root_id()).unwrap().is_empty());
}

#[test]
fn modes_are_exact_whatever_the_daemons_umask() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    for (at, mode) in [0o000, 0o400, 0o666, 0o777, 0o4755, 0o2775].into_iter().enumerate() {
        let (stat, _) = staging.create(root, name(&format!("f{at}")), mode, me(), NEW).unwrap();
        assert_eq!(stat.mode, mode, "file {mode:o}");
        let stat =
            staging.make_directory(root, name(&format!("d{at}")), mode & 0o777, me()).unwrap();
        assert_eq!(stat.mode, mode & 0o777, "directory {mode:o}");
    }
}

#[test]
fn new_files_belong_to_the_caller_or_to_the_group_that_a_directory_hands_on() {
    if me().uid != 0 {
        println!("skipped: needs root");
        return;
    }
    let lake = Lake::new();
    let staging = lake.begin("load");
    let caller = Owner { uid: 1001, gid: 1002 };
    let root = staging.root_id();
    let (stat, _) = staging.create(root, name("f"), 0o644, caller, NEW).unwrap();
    assert_eq!((stat.uid, stat.gid), (1001, 1002));
    let directory = staging.make_directory(root, name("d"), 0o2755, caller).unwrap();
    assert_eq!((directory.uid, directory.gid, directory.mode), (1001, 1002, 0o2755));
    let other = Owner { uid: 1003, gid: 1004 };
    let (stat, _) = staging.create(directory.id, name("f"), 0o644, other, NEW).unwrap();
    assert_eq!((stat.uid, stat.gid), (1003, 1002));
    let below = staging.make_directory(directory.id, name("e"), 0o755, other).unwrap();
    assert_eq!((below.gid, below.mode), (1002, 0o2755));
    let (reference, source) = lake.reference(DATA);
    let stat = staging.link_reference(&reference, &source, directory.id, name("r"), other).unwrap();
    assert_eq!((stat.uid, stat.gid), (1003, 1002));
}

#[test]
fn attributes_are_kept_to_the_nanosecond() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", b"x");
    let directory = make_directory(&staging, "d");
    let atime = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 1);
    let mtime = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789);
    for id in [file, directory] {
        let set = SetAttributes {
            mode: Some(0o640),
            atime: Some(SetTime::At(atime)),
            mtime: Some(SetTime::At(mtime)),
            ..SetAttributes::default()
        };
        let stat = staging.set_attributes(id, set).unwrap();
        assert_eq!((stat.mode, stat.atime, stat.mtime), (0o640, atime, mtime));
        assert_eq!(staging.stat(id).unwrap(), stat);
        let stat = set_mtime(&staging, id, SetTime::Now).unwrap();
        assert!(stat.mtime > mtime && stat.atime == atime);
    }
    let before = SystemTime::UNIX_EPOCH - Duration::new(5, 7);
    assert_eq!(set_mtime(&staging, file, SetTime::At(before)).unwrap().mtime, before);
}

#[test]
fn size_is_set_by_number_with_and_without_an_open_file() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", &bytes(100));
    assert_eq!(set_size(&staging, file, 10).unwrap().size, 10);
    let open = staging.open(file, WRITE).unwrap();
    assert_eq!(set_size(&staging, file, 20).unwrap().size, 20);
    assert_eq!(open.read(0, 100).unwrap(), [&bytes(100)[..10], &[0; 10]].concat());
    let directory = make_directory(&staging, "d");
    assert!(matches!(set_size(&staging, directory, 1), Err(Error::IsDirectory(_))));
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = create(&staging, "f");
    file.write(0, b"before", false).unwrap();
    staging.unlink(staging.root_id(), name("f")).unwrap();
    file.write(6, b" after", false).unwrap();
    assert_eq!(file.read(0, 100).unwrap(), b"before after");
    let stat = staging.stat(file.id()).unwrap();
    assert_eq!((stat.nlink, stat.size), (0, 12));
    let set = SetAttributes { mode: Some(0o600), size: Some(6), ..SetAttributes::default() };
    let stat = staging.set_attributes(file.id(), set).unwrap();
    assert_eq!((stat.mode, stat.size), (0o600, 6));
    assert!(staging.link(file.id(), staging.root_id(), name("g")).is_err());
    let id = file.id();
    drop(file);
    assert!(matches!(staging.stat(id), Err(Error::NotFound(_))));
}

#[test]
fn numbers_follow_renames_links_and_what_the_kernel_forgot() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let directory = make_directory(&staging, "a");
    let below = make_directory(&staging, "a/b");
    let file = put(&staging, "a/b/f", b"x");
    staging.rename(root, name("a"), root, name("c"), RenameMode::Replace).unwrap();
    assert_eq!(staging.stat(file).unwrap().size, 1);
    assert_eq!(staging.link(file, directory, name("g")).unwrap().nlink, 2);
    staging.unlink(below, name("f")).unwrap();
    assert_eq!(content(&staging, "c/g"), b"x");
    assert_eq!(staging.stat(file).unwrap().nlink, 1);
    for id in [directory, below, file] {
        staging.forget(id);
    }
    assert_eq!(staging.stat(file).unwrap().id, file, "found on disk again");
    assert_eq!(staging.stat(below).unwrap().id, below);
}

#[test]
fn a_number_is_not_given_to_the_next_file_on_the_same_inode() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let first = put(&staging, "f", b"x");
    staging.unlink(staging.root_id(), name("f")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_ne!(put(&staging, "g", b"x"), first);
}

#[test]
fn rename_over_exchange_and_of_two_names_of_one_file() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let one = put(&staging, "one", b"1");
    let two = put(&staging, "two", b"22");
    let rename =
        |from: &str, to: &str, mode| staging.rename(root, name(from), root, name(to), mode);
    rename("one", "two", RenameMode::Exchange).unwrap();
    assert_eq!((id(&staging, "one"), id(&staging, "two")), (two, one));
    staging.link(one, root, name("three")).unwrap();
    rename("two", "three", RenameMode::Replace).unwrap();
    assert_eq!(staging.stat(one).unwrap().nlink, 2, "nothing happens");
    rename("one", "two", RenameMode::Replace).unwrap();
    assert_eq!(content(&staging, "two"), b"22");
    assert_eq!(staging.stat(one).unwrap().nlink, 1);
    assert_eq!(staging.stat(two).unwrap().id, two);
}

#[test]
fn a_mapped_page_that_comes_by_an_appending_handle_goes_where_it_says() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = put(&staging, "f", b"abc");
    let open = staging.open(file, OpenFor { append: true, ..WRITE }).unwrap();
    open.write(0, b"xyz", false).unwrap();
    open.write(3, b"end", false).unwrap();
    assert_eq!(content(&staging, "f"), b"xyzend");
}

#[test]
fn create_without_exclusive_opens_what_is_there() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let root = staging.root_id();
    let first = put(&staging, "f", b"abc");
    let (stat, file) = staging.create(root, name("f"), 0o600, me(), WRITE).unwrap();
    assert_eq!((stat.id, stat.size, stat.mode), (first, 3, 0o644));
    drop(file);
    let (stat, _) = staging.create(root, name("f"), 0o600, me(), TRUNCATE).unwrap();
    assert_eq!((stat.id, stat.size), (first, 0));
    make_directory(&staging, "d");
    let error = staging.create(root, name("d"), 0o600, me(), WRITE).unwrap_err();
    assert!(matches!(error, Error::IsDirectory(_)), "{error:?}");
}

#[test]
fn a_write_by_an_ordinary_user_drops_set_id_bits() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (_, file) = staging.create(staging.root_id(), name("f"), 0o6755, me(), NEW).unwrap();
    if me().uid == 0 {
        // For another user the spool's file system does it by itself.
        file.write(0, b"x", false).unwrap();
        assert_eq!(file.stat().unwrap().mode, 0o6755);
    }
    file.write(0, b"x", true).unwrap();
    assert_eq!(file.stat().unwrap().mode, 0o755);
}

#[test]
fn space_is_allocated_and_punched_and_found() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let file = create(&staging, "f");
    file.allocate(0, 1 << 20, 1).unwrap();
    let stat = file.stat().unwrap();
    assert!(stat.size == 0 && stat.blocks >= 2048, "{stat:?}");
    file.write(0, &bytes(1 << 16), false).unwrap();
    file.allocate(1 << 12, 1 << 12, 0b11).unwrap();
    assert_eq!(file.seek(0, 4).unwrap(), 1 << 12);
    assert_eq!(file.seek(1 << 12, 3).unwrap(), 1 << 13);
    assert_eq!(errno(&file.seek(1 << 20, 3).unwrap_err()), code(Errno::NXIO));
    assert_eq!(errno(&file.seek(0, 0).unwrap_err()), code(Errno::INVAL));
    assert!(file.allocate(0, 1, 0x4000_0000).is_err());
    assert!(staging.statfs().unwrap().blocks > 0);
}

#[test]
fn a_subdirectory_is_synced_with_all_that_is_below() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let directory = make_directory(&staging, "d");
    put(&staging, "d/f", b"x");
    staging.sync_directory(directory).unwrap();
    let file = staging.open(id(&staging, "d/f"), WRITE).unwrap();
    file.sync().unwrap();
}

#[test]
fn deep_trees_and_odd_names_work() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let mut parent = staging.root_id();
    for _ in 0..40 {
        let part = "d".repeat(200);
        parent = staging.make_directory(parent, name(&part), 0o755, me()).unwrap().id;
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n'\" %41");
    let (stat, file) = staging.create(parent, odd, 0o644, me(), NEW).unwrap();
    file.write(0, b"deep", false).unwrap();
    drop(file);
    assert_eq!(staging.lookup(parent, odd).unwrap().size, 4);
    staging.forget(stat.id);
    assert_eq!(staging.stat(stat.id).unwrap().size, 4);
}

#[test]
fn options_and_status_tell_what_is_staged() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    assert_eq!((staging.options_text(), staging.result_text()), (String::new(), String::new()));
    staging.set_options("mode=append\nmerge_schema=true\n").unwrap();
    staging.set_properties("team=a\n").unwrap();
    put(&staging, "a", &bytes(10));
    let open = create(&staging, "b");
    assert_eq!(
        staging.status_text(),
        "state=open\nfiles=2\nbytes=10\nopen_writers=1\nfailed_files=0\n\
         option.mode=append\noption.merge_schema=true\nproperty.team=a\n"
    );
    open.write(0, &bytes(5), false).unwrap();
    drop(open);
    assert!(staging.status_text().contains("bytes=15\nopen_writers=0\n"));
    assert!(matches!(staging.set_options(&"x".repeat(70_000)), Err(Error::Refused(_))));
    assert_eq!(staging.options_text(), "mode=append\nmerge_schema=true\n");
    assert!(matches!(staging.set_properties(&"x".repeat(70_000)), Err(Error::Refused(_))));
    assert_eq!(staging.properties_text(), "team=a\n");
    assert!(!fs::exists(lake.spool().join("load/options.next")).unwrap());
}

#[test]
fn a_failed_write_of_mapped_pages_is_told_at_the_next_close_once() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    let (stat, file) = staging.create(staging.root_id(), name("f"), 0o644, me(), NEW).unwrap();
    file.tell_at_close(&Error::NoSpace("write f: no space left".into()));
    // By whichever descriptor is closed first.
    let other = staging.open(stat.id, READ).unwrap();
    assert!(matches!(other.flush(), Err(Error::NoSpace(_))));
    file.flush().unwrap();
    file.tell_at_close(&Error::NoSpace("write f: no space left".into()));
    staging.unlink(staging.root_id(), name("f")).unwrap();
    file.flush().unwrap();
    file.tell_at_close(&Error::NoSpace("write f: no space left".into()));
    file.flush().unwrap();
}

#[tokio::test]
async fn what_could_not_be_made_durable_is_not_tried_again() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "f", b"x");
    let sealed = staging.seal().await.unwrap();
    sealed.make_durable(&sealed.root().join("f")).unwrap();
    drop(sealed);
    let sealed = staging.seal().await.unwrap();
    // Nothing here can be synced; the system says so each time, a disk only once.
    assert!(sealed.make_durable(std::path::Path::new("/proc/version")).is_err());
    drop(sealed);
    let error = staging.seal().await.unwrap_err();
    assert!(error.to_string().contains("is not whole"), "{error}");
}
