//! Names that come, go and move: MKDIR, RMDIR, UNLINK, RENAME, LINK, SYMLINK.

use std::ffi::OsStr;

use fuser::RenameFlags;

use crate::error::{Error, Result};
use crate::fs::staged::Place;
use crate::fs::{State, check_name, errno};
use crate::namespace::Found;
use crate::table::staging::{Owner, RenameMode};

impl State {
    /// Makes a directory: in staging, or one that the namespace gives a meaning to.
    pub(super) async fn make_directory(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        owner: Owner,
    ) -> Result<Found> {
        let node = self.inodes.node(parent)?;
        if Place::of(&node).is_some() {
            let place = self.writable_entry(parent, name, "mkdir")?;
            let stat = place.staging.make_directory(place.id, name, mode & 0o7777, owner)?;
            return Ok(self.staged_entry(&place, stat));
        }
        check_name(name)?;
        let found = self.namespace.make_directory(&node, name, mode & 0o7777, owner).await?;
        self.inodes.remember(found.attributes.inode, Some(found.node.clone()));
        Ok(found)
    }

    /// Removes an empty directory.
    pub(super) async fn remove_directory(&self, parent: u64, name: &OsStr) -> Result<()> {
        let node = self.inodes.node(parent)?;
        if Place::of(&node).is_some() {
            let place = self.writable_entry(parent, name, "rmdir")?;
            return place.staging.remove_directory(place.id, name);
        }
        check_name(name)?;
        self.namespace.remove_directory(&node, name).await
    }

    /// Removes a file from staging.
    pub(super) fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        let place = self.writable_entry(parent, name, "unlink")?;
        place.staging.unlink(place.id, name)
    }

    /// Moves a name inside one staging directory. Between two, tools copy and remove.
    pub(super) fn rename(
        &self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: RenameFlags,
    ) -> Result<()> {
        let mode = rename_mode(flags)?;
        let from = self.writable_entry(parent, name, "rename")?;
        let to = self.writable_entry(new_parent, new_name, "rename")?;
        if !from.shares_staging(&to) {
            return Err(errno::across("rename: into another staging directory"));
        }
        from.staging.rename(from.id, name, to.id, new_name, mode)
    }

    /// Gives a file another name in staging: a hard link there, or a reference to a version's file.
    pub(super) async fn link(
        &self,
        inode: u64,
        new_parent: u64,
        new_name: &OsStr,
        owner: Owner,
    ) -> Result<Found> {
        let to = self.writable_entry(new_parent, new_name, "link")?;
        let node = self.inodes.node(inode)?;
        let Some(from) = Place::of(&node) else {
            return self.link_version(inode, &node, to, new_name, owner).await;
        };
        if !from.shares_staging(&to) {
            return Err(errno::across("link: from another staging directory"));
        }
        let stat = to.staging.link(from.id, to.id, new_name)?;
        Ok(self.staged_entry(&to, stat))
    }

    /// Symlinks are never part of a table.
    pub(super) fn symlink(&self, parent: u64, name: &OsStr) -> Result<Found> {
        self.writable_entry(parent, name, "symlink")?;
        Err(Error::NotPermitted(format!(
            "symlink {}: a table holds files and directories only",
            name.to_string_lossy()
        )))
    }
}

fn rename_mode(flags: RenameFlags) -> Result<RenameMode> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(Error::Refused(format!("rename with flags {flags}: unknown")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rename_flags_have_one_meaning_each() {
        assert_eq!(rename_mode(RenameFlags::empty()).expect("plain"), RenameMode::Replace);
        let noreplace = rename_mode(RenameFlags::RENAME_NOREPLACE).expect("known");
        assert_eq!(noreplace, RenameMode::NoReplace);
        let both = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
        assert!(matches!(rename_mode(both), Err(Error::Refused(_))));
        assert!(matches!(rename_mode(RenameFlags::RENAME_WHITEOUT), Err(Error::Refused(_))));
    }
}
