//! Changes of names: create, open, link, rename, unlink, and directories.
//!
//! Each is one call on the spool's file system under the exclusive `names` lock, followed by the
//! same change of the tree. The call decides; the tree only follows.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Statx, Timespec, Timestamps, Uid};
use rustix::fs::{UTIME_OMIT, fchmod, fchown};
use rustix::io::Errno;

use super::activity::Changing;
use super::directory::Staging;
use super::disk::{
    FOLDER, FOLDER_TO_READ, component, failed, magic_path, open_beneath, stat_name, stat_open,
};
use super::handle::StagedFile;
use super::lookup::{is_same_file, stat_file};
use super::reference::{self, Reference};
use super::stat::{PERMISSIONS, id_of};
use super::tree::Link;
use super::{OpenFor, Owner, RenameMode, StagedKind, Stat};
use crate::error::{Error, Result};

/// The control folder, which is found in the root by name and lies in no directory.
const CONTROL_FOLDER: &str = ".deltafs";
/// Set-group bit: in a directory it hands the directory's group on.
const SET_GROUP: u32 = 0o2000;

impl Staging {
    /// Creates a file, or opens what has that name where `open` doesn't say `exclusive`.
    ///
    /// The mode is taken as it is: the kernel has applied the caller's umask.
    pub fn create(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        owner: Owner,
        open: OpenFor,
    ) -> Result<(Stat, StagedFile)> {
        let name = self.new_component(parent, name)?;
        let change = self.activity.change()?;
        let names = self.names_exclusive();
        let folder = self.open_id(parent, FOLDER)?;
        let flags = access(open) | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        match open_beneath(&folder, Path::new(name), flags, mode) {
            Ok(file) => {
                let stat = self.settle_new(&folder, name, &file, mode, owner)?;
                self.learn(&stat, parent, name);
                drop(names);
                Ok((stat.clone(), StagedFile::new(self, stat.id, file, open)?))
            }
            Err(Errno::EXIST) if !open.exclusive => {
                let stat = self.stat_in(parent, &folder, name)?;
                drop(names);
                let file = self.open_changing(stat.id, open, &change)?;
                Ok((file.stat()?, file))
            }
            Err(error) => Err(failed("create", name)(error)),
        }
    }

    /// Opens a file.
    pub fn open(self: &Arc<Self>, id: u64, open: OpenFor) -> Result<StagedFile> {
        match open.write || open.truncate {
            true => self.open_changing(id, open, &self.activity.change()?),
            false => self.open_found(id, open),
        }
    }

    /// As `open` for writing, where the change has begun.
    pub(super) fn open_changing(
        self: &Arc<Self>,
        id: u64,
        open: OpenFor,
        change: &Changing<'_>,
    ) -> Result<StagedFile> {
        change.alters(id)?;
        self.open_found(id, open)
    }

    fn open_found(self: &Arc<Self>, id: u64, open: OpenFor) -> Result<StagedFile> {
        let file = {
            let _names = self.names_shared();
            let way = self.open_id(id, OFlags::PATH)?;
            if stat_file(&way)?.kind != StagedKind::File {
                return Err(Error::IsDirectory("open: it is a directory".into()));
            }
            // Known while it has its name: a commit that takes that lets go of the open file too.
            StagedFile::new(self, id, self.open_id(id, access(open))?, open)?
        };
        file.prepare()?;
        if open.truncate {
            self.truncate(file.handle(), 0)?;
        }
        Ok(file)
    }

    pub fn make_directory(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        owner: Owner,
    ) -> Result<Stat> {
        let name = self.new_component(parent, name)?;
        let _change = self.activity.change()?;
        let _names = self.names_exclusive();
        let folder = self.open_id(parent, FOLDER)?;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        // Its owner must be able to open it; the exact mode follows.
        rustix::fs::mkdirat(&folder, name, mode | Mode::RWXU)
            .map_err(failed("make directory", name))?;
        let made = open_beneath(&folder, Path::new(name), FOLDER_TO_READ, Mode::empty())
            .map_err(failed("open directory", name))?;
        let stat = self.settle_new(&folder, name, &made, mode, owner)?;
        self.learn(&stat, parent, name);
        Ok(stat)
    }

    pub fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.remove(parent, name, AtFlags::empty())
    }

    pub fn remove_directory(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, parent: u64, name: &OsStr, flags: AtFlags) -> Result<()> {
        let name = component(name)?;
        let _change = self.activity.change()?;
        let _names = self.names_exclusive();
        let folder = self.open_id(parent, FOLDER)?;
        let before = stat_name(&folder, name).map_err(failed("remove", name))?;
        rustix::fs::unlinkat(&folder, name, flags).map_err(failed("remove", name))?;
        self.tree().lose(id_of(&before), &Link::new(parent, name));
        self.let_go_last(&before);
        Ok(())
    }

    pub fn rename(
        &self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> Result<()> {
        let name = component(name)?;
        let new_name = self.new_component(new_parent, new_name)?;
        let change = self.activity.change()?;
        let _names = self.names_exclusive();
        let from = self.open_id(parent, FOLDER)?;
        let to = self.open_id(new_parent, FOLDER)?;
        let moved = stat_name(&from, name).map_err(failed("rename", name))?;
        let replaced = stat_name(&to, new_name).ok();
        change.moves(id_of(&moved))?;
        if let (RenameMode::Exchange, Some(other)) = (mode, &replaced) {
            change.moves(id_of(other))?;
        }
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(&from, name, &to, new_name, flags)
            .map_err(failed("rename", (name, new_name)))?;
        let (link, new_link) = (Link::new(parent, name), Link::new(new_parent, new_name));
        match (mode, replaced) {
            // Two names of one file: nothing happens, POSIX says.
            (_, Some(other)) if is_same_file(&moved, &other) => {}
            (RenameMode::Exchange, Some(other)) => {
                let (id, other) = (id_of(&moved), id_of(&other));
                self.tree().exchange((id, &link), (other, &new_link));
            }
            (_, replaced) => {
                let other = replaced.as_ref().map(id_of);
                self.tree().rename(id_of(&moved), other, &link, &new_link);
                if let Some(replaced) = &replaced {
                    self.let_go_last(replaced);
                }
            }
        }
        Ok(())
    }

    /// Makes a hard link inside the staging directory.
    pub fn link(&self, id: u64, new_parent: u64, new_name: &OsStr) -> Result<Stat> {
        let new_name = self.new_component(new_parent, new_name)?;
        let change = self.activity.change()?;
        change.moves(id)?;
        let _names = self.names_exclusive();
        let file = self.open_id(id, OFlags::PATH)?;
        let to = self.open_id(new_parent, FOLDER)?;
        rustix::fs::linkat(CWD, magic_path(&file), &to, new_name, AtFlags::SYMLINK_FOLLOW)
            .map_err(failed("link", new_name))?;
        self.stat_in(new_parent, &to, new_name)
    }

    /// Makes a file that has the bytes of a data file of the same table, without copying them.
    ///
    /// `source` is that file, open. Where a reference can't be, the bytes are copied: the result
    /// is an inode of its own either way.
    pub fn link_reference(
        &self,
        reference: &Reference,
        source: &File,
        new_parent: u64,
        new_name: &OsStr,
        owner: Owner,
    ) -> Result<Stat> {
        let new_name = self.new_component(new_parent, new_name)?;
        reference.check_source(source)?;
        let _change = self.activity.change()?;
        let unnamed = self.new_name();
        let stat = self
            .make_unnamed(&unnamed, reference, source, new_parent, owner)
            .and_then(|()| self.give_name(&unnamed, new_parent, new_name));
        if stat.is_err() {
            // The name may not be there; what stays after a failure here goes at the next mount.
            let _ = rustix::fs::unlinkat(&self.folder, &unnamed, AtFlags::empty());
        }
        stat
    }

    /// Makes the file outside of the tree, so that nobody sees it before it is whole.
    fn make_unnamed(
        &self,
        unnamed: &str,
        reference: &Reference,
        source: &File,
        parent: u64,
        owner: Owner,
    ) -> Result<()> {
        let (directory, path) = {
            let _names = self.names_shared();
            let directory = stat_open(self.open_id(parent, FOLDER)?)
                .map_err(failed("stat", "staged directory"))?;
            (directory, self.tree().path(parent).unwrap_or_default())
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::from_raw_mode(0o644);
        let file = open_beneath(&self.folder, Path::new(unnamed), flags, mode)
            .map_err(failed("refer to", &reference.path))?;
        // Judged with a name below the directory, whichever: a log folder is recognised by it.
        if reference.may_stand_at(&path.join(unnamed)) && reference::attach(&file, reference)? {
            rustix::fs::ftruncate(&file, reference.size)
                .map_err(failed("refer to", &reference.path))?;
        } else {
            let copied = reference::copy(source, 0, &file, 0, reference.size)?;
            if copied != reference.size {
                return Err(Error::Damaged(format!("{} ended while copied", reference.path)));
            }
        }
        let group = match u32::from(directory.stx_mode) & SET_GROUP {
            0 => self.is_root.then_some(owner.gid),
            _ => Some(directory.stx_gid),
        };
        let user = self.is_root.then(|| Uid::from_raw(owner.uid));
        fchown(&file, user, group.map(Gid::from_raw))
            .map_err(failed("change owner of", &reference.path))?;
        fchmod(&file, mode).map_err(failed("change mode of", &reference.path))?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: reference.modified_ms.div_euclid(1000),
                tv_nsec: reference.modified_ms.rem_euclid(1000) * 1_000_000,
            },
        };
        rustix::fs::futimens(&file, &times).map_err(failed("set times of", &reference.path))
    }

    fn give_name(&self, unnamed: &str, parent: u64, name: &OsStr) -> Result<Stat> {
        let _names = self.names_exclusive();
        let folder = self.open_id(parent, FOLDER)?;
        // No RENAME_NOREPLACE, which some file systems lack: names stand still here.
        match stat_name(&folder, name) {
            Ok(_) => return Err(failed("link", name)(Errno::EXIST)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("link", name)(error)),
        }
        rustix::fs::renameat(&self.folder, unnamed, &folder, name).map_err(failed("link", name))?;
        self.stat_in(parent, &folder, name)
    }

    /// Gives a new file or directory its owner and its exact mode; removes it if it can't.
    fn settle_new(
        &self,
        folder: &OwnedFd,
        name: &OsStr,
        made: &OwnedFd,
        mode: Mode,
        owner: Owner,
    ) -> Result<Stat> {
        let settled = self.try_settle_new(folder, name, made, mode, owner);
        if settled.is_err() {
            // The first error is the one to tell; an empty file that stays is visible.
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty())
                .or_else(|_| rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR));
        }
        settled
    }

    fn try_settle_new(
        &self,
        folder: &OwnedFd,
        name: &OsStr,
        made: &OwnedFd,
        mode: Mode,
        owner: Owner,
    ) -> Result<Stat> {
        let before = stat_open(made).map_err(failed("stat", name))?;
        if self.is_root {
            let parent = stat_open(folder).map_err(failed("stat", name))?;
            let hands_on = u32::from(parent.stx_mode) & SET_GROUP != 0;
            let group = if hands_on { before.stx_gid } else { owner.gid };
            if (before.stx_uid, before.stx_gid) != (owner.uid, group) {
                let owner = Some(Uid::from_raw(owner.uid));
                fchown(made, owner, Some(Gid::from_raw(group)))
                    .map_err(failed("change owner of", name))?;
            }
        }
        // What the daemon's own umask took away comes back; an inherited set-group bit stays.
        let now = u32::from(before.stx_mode) & PERMISSIONS;
        let wanted = mode.as_raw_mode() | (now & SET_GROUP);
        if now != wanted {
            fchmod(made, Mode::from_raw_mode(wanted)).map_err(failed("change mode of", name))?;
        }
        stat_file(made)
    }

    /// Checks a name that will be new.
    fn new_component<'a>(&self, parent: u64, name: &'a OsStr) -> Result<&'a OsStr> {
        let name = component(name)?;
        if parent == self.root_id() && name == CONTROL_FOLDER {
            return Err(Error::Exists(".deltafs is the control folder".into()));
        }
        Ok(name)
    }

    /// After a name was taken: forgets failed writes of a file that has none left here. Where it
    /// has one elsewhere it is a commit's, or the table's, and who has it open can change it no
    /// more. For a caller that holds `names`.
    fn let_go_last(&self, removed: &Statx) {
        let id = id_of(removed);
        if removed.stx_nlink > 1 {
            // Looking for another name takes long, and matters for few.
            if !self.activity.knows(id) || !matches!(self.find(id), Ok(None)) {
                return;
            }
            self.activity.let_go(id);
        }
        self.activity.forgive(id);
    }
}

/// The access that a handle needs. Truncating asks for writing whatever the handle is for.
fn access(open: OpenFor) -> OFlags {
    match (open.read, open.write || open.truncate) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    }
}
