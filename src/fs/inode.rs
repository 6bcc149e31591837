//! The inodes that the kernel holds: number -> node, and how often the kernel was told of it.
//!
//! A number is stable (the namespace hashes it); this table only says what it stands for while
//! the kernel remembers it. Every entry sent to the kernel counts one; FORGET gives counts back,
//! and the last one takes the inode away.
//!
//! A staged inode may be looked up while an older count of it is being forgotten. Then staging
//! forgets a path that it has just told, and finds it on disk when it is asked again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::fs::errno;
use crate::namespace::{Node, ROOT};

const SHARDS: usize = 64;

/// What the kernel may ask about by number.
pub struct Inodes {
    shards: Vec<Mutex<HashMap<u64, Known>>>,
}

struct Known {
    /// None: listed and not looked up yet.
    node: Option<Node>,
    lookups: u64,
    listed_immutable: bool,
}

impl Inodes {
    /// Starts with the root, which is never forgotten.
    pub fn new(root: Node) -> Inodes {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let inodes = Inodes { shards };
        inodes.remember(ROOT, Some(root));
        inodes
    }

    /// The node of an inode; ESTALE makes the kernel look its name up again.
    pub fn node(&self, inode: u64) -> Result<Node> {
        let shard = self.shard(inode);
        let known = shard.get(&inode).and_then(|known| known.node.clone());
        known.ok_or_else(|| errno::stale(inode))
    }

    /// Counts one entry that is sent to the kernel. The newest node stands: a folder may have
    /// become a table.
    pub fn remember(&self, inode: u64, node: Option<Node>) {
        match self.shard(inode).entry(inode) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.lookups += 1;
                if node.is_some() {
                    known.node = node;
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Known { node, lookups: 1, listed_immutable: false });
            }
        }
    }

    /// Takes `lookups` counts back, and drops the inode with its last one.
    pub fn forget(&self, inode: u64, lookups: u64) {
        if inode == ROOT {
            return;
        }
        if let Some(Node::Staged { staging, id, .. }) = self.take(inode, lookups) {
            staging.forget(id);
        }
    }

    /// Notes that a directory's listing never changes.
    pub fn note_immutable(&self, inode: u64) {
        if let Some(known) = self.shard(inode).get_mut(&inode) {
            known.listed_immutable = true;
        }
    }

    /// Whether a listing of this directory was found never to change.
    pub fn is_immutable(&self, inode: u64) -> bool {
        self.shard(inode).get(&inode).is_some_and(|known| known.listed_immutable)
    }

    /// Takes counts away; the node is returned when none is left.
    fn take(&self, inode: u64, lookups: u64) -> Option<Node> {
        let mut shard = self.shard(inode);
        let Entry::Occupied(mut known) = shard.entry(inode) else { return None };
        known.get_mut().lookups = known.get().lookups.saturating_sub(lookups);
        if known.get().lookups > 0 {
            return None;
        }
        known.remove().node
    }

    fn shard(&self, inode: u64) -> MutexGuard<'_, HashMap<u64, Known>> {
        // Numbers are hashes already: their low bits spread.
        let shard = &self.shards[(inode % SHARDS as u64) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &str) -> Node {
        Node::Folder(path.into())
    }

    fn path(inodes: &Inodes, inode: u64) -> Option<String> {
        match inodes.node(inode) {
            Ok(Node::Folder(path)) => Some(path.to_string()),
            _ => None,
        }
    }

    #[test]
    fn an_inode_is_known_until_its_last_count_is_given_back() {
        let inodes = Inodes::new(folder(""));
        inodes.remember(7, Some(folder("a")));
        inodes.remember(7, Some(folder("b")));
        assert_eq!(path(&inodes, 7).as_deref(), Some("b"));
        inodes.forget(7, 1);
        assert!(path(&inodes, 7).is_some());
        inodes.forget(7, 1);
        assert_eq!(path(&inodes, 7), None);
        inodes.forget(7, 5);
    }

    #[test]
    fn the_root_is_never_forgotten() {
        let inodes = Inodes::new(folder(""));
        inodes.forget(ROOT, u64::MAX);
        assert_eq!(path(&inodes, ROOT).as_deref(), Some(""));
    }

    #[test]
    fn a_listed_inode_counts_and_is_known_when_looked_up() {
        let inodes = Inodes::new(folder(""));
        inodes.remember(7, None);
        assert_eq!(path(&inodes, 7), None);
        inodes.remember(7, Some(folder("a")));
        inodes.remember(7, None);
        assert_eq!(path(&inodes, 7).as_deref(), Some("a"));
        inodes.forget(7, 2);
        assert!(path(&inodes, 7).is_some());
        inodes.forget(7, 1);
        assert_eq!(path(&inodes, 7), None);
    }

    #[test]
    fn a_listing_is_immutable_as_long_as_the_inode_is_known() {
        let inodes = Inodes::new(folder(""));
        inodes.remember(7, Some(folder("a")));
        assert!(!inodes.is_immutable(7));
        inodes.note_immutable(7);
        assert!(inodes.is_immutable(7));
        inodes.forget(7, 1);
        assert!(!inodes.is_immutable(7));
    }
}
