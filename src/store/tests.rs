//! The contract of a store, on a local disk.

use super::*;

fn scratch() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, store)
}

#[tokio::test]
async fn create_keeps_the_first_and_tells_the_second() {
    let (_folder, store) = scratch();
    let log = store.child("t");
    let first = log.create("_delta_log/0.json", Bytes::from_static(b"one")).await.unwrap();
    let second = log.create("_delta_log/0.json", Bytes::from_static(b"two")).await.unwrap();
    assert_eq!((first, second), (Created::Created, Created::ExistsAlready));
    assert_eq!(store.read("t/_delta_log/0.json").await.unwrap(), "one");
    assert_eq!(log.head("_delta_log/0.json").await.unwrap().unwrap().size, 3);
    assert_eq!(log.head("_delta_log/1.json").await.unwrap(), None);
}

/// A table that was dropped or moved meanwhile must not get a log of one later version.
#[tokio::test]
async fn create_beside_makes_no_folder() {
    let (folder, store) = scratch();
    let entry = |version: u64| format!("t/_delta_log/{version}.json");
    let stale = |error: Error| match error {
        Error::System { code, .. } => code == rustix::io::Errno::STALE.raw_os_error(),
        _ => false,
    };
    let error = store.create_beside(&entry(1), Bytes::from_static(b"one")).await.unwrap_err();
    assert!(stale(error) && !folder.path().join("t").exists());
    store.create(&entry(0), Bytes::from_static(b"zero")).await.unwrap();
    let created = store.create_beside(&entry(1), Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(created, Created::Created);
    // The folder that was opened is elsewhere, and another one has its path.
    let (lake, moved) = (folder.path().join("lake"), folder.path().join("moved"));
    std::fs::create_dir(&lake).unwrap();
    let store = Store::open(lake.to_str().unwrap()).unwrap();
    std::fs::rename(&lake, &moved).unwrap();
    for _ in 0..2 {
        assert!(stale(store.create("f", Bytes::from_static(b"f")).await.unwrap_err()));
        assert!(!lake.join("f").exists() && !moved.join("f").exists());
        std::fs::create_dir_all(&lake).unwrap();
    }
}

#[tokio::test]
async fn one_of_many_creators_wins() {
    let (_folder, store) = scratch();
    let tries = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.create("f", Bytes::from(format!("{n}"))).await.unwrap() })
    });
    let results = futures::future::join_all(tries).await;
    let winners = results.iter().filter(|done| *done.as_ref().unwrap() == Created::Created);
    assert_eq!(winners.count(), 1);
}

#[tokio::test]
async fn lists_one_level_sorted_and_passes_symlinks_over() {
    let (folder, store) = scratch();
    std::fs::create_dir_all(folder.path().join("a/b%20c")).unwrap();
    std::fs::write(folder.path().join("a/x %3A#1"), "1").unwrap();
    std::fs::write(folder.path().join("a/d"), "22").unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join("a/link")).unwrap();
    let listing = store.list("a").await.unwrap();
    assert_eq!(listing.directories, ["b%20c"]);
    let files: Vec<_> = listing.files.iter().map(|e| (e.path.as_str(), e.size)).collect();
    assert_eq!(files, [("a/d", 2), ("a/x %3A#1", 1)]);
    assert_eq!(store.read("a/x %3A#1").await.unwrap(), "1");
    let after = store.list_after("a", "d").await.unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(store.list("nowhere").await.unwrap(), Listing::default());
}

#[tokio::test]
async fn follows_no_symlink_and_never_leaves_the_root() {
    let (folder, store) = scratch();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    std::fs::create_dir(folder.path().join("t")).unwrap();
    std::os::unix::fs::symlink("../secret", folder.path().join("t/link")).unwrap();
    std::os::unix::fs::symlink("..", folder.path().join("t/up")).unwrap();
    let table = store.child("t");
    assert!(table.read("link").await.is_err());
    assert!(table.read("up/secret").await.is_err());
    assert!(table.open_local("link").unwrap().is_err());
    assert!(table.create("up/new", Bytes::new()).await.is_err());
    assert!(store.read("../x").await.is_err());
    assert!(!folder.path().join("new").exists());
}

#[tokio::test]
async fn publishes_by_a_link_and_never_over_a_file() {
    use std::os::unix::fs::MetadataExt;
    let (folder, store) = scratch();
    let staged = folder.path().join("staged");
    std::fs::write(&staged, "data").unwrap();
    let table = store.child("t");
    assert_eq!(table.publish(&staged, "p=1/f").await.unwrap(), Created::Created);
    assert_eq!(table.publish(&staged, "p=1/f").await.unwrap(), Created::ExistsAlready);
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&staged), inode(&folder.path().join("t/p=1/f")));
}

#[tokio::test]
async fn publishes_a_folder_at_once_and_only_where_none_is() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = scratch();
    for name in ["one", "two"] {
        let staged = folder.path().join(name);
        std::fs::create_dir_all(staged.join("sub")).unwrap();
        std::fs::write(staged.join("0.json"), name).unwrap();
        for (path, mode) in [("0.json", 0o200), ("sub", 0o300), ("", 0o300)] {
            std::fs::set_permissions(staged.join(path), Permissions::from_mode(mode)).unwrap();
        }
    }
    let table = store.child("t");
    let one = table.publish_directory(&folder.path().join("one"), "_delta_log").await.unwrap();
    let two = table.publish_directory(&folder.path().join("two"), "_delta_log").await.unwrap();
    assert_eq!((one, two), (Created::Created, Created::ExistsAlready));
    assert_eq!(table.read("_delta_log/0.json").await.unwrap(), "one");
    for (path, mode) in [("0.json", 0o644), ("sub", 0o755), ("", 0o755)] {
        let found = std::fs::metadata(folder.path().join("t/_delta_log").join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn a_range_past_the_end_is_damage_not_a_short_read() {
    let (folder, store) = scratch();
    std::fs::write(folder.path().join("f"), "0123456789").unwrap();
    assert_eq!(store.read_range("f", 2..5).await.unwrap(), "234");
    assert!(matches!(store.read_range("f", 5..11).await, Err(Error::Damaged(_))));
}

#[test]
fn refuses_what_is_no_folder_by_name() {
    for bad in ["s3://bucket/x", "/definitely/not/here", "/etc/hostname"] {
        let error = Store::open(bad).unwrap_err().to_string();
        assert!(error.contains(bad), "{error}");
    }
}

#[tokio::test]
async fn an_answer_cut_short_is_no_shorter_file() {
    use super::fault::{Call, Fault, FaultStore, Mode};
    let objects = FaultStore::default();
    objects.store().create("f", Bytes::from_static(b"0123456789")).await.unwrap();
    for at in 0..3 {
        let fault = Fault { call: Call::Get, at: 0, mode: Mode::ShortRead, for_good: false };
        let store = objects.fork(Some(fault)).store();
        let read = async || match at {
            0 => store.read("f").await,
            1 => store.read_range("f", 2..8).await,
            _ => store.read_up_to("f", 2..80).await,
        };
        let cut = read().await;
        assert!(matches!(cut, Err(Error::Unreachable(_))), "{at}: {cut:?}");
        let whole: [&[u8]; 3] = [b"0123456789", b"234567", b"23456789"];
        assert_eq!(read().await.unwrap(), whole[at], "{at}");
    }
}
