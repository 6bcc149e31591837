//! How much memory the interval table takes, and how it forgets old versions.
//!
//! What chunks and deletion vectors take is kept as they change, so that to ask costs nothing. The
//! allocator's own part, a few bytes for each piece, isn't in it.

use super::Intervals;
use super::chunk::{Chunk, ChunkBuilder};
use crate::log::action::DeletionVector;
use crate::log::values::ValuesId;
use crate::log::version::Version;

/// A deletion vector with its two texts.
pub(super) fn vector_bytes(vector: &DeletionVector) -> usize {
    size_of::<DeletionVector>() + vector.path_or_inline_dv.len() + vector.storage_type.len()
}

impl Intervals {
    /// About how many bytes of memory this takes.
    pub fn bytes(&self) -> usize {
        self.bytes.saturating_add(self.values.bytes())
    }

    /// Counts anew what chunks and vectors take, after they were built as a whole.
    pub(super) fn count_bytes(&mut self) {
        self.bytes = self.counted_bytes();
    }

    /// What chunks and vectors take.
    pub(super) fn counted_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::bytes).sum();
        let vectors: usize = self.vectors.iter().map(vector_bytes).sum();
        chunks + vectors
    }

    /// Forgets what ended before a version. That version and all after it stay as they are; nothing
    /// is known of those before it.
    pub(in crate::log) fn forget_before(&mut self, version: Version) {
        let old = std::mem::take(self);
        let mut kept: Vec<Option<ValuesId>> = vec![None; old.values.count()];
        let mut builder = ChunkBuilder::default();
        for chunk in old.chunks {
            for life in chunk.lives().iter().filter(|life| life.until > version) {
                let (mut life, path) = (*life, chunk.path(life));
                let values = &mut kept[life.values as usize];
                let set = old.values.get(life.values);
                life.values = *values.get_or_insert_with(|| self.values.intern(set));
                if let Some(at) = life.vector.checked_sub(1) {
                    self.vectors.push(old.vectors[at as usize].clone());
                    life.vector = self.vectors.len() as u32;
                }
                builder.push(life, path);
            }
        }
        self.chunks = builder.finish();
        self.overlaps = old.overlaps;
        self.count_bytes();
    }

    /// Whether a deletion vector that `is_it` knows belongs to a file of any version.
    pub(in crate::log) fn any_vector(&self, is_it: impl Fn(&DeletionVector) -> bool) -> bool {
        self.vectors.iter().any(is_it)
    }
}
