//! Passthrough: files of a version that the kernel reads by itself, without asking us.
//!
//! The kernel's rules for an inode, all of which it enforces by failing the open with EIO: all
//! handles that are open at one time are passed through with the same backing id, or none is; and
//! one that is passed through takes no page cache flag. So the first open of an inode decides for
//! all that overlap with it, and the decision is kept until the last of them is released.
//!
//! It takes CAP_SYS_ADMIN and Linux 6.9; without them every file is read by `pread`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackingId, ReplyOpen};
use rustix::io::Errno;

/// How every inode that is open just now is read.
pub struct Backing {
    enabled: AtomicBool,
    told: AtomicBool,
    inodes: Mutex<HashMap<u64, Open>>,
}

struct Open {
    handles: u64,
    id: Option<Arc<BackingId>>,
}

/// One open of an inode; dropping it releases it.
pub struct BackedOpen {
    backing: Arc<Backing>,
    inode: u64,
    /// The kernel reads the file by itself if there is one.
    pub id: Option<Arc<BackingId>>,
}

impl Backing {
    /// Off until the kernel has agreed to it.
    pub fn new() -> Arc<Backing> {
        Arc::new(Backing {
            enabled: AtomicBool::new(false),
            told: AtomicBool::new(false),
            inodes: Mutex::default(),
        })
    }

    /// The kernel can pass files through.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    /// Opens an inode whose whole content is `file`: the kernel reads a backing file to its own
    /// end, so it must be exactly as long as the log says.
    pub fn open(self: &Arc<Self>, inode: u64, file: &File, reply: &ReplyOpen) -> BackedOpen {
        let mut inodes = self.lock();
        let open = match inodes.entry(inode) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(Open { handles: 0, id: self.register(file, reply) })
            }
        };
        open.handles += 1;
        BackedOpen { backing: Arc::clone(self), inode, id: open.id.clone() }
    }

    /// Registers a file with the kernel, if it takes it.
    fn register(&self, file: &File, reply: &ReplyOpen) -> Option<Arc<BackingId>> {
        if !self.enabled.load(Ordering::Relaxed) {
            return None;
        }
        match reply.open_backing(file) {
            Ok(id) => Some(Arc::new(id)),
            Err(error) => {
                if holds_for_every_file(&error) {
                    self.enabled.store(false, Ordering::Relaxed);
                }
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::info!("files are read through the daemon: no passthrough: {error}");
                }
                None
            }
        }
    }

    fn release(&self, inode: u64) {
        let mut inodes = self.lock();
        let Entry::Occupied(mut open) = inodes.entry(inode) else { return };
        open.get_mut().handles -= 1;
        if open.get().handles == 0 {
            open.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not root; a stacked file system below; a kernel that knows the flag and not the call.
fn holds_for_every_file(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    [Errno::PERM, Errno::LOOP, Errno::NOTTY, Errno::OPNOTSUPP].contains(&errno)
}

impl Drop for BackedOpen {
    fn drop(&mut self) {
        self.backing.release(self.inode);
    }
}
