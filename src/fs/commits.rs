//! The commits that the kernel asked for and waits for.
//!
//! A stopping daemon starts no new one and waits for those that run.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The running commits of one mount.
#[derive(Default)]
pub struct Commits {
    board: Mutex<Board>,
    changed: Condvar,
}

#[derive(Default)]
struct Board {
    stopping: bool,
    running: usize,
}

/// A running commit; it ends when this is dropped, which is after its reply.
pub struct Running(Arc<Commits>);

impl Commits {
    /// Starts a commit, unless the daemon is stopping.
    pub fn begin(self: &Arc<Self>) -> Result<Running> {
        let mut board = self.lock();
        if board.stopping {
            return Err(Error::Busy(
                "sync: the mount is going away; what is staged is kept: mount again, then sync"
                    .into(),
            ));
        }
        board.running += 1;
        Ok(Running(Arc::clone(self)))
    }

    /// Refuses every commit from now on.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// How many commits run.
    pub fn running(&self) -> usize {
        self.lock().running
    }

    /// Waits until no commit runs; false when `limit` passed before.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut board = self.lock();
        while board.running > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(board, left);
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(5);

    #[test]
    fn a_stopping_mount_starts_no_commit_and_waits_for_those_that_run() {
        let commits = Arc::new(Commits::default());
        let (first, second) = (commits.begin(), commits.begin());
        commits.stop();
        assert!(matches!(commits.begin(), Err(Error::Busy(_))));
        drop(first);
        assert!(!commits.wait_idle(MOMENT));
        assert_eq!(commits.running(), 1);
        drop(second);
        assert!(commits.wait_idle(MOMENT));
    }
}
