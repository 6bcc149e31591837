//! Names and attributes: LOOKUP, GETATTR, SETATTR, READLINK, STATFS.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fs::handle::Handle;
use crate::fs::serve::on_disk;
use crate::fs::staged::{Place, at_once_in_turn, in_turn};
use crate::fs::{NAME_BYTES_MAX, State, check_name, errno};
use crate::namespace::{Attributes, Found, STAGED};
use crate::table::staging::{SetAttributes, Space};

impl State {
    /// What is called `name` in a directory; counted as told to the kernel.
    pub(super) async fn lookup(&self, parent: u64, name: &OsStr) -> Result<Found> {
        check_name(name)?;
        let node = self.inodes.node(parent)?;
        if let Some(place) = Place::of(&node).filter(|place| !place.is_control(name)) {
            return Ok(self.staged_entry(&place, place.staging.lookup(place.id, name)?));
        }
        let found = self.namespace.lookup(&node, name).await?;
        self.inodes.remember(found.attributes.inode, Some(found.node.clone()));
        Ok(found)
    }

    /// An inode's attributes and how long they hold.
    pub(super) async fn attributes(&self, inode: u64) -> Result<(Attributes, Duration)> {
        let node = self.inodes.node(inode)?;
        let Some(place) = Place::of(&node) else {
            return self.namespace.attributes(&node).await;
        };
        let stat = place.staging.stat(place.id).map_err(|error| gone(inode, error))?;
        Ok((stat.into(), STAGED))
    }

    /// Sets an inode's attributes; `handle` is the open file that a truncation came through.
    pub(super) async fn set_attributes(
        &self,
        inode: u64,
        handle: Option<u64>,
        set: SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        if let Some(handle) = handle
            && let Handle::Control(control) = &*self.handles.get(handle)?
        {
            if let Some(size) = set.size {
                control.truncate(size)?;
            }
            let (attributes, _) = self.attributes(inode).await?;
            // The text is still this handle's own: nobody else sees its size.
            return Ok((attributes, Duration::ZERO));
        }
        let place = self.writable(inode, "set attributes")?;
        let (staging, id) = (&place.staging, place.id);
        let stat = match set.may_copy() {
            true => {
                let copies = || {
                    let staging = staging.clone();
                    on_disk(move || staging.set_attributes(id, set))
                };
                in_turn(staging, copies).await
            }
            false => at_once_in_turn(staging, || staging.set_attributes(id, set)).await,
        };
        Ok((stat.map_err(|error| gone(inode, error))?.into(), STAGED))
    }

    /// Where a symlink points to.
    pub(super) async fn read_link(&self, inode: u64) -> Result<OsString> {
        self.namespace.read_link(&self.inodes.node(inode)?).await
    }

    /// The space of the file system that an inode's bytes are on: the spool's, or the source's.
    pub(super) fn space(&self, inode: u64) -> Result<Space> {
        if let Some(place) = Place::of(&self.inodes.node(inode)?) {
            return place.staging.statfs();
        }
        match &self.local_root {
            Some(root) => space_of(root),
            None => Ok(NO_SPACE),
        }
    }
}

/// What a store without limits shows.
const NO_SPACE: Space = Space {
    block_size: 4096,
    blocks: 0,
    blocks_free: 0,
    blocks_available: 0,
    files: 0,
    files_free: 0,
    name_max: NAME_BYTES_MAX as u64,
};

fn space_of(root: &Path) -> Result<Space> {
    let opened = std::fs::File::open(root)
        .map_err(|error| Error::from_io(format!("open {}", root.display()), &error))?;
    Space::of(opened)
}

/// A staged inode that the kernel still names and that is no more, because a commit took it. ESTALE
/// makes the kernel look the name up again, where ENOENT would stand.
pub(super) fn gone(inode: u64, error: Error) -> Error {
    match error {
        Error::NotFound(_) => errno::stale(inode),
        other => other,
    }
}
