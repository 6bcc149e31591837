//! What commits run now, for `TABLE/.deltafs/commits`.
//!
//! The kernel locks a directory while its fsync waits, so a commit's progress can't be told in the
//! staging directory itself; it is told here, in the table's own control directory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The commits of one table that run now, by staging directory.
#[derive(Debug, Default)]
pub struct CommitBoard {
    running: Mutex<BTreeMap<String, String>>,
}

/// A commit's line on the board; dropping it takes the line away.
#[must_use]
#[derive(Debug)]
pub struct BoardLine<'a> {
    board: &'a CommitBoard,
    name: String,
}

impl CommitBoard {
    /// Puts a line up for the commit of staging directory `name`.
    pub fn begin(&self, name: &str) -> BoardLine<'_> {
        self.lines().insert(name.to_string(), "begins".to_string());
        BoardLine { board: self, name: name.to_string() }
    }

    /// One line for each running commit: `staging/NAME`, a tab, what it does.
    pub fn text(&self) -> String {
        self.lines().iter().map(|(name, doing)| format!("staging/{name}\t{doing}\n")).collect()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // A line is replaced whole, so a panic elsewhere can't have left it half written.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoardLine<'_> {
    /// Says what the commit does now.
    pub fn tell(&self, doing: impl Into<String>) {
        self.board.lines().insert(self.name.clone(), doing.into());
    }
}

impl Drop for BoardLine<'_> {
    fn drop(&mut self) {
        self.board.lines().remove(&self.name);
    }
}
