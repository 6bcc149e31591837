//! Which files are live in which versions: one table for all versions of a Delta table.
//!
//! Each logical file, a path with its deletion vector, has the versions `[from, until)` in which it
//! is live. Version v is a filter over the table, not a copy; applying v+1 costs its changes; a
//! directory's listing is a range of the paths. At most one file of a path is live in a version.
//!
//! The table knows nothing of commits: `replay` decides what is added and removed, and when.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::log::action::{DeletionVector, PartitionValues};
use crate::log::path::FilePath;
use crate::log::version::Version;

/// A data file that is live in the version that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveFile<'a> {
    /// Decoded, relative to the table's root.
    pub path: &'a str,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    /// As the log has them: null is `None`, or the empty string.
    pub partition_values: &'a Arc<PartitionValues>,
    pub deletion_vector: Option<&'a DeletionVector>,
    /// The first version of the interval.
    pub since: Version,
}

/// What a directory of a version holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Child<'a> {
    /// A directory's name; files are live beneath it.
    Directory(&'a str),
    /// A file's name, and the file.
    File(&'a str, LiveFile<'a>),
}

impl<'a> Child<'a> {
    /// The name within the directory.
    pub fn name(&self) -> &'a str {
        match self {
            Child::Directory(name) | Child::File(name, _) => name,
        }
    }
}

/// What the table keeps of an added file, beside its path.
#[derive(Clone, Debug, PartialEq)]
pub struct FileState {
    pub size: u64,
    pub modified_ms: i64,
    pub partition_values: Arc<PartitionValues>,
    pub deletion_vector: Option<Box<DeletionVector>>,
}

impl FileState {
    fn has_vector(&self, deletion_vector: Option<&DeletionVector>) -> bool {
        match (self.deletion_vector.as_deref(), deletion_vector) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

/// What a change did: how many files and bytes went in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    pub files_added: u64,
    pub files_removed: u64,
    pub bytes_added: u64,
    pub bytes_removed: u64,
}

impl Effect {
    fn adds(&mut self, size: u64) {
        self.files_added = self.files_added.saturating_add(1);
        self.bytes_added = self.bytes_added.saturating_add(size);
    }

    fn removes(&mut self, size: u64) {
        self.files_removed = self.files_removed.saturating_add(1);
        self.bytes_removed = self.bytes_removed.saturating_add(size);
    }

    /// Takes an `adds` of the same commit back.
    fn forgets(&mut self, size: u64) {
        self.files_added = self.files_added.saturating_sub(1);
        self.bytes_added = self.bytes_added.saturating_sub(size);
    }
}

#[derive(Clone, Debug)]
struct Interval {
    from: Version,
    until: Version,
    state: FileState,
}

impl Interval {
    fn holds(&self, version: Version) -> bool {
        self.from <= version && version < self.until
    }

    fn is_open(&self) -> bool {
        self.until == Version::NEVER
    }
}

/// The intervals of one path, ascending and disjoint. Nearly every path has one, and pays for one.
#[derive(Clone, Debug)]
enum Lives {
    One(Interval),
    Many(Vec<Interval>),
}

impl Lives {
    fn as_slice(&self) -> &[Interval] {
        match self {
            Lives::One(interval) => std::slice::from_ref(interval),
            Lives::Many(intervals) => intervals,
        }
    }

    fn at(&self, version: Version) -> Option<&Interval> {
        let lives = self.as_slice();
        let after = lives.partition_point(|life| life.from <= version);
        lives[..after].last().filter(|life| life.holds(version))
    }

    fn last_mut(&mut self) -> Option<&mut Interval> {
        match self {
            Lives::One(interval) => Some(interval),
            Lives::Many(intervals) => intervals.last_mut(),
        }
    }

    fn push(&mut self, interval: Interval) {
        let mut intervals = match std::mem::replace(self, Lives::Many(Vec::new())) {
            Lives::One(first) => vec![first],
            Lives::Many(intervals) => intervals,
        };
        intervals.push(interval);
        *self = Lives::Many(intervals);
    }

    /// Takes the last interval away: it began and ended within one commit.
    fn pop(&mut self) {
        match self {
            Lives::One(_) => *self = Lives::Many(Vec::new()),
            Lives::Many(intervals) => drop(intervals.pop()),
        }
    }
}

/// The interval table.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// By decoded path.
    paths: BTreeMap<FilePath, Lives>,
    /// Every directory that ever had a file beneath it: a name that is not here is no directory in
    /// any version, which most lookups ask.
    directories: HashSet<Box<str>>,
    /// Paths that ever had a deletion vector; few, and asked for in every version.
    with_vectors: BTreeSet<FilePath>,
    /// Whether paths were inserted one by one since the tree was last built as a whole.
    grown: bool,
    /// Whether some name was both a file and a directory, perhaps in different versions.
    overlaps: bool,
}

impl Intervals {
    /// The file that is live at a path.
    pub fn live(&self, version: Version, path: &str) -> Option<LiveFile<'_>> {
        let (path, lives) = self.paths.get_key_value(path)?;
        live_file(version, path, lives)
    }

    /// Every live file, sorted by path.
    pub fn live_files(&self, version: Version) -> impl Iterator<Item = LiveFile<'_>> {
        self.paths.iter().filter_map(move |(path, lives)| live_file(version, path, lives))
    }

    /// Every live file that has a deletion vector, sorted by path.
    pub fn live_files_with_vectors(
        &self,
        version: Version,
    ) -> impl Iterator<Item = (LiveFile<'_>, &DeletionVector)> {
        let live =
            self.with_vectors.iter().filter_map(move |path| self.live(version, path.as_str()));
        live.filter_map(|file| file.deletion_vector.map(|vector| (file, vector)))
    }

    /// What a directory holds, sorted by name; `""` is the root. Empty where there is no directory.
    pub fn children(&self, version: Version, directory: &str) -> Vec<Child<'_>> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut children = Vec::new();
        let mut seek = Bound::Included(prefix.clone());
        'seek: loop {
            for (path, lives) in
                self.paths.range::<str, _>((seek.as_ref().map(String::as_str), Bound::Unbounded))
            {
                let Some(rest) = path.as_str().strip_prefix(&prefix) else { break 'seek };
                let Some(file) = live_file(version, path, lives) else { continue };
                match rest.split_once('/') {
                    None => children.push(Child::File(rest, file)),
                    Some((name, _)) => {
                        children.push(Child::Directory(name));
                        // One live file proves the directory; the rest is beneath it. '0' follows
                        // '/', so this is the first path after everything in it.
                        seek = Bound::Included(format!("{prefix}{name}0"));
                        continue 'seek;
                    }
                }
            }
            break;
        }
        // Paths sort "a-b" before "a/x", names the other way round.
        children.sort_by(|one, other| one.name().cmp(other.name()));
        children
    }

    /// Whether files are live beneath a path.
    pub fn is_directory(&self, version: Version, path: &str) -> bool {
        if path.is_empty() {
            return true;
        }
        self.directories.contains(path) && self.holds_beneath(version, path)
    }

    /// Whether the table had a file at the path in any version that we know.
    pub fn ever_held(&self, path: &str) -> bool {
        self.paths.get(path).is_some_and(|lives| !lives.as_slice().is_empty())
    }

    /// A path that is both a file and a directory in a version, which no directory tree can show.
    pub fn collision(&self, version: Version) -> Option<&str> {
        if !self.overlaps {
            return None;
        }
        let mut files = self.live_files(version).map(|file| file.path);
        files.find(|path| self.is_directory(version, path))
    }

    fn holds_beneath(&self, version: Version, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        self.paths
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(path, _)| path.as_str().starts_with(&prefix))
            .any(|(_, lives)| lives.at(version).is_some())
    }

    /// Adds a file in a version. Of several files of one path the last one counts: a live one with
    /// another deletion vector ends here.
    pub(super) fn add(
        &mut self,
        version: Version,
        path: FilePath,
        state: FileState,
        effect: &mut Effect,
    ) {
        if state.deletion_vector.is_some() && !self.with_vectors.contains(path.as_str()) {
            self.with_vectors.insert(path.clone());
        }
        let size = state.size;
        let Some(lives) = self.paths.get_mut(path.as_str()) else {
            self.note_directories(&path);
            effect.adds(size);
            let interval = Interval { from: version, until: Version::NEVER, state };
            self.paths.insert(path, Lives::One(interval));
            self.grown = true;
            return;
        };
        match lives.last_mut() {
            // Statistics or tags were written anew; nothing that the table keeps changed.
            Some(last) if last.is_open() && last.state == state => return,
            // Removed and added again in one commit.
            Some(last) if last.until == version && last.state == state => {
                last.until = Version::NEVER;
                effect.files_removed = effect.files_removed.saturating_sub(1);
                effect.bytes_removed = effect.bytes_removed.saturating_sub(size);
                return;
            }
            Some(last) if last.is_open() && last.from == version => {
                effect.forgets(last.state.size);
                lives.pop();
            }
            Some(last) if last.is_open() => {
                effect.removes(last.state.size);
                last.until = version;
            }
            Some(_) | None => {}
        }
        effect.adds(size);
        lives.push(Interval { from: version, until: Version::NEVER, state });
    }

    /// Removes a logical file in a version; nothing happens where it is not live.
    pub(super) fn remove(
        &mut self,
        version: Version,
        path: &str,
        deletion_vector: Option<&DeletionVector>,
        effect: &mut Effect,
    ) {
        let Some(lives) = self.paths.get_mut(path) else { return };
        let Some(last) = lives.last_mut() else { return };
        if !last.is_open() || !last.state.has_vector(deletion_vector) {
            return;
        }
        if last.from == version {
            effect.forgets(last.state.size);
            lives.pop();
        } else {
            effect.removes(last.state.size);
            last.until = version;
        }
    }

    /// Makes a version hold exactly these files, whatever was live before: a checkpoint after a
    /// gap, or the first state that is known.
    pub(super) fn rebase(&mut self, version: Version, files: Vec<(FilePath, FileState)>) {
        if self.paths.is_empty() {
            self.fill(version, files);
            return;
        }
        let held: HashSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        for (path, lives) in &mut self.paths {
            if let Some(last) = lives.last_mut()
                && last.is_open()
                && !held.contains(path.as_str())
            {
                last.until = version;
            }
        }
        drop(held);
        let mut effect = Effect::default();
        for (path, state) in files {
            self.add(version, path, state, &mut effect);
        }
    }

    /// The first state: sorted once and built as a whole, which is faster than one by one, and
    /// leaves the tree's nodes full.
    fn fill(&mut self, version: Version, files: Vec<(FilePath, FileState)>) {
        for (path, state) in &files {
            self.note_directories(path);
            if state.deletion_vector.is_some() {
                self.with_vectors.insert(path.clone());
            }
        }
        let lives = files.into_iter().map(|(path, state)| {
            (path, Lives::One(Interval { from: version, until: Version::NEVER, state }))
        });
        self.paths = lives.collect();
        self.overlaps |=
            self.directories.iter().any(|directory| self.paths.contains_key(&**directory));
    }

    /// Builds the tree anew with full nodes: one that grew by insertions has them half full.
    pub(super) fn compact(&mut self) {
        if std::mem::take(&mut self.grown) {
            self.paths = std::mem::take(&mut self.paths).into_iter().collect();
        }
    }

    /// Remembers the directories above a path that is new to the table.
    fn note_directories(&mut self, path: &FilePath) {
        self.overlaps |= self.directories.contains(path.as_str());
        let mut rest = path.as_str();
        while let Some((directory, _)) = rest.rsplit_once('/') {
            if self.directories.contains(directory) {
                return;
            }
            self.overlaps |= self.paths.contains_key(directory);
            self.directories.insert(directory.into());
            rest = directory;
        }
    }
}

fn live_file<'a>(version: Version, path: &'a FilePath, lives: &'a Lives) -> Option<LiveFile<'a>> {
    let interval = lives.at(version)?;
    Some(LiveFile {
        path: path.as_str(),
        size: interval.state.size,
        modified_ms: interval.state.modified_ms,
        partition_values: &interval.state.partition_values,
        deletion_vector: interval.state.deletion_vector.as_deref(),
        since: interval.from,
    })
}

#[cfg(test)]
mod tests;
