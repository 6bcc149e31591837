//! The kernel's side: what did the kernel ask, and how is it answered.
//!
//! A thin skin over `namespace` (what is at a path) and `table::staging` (files being brought):
//! it turns inode numbers and handles into nodes, calls one operation, and turns the result into
//! a reply. Alone here: fuser, errno, and what the kernel may cache.
//!
//! | file | what the kernel asks |
//! |---|---|
//! | `dispatch` | every request, one line of work each |
//! | `lookup` | names and attributes |
//! | `directory` | listings, and `sync DIR` |
//! | `open`, `read`, `write` | files |
//! | `naming`, `link` | mkdir, unlink, rename, link |
//! | `access` | who may commit |
//! | `serve`, `reply` | where and how a request is carried out, and answered |
//! | `inode`, `handle`, `backing` | what the kernel holds of us |
//!
//! The kernel is never told to drop anything: what can change has no lifetime (`namespace`).

mod access;
mod attributes;
mod backing;
mod commits;
mod directory;
mod dispatch;
mod errno;
mod handle;
mod inode;
mod link;
mod lookup;
mod naming;
mod open;
mod read;
mod reply;
mod serve;
mod session;
mod staged;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle as Runtime;

use crate::error::{Error, Result};
use crate::namespace::Namespace;

pub use commits::Commits;
pub use session::Server;

/// Everything that a request may need. One for each mount.
struct State {
    namespace: Arc<Namespace>,
    runtime: Runtime,
    inodes: inode::Inodes,
    handles: handle::Handles,
    backing: Arc<backing::Backing>,
    commits: Arc<Commits>,
    /// The source, where it is on local disk: its space is the mount's.
    local_root: Option<PathBuf>,
}

/// The longest name that exists anywhere in a mount; the kernel would send up to 1,024 bytes.
const NAME_BYTES_MAX: usize = 255;

fn check_name(name: &std::ffi::OsStr) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        let start = name.to_string_lossy().chars().take(32).collect::<String>();
        return Err(Error::NameTooLong(format!(
            "name `{start}…` has {} bytes: {NAME_BYTES_MAX} is the most",
            name.len()
        )));
    }
    Ok(())
}
