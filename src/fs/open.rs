//! Opening files: OPEN and CREATE, and what the kernel may then keep.
//!
//! | what | the kernel |
//! |---|---|
//! | a version's file on local disk, passthrough | reads it by itself |
//! | the same, without | keeps its pages for ever |
//! | a control file, `history` | keeps nothing: each open has its own text |
//! | a file in staging | keeps pages while it is open |

use std::ffi::OsStr;
use std::fs::File;

use fuser::{FileHandle, FopenFlags, ReplyOpen};

use crate::error::{Error, Result};
use crate::fs::State;
use crate::fs::handle::{ControlText, Handle};
use crate::fs::lookup::gone;
use crate::fs::staged::{Place, at_once_in_turn};
use crate::namespace::{Found, Node, Opened};
use crate::table::staging::{OpenFor, Owner};

impl State {
    /// Opens a file; `reply_open` answers with it.
    pub(super) async fn open(&self, inode: u64, open: OpenFor) -> Result<(Node, Opened)> {
        let node = self.inodes.node(inode)?;
        let opened = match Place::of(&node) {
            Some(place) => {
                let file =
                    at_once_in_turn(&place.staging, || place.staging.open(place.id, open)).await;
                Opened::Staged(file.map_err(|error| gone(inode, error))?)
            }
            None => self.namespace.open(&node, open).await?,
        };
        Ok((node, opened))
    }

    /// Gives the kernel a handle for what was opened.
    pub(super) fn reply_open(
        &self,
        reply: ReplyOpen,
        inode: u64,
        open: OpenFor,
        (node, opened): (Node, Opened),
    ) {
        let (handle, flags) = match opened {
            Opened::Local { file, size } => return self.reply_local(reply, inode, file, size),
            Opened::Memory(bytes) => (Handle::Memory(bytes), FopenFlags::FOPEN_DIRECT_IO),
            Opened::Staged(file) => (Handle::Staged(file), FopenFlags::empty()),
            Opened::Control(now) => {
                let control = ControlText::new(node, now, open.truncate);
                (Handle::Control(control), FopenFlags::FOPEN_DIRECT_IO)
            }
        };
        reply.opened(FileHandle(self.handles.insert(handle)), flags);
    }

    /// Hands an immutable file over to the kernel, or reads it for the kernel to keep.
    fn reply_local(&self, reply: ReplyOpen, inode: u64, file: File, size: u64) {
        let backed = self.backing.open(inode, &file, &reply);
        let id = backed.id.clone();
        let number = self.handles.insert(Handle::Local { file, size, _backed: backed });
        match id {
            Some(id) => {
                reply.opened_passthrough(FileHandle(number), FopenFlags::empty(), &id);
            }
            None => reply.opened(FileHandle(number), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    /// Makes and opens a file in staging.
    pub(super) async fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        owner: Owner,
        open: OpenFor,
    ) -> Result<(Found, u64)> {
        let place = self.writable_entry(parent, name, "create")?;
        let create = || place.staging.create(place.id, name, mode & 0o7777, owner, open);
        let (stat, file) = at_once_in_turn(&place.staging, create).await?;
        let found = self.staged_entry(&place, stat);
        Ok((found, self.handles.insert(Handle::Staged(file))))
    }

    /// Makes a file in staging (mknod). Devices, pipes and sockets are never part of a table.
    pub(super) async fn make_node(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        owner: Owner,
    ) -> Result<Found> {
        self.writable_entry(parent, name, "mknod")?;
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        if kind != rustix::fs::FileType::RegularFile {
            return Err(Error::NotPermitted(format!(
                "mknod {}: a table holds files and directories only",
                name.to_string_lossy()
            )));
        }
        let open = OpenFor { write: true, exclusive: true, ..OpenFor::default() };
        let (found, handle) = self.create(parent, name, mode, owner, open).await?;
        self.handles.release(handle);
        Ok(found)
    }
}
