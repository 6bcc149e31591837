//! Open files and directories: the number the kernel holds -> what was opened.
//!
//! A handle reads one snapshot: a directory's listing, a control file's text and a version's file
//! are what they were when it was opened.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::error::Result;
use crate::fs::backing::BackedOpen;
use crate::fs::errno;
use crate::namespace::{DirectoryListing, Kind, Namespace, Node};
use crate::table::staging::{StagedFile, StagedKind, Stat};

/// What an open handle stands for.
pub enum Handle {
    /// A directory.
    Directory(OpenDirectory),
    /// A file of a version on local disk, `size` bytes of it. `_backed` is held, not read: while it
    /// lives the kernel may read the file by itself.
    Local { file: File, size: u64, _backed: BackedOpen },
    /// A text that was made at open.
    Memory(Vec<u8>),
    /// A file in staging.
    Staged(StagedFile),
    /// A control file that takes text.
    Control(ControlText),
}

/// An open directory. Its listing is taken at open where it can change, else at the first read: the
/// kernel may have it already.
pub struct OpenDirectory {
    pub inode: u64,
    pub node: Node,
    pub listing: OnceLock<Arc<Listing>>,
}

/// The names of a directory.
pub enum Listing {
    /// As the namespace has it.
    Namespace(DirectoryListing),
    /// Of a directory in staging.
    Staged(Vec<(OsString, Stat)>),
}

impl Listing {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Listing::Namespace(listing) => listing.entries.len(),
            Listing::Staged(entries) => entries.len(),
        }
    }

    /// The name, inode and kind of an entry.
    pub fn entry(&self, index: usize) -> (&OsStr, u64, Kind) {
        match self {
            Listing::Namespace(listing) => {
                let entry = &listing.entries[index];
                (&entry.name, entry.inode, entry.kind)
            }
            Listing::Staged(entries) => {
                let (name, stat) = &entries[index];
                (name, stat.id, stat_kind(stat))
            }
        }
    }
}

fn stat_kind(stat: &Stat) -> Kind {
    match stat.kind {
        StagedKind::Directory => Kind::Directory,
        StagedKind::File => Kind::File,
    }
}

/// The text written to a control file, which is judged at close.
pub struct ControlText {
    node: Node,
    text: Mutex<Text>,
}

struct Text {
    bytes: Vec<u8>,
    changed: bool,
}

/// Nobody needs more than this of options, and they are held in memory.
const CONTROL_BYTES_MAX: u64 = 1 << 20;

impl ControlText {
    /// Starts with the file's text, which counts as `changed` if it was truncated at open.
    pub fn new(node: Node, bytes: Vec<u8>, changed: bool) -> ControlText {
        ControlText { node, text: Mutex::new(Text { bytes, changed }) }
    }

    /// The text as this handle has it.
    pub fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        slice(&self.lock().bytes, offset, size).to_vec()
    }

    /// Replaces bytes at an offset.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let end = offset.saturating_add(data.len() as u64);
        if end > CONTROL_BYTES_MAX {
            return Err(errno::too_big("write to a control file: longer than 1 MiB"));
        }
        let mut text = self.lock();
        let (from, to) = (offset as usize, end as usize);
        if text.bytes.len() < to {
            text.bytes.resize(to, 0);
        }
        text.bytes[from..to].copy_from_slice(data);
        text.changed = true;
        Ok(data.len())
    }

    /// Cuts or extends the text.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if size > CONTROL_BYTES_MAX {
            return Err(errno::too_big("truncate a control file: longer than 1 MiB"));
        }
        let mut text = self.lock();
        text.bytes.resize(size as usize, 0);
        text.changed = true;
        Ok(())
    }

    /// Hands a changed text over; a refusal is the error of the close.
    pub fn flush(&self, namespace: &Namespace) -> Result<()> {
        // Cloned first: taking the text writes to the spool, and holds no lock of ours.
        let bytes = {
            let mut text = self.lock();
            if !std::mem::take(&mut text.changed) {
                return Ok(());
            }
            text.bytes.clone()
        };
        namespace.write_control(&self.node, &bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of `bytes` that a read of `size` at `offset` gets: shorter, or empty, at the end.
pub fn slice(bytes: &[u8], offset: u64, size: usize) -> &[u8] {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[from..from.saturating_add(size).min(bytes.len())]
}

const SHARDS: usize = 16;

/// All open handles.
pub struct Handles {
    next: AtomicU64,
    shards: Vec<RwLock<HashMap<u64, Arc<Handle>>>>,
}

impl Handles {
    /// An empty table.
    pub fn new() -> Handles {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Handles { next: AtomicU64::new(1), shards }
    }

    /// Takes a handle in and numbers it.
    pub fn insert(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(number, Arc::new(handle));
        number
    }

    /// The handle of a number that `insert` gave.
    pub fn get(&self, number: u64) -> Result<Arc<Handle>> {
        let shard = self.shard(number).read().unwrap_or_else(PoisonError::into_inner);
        shard
            .get(&number)
            .cloned()
            .ok_or_else(|| errno::wrong_handle(format!("handle {number} is not open")))
    }

    /// Drops a handle: what it opened is closed when the last running operation is done with it.
    pub fn release(&self, number: u64) {
        let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
        let released = shard.remove(&number);
        // Closing a file can take long: not under the lock.
        drop(shard);
        drop(released);
    }

    fn shard(&self, number: u64) -> &RwLock<HashMap<u64, Arc<Handle>>> {
        &self.shards[(number % SHARDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_where_the_bytes_end() {
        assert_eq!(slice(b"hello", 0, 10), b"hello");
        assert_eq!(slice(b"hello", 3, 1), b"l");
        assert_eq!(slice(b"hello", 5, 1), b"");
        assert_eq!(slice(b"hello", u64::MAX, usize::MAX), b"");
    }

    #[test]
    fn a_released_handle_is_not_open() {
        let handles = Handles::new();
        let number = handles.insert(Handle::Memory(b"text".to_vec()));
        assert!(handles.get(number).is_ok());
        handles.release(number);
        assert!(handles.get(number).is_err());
    }
}
