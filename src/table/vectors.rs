//! The deletion vector files of a version, by directory.
//!
//! They are few beside the data files, but telling them takes a walk over every path that ever had
//! a vector; so the last versions' are kept beside their era.

use std::collections::BTreeMap;

use crate::log::path::FilePath;

/// Names by directory: a file's path, or `None` for a directory that leads to some.
#[derive(Debug, Default)]
pub struct VectorFiles {
    directories: BTreeMap<String, BTreeMap<String, Option<String>>>,
    bytes: usize,
}

/// What a name takes in a tree, beside its text and its file's path.
const NAME_BYTES: usize = 80;

impl VectorFiles {
    pub(super) fn new(paths: Vec<FilePath>) -> VectorFiles {
        let mut files = VectorFiles::default();
        for path in paths {
            let path = path.as_str();
            let (mut directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            files.insert(directory, name, Some(path.to_string()));
            while !directory.is_empty() {
                let (above, name) = directory.rsplit_once('/').unwrap_or(("", directory));
                files.insert(above, name, None);
                directory = above;
            }
        }
        files
    }

    fn insert(&mut self, directory: &str, name: &str, file: Option<String>) {
        self.bytes += NAME_BYTES + name.len() + file.as_ref().map_or(0, String::len);
        self.directories.entry(directory.to_string()).or_default().insert(name.to_string(), file);
    }

    /// About how many bytes of memory this takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a directory has of that name.
    pub fn child(&self, directory: &str, name: &str) -> Option<Option<&str>> {
        self.directories.get(directory)?.get(name).map(Option::as_deref)
    }

    /// All that a directory has, sorted by name.
    pub fn children(&self, directory: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
        let children = self.directories.get(directory).into_iter().flatten();
        children.map(|(name, file)| (name.as_str(), file.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_lead_to_their_files() {
        let paths = ["a/b/x.bin", "a/y.bin", "z.bin"];
        let paths = paths.map(|path| FilePath::from_decoded(path).unwrap()).to_vec();
        let files = VectorFiles::new(paths);
        let root: Vec<_> = files.children("").collect();
        assert_eq!(root, [("a", None), ("z.bin", Some("z.bin"))]);
        assert_eq!(files.child("a", "b"), Some(None));
        assert_eq!(files.child("a/b", "x.bin"), Some(Some("a/b/x.bin")));
        assert_eq!(files.child("b", "x.bin"), None);
    }
}
