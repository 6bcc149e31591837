//! What users, the kernel and bad luck do to a staging directory; and how it is chosen.
//!
//! Paths are few, so that operations meet. Each kind shrinks towards the simpler one: smaller
//! sizes, first paths, and lists with fewer operations.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::RenameMode;

/// Mostly data; a name that Delta hides, and one that rsync is still writing to.
const PATHS: [&str; 19] = [
    "a",
    "b",
    "c",
    "D",
    "D/a",
    "D/b",
    "D/c",
    "E",
    "E/a",
    "D/E",
    "D/E/a",
    "D/E/b",
    "a/b",
    "a/D",
    "F",
    "F/a",
    "_h",
    "D/_h",
    ".a.Xy12Zz",
];
/// Data files that there are to stage.
pub(super) const BLOBS: usize = 6;

/// One operation. Numbers that choose among what is there are taken modulo how much there is.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create {
        path: &'static str,
        exclusive: bool,
        truncate: bool,
        mode: u32,
    },
    /// What most tools do: create, write, close.
    Put {
        path: &'static str,
        blob: usize,
    },
    MakeDirectory {
        path: &'static str,
    },
    Unlink {
        at: At,
    },
    RemoveDirectory {
        at: At,
    },
    Rename {
        from: At,
        to: At,
        mode: RenameMode,
    },
    Link {
        from: At,
        to: &'static str,
    },
    /// A link from a version: a reference to one of its files.
    Refer {
        path: &'static str,
        which: usize,
    },
    Open {
        at: At,
        truncate: bool,
    },
    Truncate {
        at: At,
        size: u64,
    },
    ChangeMode {
        at: At,
        mode: u32,
    },
    SetTime {
        at: At,
        seconds: u32,
    },
    Write {
        file: usize,
        offset: u64,
        size: usize,
    },
    Allocate {
        file: usize,
        offset: u64,
        size: u64,
        how: Space,
    },
    /// `copy_file_range`; `from`: another open file, or one of the table's.
    Copy {
        file: usize,
        from: Result<usize, usize>,
        offsets: [Offset; 2],
        length: u64,
    },
    SyncFile {
        file: usize,
    },
    Close {
        file: usize,
    },
    SyncDirectory {
        at: At,
    },
    Forget {
        at: At,
    },
    SetOptions {
        overwrite: bool,
        txn: Option<i64>,
    },
    /// `sync DIR`; or so many steps of it past its seal, and other operations go on beside it.
    Commit {
        steps: Option<u32>,
    },
    /// The commit that was left in the middle goes on to its end.
    Finish,
    /// `cp -al versions/N/. DIR && sync DIR`.
    Restore {
        version: usize,
    },
    /// Another engine appends to the table.
    Foreign {
        blob: usize,
    },
    /// `rmdir DIR; mkdir DIR`.
    BeginAgain,
    /// Unmount, as it should be, and mount.
    Remount,
    /// The daemon is killed, after so many steps of a commit or of what runs; another one mounts.
    Crash {
        steps: Option<u32>,
    },
}

/// A path, or one of those that are there.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Existing(usize),
    Path(&'static str),
}

/// What `fallocate` does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Space {
    Extend,
    KeepSize,
    PunchHole,
}

/// An offset, or the end of the file that is written to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Offset {
    At(u64),
    End,
}

fn path() -> impl Strategy<Value = &'static str> {
    // The last three keep a commit from being an everyday one.
    prop_oneof![8 => select(&PATHS[..16]), 1 => select(&PATHS[16..])]
}

fn at() -> impl Strategy<Value = At> {
    prop_oneof![4 => (0..24usize).prop_map(At::Existing), 1 => path().prop_map(At::Path)]
}

/// Of a page and around it, and of a few.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![0..10u64, 0..5000u64, Just(4096), 0..20_000u64]
}

fn offset() -> impl Strategy<Value = Offset> {
    let at = prop_oneof![Just(0), size()].prop_map(Offset::At);
    prop_oneof![3 => at, 1 => Just(Offset::End)]
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![12 => names(), 10 => contents(), 7 => whole()]
}

fn names() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let modes = select(&[0o644, 0o600, 0o755][..]);
    let renames = select(&[RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][..]);
    let open = (path(), any::<bool>(), any::<bool>(), modes);
    prop_oneof![
        2 => open.prop_map(|(path, exclusive, truncate, mode)| {
            Create { path, exclusive, truncate, mode }
        }),
        6 => (path(), 0..BLOBS).prop_map(|(path, blob)| Put { path, blob }),
        1 => path().prop_map(|path| MakeDirectory { path }),
        2 => at().prop_map(|at| Unlink { at }),
        1 => at().prop_map(|at| RemoveDirectory { at }),
        3 => (at(), at(), renames).prop_map(|(from, to, mode)| Rename { from, to, mode }),
        2 => (at(), path()).prop_map(|(from, to)| Link { from, to }),
        3 => (path(), 0..24usize).prop_map(|(path, which)| Refer { path, which }),
    ]
}

fn contents() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let file = || 0..4usize;
    let modes = select(&[0o700, 0o755, 0o777][..]);
    let spaces = select(&[Space::Extend, Space::KeepSize, Space::PunchHole][..]);
    let from = prop_oneof![(0..24usize).prop_map(Err), file().prop_map(Ok)];
    let offsets = [offset(), offset()];
    prop_oneof![
        3 => (at(), prop::bool::weighted(0.2)).prop_map(|(at, truncate)| Open { at, truncate }),
        1 => (at(), size()).prop_map(|(at, size)| Truncate { at, size }),
        1 => (at(), modes).prop_map(|(at, mode)| ChangeMode { at, mode }),
        1 => (at(), any::<u32>()).prop_map(|(at, seconds)| {
            SetTime { at, seconds: seconds % 1_000_000_000 }
        }),
        3 => (file(), size(), size()).prop_map(|(file, offset, size)| {
            // The kernel keeps a write of nothing to itself.
            Write { file, offset, size: size.max(1) as usize }
        }),
        1 => (file(), size(), size(), spaces).prop_map(|(file, offset, size, how)| {
            Allocate { file, offset, size, how }
        }),
        2 => (file(), from, offsets, prop_oneof![size(), Just(1 << 20)]).prop_map(
            |(file, from, offsets, length)| Copy { file, from, offsets, length }
        ),
        1 => file().prop_map(|file| SyncFile { file }),
        6 => file().prop_map(|file| Close { file }),
    ]
}

fn whole() -> impl Strategy<Value = Operation> {
    use Operation::*;
    // A commit of one file takes about 40.
    let steps = prop_oneof![2 => Just(None), 3 => (0..40u32).prop_map(Some)];
    let crash = prop_oneof![1 => Just(None), 2 => (0..60u32).prop_map(Some)];
    let txn = prop_oneof![3 => Just(None), 1 => (0..4i64).prop_map(Some)];
    prop_oneof![
        1 => at().prop_map(|at| SyncDirectory { at }),
        2 => at().prop_map(|at| Forget { at }),
        1 => (any::<bool>(), txn).prop_map(|(overwrite, txn)| SetOptions { overwrite, txn }),
        5 => steps.prop_map(|steps| Commit { steps }),
        3 => Just(Finish),
        1 => (0..8usize).prop_map(|version| Restore { version }),
        1 => (0..BLOBS).prop_map(|blob| Foreign { blob }),
        1 => Just(BeginAgain),
        1 => Just(Remount),
        3 => crash.prop_map(|steps| Crash { steps }),
    ]
}
