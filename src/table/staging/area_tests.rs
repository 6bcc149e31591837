//! Staging directories come, stay over a restart, and go.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::tests::*;
use super::{Owner, StagingArea};
use crate::error::Error;

#[test]
fn nothing_is_made_before_the_first_staging_directory() {
    let lake = Lake::new();
    let area = lake.area();
    assert!(area.open_all().unwrap().is_empty());
    assert!(area.get(name("load")).is_none());
    assert!(!lake.folder.join(".deltafs").exists());
}

#[test]
fn the_spool_lies_beside_the_table_and_is_closed_to_others() {
    let lake = Lake::new();
    let staging = lake.begin("load");
    put(&staging, "a", b"x");
    assert_eq!(fs::read(lake.spool().join("load/files/a")).unwrap(), b"x");
    for folder in [lake.folder.join(".deltafs"), lake.spool(), lake.spool().join("load")] {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{folder:?}");
    }
}

#[test]
fn a_table_that_is_not_there_yet_has_a_spool() {
    let lake = Lake::new();
    let area = StagingArea::new(&lake.folder.join("new/table"), false);
    let staging = area.begin(name("first"), 0o755, me()).unwrap();
    put(&staging, "a", b"x");
    assert!(lake.folder.join("new/.deltafs/table/first/files/a").exists());
    assert!(!lake.folder.join("new/table").exists());
}

#[test]
fn a_loose_spool_is_closed_again() {
    let lake = Lake::new();
    fs::create_dir(lake.folder.join(".deltafs")).unwrap();
    fs::set_permissions(lake.folder.join(".deltafs"), fs::Permissions::from_mode(0o777)).unwrap();
    let _staging = lake.begin("load");
    assert_eq!(fs::metadata(lake.folder.join(".deltafs")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_symlink_in_the_place_of_the_spool_is_not_followed() {
    let lake = Lake::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), lake.folder.join(".deltafs")).unwrap();
    assert!(lake.area().begin(name("load"), 0o755, me()).is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_name_is_begun_once() {
    let lake = Lake::new();
    let area = lake.area();
    area.begin(name("load"), 0o755, me()).unwrap();
    let error = area.begin(name("load"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error:?}");
    let error = area.begin(name(".deltafs"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
}

#[test]
fn a_read_only_mount_begins_and_adopts_nothing() {
    let lake = Lake::new();
    drop(lake.begin("load"));
    let area = StagingArea::new(&lake.table, true);
    assert!(area.open_all().unwrap().is_empty());
    let error = area.begin(name("other"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::ReadOnly(_)), "{error:?}");
}

#[test]
fn the_directory_has_the_mode_and_owner_that_were_asked_for() {
    let lake = Lake::new();
    let owner = if me().uid == 0 { Owner { uid: 1234, gid: 2345 } } else { me() };
    let staging = lake.area().begin(name("load"), 0o1775, owner).unwrap();
    let stat = staging.stat(staging.root_id()).unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o1775, owner.uid, owner.gid));
    assert_eq!(stat.id, staging.root_id());
    assert_ne!(stat.id >> 63, 0);
}

#[test]
fn abandoning_wants_an_empty_directory_and_leaves_nothing() {
    let lake = Lake::new();
    let area = lake.area();
    let staging = area.begin(name("load"), 0o755, me()).unwrap();
    staging.set_options("mode=append\n").unwrap();
    put(&staging, "a", b"x");
    let error = area.abandon(name("load")).unwrap_err();
    assert_eq!(errno(&error), rustix::io::Errno::NOTEMPTY.raw_os_error());
    assert!(area.get(name("load")).is_some());
    staging.unlink(staging.root_id(), name("a")).unwrap();
    area.abandon(name("load")).unwrap();
    assert!(area.list().is_empty());
    assert!(!lake.folder.join(".deltafs").exists());
    let error = staging.make_directory(staging.root_id(), name("d"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    area.begin(name("load"), 0o755, me()).unwrap();
}

#[test]
fn the_spool_stays_while_another_staging_directory_is_in_it() {
    let lake = Lake::new();
    let area = lake.area();
    area.begin(name("a"), 0o755, me()).unwrap();
    area.begin(name("b"), 0o755, me()).unwrap();
    area.abandon(name("a")).unwrap();
    assert!(lake.spool().join("b").exists());
    assert_eq!(area.list().len(), 1);
}

#[test]
fn a_remount_keeps_everything() {
    let lake = Lake::new();
    let before = {
        let staging = lake.begin("load");
        make_directory(&staging, "d");
        put(&staging, "d/own", &bytes(5000));
        refer(&lake, &staging, "d/same");
        staging.set_options("mode=overwrite\n").unwrap();
        staging.set_properties("team=a\n").unwrap();
        (id(&staging, "d/own"), at(&staging, "d/same").unwrap())
    };
    let area = lake.area();
    let found = area.open_all().unwrap();
    assert_eq!(found.len(), 1);
    let staging = area.get(name("load")).unwrap();
    assert_eq!(staging.name(), "load");
    assert_eq!(staging.options_text(), "mode=overwrite\n");
    assert_eq!(staging.properties_text(), "team=a\n");
    assert_eq!(content(&staging, "d/own"), bytes(5000));
    assert_eq!(content(&staging, "d/same"), bytes(300_000));
    let after = (id(&staging, "d/own"), at(&staging, "d/same").unwrap());
    assert_eq!(before.0, after.0);
    assert_eq!(
        (before.1.id, before.1.size, before.1.mtime),
        (after.1.id, after.1.size, after.1.mtime)
    );
    assert_eq!(area.open_all().unwrap().len(), 1, "adopting twice changes nothing");
}

#[test]
fn what_another_daemon_holds_is_not_listed_and_its_name_is_busy() {
    let lake = Lake::new();
    let first = lake.area();
    let held = first.begin(name("load"), 0o755, me()).unwrap();
    let second = lake.area();
    assert!(second.open_all().unwrap().is_empty());
    let error = second.begin(name("load"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::Busy(_)) && error.to_string().contains("load"), "{error:?}");
    second.begin(name("other"), 0o755, me()).unwrap();
    drop((held, first));
    assert_eq!(second.open_all().unwrap().len(), 2);
}

#[test]
fn a_name_that_a_dead_daemon_left_exists_and_is_adopted() {
    let lake = Lake::new();
    let area = lake.area();
    put(&lake.begin("load"), "a", b"x");
    let error = area.begin(name("load"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error:?}");
    assert_eq!(content(&area.get(name("load")).unwrap(), "a"), b"x");
}

#[test]
fn both_places_of_the_spool_are_looked_at() {
    let lake = Lake::new();
    put(&lake.begin("load"), "a", b"x");
    let inside = lake.table.join(".deltafs");
    fs::create_dir(&inside).unwrap();
    fs::rename(lake.spool().join("load"), inside.join("load")).unwrap();
    let area = lake.area();
    let error = area.begin(name("load"), 0o755, me()).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error:?}");
    area.begin(name("other"), 0o755, me()).unwrap();
    assert!(lake.spool().join("other").exists());
    let staging = area.get(name("load")).unwrap();
    assert_eq!(content(&staging, "a"), b"x");
    staging.unlink(staging.root_id(), name("a")).unwrap();
    area.abandon(name("load")).unwrap();
    assert!(!inside.exists());
}

#[test]
fn a_folder_that_can_not_be_written_has_the_spool_inside_the_table() {
    if me().uid == 0 {
        println!("skipped: root can write everywhere");
        return;
    }
    let lake = Lake::new();
    fs::set_permissions(&lake.folder, fs::Permissions::from_mode(0o555)).unwrap();
    put(&lake.begin("load"), "a", b"x");
    assert!(lake.table.join(".deltafs/load/files/a").exists());
    assert_eq!(lake.area().open_all().unwrap().len(), 1);
    fs::set_permissions(&lake.folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn half_made_and_half_removed_directories_are_gone_at_the_next_mount() {
    let lake = Lake::new();
    let keep = lake.begin("keep");
    put(&keep, "a", b"x");
    drop(keep);
    let spool = lake.spool();
    // Died in `begin`, at each of its steps.
    fs::create_dir(spool.join(".deltafs-new-one")).unwrap();
    fs::create_dir_all(spool.join(".deltafs-new-two/files")).unwrap();
    fs::write(spool.join(".deltafs-new-two/lock"), "").unwrap();
    // Died in `abandon`, after the tree went.
    fs::create_dir(spool.join("gone")).unwrap();
    fs::write(spool.join("gone/lock"), "").unwrap();
    fs::write(spool.join("gone/options"), "x=y").unwrap();
    // Died in `link_reference`, and in a write of the journal.
    fs::write(spool.join("keep/new-7"), "half").unwrap();
    fs::write(spool.join("keep/options.next"), "half").unwrap();

    let area = lake.area();
    let found = area.open_all().unwrap();
    assert_eq!(found.iter().map(|staging| staging.name()).collect::<Vec<_>>(), ["keep"]);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 1);
    assert!(!spool.join("keep/new-7").exists());
    assert_eq!(found[0].options_text(), "");
    area.begin(name("gone"), 0o755, me()).unwrap();
}

#[test]
fn a_half_removed_directory_does_not_keep_its_name() {
    let lake = Lake::new();
    let area = lake.area();
    area.begin(name("other"), 0o755, me()).unwrap();
    fs::create_dir(lake.spool().join("load")).unwrap();
    fs::write(lake.spool().join("load/lock"), "").unwrap();
    area.begin(name("load"), 0o755, me()).unwrap();
}

#[test]
fn one_damaged_directory_does_not_keep_the_others_away() {
    let lake = Lake::new();
    drop((lake.begin("a"), lake.begin("b")));
    fs::write(lake.spool().join("a/options"), [0xff, 0xfe]).unwrap();
    let found = lake.area().open_all().unwrap();
    assert_eq!(found.iter().map(|staging| staging.name()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn two_areas_that_begin_and_abandon_at_once_do_not_disturb_each_other() {
    let lake = Lake::new();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let lake = &lake;
            scope.spawn(move || {
                let area = lake.area();
                for round in 0..25 {
                    let mine = format!("w{worker}-{round}");
                    area.begin(name(&mine), 0o755, me()).unwrap();
                    area.abandon(name(&mine)).unwrap();
                }
            });
        }
    });
    assert!(!lake.folder.join(".deltafs").exists());
}
