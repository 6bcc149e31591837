//! Operations of one file or name, on both sides.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;

use super::super::tests::*;
use super::super::{OpenFor, RenameMode, SetAttributes, SetTime, StagedFile};
use super::operation::{Offset, Space};
use super::world::{World, blob, ours};

impl World {
    pub(super) fn create(&mut self, path: &str, mode: u32, open: OpenFor) -> Option<usize> {
        let create = |world: &mut World| {
            let (parent, name) = world.parent(path)?;
            Ok(world.staging.create(parent, name, mode, me(), open)?.1)
        };
        let target = self.model.join(path);
        let is_frozen = self.is_frozen(path);
        let opened = self.both(is_frozen, create, |_| {
            let is_new = fs::symlink_metadata(&target).is_err();
            let mut options = File::options();
            options.read(true).write(true).mode(mode);
            options.create_new(open.exclusive).create(true).truncate(open.truncate);
            let file = options.open(&target)?;
            if is_new {
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            Ok(file)
        });
        let opened = opened?;
        if open.truncate {
            self.begins_anew(opened.1.metadata().unwrap().ino());
        }
        self.open.push(opened);
        Some(self.open.len() - 1)
    }

    pub(super) fn put(&mut self, path: &str, number: usize) {
        let Some(file) = self.create(path, 0o644, TRUNCATE) else { return };
        let (here, there) = &self.open[file];
        let data = blob(number);
        assert_eq!(here.write(0, data, false).unwrap(), data.len());
        there.write_all_at(data, 0).unwrap();
        self.written.insert(there.metadata().unwrap().ino());
        self.close(file);
    }

    pub(super) fn make_directory(&mut self, path: &str) {
        let target = self.model.join(path);
        let make = |world: &mut World| {
            let (parent, name) = world.parent(path)?;
            world.staging.make_directory(parent, name, 0o755, me())
        };
        self.both(false, make, |_| {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, Permissions::from_mode(0o755))
        });
    }

    pub(super) fn remove(&mut self, path: &str, is_file: bool) {
        let target = self.model.join(path);
        let remove = |world: &mut World| {
            let (parent, name) = world.parent(path)?;
            match is_file {
                true => world.staging.unlink(parent, name),
                false => world.staging.remove_directory(parent, name),
            }
        };
        self.both(false, remove, |_| match is_file {
            true => fs::remove_file(&target),
            false => fs::remove_dir(&target),
        });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, mode: RenameMode) {
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let (source, target) = (self.model.join(from), self.model.join(to));
        let rename = |world: &mut World| {
            let (parent, name) = world.parent(from)?;
            let (new_parent, new_name) = world.parent(to)?;
            world.staging.rename(parent, name, new_parent, new_name, mode)
        };
        let is_exchanged = mode == RenameMode::Exchange;
        let is_held = self.is_held(from) || (is_exchanged && self.is_held(to));
        self.both(is_held, rename, |_| {
            Ok(rustix::fs::renameat_with(CWD, source, CWD, target, flags)?)
        });
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        let (source, target) = (self.model.join(from), self.model.join(to));
        let link = |world: &mut World| {
            let stat = at(&world.staging, from)?;
            let (parent, name) = world.parent(to)?;
            world.staging.link(stat.id, parent, name)
        };
        self.both(self.is_held(from), link, |_| fs::hard_link(source, target));
    }

    pub(super) fn refer(&mut self, path: &str, which: usize) {
        let Some((reference, source)) = self.reference(which) else { return };
        let refer = |world: &mut World| {
            let (parent, name) = world.parent(path)?;
            world.staging.link_reference(&reference, &source, parent, name, me())
        };
        let target = self.model.join(path);
        let mut data = vec![0; reference.size as usize];
        source.read_exact_at(&mut data, 0).unwrap();
        let time = UNIX_EPOCH + Duration::from_millis(reference.modified_ms as u64);
        self.both(false, refer, |_| {
            let file = File::options().write(true).create_new(true).open(&target)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all_at(&data, 0)?;
            file.set_times(FileTimes::new().set_modified(time))
        });
    }

    pub(super) fn open(&mut self, path: &str, truncate: bool) {
        let open = OpenFor { truncate, ..WRITE };
        let target = self.model.join(path);
        let here = |world: &mut World| {
            let stat = at(&world.staging, path)?;
            world.staging.open(stat.id, open)
        };
        let there =
            |_: &World| File::options().read(true).write(true).truncate(truncate).open(target);
        let Some(opened) = self.both(self.is_frozen(path), here, there) else { return };
        if truncate {
            self.begins_anew(opened.1.metadata().unwrap().ino());
        }
        self.open.push(opened);
    }

    fn set(
        &mut self,
        path: &str,
        set: SetAttributes,
        there: impl FnOnce() -> std::io::Result<()>,
    ) -> bool {
        let here = |world: &mut World| {
            let stat = at(&world.staging, path)?;
            world.staging.set_attributes(stat.id, set)
        };
        self.both(self.is_frozen(path), here, |_| there()).is_some()
    }

    pub(super) fn truncate(&mut self, path: &str, size: u64) {
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        let target = self.model.join(path);
        let set_len = || File::options().write(true).open(target)?.set_len(size);
        let is_set = self.set(path, set, set_len);
        if let Some(inode) = self.inode(path).filter(|_| size == 0 && is_set) {
            self.begins_anew(inode);
        }
    }

    pub(super) fn change_mode(&mut self, path: &str, mode: u32) {
        let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        let target = self.model.join(path);
        self.set(path, set, || fs::set_permissions(target, Permissions::from_mode(mode)));
    }

    pub(super) fn set_time(&mut self, path: &str, seconds: u32) {
        let time = UNIX_EPOCH + Duration::new(seconds.into(), seconds);
        let set = SetAttributes { mtime: Some(SetTime::At(time)), ..SetAttributes::default() };
        let target = self.model.join(path);
        let set_times = || File::open(target)?.set_times(FileTimes::new().set_modified(time));
        self.set(path, set, set_times);
    }

    pub(super) fn write(&mut self, file: usize, offset: u64, size: usize) {
        let Some((here, there)) = pick(&self.open, file) else { return };
        let data = &bytes(size + 7)[7..];
        let written = here.write(offset, data, false);
        assert!(written.as_ref().is_ok_and(|written| *written == size), "{written:?}");
        there.write_all_at(data, offset).unwrap();
        self.written.insert(there.metadata().unwrap().ino());
    }

    pub(super) fn allocate(&mut self, file: usize, offset: u64, size: u64, how: Space) {
        let Some((here, there)) = pick(&self.open, file) else { return };
        let flags = match how {
            Space::Extend => FallocateFlags::empty(),
            Space::KeepSize => FallocateFlags::KEEP_SIZE,
            Space::PunchHole => FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
        };
        let outcome = here.allocate(offset, size, flags.bits() as i32);
        let expected = rustix::fs::fallocate(there, flags, offset, size);
        // Tools begin with it, and then the bytes are still to come.
        self.written.insert(there.metadata().unwrap().ino());
        assert_eq!(ours(&outcome), expected.map_err(Errno::raw_os_error));
    }

    pub(super) fn copy(
        &mut self,
        file: usize,
        from: std::result::Result<usize, usize>,
        offsets: [Offset; 2],
        length: u64,
    ) {
        let Some((here, there)) = pick(&self.open, file) else { return };
        let end = here.stat().unwrap().size;
        let [offset_in, offset_out] = offsets.map(|offset| match offset {
            Offset::At(offset) => offset,
            Offset::End => end,
        });
        let mut data = Vec::new();
        let copied = match from {
            Ok(from) => {
                let (source, plain) = pick(&self.open, from).unwrap();
                if source.id() == here.id() {
                    return;
                }
                data.resize(plain.metadata().unwrap().len() as usize, 0);
                plain.read_exact_at(&mut data, 0).unwrap();
                here.copy_from_staged(source, offset_in, offset_out, length)
            }
            Err(which) => {
                let Some((reference, source)) = self.reference(which) else { return };
                data.resize(reference.size as usize, 0);
                source.read_exact_at(&mut data, 0).unwrap();
                here.copy_from_reference(&reference, &source, offset_in, offset_out, length)
            }
        };
        let from = (offset_in as usize).min(data.len());
        let part = &data[from..data.len().min(from + length as usize)];
        assert_eq!(copied.unwrap(), part.len() as u64, "the whole range");
        there.write_all_at(part, offset_out).unwrap();
        if !part.is_empty() {
            self.written.insert(there.metadata().unwrap().ino());
        }
    }

    pub(super) fn close(&mut self, file: usize) {
        self.is_whole(file);
        let (here, there) = self.open.swap_remove(file);
        drop(there);
        here.flush().unwrap();
    }

    /// Who wrote to an open file has finished, if nobody else has it open.
    pub(super) fn is_whole(&mut self, file: usize) {
        let inode = |file: usize| self.open[file].1.metadata().unwrap().ino();
        let own = inode(file);
        if (0..self.open.len()).all(|other| other == file || inode(other) != own) {
            self.written.remove(&own);
        }
    }
}

fn pick(open: &[(StagedFile, File)], number: usize) -> Option<&(StagedFile, File)> {
    if open.is_empty() { None } else { open.get(number % open.len()) }
}
