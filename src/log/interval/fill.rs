//! Builds the interval table's first state, on several threads where it is large.
//!
//! A large table's paths don't fit into a cache, and to sort them where they lie is a miss for each
//! look at one. So the files are first dealt out into parts, by paths of a sample, and each part is
//! copied together, sorted and built while it is in a thread's own cache.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::chunk::{ChunkBuilder, Life};
use super::order::{self, Entry};
use super::{Chunk, Intervals};
use crate::log::action::DeletionVector;
use crate::log::facts::Totals;
use crate::log::file_actions::{FileAction, FileActions};
use crate::log::values::ValuesId;
use crate::log::version::Version;

/// Threads that build at most.
const THREADS_MAX: usize = 8;
/// Files of a part, about: their paths fit into the cache of a core.
const FILES_A_PART: usize = 8 * 1024;
/// Paths looked at to find where to cut, for each part.
const SAMPLES_A_PART: usize = 32;
/// Actions that a thread deals out at a time.
const ACTIONS_A_DEAL: usize = 32 * 1024;

/// Successive actions of one piece.
struct Slice<'a> {
    /// The number of the piece.
    number: usize,
    piece: &'a FileActions,
    actions: &'a [FileAction],
}

/// The added files of a slice by parts, each in the order of the log.
struct Dealt {
    /// Places within the slice.
    places: Vec<u32>,
    /// Where each part ends in `places`.
    ends: Vec<usize>,
}

impl Dealt {
    fn part(&self, part: usize) -> &[u32] {
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.places[start..self.ends[part]]
    }
}

/// A part of the paths, built.
struct Part {
    chunks: Vec<Chunk>,
    /// In the order of their lives, which number them from 1.
    vectors: Vec<DeletionVector>,
    totals: Totals,
    /// Whether a file of it is beneath a file of it.
    overlaps: bool,
    /// Files that the last path begins with, itself among them: files of the next part may be
    /// beneath them.
    open: Vec<String>,
}

impl Intervals {
    /// Takes the added files as the first state; of several of one path the last counts. Returns
    /// the sums over them.
    pub(super) fn fill(&mut self, version: Version, pieces: &mut [FileActions]) -> Totals {
        let values = self.intern(pieces);
        let pieces = &*pieces;
        let files: usize = pieces.iter().map(|piece| piece.actions().len()).sum();
        let cuts = cuts(pieces, files / FILES_A_PART);
        let slices = slices(pieces);
        let dealt = side_by_side(&slices, |slice| deal(slice, &cuts));
        let numbers: Vec<usize> = (0..=cuts.len()).collect();
        let parts = side_by_side(&numbers, |number| {
            let added = slices.iter().zip(&dealt).flat_map(|(slice, dealt)| {
                dealt.part(*number).iter().map(move |place| (slice, *place as usize))
            });
            build(version, &values, added)
        });
        let mut totals = Totals::default();
        let mut open = Vec::new();
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
            self.overlaps |= part.overlaps;
            open.append(&mut part.open);
        }
        self.overlaps |= open.iter().any(|path| self.lives_beneath(path).next().is_some());
        self.count_bytes();
        totals
    }
}

/// Paths at which to cut so that there are about as many parts as wanted, of like size.
fn cuts(pieces: &[FileActions], parts: usize) -> Vec<&str> {
    let files: usize = pieces.iter().map(|piece| piece.actions().len()).sum();
    let step = (files / (parts.max(1) * SAMPLES_A_PART)).max(1);
    let paths = pieces
        .iter()
        .flat_map(|piece| piece.actions().iter().step_by(step).map(|action| piece.path(action)));
    let mut samples: Vec<&str> = paths.collect();
    samples.sort_unstable();
    (1..parts).filter_map(|part| samples.get(samples.len() * part / parts).copied()).collect()
}

fn slices(pieces: &[FileActions]) -> Vec<Slice<'_>> {
    let slices = pieces.iter().enumerate().flat_map(|(number, piece)| {
        let all = piece.actions().chunks(ACTIONS_A_DEAL);
        all.map(move |actions| Slice { number, piece, actions })
    });
    slices.collect()
}

/// Deals the added files of a slice out to the parts between the cuts.
fn deal(slice: &Slice<'_>, cuts: &[&str]) -> Dealt {
    let mut dealt: Vec<(u32, u32)> = Vec::with_capacity(slice.actions.len());
    let mut ends = vec![0; cuts.len() + 1];
    for (place, action) in slice.actions.iter().enumerate().filter(|(_, action)| action.is_add) {
        let path = slice.piece.path(action);
        let part = cuts.partition_point(|cut| *cut <= path);
        dealt.push((part as u32, place as u32));
        ends[part] += 1;
    }
    dealt.sort_unstable();
    let mut end = 0;
    for part in &mut ends {
        end += *part;
        *part = end;
    }
    Dealt { places: dealt.into_iter().map(|(_, place)| place).collect(), ends }
}

/// Sorts and builds what was dealt to a part, in the order of the log.
fn build<'a>(
    version: Version,
    values: &[Vec<ValuesId>],
    added: impl Iterator<Item = (&'a Slice<'a>, usize)>,
) -> Part {
    let mut files: Vec<(FileAction, &Slice<'_>)> = Vec::new();
    let mut paths = String::new();
    let mut ends = Vec::new();
    for (slice, place) in added {
        let action = slice.actions[place];
        paths.push_str(slice.piece.path(&action));
        ends.push(paths.len());
        files.push((action, slice));
    }
    let path = |entry: Entry| {
        let at = entry.row();
        &paths[at.checked_sub(1).map_or(0, |before| ends[before])..ends[at]]
    };
    let mut entries: Vec<Entry> = (0..files.len() as u32).map(Entry::of_row).collect();
    order::sort(&mut entries, 0, &path);

    let mut builder = ChunkBuilder::default();
    let mut vectors = Vec::new();
    let mut totals = Totals::default();
    let mut overlaps = false;
    let mut open: Vec<&str> = Vec::new();
    for same in entries.chunk_by(|one, other| path(*one) == path(*other)) {
        let Some(last) = same.last() else { continue };
        let ((action, slice), path) = (files[last.row()], path(*last));
        // Whatever begins with a path comes right after it.
        while open.last().is_some_and(|before| !path.starts_with(before)) {
            open.pop();
        }
        overlaps |= open.iter().any(|before| path.as_bytes()[before.len()] == b'/');
        open.push(path);
        let vector = slice.piece.vector(&action);
        vectors.extend(vector.cloned());
        totals.put(action.size, vector);
        let vector = if vector.is_some() { vectors.len() as u32 } else { 0 };
        let values = values[slice.number][action.values as usize];
        builder.push(Life::new(version, action.size, action.modified_ms, values, vector), path);
    }
    let open = open.into_iter().map(str::to_owned).collect();
    Part { chunks: builder.finish(), vectors, totals, overlaps, open }
}

/// Makes something of each item, on as many threads as there are cores and items.
fn side_by_side<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.min(THREADS_MAX).min(items.len());
    let next = AtomicUsize::new(0);
    let run = || {
        let mut made = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return made };
            made.push((at, make(item)));
        }
    };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut made = run();
        for other in others {
            match other.join() {
                Ok(more) => made.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });
    made.sort_unstable_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, made)| made).collect()
}
