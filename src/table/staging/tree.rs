//! Inode numbers and the names that lead to them: what the kernel knows of a staging directory.
//!
//! Invariants:
//! - The root has no link; every other number has those of its names that were told to the kernel
//!   and are still there. Each is a name in a directory, given by that directory's number, so a
//!   rename of a directory moves all that is below it in one step.
//! - A directory has at most one link. A file has several where it was hard-linked.
//! - It is a cache of the disk, never the truth: a number that is missing here, because the kernel
//!   forgot it or because it comes from an earlier mount, is looked for on disk (`Staging::find`).
//!
//! Pure values; the calls that must go with each transition are in `lookup` and `operations`:
//! `learn` after a successful lookup, create, link or listing, `lose` after unlink and rmdir,
//! `rename` and `exchange` after a rename, `forget` when the kernel drops a number.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Directories deeper than this are a loop.
const DEPTH_MAX: usize = 4096;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub parent: u64,
    pub name: OsString,
}

impl Link {
    pub(super) fn new(parent: u64, name: &OsStr) -> Link {
        Link { parent, name: name.to_os_string() }
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    root: u64,
    links: HashMap<u64, Vec<Link>>,
}

impl Tree {
    pub(super) fn new(root: u64) -> Tree {
        Tree { root, links: HashMap::new() }
    }

    /// The path from the root, empty for the root; `None` where a part of it isn't known.
    pub(super) fn path(&self, id: u64) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = id;
        while at != self.root {
            let link = self.links.get(&at)?.first()?;
            names.push(&link.name);
            at = link.parent;
            if names.len() > DEPTH_MAX {
                return None;
            }
        }
        Some(names.iter().rev().collect())
    }

    /// Notes that the name leads to `id`.
    pub(super) fn learn(&mut self, id: u64, link: Link, is_directory: bool) {
        if id == self.root {
            return;
        }
        let links = self.links.entry(id).or_default();
        if links.contains(&link) {
            return;
        }
        if is_directory {
            links.clear();
        }
        links.push(link);
    }

    /// Notes that the name leads to `id` no more.
    pub(super) fn lose(&mut self, id: u64, link: &Link) {
        if let Some(links) = self.links.get_mut(&id) {
            links.retain(|known| known != link);
            if links.is_empty() {
                self.links.remove(&id);
            }
        }
    }

    /// Notes that `id` moved, and that whatever had its new name before lost it.
    pub(super) fn rename(&mut self, id: u64, replaced: Option<u64>, from: &Link, to: &Link) {
        if let Some(replaced) = replaced {
            self.lose(replaced, to);
        }
        self.lose(id, from);
        self.learn(id, to.clone(), false);
    }

    /// Notes that two names changed places.
    pub(super) fn exchange(&mut self, (id, link): (u64, &Link), (other, other_link): (u64, &Link)) {
        self.lose(id, link);
        self.lose(other, other_link);
        self.learn(id, other_link.clone(), false);
        self.learn(other, link.clone(), false);
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.links.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(parent: u64, name: &str) -> Link {
        Link::new(parent, OsStr::new(name))
    }

    fn tree() -> Tree {
        let mut tree = Tree::new(1);
        tree.learn(2, link(1, "a"), true);
        tree.learn(3, link(2, "f"), false);
        tree
    }

    #[test]
    fn a_renamed_directory_takes_what_is_below_along() {
        let mut tree = tree();
        tree.rename(2, None, &link(1, "a"), &link(1, "b"));
        assert_eq!(tree.path(3), Some("b/f".into()));
        assert_eq!(tree.path(1), Some("".into()));
    }

    #[test]
    fn a_file_keeps_the_names_that_are_left() {
        let mut tree = tree();
        tree.learn(3, link(1, "g"), false);
        tree.learn(3, link(1, "g"), false);
        tree.lose(3, &link(2, "f"));
        assert_eq!(tree.path(3), Some("g".into()));
        tree.lose(3, &link(1, "g"));
        assert_eq!(tree.path(3), None);
    }

    #[test]
    fn a_replaced_name_is_lost_to_its_old_file() {
        let mut tree = tree();
        tree.learn(4, link(1, "t"), false);
        tree.rename(4, Some(3), &link(1, "t"), &link(2, "f"));
        assert_eq!(tree.path(4), Some("a/f".into()));
        assert_eq!(tree.path(3), None);
    }

    #[test]
    fn exchanged_names_change_places() {
        let mut tree = tree();
        tree.learn(4, link(1, "t"), false);
        tree.exchange((3, &link(2, "f")), (4, &link(1, "t")));
        assert_eq!(tree.path(3), Some("t".into()));
        assert_eq!(tree.path(4), Some("a/f".into()));
    }

    #[test]
    fn what_was_forgotten_and_what_is_below_has_no_path() {
        let mut tree = tree();
        tree.forget(2);
        assert_eq!(tree.path(3), None);
    }

    #[test]
    fn a_loop_has_no_path() {
        let mut tree = Tree::new(1);
        tree.learn(2, link(3, "a"), true);
        tree.learn(3, link(2, "b"), true);
        assert_eq!(tree.path(2), None);
    }
}
