//! A run of lives with their paths: what the interval table is made of.
//!
//! Some hundreds of lives in one piece of memory are found by halves and moved aside by one copy,
//! so a table of millions is neither a tree of small objects nor one array that every insertion
//! moves.

use std::cmp::Ordering;
use std::ops::Range;

use crate::log::version::Version;

/// Lives of a full chunk; more only where one path has more.
pub const LIVES_MAX: usize = 256;

/// A chunk grows by one part in so many: most never grow again, and room to spare is for nothing.
const GROWTH: usize = 8;

/// Twice what the longest paths of a full chunk take: the rest was of lives that are gone.
const PATHS_BYTES_MAX: usize = 2 * LIVES_MAX * 4096;

/// One logical file, and the versions `[from, until)` in which it is live.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub from: Version,
    pub until: Version,
    pub size: u64,
    pub modified_ms: i64,
    /// The number of its partition values.
    pub values: u32,
    /// One more than the number of its deletion vector; 0 is none.
    pub vector: u32,
    /// Where in the chunk's text its path is.
    path: PathAt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathAt {
    start: u32,
    bytes: u16,
}

impl Life {
    pub fn new(from: Version, size: u64, modified_ms: i64, values: u32, vector: u32) -> Life {
        let path = PathAt::default();
        Life { from, until: Version::NEVER, size, modified_ms, values, vector, path }
    }

    pub fn holds(&self, version: Version) -> bool {
        self.from <= version && version < self.until
    }

    pub fn is_open(&self) -> bool {
        self.until == Version::NEVER
    }
}

/// Lives sorted by path, those of one path ascending and disjoint. Never empty while it is in the
/// table, and all lives of a path are in one chunk.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    paths: String,
    lives: Vec<Life>,
    /// Whether any life ever had a deletion vector.
    has_vectors: bool,
}

impl Chunk {
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    pub fn lives_mut(&mut self) -> &mut [Life] {
        &mut self.lives
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        size_of::<Chunk>() + self.paths.capacity() + self.lives.capacity() * size_of::<Life>()
    }

    pub fn has_vectors(&self) -> bool {
        self.has_vectors
    }

    pub fn path(&self, life: &Life) -> &str {
        let start = life.path.start as usize;
        &self.paths[start..start + usize::from(life.path.bytes)]
    }

    pub fn path_at(&self, at: usize) -> Option<&str> {
        self.lives.get(at).map(|life| self.path(life))
    }

    /// How the first path compares with another; an empty chunk's is behind all.
    pub fn first_cmp(&self, path: &str) -> Ordering {
        self.path_at(0).map_or(Ordering::Greater, |first| first.cmp(path))
    }

    /// The first life whose path is this one or comes after it.
    pub fn seek(&self, path: &str) -> usize {
        self.lives.partition_point(|life| self.path(life) < path)
    }

    /// The lives of a path.
    pub fn find(&self, path: &str) -> Range<usize> {
        let start = self.seek(path);
        let same = self.lives[start..].iter().take_while(|life| self.path(life) == path);
        // A path with many lives is rare, and those are walked by halves.
        let count = match same.take(LIVES_MAX).count() {
            LIVES_MAX => self.lives[start..].partition_point(|life| self.path(life) <= path),
            count => count,
        };
        start..start + count
    }

    /// Puts a life at a place, with the path of the one before it, or with a new one.
    pub fn insert(&mut self, at: usize, mut life: Life, path: Option<&str>) {
        if self.paths.len() > PATHS_BYTES_MAX {
            *self = self.rebuilt(0..self.lives.len());
        }
        life.path = match path {
            Some(path) => {
                if self.paths.capacity() - self.paths.len() < path.len() {
                    self.paths.reserve_exact(path.len().max(self.paths.len() / GROWTH));
                }
                self.push_path(path)
            }
            None => self.lives[at - 1].path,
        };
        self.has_vectors |= life.vector > 0;
        if self.lives.len() == self.lives.capacity() {
            self.lives.reserve_exact((self.lives.len() / GROWTH).max(1));
        }
        self.lives.insert(at, life);
    }

    /// Takes a life away.
    pub fn remove(&mut self, at: usize) {
        self.lives.remove(at);
    }

    /// Splits a chunk that has too many lives, if it can be split between two paths; `at_end` where
    /// it grew at its end and will again: then it stays full.
    pub fn split(&mut self, at_end: bool) -> Option<Chunk> {
        if self.lives.len() <= LIVES_MAX {
            return None;
        }
        let middle = if at_end { self.lives.len() - 1 } else { self.lives.len() / 2 };
        let same = self.find(self.path_at(middle)?);
        let at = if same.start > 0 { same.start } else { same.end };
        if at == self.lives.len() {
            return None;
        }
        let old = std::mem::take(self);
        *self = old.rebuilt(0..at);
        Some(old.rebuilt(at..old.lives.len()))
    }

    fn rebuilt(&self, range: Range<usize>) -> Chunk {
        let mut chunk = Chunk::default();
        chunk.lives.reserve_exact(range.len());
        for life in &self.lives[range] {
            chunk.push(*life, self.path(life));
        }
        chunk
    }

    fn push(&mut self, mut life: Life, path: &str) {
        life.path = match self.lives.last() {
            Some(last) if self.path(last) == path => last.path,
            Some(_) | None => self.push_path(path),
        };
        self.has_vectors |= life.vector > 0;
        self.lives.push(life);
    }

    fn push_path(&mut self, path: &str) -> PathAt {
        // A chunk has some hundred paths of at most 4095 bytes, and is rebuilt when it is split.
        let start = u32::try_from(self.paths.len()).expect("BUG: a chunk has few paths");
        let bytes = u16::try_from(path.len()).expect("BUG: a path has at most 4095 bytes");
        self.paths.push_str(path);
        PathAt { start, bytes }
    }
}

/// Makes full chunks of lives that come sorted.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    done: Vec<Chunk>,
    /// Where each one grows: what is kept of it has no room to spare, and took none meanwhile.
    chunk: Chunk,
}

impl ChunkBuilder {
    pub fn push(&mut self, life: Life, path: &str) {
        if self.chunk.lives.len() >= LIVES_MAX && self.last_path() != Some(path) {
            self.end_chunk();
        }
        self.chunk.push(life, path);
    }

    /// The path of the last life, within its chunk.
    fn last_path(&self) -> Option<&str> {
        self.chunk.lives.last().map(|life| self.chunk.path(life))
    }

    pub fn finish(mut self) -> Vec<Chunk> {
        self.end_chunk();
        self.done
    }

    fn end_chunk(&mut self) {
        if !self.chunk.lives.is_empty() {
            self.done.push(self.chunk.clone());
            self.chunk.paths.clear();
            self.chunk.lives.clear();
            self.chunk.has_vectors = false;
        }
    }
}
