//! Which files are live in which versions: one table for all versions of a Delta table.
//!
//! Each logical file, a path with its deletion vector, has the versions `[from, until)` in which it
//! is live. Version v is a filter over the table, not a copy; applying v+1 costs its changes; a
//! directory's listing is a range of the paths. At most one file of a path is live in a version.
//!
//! Lives are sorted by path in chunks of some hundred; deletion vectors and partition values are
//! kept aside. The first state is sorted and built as a whole, on several threads where it is
//! large.
//!
//! The table knows nothing of commits: `replay` decides what is added and removed, and when.

mod chunk;
mod fill;
mod memory;
mod order;

use crate::log::action::DeletionVector;
use crate::log::facts::Totals;
use crate::log::file_actions::FileActions;
use crate::log::values::{PartitionSet, ValuesId, ValuesTable};
use crate::log::version::Version;
use chunk::{Chunk, Life};
use order::{Entry, Order};

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
    pub partition_values: PartitionSet<'a>,
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

/// What a change did: what went in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    pub added: Totals,
    pub removed: Totals,
}

/// The interval table.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// Sorted by path; all lives of a path are in one of them.
    chunks: Vec<Chunk>,
    /// The partition values that any file ever had.
    values: ValuesTable,
    /// The deletion vectors that any file ever had.
    vectors: Vec<DeletionVector>,
    /// Whether some name was both a file and a directory, perhaps in different versions.
    overlaps: bool,
    /// Of memory, for chunks and vectors; kept as the table changes, by `memory`.
    bytes: usize,
}

/// What the log says of an added file, in the table's own numbers.
#[derive(Clone, Copy)]
struct Added<'a> {
    size: u64,
    modified_ms: i64,
    values: ValuesId,
    vector: Option<&'a DeletionVector>,
}

impl Intervals {
    /// The file that is live at a path.
    pub fn live(&self, version: Version, path: &str) -> Option<LiveFile<'_>> {
        let chunk = self.chunks.get(self.chunk_of(path))?;
        let lives = &chunk.lives()[chunk.find(path)];
        let after = lives.partition_point(|life| life.from <= version);
        let life = lives[..after].last().filter(|life| life.holds(version))?;
        Some(self.live_file(chunk, life))
    }

    /// Every live file, sorted by path.
    pub fn live_files(&self, version: Version) -> impl Iterator<Item = LiveFile<'_>> {
        let lives = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.lives().iter().map(move |life| (chunk, life)));
        let live = lives.filter(move |(_, life)| life.holds(version));
        live.map(|(chunk, life)| self.live_file(chunk, life))
    }

    /// Every live file that has a deletion vector, sorted by path.
    pub fn live_files_with_vectors(
        &self,
        version: Version,
    ) -> impl Iterator<Item = (LiveFile<'_>, &DeletionVector)> {
        // Few chunks have any, and they are asked for in every version.
        let chunks = self.chunks.iter().filter(|chunk| chunk.has_vectors());
        let lives = chunks.flat_map(|chunk| chunk.lives().iter().map(move |life| (chunk, life)));
        let live = lives.filter(move |(_, life)| life.vector > 0 && life.holds(version));
        live.filter_map(|(chunk, life)| {
            let file = self.live_file(chunk, life);
            file.deletion_vector.map(|vector| (file, vector))
        })
    }

    /// What a directory holds, sorted by name; `""` is the root. Empty where there is no directory.
    pub fn children(&self, version: Version, directory: &str) -> Vec<Child<'_>> {
        let mut children = Vec::new();
        self.for_each_child(version, directory, |child| children.push(child));
        // Paths sort "a-b" before "a/x", names the other way round.
        children.sort_by(|one, other| one.name().cmp(other.name()));
        children
    }

    /// Gives what a directory holds to `take`, one by one and not quite sorted.
    pub fn for_each_child<'a>(
        &'a self,
        version: Version,
        directory: &str,
        mut take: impl FnMut(Child<'a>),
    ) {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut seek = prefix.clone();
        'seek: loop {
            for (chunk, life) in self.lives_from(&seek) {
                let path = chunk.path(life);
                let Some(rest) = path.strip_prefix(&prefix) else { break 'seek };
                if !life.holds(version) {
                    continue;
                }
                match rest.split_once('/') {
                    None => take(Child::File(rest, self.live_file(chunk, life))),
                    Some((name, _)) => {
                        take(Child::Directory(name));
                        // One live file proves the directory; the rest is beneath it. '0' follows
                        // '/', so this is the first path after everything in it.
                        seek = format!("{prefix}{name}0");
                        continue 'seek;
                    }
                }
            }
            break;
        }
    }

    /// Whether files are live beneath a path.
    pub fn is_directory(&self, version: Version, path: &str) -> bool {
        path.is_empty() || self.lives_beneath(path).any(|life| life.holds(version))
    }

    /// Whether the table had a file at the path in any version that we know.
    pub fn ever_held(&self, path: &str) -> bool {
        let chunk = self.chunks.get(self.chunk_of(path));
        chunk.is_some_and(|chunk| !chunk.find(path).is_empty())
    }

    /// A path that is both a file and a directory in a version, which no directory tree can show.
    pub fn collision(&self, version: Version) -> Option<&str> {
        if !self.overlaps {
            return None;
        }
        let mut files = self.live_files(version).map(|file| file.path);
        files.find(|path| self.is_directory(version, path))
    }

    /// Does what a commit says, in the order of the log. Of several files of one path the last one
    /// counts: a live one with another deletion vector ends here. A logical file that is removed
    /// and not live changes nothing. The pieces' partition values are taken away.
    pub(super) fn apply(&mut self, version: Version, pieces: &mut [FileActions]) -> Effect {
        let mut effect = Effect::default();
        let only_adds = || pieces.iter().all(|piece| piece.actions().iter().all(|it| it.is_add));
        if self.chunks.is_empty() && only_adds() {
            effect.added = self.fill(version, pieces);
            return effect;
        }
        let values = self.intern(pieces);
        let order = Order::new(pieces);
        let mut place = 0;
        for same in
            order.sorted(|_| true).chunk_by(|one, other| order.path(*one) == order.path(*other))
        {
            place = self.change_path(version, order, &values, same, place, &mut effect);
        }
        effect
    }

    /// Makes a version hold exactly the files that are added here, whatever was live before: a
    /// checkpoint after a gap, or the first state that is known. Tombstones say nothing. Returns
    /// the sums over those files. The pieces' partition values are taken away.
    pub(super) fn rebase(&mut self, version: Version, pieces: &mut [FileActions]) -> Totals {
        if self.chunks.is_empty() {
            return self.fill(version, pieces);
        }
        let values = self.intern(pieces);
        let order = Order::new(pieces);
        let entries = order.sorted(|action| action.is_add);
        let mut next = 0;
        for chunk in &mut self.chunks {
            for at in 0..chunk.lives().len() {
                if !chunk.lives()[at].is_open() {
                    continue;
                }
                let path = chunk.path(&chunk.lives()[at]);
                while entries.get(next).is_some_and(|entry| order.path(*entry) < path) {
                    next += 1;
                }
                if entries.get(next).is_none_or(|entry| order.path(*entry) != path) {
                    chunk.lives_mut()[at].until = version;
                }
            }
        }
        let mut place = 0;
        let mut effect = Effect::default();
        for same in entries.chunk_by(|one, other| order.path(*one) == order.path(*other)) {
            place = self.change_path(version, order, &values, same, place, &mut effect);
        }
        let mut totals = Totals::default();
        self.live_files(version).for_each(|file| totals.put(file.size, file.deletion_vector));
        totals
    }

    /// Does the actions on one path, in the order of the log; `place` is a chunk not behind it.
    /// Returns the path's chunk.
    fn change_path(
        &mut self,
        version: Version,
        order: Order<'_>,
        values: &[Vec<ValuesId>],
        same: &[Entry],
        place: usize,
        effect: &mut Effect,
    ) -> usize {
        let path = order.path(same[0]);
        let place = place + chunk_among(&self.chunks[place.min(self.chunks.len())..], path);
        self.bytes -= self.chunks.get(place).map_or(0, Chunk::bytes);
        for entry in same {
            let (piece, action) = order.action(*entry);
            let vector = order.vector(*entry);
            if action.is_add {
                let values = values[piece][action.values as usize];
                let (size, modified_ms) = (action.size, action.modified_ms);
                let added = Added { size, modified_ms, values, vector };
                self.add(version, path, added, place, effect);
            } else {
                self.remove(version, path, vector, place, effect);
            }
        }
        let Some(chunk) = self.chunks.get_mut(place) else { return place };
        if chunk.lives().is_empty() {
            self.chunks.remove(place);
            return place.saturating_sub(1);
        }
        let is_last = place + 1 == self.chunks.len();
        let chunk = &mut self.chunks[place];
        let at_end = is_last && chunk.path_at(chunk.lives().len() - 1) == Some(path);
        let second = chunk.split(at_end);
        self.bytes += chunk.bytes();
        if let Some(second) = second {
            self.bytes += second.bytes();
            self.chunks.insert(place + 1, second);
        }
        place
    }

    fn add(
        &mut self,
        version: Version,
        path: &str,
        added: Added<'_>,
        place: usize,
        effect: &mut Effect,
    ) {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let mut lives = self.chunks[place].find(path);
        if let Some(last) = lives.clone().next_back() {
            let life = self.chunks[place].lives()[last];
            let is_same = self.has_state(&life, added);
            if life.is_open() && is_same {
                // Statistics or tags were written anew; nothing that the table keeps changed.
                return;
            }
            if life.until == version && is_same {
                // Removed and added again in one commit.
                self.chunks[place].lives_mut()[last].until = Version::NEVER;
                effect.removed.take(added.size, added.vector);
                return;
            }
            if life.is_open() && self.end(version, place, last, effect) {
                lives.end = last;
            }
        }
        let is_new = lives.is_empty();
        if is_new {
            self.note_directories(path, place, lives.start);
        }
        effect.added.put(added.size, added.vector);
        let vector = self.keep_vector(added.vector);
        let life = Life::new(version, added.size, added.modified_ms, added.values, vector);
        self.chunks[place].insert(lives.end, life, is_new.then_some(path));
    }

    fn remove(
        &mut self,
        version: Version,
        path: &str,
        vector: Option<&DeletionVector>,
        place: usize,
        effect: &mut Effect,
    ) {
        let Some(chunk) = self.chunks.get(place) else { return };
        let Some(last) = chunk.find(path).next_back() else { return };
        let life = chunk.lives()[last];
        let is_same = match (self.vector(&life), vector) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !life.is_open() || !is_same {
            return;
        }
        self.end(version, place, last, effect);
    }

    /// Ends a life; one that began in the same commit never was. Returns whether it is gone.
    fn end(&mut self, version: Version, place: usize, at: usize, effect: &mut Effect) -> bool {
        let life = self.chunks[place].lives()[at];
        let never_was = life.from == version;
        if never_was {
            effect.added.take(life.size, self.vector(&life));
            self.chunks[place].remove(at);
        } else {
            effect.removed.put(life.size, self.vector(&life));
            self.chunks[place].lives_mut()[at].until = version;
        }
        never_was
    }

    /// Whether a life has all that the table would keep of an added file.
    fn has_state(&self, life: &Life, added: Added<'_>) -> bool {
        life.size == added.size
            && life.modified_ms == added.modified_ms
            && self.values.is_same(life.values, added.values)
            && self.vector(life) == added.vector
    }

    /// Remembers whether a path that is new to the table, and belongs before life `at` of a chunk,
    /// is a directory of other files, or beneath one of them.
    fn note_directories(&mut self, path: &str, place: usize, at: usize) {
        let chunk = &self.chunks[place];
        let before = at.checked_sub(1).and_then(|before| chunk.path_at(before));
        let after = chunk.path_at(at).or_else(|| self.chunks.get(place + 1)?.path_at(0));
        // Everything beneath it would come after it and begin with it.
        let may_be_directory = after.is_some_and(|after| after.starts_with(path));
        let beside = [before, after].map(|other| {
            other.map_or(0, |other| order::common_bytes(other.as_bytes(), path.as_bytes()))
        });
        // What a neighbour is beneath too is a directory already.
        let known = beside[0].max(beside[1]);
        let mut overlaps = may_be_directory && self.lives_beneath(path).next().is_some();
        overlaps |= new_directories(path, known).any(|directory| self.ever_held(directory));
        self.overlaps |= overlaps;
    }

    /// Takes in the partition values of pieces. Returns the number here of each number there.
    fn intern(&mut self, pieces: &mut [FileActions]) -> Vec<Vec<ValuesId>> {
        let mut intern = |piece: &mut FileActions| {
            piece.take_values().sets().map(|set| self.values.intern(set)).collect()
        };
        pieces.iter_mut().map(&mut intern).collect()
    }

    fn keep_vector(&mut self, vector: Option<&DeletionVector>) -> u32 {
        let Some(vector) = vector else { return 0 };
        self.bytes += memory::vector_bytes(vector);
        self.vectors.push(vector.clone());
        u32::try_from(self.vectors.len()).expect("BUG: each vector takes bytes of the log")
    }

    fn vector(&self, life: &Life) -> Option<&DeletionVector> {
        self.vectors.get((life.vector as usize).checked_sub(1)?)
    }

    /// The chunk that has a path, or would.
    fn chunk_of(&self, path: &str) -> usize {
        chunk_among(&self.chunks, path)
    }

    /// Every life from the first one at or after a path.
    fn lives_from<'a>(
        &'a self,
        path: &str,
    ) -> impl Iterator<Item = (&'a Chunk, &'a Life)> + use<'a> {
        let place = self.chunk_of(path);
        let at = self.chunks.get(place).map_or(0, |chunk| chunk.seek(path));
        let chunks = self.chunks.get(place..).unwrap_or_default();
        chunks.iter().enumerate().flat_map(move |(number, chunk)| {
            let from = if number == 0 { at } else { 0 };
            chunk.lives()[from..].iter().map(move |life| (chunk, life))
        })
    }

    fn lives_beneath<'a>(&'a self, directory: &str) -> impl Iterator<Item = &'a Life> + use<'a> {
        let prefix = format!("{directory}/");
        let lives = self.lives_from(&prefix);
        let beneath = lives.take_while(move |(chunk, life)| chunk.path(life).starts_with(&prefix));
        beneath.map(|(_, life)| life)
    }

    fn live_file<'a>(&'a self, chunk: &'a Chunk, life: &Life) -> LiveFile<'a> {
        LiveFile {
            path: chunk.path(life),
            size: life.size,
            modified_ms: life.modified_ms,
            partition_values: self.values.get(life.values),
            deletion_vector: self.vector(life),
            since: life.from,
        }
    }
}

/// The last chunk whose first path isn't behind a path, or the first of all.
fn chunk_among(chunks: &[Chunk], path: &str) -> usize {
    chunks.partition_point(|chunk| chunk.first_cmp(path).is_le()).saturating_sub(1)
}

/// The directories above a path whose `/` is not among its first `known` bytes.
fn new_directories(path: &str, known: usize) -> impl Iterator<Item = &str> {
    let slashes = path.bytes().enumerate().skip(known).filter(|(_, byte)| *byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests;
