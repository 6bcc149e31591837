//! Sorts file actions by path without moving them.
//!
//! Paths of a table begin alike and lie all over the memory, so comparing whole ones costs most of
//! an ingest. Eight bytes after the common beginning are compared as a number; only equal numbers
//! are looked at further on.

use crate::log::action::DeletionVector;
use crate::log::file_actions::{FileAction, FileActions};

/// Fewer are sorted by whole paths.
const BY_KEY_MIN: usize = 32;
/// Bytes of a key.
const KEY_BYTES: usize = size_of::<u64>();

/// One action, by its place.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    key: u64,
    piece: u32,
    row: u32,
}

impl Entry {
    /// An action of the only piece there is.
    pub fn of_row(row: u32) -> Entry {
        Entry { key: 0, piece: 0, row }
    }

    pub fn row(&self) -> usize {
        self.row as usize
    }
}

/// The actions of some pieces, to be put in order: by path, those of one path as the log has them.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pieces: &'a [FileActions],
}

impl<'a> Order<'a> {
    pub fn new(pieces: &'a [FileActions]) -> Order<'a> {
        Order { pieces }
    }

    /// The action of an entry, and the number of its piece.
    pub fn action(&self, entry: Entry) -> (usize, &'a FileAction) {
        let piece = entry.piece as usize;
        (piece, &self.pieces[piece].actions()[entry.row as usize])
    }

    pub fn path(&self, entry: Entry) -> &'a str {
        let (piece, action) = self.action(entry);
        self.pieces[piece].path(action)
    }

    pub fn vector(&self, entry: Entry) -> Option<&'a DeletionVector> {
        let (piece, action) = self.action(entry);
        self.pieces[piece].vector(action)
    }

    /// Every action that is wanted, sorted.
    pub fn sorted(&self, wanted: impl Fn(&FileAction) -> bool) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.entries(wanted).collect();
        sort(&mut entries, 0, &|entry| self.path(entry));
        entries
    }

    fn entries(&self, wanted: impl Fn(&FileAction) -> bool) -> impl Iterator<Item = Entry> {
        self.pieces.iter().enumerate().flat_map(move |(piece, changes)| {
            let wanted = &wanted;
            let rows = changes.actions().iter().enumerate();
            // A slice parsed at a time has far fewer than 2^32 actions.
            let rows = rows.filter(move |(_, action)| wanted(action));
            let entry = move |row| Entry { key: 0, piece: piece as u32, row: row as u32 };
            rows.map(move |(row, _)| entry(row)).collect::<Vec<_>>()
        })
    }
}

/// Sorts entries, which tell their paths by `path`, that are equal in their first `depth` bytes.
pub fn sort<'a>(entries: &mut [Entry], depth: usize, path: &impl Fn(Entry) -> &'a str) {
    if entries.len() < BY_KEY_MIN {
        entries.sort_unstable_by(|one, other| {
            let paths = path(*one).cmp(path(*other));
            paths.then((one.piece, one.row).cmp(&(other.piece, other.row)))
        });
        return;
    }
    let Some(depth) = first_difference(entries, depth, path) else {
        entries.sort_unstable_by_key(|entry| (entry.piece, entry.row));
        return;
    };
    for entry in &mut *entries {
        entry.key = key(path(*entry).as_bytes().get(depth..).unwrap_or_default());
    }
    entries.sort_unstable_by_key(|entry| (entry.key, entry.piece, entry.row));
    for same in entries.chunk_by_mut(|one, other| one.key == other.key) {
        if same.len() > 1 {
            sort(same, depth + KEY_BYTES, path);
        }
    }
}

/// The first byte from `depth` on in which not all paths are equal; `None` where they all are.
fn first_difference<'a>(
    entries: &[Entry],
    depth: usize,
    path: &impl Fn(Entry) -> &'a str,
) -> Option<usize> {
    let rest = |entry: &Entry| path(*entry).as_bytes().get(depth..).unwrap_or_default();
    let (first, others) = entries.split_first()?;
    let first = rest(first);
    let mut common = first.len();
    let mut are_equal = true;
    for other in others {
        let other = rest(other);
        common = common_bytes(&first[..common], other);
        are_equal &= other.len() == first.len();
    }
    if are_equal && common == first.len() { None } else { Some(depth + common) }
}

/// How many bytes two texts have in common at their beginning.
pub fn common_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The first bytes as a number that orders as they do. Shorter ones are filled up with NUL, which
/// no path holds.
fn key(bytes: &[u8]) -> u64 {
    let mut key = [0; KEY_BYTES];
    let taken = bytes.len().min(KEY_BYTES);
    key[..taken].copy_from_slice(&bytes[..taken]);
    u64::from_be_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::commit::place;
    use crate::log::file_actions::Stat;

    fn pieces(paths: &[Vec<String>]) -> Vec<FileActions> {
        let piece = |paths: &Vec<String>| {
            let mut changes = FileActions::default();
            for path in paths {
                let stat = Stat { size: 1, modified_ms: 1 };
                changes.add(place(path).unwrap(), stat, 0, None).unwrap();
            }
            changes
        };
        paths.iter().map(piece).collect()
    }

    /// Paths that differ early, late, in their length alone, and not at all.
    fn paths(piece: u32) -> Vec<String> {
        let mut number = piece.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let mut paths = Vec::new();
        for _ in 0..2000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (day, file) = (number >> 30, (number >> 12) % 300);
            paths.push(match number % 5 {
                0 => format!("date=2026-11-0{day}/part-{file:05}-c000.snappy.parquet"),
                1 => format!("date=2026-11-0{day}/part-{file}"),
                2 => "x".repeat((file % 90) as usize + 1),
                3 => format!("date=2026-11-0{day}/part-{file}\u{e9}"),
                _ => format!("{file}"),
            });
        }
        paths
    }

    #[test]
    fn entries_are_sorted_by_path_and_equal_paths_stay_in_the_order_of_the_log() {
        let all: Vec<Vec<String>> = (0..3).map(paths).collect();
        let mut wanted: Vec<(&str, usize, usize)> = Vec::new();
        for (piece, paths) in all.iter().enumerate() {
            let rows = paths.iter().enumerate();
            wanted.extend(rows.map(|(row, path)| (path.as_str(), piece, row)));
        }
        wanted.sort_unstable();
        let pieces = pieces(&all);
        let order = Order::new(&pieces);
        let told = |entry: &Entry| (order.path(*entry), entry.piece as usize, entry.row as usize);
        let sorted: Vec<_> = order.sorted(|_| true).iter().map(told).collect();
        assert_eq!(sorted, wanted);
    }

    #[test]
    fn equal_paths_alone_and_nothing_at_all_are_sorted_too() {
        let pieces = pieces(&[vec!["same".to_owned(); 100], Vec::new()]);
        let order = Order::new(&pieces);
        let rows: Vec<u32> = order.sorted(|_| true).iter().map(|entry| entry.row).collect();
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
        assert!(order.sorted(|_| false).is_empty());
    }
}
