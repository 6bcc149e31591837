//! What a staging directory's files look like to the kernel.
//!
//! Staging is a real tree on local disk, so its calls are made directly, on the FUSE thread;
//! but for those that may copy a whole file (`write_waits`, `SetAttributes::may_copy`).

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::fs::{State, check_name};
use crate::namespace::{CONTROL, Found, NEVER, Node, STAGED};
use crate::table::Table;
use crate::table::staging::{OpenFor, Staging, Stat};

/// A file or directory in staging.
#[derive(Clone)]
pub struct Place {
    pub table: Arc<Table>,
    pub staging: Arc<Staging>,
    pub id: u64,
}

impl Place {
    /// The place of a node, if it is in staging.
    pub fn of(node: &Node) -> Option<Place> {
        match node {
            Node::Staged { table, staging, id } => {
                Some(Place { table: table.clone(), staging: staging.clone(), id: *id })
            }
            _ => None,
        }
    }

    /// Whether this is the staging directory itself, the one that `sync` commits.
    pub fn is_root(&self) -> bool {
        self.id == self.staging.root_id()
    }

    /// Whether a name in this directory is the control directory.
    pub fn is_control(&self, name: &OsStr) -> bool {
        name.as_bytes() == CONTROL.as_bytes() && self.is_root()
    }

    /// Whether two places are in one staging directory.
    pub fn shares_staging(&self, other: &Place) -> bool {
        Arc::ptr_eq(&self.staging, &other.staging)
    }

    /// What staging says about an entry of this directory, in the namespace's form.
    fn found(&self, stat: Stat) -> Found {
        Found {
            node: Node::Staged {
                table: self.table.clone(),
                staging: self.staging.clone(),
                id: stat.id,
            },
            attributes: stat.into(),
            // A commit empties the root behind the kernel's back, and `sync DIR && mkdir DIR/p=1`
            // must not find an old `p=1`. What is below goes with the name above it.
            name_lifetime: if self.is_root() { NEVER } else { STAGED },
            attributes_lifetime: STAGED,
        }
    }
}

impl State {
    /// The place of an inode that is to be changed; EROFS if nothing there can be.
    pub(super) fn writable(&self, inode: u64, operation: &str) -> Result<Place> {
        Place::of(&self.inodes.node(inode)?).ok_or_else(|| {
            Error::ReadOnly(format!(
                "{operation}: only directories that were made in staging/ take changes"
            ))
        })
    }

    /// The directory that takes an entry called `name`.
    pub(super) fn writable_entry(
        &self,
        parent: u64,
        name: &OsStr,
        operation: &str,
    ) -> Result<Place> {
        check_name(name)?;
        let place = self.writable(parent, operation)?;
        if place.is_control(name) {
            return Err(Error::NotPermitted(format!(
                "{operation} {CONTROL}: the name belongs to the control directory"
            )));
        }
        Ok(place)
    }

    /// Makes an entry of what staging told of a name in `parent`, and counts it.
    pub(super) fn staged_entry(&self, parent: &Place, stat: Stat) -> Found {
        let found = parent.found(stat);
        self.inodes.remember(found.attributes.inode, Some(found.node.clone()));
        found
    }
}

/// Makes a change, and where a commit works on what it would change, waits for the commit's end and
/// makes it then: the kernel's caller sees a slow call, and what it writes is the next commit's.
pub async fn in_turn<T, F: Future<Output = Result<T>>>(
    staging: &Staging,
    mut change: impl FnMut() -> F,
) -> Result<T> {
    let mut turns = staging.turns();
    loop {
        match change().await {
            Err(Error::Sealed(_)) => turns.next().await,
            result => return result,
        }
    }
}

/// The same, for a change that is made at once.
pub async fn at_once_in_turn<T>(
    staging: &Staging,
    mut change: impl FnMut() -> Result<T>,
) -> Result<T> {
    in_turn(staging, || std::future::ready(change())).await
}

/// What open(2) flags ask for.
pub fn open_for(flags: i32) -> OpenFor {
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    let access = flags & OFlags::RWMODE;
    OpenFor {
        read: access != OFlags::WRONLY,
        write: access == OFlags::WRONLY || access == OFlags::RDWR,
        append: flags.contains(OFlags::APPEND),
        truncate: flags.contains(OFlags::TRUNC),
        exclusive: flags.contains(OFlags::EXCL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(flags: OFlags) -> i32 {
        flags.bits().cast_signed()
    }

    #[test]
    fn open_flags_tell_what_is_asked() {
        let read = open_for(bits(OFlags::RDONLY | OFlags::NONBLOCK));
        assert!(read.read && !read.write && !read.append && !read.truncate && !read.exclusive);
        let append = open_for(bits(OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC));
        assert!(!append.read && append.write && append.append && append.truncate);
        let both = open_for(bits(OFlags::RDWR | OFlags::EXCL));
        assert!(both.read && both.write && both.exclusive);
    }
}
