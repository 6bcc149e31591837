//! Directories: OPENDIR, READDIR, READDIRPLUS, and FSYNCDIR, which commits.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{FileType, FopenFlags, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::error::{Error, Result};
use crate::fs::State;
use crate::fs::access::Caller;
use crate::fs::attributes::{file_attr, file_type, listed_attr};
use crate::fs::errno;
use crate::fs::handle::{Handle, Listing, OpenDirectory};
use crate::fs::lookup::gone;
use crate::fs::serve::on_disk;
use crate::fs::staged::Place;
use crate::namespace::{Attributes, DirectoryEntry, Found, Node};
use crate::table::staging::Stat;

/// Offsets of `.` and `..`, which come before every entry. An entry's offset, which the kernel
/// hands back to go on after it, is its index + 3; 0 is the start.
const DOTS: [&str; 2] = [".", ".."];

/// The index of the first entry to send for an offset, and which dots come before it.
fn resume(offset: u64) -> (&'static [&'static str], usize) {
    let sent = usize::try_from(offset).unwrap_or(usize::MAX);
    (&DOTS[sent.min(DOTS.len())..], sent.saturating_sub(DOTS.len()))
}

/// The offset that stands for "go on after the entry of this index".
fn offset_after(index: usize) -> u64 {
    (index + DOTS.len() + 1) as u64
}

/// The offsets of the dots that are still to be sent.
fn dot_offsets(dots: &[&str]) -> impl Iterator<Item = u64> {
    (DOTS.len() - dots.len() + 1..).map(|at| at as u64)
}

/// Adds an entry; true if it has no room. fuser has one lifetime for both name and attributes.
fn add_entry(reply: &mut ReplyDirectoryPlus, index: usize, name: &OsStr, found: &Found) -> bool {
    let attr = file_attr(&found.attributes);
    let lifetime = found.name_lifetime.min(found.attributes_lifetime);
    reply.add(attr.ino, offset_after(index), name, &lifetime, &attr, Generation(0))
}

/// A listing on its way to the kernel, with attributes.
pub struct OpenListing {
    node: Node,
    listing: Arc<Listing>,
    attributes: Attributes,
    lifetime: Duration,
}

fn open_directory(handle: &Handle) -> Result<&OpenDirectory> {
    match handle {
        Handle::Directory(directory) => Ok(directory),
        _ => Err(errno::wrong_handle("read a directory: the handle is a file's")),
    }
}

/// Fills a reply with names from an offset on.
pub fn fill_names(inode: u64, listing: &Listing, offset: u64, reply: &mut ReplyDirectory) {
    let (dots, first) = resume(offset);
    for (name, at) in dots.iter().zip(dot_offsets(dots)) {
        if reply.add(INodeNo(inode), at, FileType::Directory, name) {
            return;
        }
    }
    for index in first..listing.len() {
        let (name, number, kind) = listing.entry(index);
        if reply.add(INodeNo(number), offset_after(index), file_type(kind), name) {
            return;
        }
    }
}

/// Adds an entry of which only name, inode and kind are known, and nothing is to be believed: the
/// kernel looks it up before it uses it. True if it has no room.
fn add_name(reply: &mut ReplyDirectoryPlus, index: usize, entry: &DirectoryEntry) -> bool {
    let attr = listed_attr(entry.inode, entry.kind);
    let offset = offset_after(index);
    reply.add(attr.ino, offset, &entry.name, &Duration::ZERO, &attr, Generation(0))
}

impl State {
    /// Opens a directory; the listing is taken now unless it can never change.
    pub(super) async fn open_directory(&self, inode: u64) -> Result<(u64, FopenFlags)> {
        let node = self.inodes.node(inode)?;
        let directory = OpenDirectory { inode, node, listing: OnceLock::new() };
        let mut immutable = self.inodes.is_immutable(inode);
        if !immutable {
            let listing = self.listing(&directory).await?;
            immutable = matches!(&*listing, Listing::Namespace(listing) if listing.immutable);
            if immutable {
                self.inodes.note_immutable(inode);
            }
        }
        let flags = if immutable {
            // KEEP_CACHE too, or the kernel drops what it has cached at each open.
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::empty()
        };
        Ok((self.handles.insert(Handle::Directory(directory)), flags))
    }

    /// The listing of an open directory, the same at every call.
    async fn listing(&self, directory: &OpenDirectory) -> Result<Arc<Listing>> {
        if let Some(listing) = directory.listing.get() {
            return Ok(Arc::clone(listing));
        }
        let listing = match Place::of(&directory.node) {
            Some(place) => {
                let entries = place.staging.list(place.id);
                Listing::Staged(entries.map_err(|error| gone(directory.inode, error))?)
            }
            None => Listing::Namespace(self.namespace.list(&directory.node).await?),
        };
        // Whoever was first has set it; both are listings of the same moment for the reader.
        Ok(Arc::clone(directory.listing.get_or_init(|| Arc::new(listing))))
    }

    /// The listing behind a handle.
    pub(super) async fn open_listing(&self, handle: u64) -> Result<Arc<Listing>> {
        let handle = self.handles.get(handle)?;
        self.listing(open_directory(&handle)?).await
    }

    /// The listing behind a handle, with what `.` and `..` need.
    pub(super) async fn open_listing_plus(&self, handle: u64) -> Result<OpenListing> {
        let handle = self.handles.get(handle)?;
        let directory = open_directory(&handle)?;
        let listing = self.listing(directory).await?;
        let (attributes, lifetime) = self.attributes(directory.inode).await?;
        Ok(OpenListing { node: directory.node.clone(), listing, attributes, lifetime })
    }

    /// Fills a reply with names and attributes, each of which counts as looked up, but for the
    /// dots, which the kernel never takes for lookups.
    pub(super) fn fill_entries(
        &self,
        open: &OpenListing,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<()> {
        let (dots, first) = resume(offset);
        let attr = file_attr(&open.attributes);
        for (name, at) in dots.iter().zip(dot_offsets(dots)) {
            if reply.add(attr.ino, at, name, &open.lifetime, &attr, Generation(0)) {
                return Ok(());
            }
        }
        match (&*open.listing, Place::of(&open.node)) {
            (Listing::Namespace(listing), _) => {
                self.fill_found(&open.node, &listing.entries, first, reply);
                Ok(())
            }
            (Listing::Staged(entries), Some(place)) => {
                self.fill_staged(&place, entries, first, !dots.is_empty(), reply)
            }
            (Listing::Staged(_), None) => {
                Err(errno::wrong_handle("read a directory: a staged listing of no staging"))
            }
        }
    }

    fn fill_found(
        &self,
        directory: &Node,
        entries: &[DirectoryEntry],
        first: usize,
        reply: &mut ReplyDirectoryPlus,
    ) {
        for (index, entry) in entries.iter().enumerate().skip(first) {
            let now = self.namespace.staging_now(directory, &entry.name);
            let found = match &now {
                // Removed since the directory was opened.
                Some(None) => continue,
                Some(Some(found)) => Some(found),
                None => entry.found.as_deref(),
            };
            let (full, inode, node) = match found {
                Some(found) => {
                    let full = add_entry(reply, index, &entry.name, found);
                    (full, found.attributes.inode, Some(found.node.clone()))
                }
                None => (add_name(reply, index, entry), entry.inode, None),
            };
            if full {
                return;
            }
            self.inodes.remember(inode, node);
        }
    }

    /// Asks staging about each name again: what the listing was told may have been forgotten, and
    /// the kernel caches what it gets here as the newest attributes.
    fn fill_staged(
        &self,
        place: &Place,
        entries: &[(OsString, Stat)],
        first: usize,
        mut added: bool,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<()> {
        for (index, (name, _)) in entries.iter().enumerate().skip(first) {
            let found = match place.staging.lookup(place.id, name) {
                Ok(stat) => self.staged_entry(place, stat),
                Err(Error::NotFound(_)) => continue,
                // What was added before is sent; the kernel comes back for this one.
                Err(_) if added => return Ok(()),
                Err(error) => return Err(error),
            };
            if add_entry(reply, index, name, &found) {
                self.inodes.forget(found.attributes.inode, 1);
                return Ok(());
            }
            added = true;
        }
        Ok(())
    }

    /// Makes a directory durable: for a staging directory that is the commit. Errors: EACCES for a
    /// caller who may not write there.
    pub(super) async fn sync_directory(&self, inode: u64, caller: Caller) -> Result<()> {
        let node = self.inodes.node(inode)?;
        if let Some(place) = Place::of(&node) {
            if !place.is_root() {
                // Long, and no commit.
                return on_disk(move || place.staging.sync_directory(place.id)).await;
            }
            caller.check_may_commit(&place.staging.stat(place.id)?)?;
        }
        self.namespace.sync_directory(&node).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a listing of `count` entries, `room` a reply, as the kernel does.
    fn walk(count: usize, room: usize) -> Vec<String> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let (dots, first) = resume(offset);
            let dots = dots.iter().zip(dot_offsets(dots)).map(|(name, at)| (name.to_string(), at));
            let entries = (first..count).map(|index| (format!("{index}"), offset_after(index)));
            let sent: Vec<_> = dots.chain(entries).take(room).collect();
            let Some((_, last)) = sent.last() else { return names };
            offset = *last;
            names.extend(sent.into_iter().map(|(name, _)| name));
        }
    }

    #[test]
    fn every_name_is_sent_once_whatever_fits_in_a_reply() {
        for count in [0, 1, 5] {
            let expected: Vec<_> = [".".to_string(), "..".to_string()]
                .into_iter()
                .chain((0..count).map(|index| index.to_string()))
                .collect();
            for room in 1..=count + 3 {
                assert_eq!(walk(count, room), expected, "{count} entries, {room} a reply");
            }
        }
    }

    #[test]
    fn an_offset_beyond_the_end_sends_nothing() {
        let (dots, first) = resume(u64::MAX);
        assert!(dots.is_empty());
        assert!(first > 1_000_000);
    }
}
