//! Names that come, go and move: MKDIR, RMDIR, UNLINK, RENAME, LINK, SYMLINK.

use std::ffi::OsStr;

use fuser::RenameFlags;

use crate::error::{Error, Result};
use crate::fs::staged::{Place, at_once_in_turn, in_turn};
use crate::fs::{State, check_name, errno};
use crate::namespace::{Found, Node};
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
            let make = || place.staging.make_directory(place.id, name, mode & 0o7777, owner);
            let stat = at_once_in_turn(&place.staging, make).await?;
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
            let remove = || place.staging.remove_directory(place.id, name);
            return at_once_in_turn(&place.staging, remove).await;
        }
        check_name(name)?;
        self.namespace.remove_directory(&node, name).await
    }

    /// Removes a file from staging.
    pub(super) async fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        let place = self.writable_entry(parent, name, "unlink")?;
        at_once_in_turn(&place.staging, || place.staging.unlink(place.id, name)).await
    }

    /// Moves a name inside one staging directory. Between two, tools copy and remove.
    pub(super) async fn rename(
        &self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: RenameFlags,
    ) -> Result<()> {
        let mode = rename_mode(flags)?;
        for (folder, name) in [(parent, name), (new_parent, new_name)] {
            if matches!(self.inodes.node(folder)?, Node::StagingArea(_)) {
                return Err(keeps_its_name(name));
            }
        }
        let from = self.writable_entry(parent, name, "rename")?;
        let to = self.writable_entry(new_parent, new_name, "rename")?;
        if !from.shares_staging(&to) {
            return Err(errno::across("rename: into another staging directory"));
        }
        let rename = || from.staging.rename(from.id, name, to.id, new_name, mode);
        at_once_in_turn(&from.staging, rename).await
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
            let link = || self.link_version(inode, &node, to.clone(), new_name, owner);
            return in_turn(&to.staging, link).await;
        };
        if !from.shares_staging(&to) {
            return Err(errno::across("link: from another staging directory"));
        }
        let link = || to.staging.link(from.id, to.id, new_name);
        let stat = at_once_in_turn(&to.staging, link).await?;
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

/// EPERM, for on EXDEV `mv` would copy the files, and drop the options without a word.
fn keeps_its_name(name: &OsStr) -> Error {
    Error::NotPermitted(format!(
        "rename {}: a staging directory keeps its name and its place; make another with mkdir, and \
         move the files",
        name.to_string_lossy()
    ))
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
