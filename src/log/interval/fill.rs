//! Builds the interval table's first state, on several threads where it is large.

use std::num::NonZeroUsize;

use super::chunk::{ChunkBuilder, Life};
use super::order::{Entry, Order, common_bytes};
use super::{Chunk, Intervals, new_directories};
use crate::log::action::DeletionVector;
use crate::log::facts::Totals;
use crate::log::file_actions::FileActions;
use crate::log::values::ValuesId;
use crate::log::version::Version;

/// Threads that build at most.
const THREADS_MAX: usize = 8;
/// Fewer files are not worth a thread.
const FILES_A_THREAD: usize = 32 * 1024;

/// A part of the paths, built.
struct Part {
    chunks: Vec<Chunk>,
    /// In the order of their lives, which number them from 1.
    vectors: Vec<DeletionVector>,
    /// Every directory above them, few of them more than once.
    directories: Vec<String>,
    totals: Totals,
}

impl Intervals {
    /// Takes the added files as the first state; of several of one path the last counts. Returns
    /// the sums over them.
    pub(super) fn fill(&mut self, version: Version, pieces: &[FileActions]) -> Totals {
        let values = self.intern(pieces);
        let order = Order::new(pieces);
        let files: usize = pieces.iter().map(|piece| piece.actions().len()).sum();
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = threads.min(THREADS_MAX).min(files / FILES_A_THREAD).max(1);
        let cut = order.parts(threads, |action| action.is_add);
        let values = &values;
        let build = |entries| build(version, order, values, entries);
        let parts: Vec<Part> = std::thread::scope(|scope| {
            let mut cut = cut.into_iter();
            let mine = cut.next();
            let others: Vec<_> = cut.map(|entries| scope.spawn(|| build(entries))).collect();
            let mut parts: Vec<Part> = mine.map(build).into_iter().collect();
            for other in others {
                match other.join() {
                    Ok(part) => parts.push(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts
        });
        let mut totals = Totals::default();
        let mut directories = Vec::new();
        for mut part in parts {
            totals = totals.plus(&part.totals);
            let vectors_before = self.vectors.len() as u32;
            if vectors_before > 0 && !part.vectors.is_empty() {
                for life in part.chunks.iter_mut().flat_map(|chunk| chunk.lives_mut()) {
                    life.vector += if life.vector > 0 { vectors_before } else { 0 };
                }
            }
            self.chunks.append(&mut part.chunks);
            self.vectors.append(&mut part.vectors);
            directories.append(&mut part.directories);
        }
        self.overlaps |= directories.iter().any(|directory| self.ever_held(directory));
        self.count_bytes();
        totals
    }
}

fn build(
    version: Version,
    order: Order<'_>,
    values: &[Vec<ValuesId>],
    mut entries: Vec<Entry>,
) -> Part {
    order.sort(&mut entries, 0);
    let mut builder = ChunkBuilder::default();
    let mut vectors = Vec::new();
    let mut directories = Vec::new();
    let mut totals = Totals::default();
    let mut before = "";
    for same in entries.chunk_by(|one, other| order.path(*one) == order.path(*other)) {
        let Some(last) = same.last() else { continue };
        let (piece, action) = order.action(*last);
        let path = order.path(*last);
        let known = common_bytes(before.as_bytes(), path.as_bytes());
        directories.extend(new_directories(path, known).map(str::to_owned));
        before = path;
        vectors.extend(order.vector(*last).cloned());
        totals.put(action.size, order.vector(*last));
        let vector = if order.vector(*last).is_some() { vectors.len() as u32 } else { 0 };
        let values = values[piece][action.values as usize];
        builder.push(Life::new(version, action.size, action.modified_ms, values, vector), path);
    }
    Part { chunks: builder.finish(), vectors, directories, totals }
}
