//! Who is at work in a staging directory: running changes, open files, writes that failed.
//!
//! States, with the function that makes each transition, and what a crash in each means:
//!
//! ```text
//!      begin            try_seal         freeze         enter             record_attempt
//! Open ────▶ Settling ──────────▶ Sealing ────▶ Sealed ────▶ Uploading ────────▶ Publishing
//!   ▲            │                   │             │             │                   │
//!   └── unseal ──┴───────────────────┴─────────────┴── Refused ──┴───────────────────┤
//!   └── unseal ─────────────────────────────────────────────────────── Committed ────┤
//!   └── unseal, and unsettled ──────────────────────────────────────── Unknown ──────┘
//!
//! Open ── abandon ──▶ Abandoned
//! ```
//!
//! - Open: changes run, each counted from `change` until its [`Changing`] is dropped. After a crash
//!   a file that somebody was writing to is known by its mark (`mark`), and counts as failed.
//! - Settling: a commit has begun, and looks up what an earlier attempt came to. Changes go on. A
//!   crash finds the journal as it was. An attempt that is sent again goes on to Sealed at once,
//!   for its files are frozen already.
//! - Sealing: nothing moves. No change runs and no file that has a name is open for writing, while
//!   the tree is linked aside (`linked`), which is work on local disk alone. Changes wait. A crash
//!   leaves the tree as it was, and links that the next daemon removes.
//! - Sealed, Uploading, Publishing: a commit works on what was linked aside. Changes go on and
//!   belong to the next commit. Only what would alter a frozen file waits for the end, and what
//!   would take its name elsewhere is Busy. A crash before the journal (`record_attempt`) leaves
//!   all as it was, and perhaps data files that no version names. After it the outcome is Unknown.
//! - Committed: the frozen files that are still there are taken away. A crash in between finds the
//!   journal, sees the version in the table, and takes away the rest.
//! - Refused: nothing of it is in the table, nothing was taken away, and the journal is clear.
//! - Unknown: an attempt is journaled whose outcome isn't known (`unsettled`). Its files may be in
//!   the table already, and their names are what recovery removes them by: they stay frozen, and
//!   what would alter them is Busy until a `sync` has settled it. All else goes on. The links stay,
//!   too, so that no other file gets an inode number that one of them is known by.
//! - Abandoned: the tree, which was empty, is gone from disk. Open files, which have no name any
//!   more, go on; nothing else works.
//!
//! A failed write is remembered by inode number until the file is gone, replaced or truncated to
//! nothing, because shells and many tools ignore the error that they were given.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

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

/// Where a directory stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Settling,
    Sealing,
    Sealed,
    Uploading,
    Publishing,
    Abandoned,
}

impl Phase {
    /// A word for `status`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Settling => "settling",
            Phase::Sealing => "sealing",
            Phase::Sealed => "sealed",
            Phase::Uploading => "uploading",
            Phase::Publishing => "publishing",
            Phase::Abandoned => "abandoned",
        }
    }

    fn is_past_seal(self) -> bool {
        match self {
            Phase::Sealed | Phase::Uploading | Phase::Publishing => true,
            Phase::Open | Phase::Settling | Phase::Sealing | Phase::Abandoned => false,
        }
    }

    fn is_commit(self) -> bool {
        !matches!(self, Phase::Open | Phase::Abandoned)
    }
}

/// The inodes that a commit, or an attempt whose outcome isn't known, stands on.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    pub files: HashSet<u64>,
    /// The directories that lead to them.
    pub directories: HashSet<u64>,
    /// Which they are can't be told.
    pub everything: bool,
}

impl Frozen {
    fn has_file(&self, id: u64) -> bool {
        self.everything || self.files.contains(&id)
    }

    fn has(&self, id: u64) -> bool {
        self.has_file(id) || self.directories.contains(&id)
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    unsettled: bool,
    frozen: Frozen,
    changes_running: usize,
    /// By inode number; at least one handle each.
    open: HashMap<u64, Vec<Arc<Handle>>>,
    failures: BTreeMap<u64, Failure>,
    /// Failed writes of mapped pages, by inode number: no call of their writer could fail.
    untold: HashMap<u64, Error>,
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
    Failed(Failure),
    /// Open, and written to since the last `close` of one of its descriptors.
    Writing(u64),
    /// All descriptors were closed, but their release is on its way; or a change runs.
    Leaving(Option<u64>),
}

/// The numbers of `status`.
#[derive(Clone, Debug)]
pub(super) struct Census {
    pub phase: Phase,
    pub unsettled: bool,
    pub writers: usize,
    pub failures: Vec<Failure>,
}

#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Told whenever a handle or a change ends.
    pub quieter: Notify,
    /// Told whenever those who wait for a commit may try again.
    turns: watch::Sender<()>,
    /// Counts changes, so that what was computed from the tree can be kept until the next one.
    edition: AtomicU64,
}

impl Activity {
    /// For a directory that was just opened: what an unsettled attempt stands on, and the files
    /// that somebody was writing to when an earlier daemon died.
    pub(super) fn new(unsettled: Option<Frozen>, failures: Vec<Failure>) -> Activity {
        Activity {
            state: Mutex::new(State {
                phase: Phase::Open,
                unsettled: unsettled.is_some(),
                frozen: unsettled.unwrap_or_default(),
                changes_running: 0,
                open: HashMap::new(),
                failures: failures.into_iter().map(|failure| (failure.id, failure)).collect(),
                untold: HashMap::new(),
            }),
            quieter: Notify::new(),
            turns: watch::Sender::new(()),
            edition: AtomicU64::new(0),
        }
    }

    /// Begins a change. Errors: [`Error::Sealed`] while everything has to wait.
    pub(super) fn change(&self) -> Result<Changing<'_>> {
        let mut state = self.state();
        match state.phase {
            Phase::Sealing => return Err(sealed()),
            Phase::Abandoned => return Err(abandoned()),
            _ => {}
        }
        state.changes_running += 1;
        Ok(Changing { activity: self })
    }

    /// What stands against a change of what is frozen.
    fn check(&self, is_frozen: impl FnOnce(&Frozen) -> bool) -> Result<()> {
        let state = self.state();
        if !is_frozen(&state.frozen) {
            return Ok(());
        }
        match state.phase {
            // An attempt may be unsettled for long, so nobody waits for its end.
            _ if state.unsettled && !state.phase.is_past_seal() => Err(Error::Busy(
                "the outcome of the last commit of this file is not known; sync the staging \
                 directory again before changing it"
                    .into(),
            )),
            _ => Err(sealed()),
        }
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
        if is_within_reach(handle) {
            let id = handle.inode.id;
            let failure = Failure { id, error: error.clone() };
            state.failures.entry(id).or_insert(failure);
        }
    }

    /// Keeps an error for the next `close` of that inode, as long as the file can be reached.
    pub(super) fn tell_at_close(&self, handle: &Handle, error: &Error) {
        let mut state = self.state();
        if is_within_reach(handle) {
            state.untold.entry(handle.inode.id).or_insert_with(|| error.clone());
        }
    }

    /// What a `close` has to say.
    pub(super) fn take_untold(&self, id: u64) -> Option<Error> {
        self.state().untold.remove(&id)
    }

    /// Remembers that a file lost bytes which were written to it before.
    pub(super) fn lost(&self, id: u64, error: &Error) {
        let failure = Failure { id, error: error.clone() };
        self.state().failures.entry(id).or_insert(failure);
    }

    /// Forgets failed writes: the file is gone, or begins anew.
    pub(super) fn forgive(&self, id: u64) {
        let mut state = self.state();
        state.failures.remove(&id);
        state.untold.remove(&id);
    }

    /// Whether a file is open, or a write to it failed.
    pub(super) fn knows(&self, id: u64) -> bool {
        let state = self.state();
        state.open.contains_key(&id) || state.failures.contains_key(&id)
    }

    /// Notes that an inode may be the table's own now: open handles can read it, and no more.
    pub(super) fn let_go(&self, id: u64) {
        if let Some(handle) = self.handle(id) {
            handle.inode.let_go();
        }
    }

    /// Whether no write of a file failed, and all others who may write to it have closed it since
    /// their last write.
    pub(super) fn is_whole_beside(&self, handle: &Arc<Handle>) -> bool {
        let state = self.state();
        let id = handle.inode.id;
        let mut others = state.open.get(&id).into_iter().flatten();
        !state.failures.contains_key(&id)
            && others.all(|other| {
                Arc::ptr_eq(other, handle)
                    || !other.open.write
                    || other.flushed.load(Ordering::Acquire)
            })
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.state().unsettled
    }

    pub(super) fn set_unsettled(&self, unsettled: bool) {
        self.state().unsettled = unsettled;
    }

    /// The tree was linked aside, and this is what must not be altered.
    pub(super) fn freeze(&self, frozen: Frozen) {
        let mut state = self.state();
        state.frozen = frozen;
        state.phase = Phase::Sealed;
        drop(state);
        self.turns.send_replace(());
    }

    /// Goes on to another step of a commit.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase.is_commit() && phase.is_commit() {
            state.phase = phase;
        }
    }

    /// Whether a change ran since an edition, or runs.
    pub(super) fn is_changed_since(&self, edition: u64) -> bool {
        self.state().changes_running > 0 || self.edition() != edition
    }

    /// Notes that content changed outside of a counted change.
    pub(super) fn touch(&self) {
        self.edition.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Relaxed)
    }

    /// Begins a commit. Errors: [`Error::Busy`] while another one runs.
    pub(super) fn begin(&self) -> Result<()> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Abandoned => return Err(abandoned()),
            _ => return Err(commit_running()),
        }
        state.phase = Phase::Settling;
        Ok(())
    }

    /// Makes everything stand still, or says what is in the way.
    pub(super) fn try_seal(&self) -> std::result::Result<(), Obstacle> {
        let mut state = self.state();
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
        state.phase = Phase::Sealing;
        Ok(())
    }

    /// Ends the seal. What an unsettled attempt stands on stays frozen.
    pub(super) fn unseal(&self) {
        let mut state = self.state();
        if state.phase.is_commit() {
            state.phase = Phase::Open;
        }
        if !state.unsettled {
            state.frozen = Frozen::default();
        }
        drop(state);
        self.touch();
        self.turns.send_replace(());
    }

    /// The moments from now on at which those who wait for a commit may try again.
    pub(super) fn turns(&self) -> watch::Receiver<()> {
        self.turns.subscribe()
    }

    /// Closes for good, if `remove` took the tree away. Errors: those of `remove`, and Busy.
    pub(super) fn abandon(&self, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Abandoned => return Err(abandoned()),
            _ => return Err(commit_running()),
        }
        remove()?;
        state.phase = Phase::Abandoned;
        Ok(())
    }

    pub(super) fn census(&self) -> Census {
        let state = self.state();
        Census {
            phase: state.phase,
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

impl Changing<'_> {
    /// Asks whether a file's bytes and attributes may change. Errors: [`Error::Sealed`] while a
    /// commit works on it, [`Error::Busy`] while the outcome of one isn't known.
    pub(super) fn alters(&self, id: u64) -> Result<()> {
        self.activity.check(|frozen| frozen.has_file(id))
    }

    /// Asks whether a file or directory may get another name. Errors: [`Error::Busy`] while a
    /// commit works on it. Nobody waits here: the kernel holds a lock of the whole mount meanwhile.
    pub(super) fn moves(&self, id: u64) -> Result<()> {
        match self.activity.check(|frozen| frozen.has(id)) {
            Err(Error::Sealed(_)) => Err(commit_running()),
            result => result,
        }
    }
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

/// Whether users have a name of the file; it can have others.
fn is_within_reach(handle: &Handle) -> bool {
    !handle.inode.is_let_go() && !is_nameless(handle)
}

pub(super) fn commit_running() -> Error {
    Error::Busy("a commit of this staging directory is running; wait for it to end".into())
}

fn sealed() -> Error {
    Error::Sealed("a commit of this staging directory works on it; wait for it to end".into())
}

pub(super) fn abandoned() -> Error {
    Error::NotFound("this staging directory was abandoned".into())
}
