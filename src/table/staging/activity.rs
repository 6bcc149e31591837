//! Who is at work in a staging directory: running changes, open files, writes that failed.
//!
//! States, with the function that makes each transition:
//!
//! ```text
//! Open ── try_seal ──▶ Sealed ── unseal ──▶ Open       Open ── abandon ──▶ Abandoned
//! ```
//!
//! - Open: changes run, each counted from `change` until its [`Changing`] is dropped.
//! - Sealed: a commit reads the tree. No change runs and no file that has a name is open for
//!   writing; `change` answers Busy. It ends with the process: after a crash the directory is
//!   Open again, and the journaled attempt says whether a commit has to be settled first.
//! - Abandoned: the tree is gone from disk. Nothing but reads of open files works.
//!
//! Beside the state, `unsettled` says that an attempt is journaled whose outcome isn't known. Its
//! files may be linked into the table already, so nothing may write to them, and their names are
//! what recovery removes them by: only unlink and rmdir go through until the next `sync`.
//!
//! A failed write is remembered by inode number until the file is gone, replaced or truncated to
//! nothing, because shells and many tools ignore the error that they were given.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::OpenFor;
use super::disk::stat_open;
use super::inode::Inode;
use crate::error::{Error, Result};

/// An open file: its descriptor, and whether what was written went through a `close`.
#[derive(Debug)]
pub(super) struct Handle {
    pub inode: Arc<Inode>,
    pub file: OwnedFd,
    pub open: OpenFor,
    /// A `close` or `fsync` came after the last write. `RELEASE` arrives only later, so without
    /// this a `sync` right behind a tool's `close` could not be told from one before it.
    pub flushed: AtomicBool,
}

/// What a change does to the files of an attempt whose outcome isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Takes a name away: harmless.
    Removes,
    /// Anything else.
    Alters,
    /// Our own small files, not the tree.
    Control,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Sealed,
    Abandoned,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    unsettled: bool,
    changes_running: usize,
    /// By inode number; at least one handle each.
    open: HashMap<u64, Vec<Arc<Handle>>>,
    failures: BTreeMap<u64, Failure>,
}

/// A write that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub id: u64,
    pub error: Error,
}

/// What stands between a staging directory and its seal.
#[derive(Debug)]
pub(super) enum Obstacle {
    CommitRunning,
    Abandoned,
    Failed(Failure),
    /// Open, and written to since the last `close` of one of its descriptors.
    Writing(u64),
    /// All descriptors were closed, but their release is on its way; or a change runs.
    Leaving(Option<u64>),
}

/// The numbers of `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    pub sealed: bool,
    pub unsettled: bool,
    pub writers: usize,
    pub failures: Vec<Failure>,
}

#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Told whenever a handle or a change ends.
    pub quieter: Notify,
    /// Counts changes, so that what was computed from the tree can be kept until the next one.
    edition: AtomicU64,
}

impl Activity {
    pub(super) fn new(unsettled: bool) -> Activity {
        Activity {
            state: Mutex::new(State {
                phase: Phase::Open,
                unsettled,
                changes_running: 0,
                open: HashMap::new(),
                failures: BTreeMap::new(),
            }),
            quieter: Notify::new(),
            edition: AtomicU64::new(0),
        }
    }

    /// Begins a change. Errors: [`Error::Busy`] while a commit runs or has an unknown outcome.
    pub(super) fn change(&self, change: Change) -> Result<Changing<'_>> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Sealed => return Err(commit_running()),
            Phase::Abandoned => return Err(abandoned()),
        }
        if state.unsettled && change == Change::Alters {
            return Err(Error::Busy(
                "the outcome of the last commit of this staging directory is not known; sync it \
                 again before changing it"
                    .into(),
            ));
        }
        state.changes_running += 1;
        Ok(Changing { activity: self })
    }

    /// Registers an open file. Its content is looked up when it is the first of its inode.
    pub(super) fn opened(&self, id: u64, file: OwnedFd, open: OpenFor) -> Result<Arc<Handle>> {
        let mut state = self.state();
        let inode = match state.open.get(&id).and_then(|handles| handles.first()) {
            Some(other) => other.inode.clone(),
            None => Arc::new(Inode::load(id, &file)?),
        };
        let handle = Arc::new(Handle { inode, file, open, flushed: AtomicBool::new(false) });
        state.open.entry(id).or_default().push(handle.clone());
        Ok(handle)
    }

    /// Ends an open file.
    pub(super) fn closed(&self, handle: &Arc<Handle>) {
        let mut state = self.state();
        let id = handle.inode.id;
        if let Some(handles) = state.open.get_mut(&id) {
            handles.retain(|other| !Arc::ptr_eq(other, handle));
            if handles.is_empty() {
                state.open.remove(&id);
            }
        }
        drop(state);
        self.quieter.notify_waiters();
    }

    /// Some open file of that inode.
    pub(super) fn handle(&self, id: u64) -> Option<Arc<Handle>> {
        self.state().open.get(&id).and_then(|handles| handles.first()).cloned()
    }

    /// Some file of that inode that is open for writing.
    pub(super) fn writer(&self, id: u64) -> Option<Arc<Handle>> {
        let state = self.state();
        state.open.get(&id)?.iter().find(|handle| handle.open.write).cloned()
    }

    /// Remembers a failed write, unless nobody can reach the file any more.
    pub(super) fn failed(&self, handle: &Handle, error: &Error) {
        let mut state = self.state();
        // Under the lock: an unlink that comes in between forgives only after us.
        if !is_nameless(handle) {
            let id = handle.inode.id;
            let failure = Failure { id, error: error.clone() };
            state.failures.entry(id).or_insert(failure);
        }
    }

    /// Forgets failed writes: the file is gone, or begins anew.
    pub(super) fn forgive(&self, id: u64) {
        self.state().failures.remove(&id);
    }

    pub(super) fn set_unsettled(&self, unsettled: bool) {
        self.state().unsettled = unsettled;
    }

    /// Notes that content changed outside of a counted change.
    pub(super) fn touch(&self) {
        self.edition.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Relaxed)
    }

    /// Seals, or says what is in the way.
    pub(super) fn try_seal(&self) -> std::result::Result<(), Obstacle> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Sealed => return Err(Obstacle::CommitRunning),
            Phase::Abandoned => return Err(Obstacle::Abandoned),
        }
        if let Some(failure) = state.failures.values().next() {
            return Err(Obstacle::Failed(failure.clone()));
        }
        let mut leaving = (state.changes_running > 0).then_some(None);
        for handle in state.writers() {
            if !handle.flushed.load(Ordering::Acquire) {
                return Err(Obstacle::Writing(handle.inode.id));
            }
            leaving = Some(Some(handle.inode.id));
        }
        if let Some(id) = leaving {
            return Err(Obstacle::Leaving(id));
        }
        state.phase = Phase::Sealed;
        Ok(())
    }

    /// Ends the seal.
    pub(super) fn unseal(&self) {
        let mut state = self.state();
        if state.phase == Phase::Sealed {
            state.phase = Phase::Open;
        }
        drop(state);
        self.touch();
    }

    /// Closes for good, if `remove` took the tree away. Errors: those of `remove`, and Busy.
    pub(super) fn abandon(&self, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Sealed => return Err(commit_running()),
            Phase::Abandoned => return Err(abandoned()),
        }
        remove()?;
        state.phase = Phase::Abandoned;
        Ok(())
    }

    pub(super) fn census(&self) -> Census {
        let state = self.state();
        Census {
            sealed: state.phase == Phase::Sealed,
            unsettled: state.unsettled,
            writers: state.writers().count(),
            failures: state.failures.values().cloned().collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-done here: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Files open for writing that a commit would see; a file without a name is nobody's business.
    fn writers(&self) -> impl Iterator<Item = &Arc<Handle>> {
        self.open.values().flatten().filter(|handle| handle.open.write && !is_nameless(handle))
    }
}

/// A running change; dropping it ends it.
#[must_use]
#[derive(Debug)]
pub(super) struct Changing<'a> {
    activity: &'a Activity,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.activity.touch();
        self.activity.state().changes_running -= 1;
        self.activity.quieter.notify_waiters();
    }
}

/// Whether the file was unlinked while open. What can't be told counts as having a name.
fn is_nameless(handle: &Handle) -> bool {
    stat_open(&handle.file).is_ok_and(|statx| statx.stx_nlink == 0)
}

pub(super) fn commit_running() -> Error {
    Error::Busy("a commit of this staging directory is running; wait for it to end".into())
}

pub(super) fn abandoned() -> Error {
    Error::NotFound("this staging directory was abandoned".into())
}
