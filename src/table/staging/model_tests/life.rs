//! What happens to the whole directory: commits, other engines, unmounts, and the death of daemons.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

use super::super::activity::Phase;
use super::super::tests::*;
use super::commits::{Expected, Staged, contents};
use super::compare::digest;
use super::count;
use super::operation::Operation;
use super::world::{Frozen, Inodes, NAME, World, blob, ours, runtime, table};
use crate::error::Result;
use crate::table::commit::{CommitSummary, commit};

type Committing = Pin<Box<dyn Future<Output = Result<CommitSummary>>>>;

/// A commit that was begun.
pub(super) struct Running {
    future: Committing,
    staged: Staged,
    /// Whether anybody tried to change anything since.
    pub was_changed: bool,
}

impl World {
    pub(super) fn live(&mut self, operation: &Operation) {
        match *operation {
            Operation::SetOptions { overwrite, txn } => self.set_options(overwrite, txn),
            Operation::Commit { steps } => self.commit(steps),
            Operation::Finish => self.finish(),
            Operation::Restore { version } => self.restore(version),
            Operation::Foreign { blob } => self.append_foreign(blob),
            Operation::BeginAgain => self.begin_again(),
            Operation::Remount => {
                self.finish();
                while !self.open.is_empty() {
                    self.close(0);
                }
                self.mount_again();
                self.compare();
            }
            Operation::Crash { steps } => self.crash(steps),
            _ => unreachable!("{operation:?} is of one file"),
        }
    }

    fn set_options(&mut self, overwrite: bool, txn: Option<i64>) {
        let mode = if overwrite { "mode=overwrite\n" } else { "" };
        let txn_line = txn.map_or(String::new(), |txn| format!("txn=app:{txn}\n"));
        self.staging.set_options(&format!("{mode}{txn_line}")).unwrap();
        (self.overwrite, self.txn) = (overwrite, txn);
    }

    fn begin(&self) -> Committing {
        let (table, staging) = (self.table.clone(), self.staging.clone());
        Box::pin(async move { commit(&table, &staging).await })
    }

    /// Goes so many steps of a commit. Its outcome, if it ended within them.
    fn go(&self, future: &mut Committing, steps: u32) -> Option<Result<CommitSummary>> {
        let mut left = steps;
        let result = self.block_on(std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            future.as_mut().poll(context).map(Some)
        }));
        // What was begun on the disk is done when what is begun now is.
        self.block_on(async { spawn_blocking(|| ()).await }).unwrap();
        result
    }

    /// `sync DIR`, or so many steps of it past its seal.
    fn commit(&mut self, steps: Option<u32>) {
        if self.running.is_some() {
            let result = self.block_on(self.begin());
            assert_eq!(ours(&result), Err(Errno::BUSY.raw_os_error()), "a second shell's");
            return;
        }
        let staged = self.staged();
        let mut future = self.begin();
        if self.earlier.is_some() {
            let result = self.block_on(future);
            return self.settled(Some(&result));
        }
        let mut result = None;
        while result.is_none() && !self.is_sealed() {
            result = self.go(&mut future, 1);
        }
        result = result.or_else(|| self.go(&mut future, steps.unwrap_or(u32::MAX)));
        self.freeze(&staged, true);
        self.running = Some(Running { future, staged, was_changed: false });
        match result {
            Some(result) => self.end(result),
            // It has taken its files away already, and has only to say so.
            None if self.running().staged.is_gone(self) || !self.is_sealed() => self.finish(),
            None => {}
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Whether a commit works on what it has sealed.
    fn is_sealed(&self) -> bool {
        let phase = self.staging.activity.census().phase;
        matches!(phase, Phase::Sealed | Phase::Uploading | Phase::Publishing)
    }

    /// The commit that was left in the middle goes on to its end.
    pub(super) fn finish(&mut self) {
        if let (Some(running), Some(runtime)) = (&mut self.running, &self.runtime) {
            let result = runtime.block_on(running.future.as_mut());
            self.end(result);
        }
    }

    fn end(&mut self, result: Result<CommitSummary>) {
        let Running { staged, was_changed, .. } = self.running.take().unwrap();
        self.frozen = Frozen::default();
        if was_changed {
            count("commits with changes beside them");
        }
        self.ended(&staged, &result);
        assert!(!self.is_unsettled(), "{result:?}");
        if result.is_ok() && !was_changed {
            assert!(!self.has_empty_directory(), "directories that hold nothing stay");
        }
        self.compare();
    }

    /// What a killed daemon had sent is settled, and the rest may have been committed as well. No
    /// result: the daemon was killed in the middle.
    fn settled(&mut self, result: Option<&Result<CommitSummary>>) {
        let earlier = self.earlier.take().unwrap().still_there(self);
        let mut ours = Vec::new();
        let mut parts = vec![earlier.clone(), self.staged()];
        // One at a time: what the second is of depends on what became of the first.
        while self.log_entry(self.history.versions.len()).exists() {
            let version = self.history.versions.len();
            if self.history.foreign.contains_key(&version) {
                self.follow_to(version + 1, None);
                continue;
            }
            let now = self.live_in(version);
            let before = self.history.versions.last().cloned().unwrap_or_default();
            let fits = |part: &Staged| part.wrong_in(&before, &now, &self.history).is_none();
            let part = parts.iter().position(fits).expect("what was staged, or a part of it");
            let part = parts.remove(part);
            self.follow_to(version + 1, Some(&part));
            self.take_away(&part, true);
            parts = vec![self.staged()];
            ours.push(version);
            assert!(ours.len() <= 2, "{ours:?}");
        }
        match result {
            Some(Ok(summary)) => {
                let version = summary.version.map(|version| version.0 as usize);
                assert!(version.is_none_or(|version| ours.last() == Some(&version)));
                let rest = self.staged();
                if version.is_none() || !rest.files.is_empty() {
                    assert!(self.is_nothing(&rest), "{rest:?}: {summary:?}");
                    self.take_away(&rest, false);
                } else {
                    self.take_away(&rest, true);
                }
                assert!(!self.is_unsettled());
            }
            Some(Err(_)) => {}
            None if self.staged().is_gone(self) => self.take_away(&self.staged(), false),
            None => {}
        }
        self.adopt(earlier);
        self.compare();
    }

    /// Looks what the state is: of `sent` nothing may be altered until it is settled.
    fn adopt(&mut self, sent: Staged) {
        self.frozen = Frozen::default();
        if self.is_unsettled() {
            count("kills that left a commit to settle");
            self.freeze(&sent, false);
            self.earlier = Some(sent);
        }
    }

    /// Another engine appends a file.
    fn append_foreign(&mut self, number: usize) {
        if !self.log_entry(0).exists() {
            return;
        }
        let is_free = |version: &usize| !self.log_entry(*version).exists();
        let version = (self.history.versions.len()..).find(is_free).unwrap();
        let path = format!("foreign-{version}.parquet");
        fs::write(self.lake.join("t").join(&path), blob(number)).unwrap();
        let add = json!({"add": {"path": path, "partitionValues": {}, "dataChange": true,
            "size": blob(number).len(), "modificationTime": 1_700_000_000_000_i64}});
        fs::write(self.log_entry(version), add.to_string()).unwrap();
        self.history.foreign.insert(version, (path, digest(blob(number))));
    }

    /// `cp -al versions/N/. DIR && sync DIR`, where nothing else is staged.
    fn restore(&mut self, version: usize) {
        let is_empty = fs::read_dir(&self.model).unwrap().next().is_none();
        let is_open = self.running.is_none() && self.earlier.is_none();
        if !is_open || !is_empty || self.history.versions.is_empty() {
            return;
        }
        self.follow(None);
        self.set_options(false, None);
        let version = version % self.history.versions.len();
        make_directory(&self.staging, "_delta_log");
        for number in 0..=version {
            let entry = self.log_entry(number);
            let path = format!("_delta_log/{}", entry.file_name().unwrap().to_str().unwrap());
            put(&self.staging, &path, &fs::read(entry).unwrap());
        }
        for path in self.history.versions[version].keys() {
            for (end, _) in path.match_indices('/') {
                if at(&self.staging, &path[..end]).is_err() {
                    make_directory(&self.staging, &path[..end]);
                }
            }
            let (reference, source) = self.reference_to(path);
            let (parent, name) = self.parent(path).unwrap();
            self.staging.link_reference(&reference, &source, parent, name, me()).unwrap();
        }
        let result = self.block_on(self.begin());
        let expected = Expected::Accepted;
        let (files, restores) = (Vec::new(), Some(version));
        let staged = Staged { files, overwrite: false, txn: None, restores, expected };
        self.ended(&staged, &result);
        let last = self.history.versions.last().unwrap();
        assert_eq!(contents(last), contents(&self.history.versions[version]));
        self.compare();
    }

    fn begin_again(&mut self) {
        let removed = self.table.staging().abandon(OsStr::new(NAME));
        if self.running.is_some() {
            assert_eq!(ours(&removed), Err(Errno::BUSY.raw_os_error()), "while a commit runs");
            return;
        }
        let expected = fs::remove_dir(&self.model).map_err(|error| error.raw_os_error().unwrap());
        assert_eq!(ours(&removed), expected);
        if removed.is_ok() {
            self.open.clear();
            self.staging = self.table.staging().begin(OsStr::new(NAME), 0o755, me()).unwrap();
            fs::create_dir(&self.model).unwrap();
            (self.overwrite, self.txn, self.earlier) = (false, None, None);
        }
    }

    /// The daemon is killed, so many steps into a commit; another one mounts.
    fn crash(&mut self, steps: Option<u32>) {
        let mut staged = None;
        if let Some(Running { mut future, staged: sealed, .. }) = self.running.take() {
            let result = self.go(&mut future, steps.unwrap_or(0));
            (self.was_interrupted, staged) = (true, Some(sealed));
            self.dead.push(Box::new((future, result)));
        } else if let Some(steps) = steps {
            let sealed = self.staged();
            let mut future = self.begin();
            let result = self.go(&mut future, steps);
            (self.was_interrupted, staged) = (true, Some(sealed));
            self.dead.push(Box::new((future, result)));
        }
        // What a system call does is done to its end; nothing else is.
        drop(self.runtime.take());
        self.runtime = Some(runtime());
        for (here, there) in std::mem::take(&mut self.open) {
            let inode = inode(&there);
            if self.written.contains(&inode) {
                self.cut.insert(inode, there);
            }
            self.dead.push(Box::new(here));
        }
        self.written.clear();
        self.dead.push(Box::new((self.staging.clone(), self.table.clone())));
        self.mount_again();
        count(if staged.is_some() { "kills in a commit" } else { "kills between commits" });
        if self.earlier.is_some() {
            self.settled(None);
        } else if let Some(staged) = staged {
            let version = self.follow(Some(&staged));
            if version.is_some() || self.is_unsettled() {
                count("kills after a commit was sent");
            }
            if version.is_some() {
                self.take_away(&staged, true);
            } else if staged.is_gone(self) {
                assert!(self.is_nothing(&staged), "{staged:?} is gone");
                self.take_away(&staged, false);
            } else if staged.data().next().is_none() {
                self.take_away(&staged, false);
            }
            self.adopt(staged);
        }
        self.compare();
        self.check_table();
    }

    fn mount_again(&mut self) {
        let_go(&self.lake.join(format!(".deltafs/t/{NAME}/lock")));
        self.table = table(&self.lake);
        self.block_on(self.table.settled()).unwrap();
        self.staging = self.table.staging().get(OsStr::new(NAME)).expect("it is taken over");
        // A file without a name is nobody's business.
        let is_named = |plain: &std::fs::File| links(plain) > 0;
        self.cut = std::mem::take(&mut self.cut)
            .into_iter()
            .filter(|(_, plain)| is_named(plain))
            .collect::<Inodes>();
    }

    fn is_unsettled(&self) -> bool {
        self.staging.activity.census().unsettled
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime: &Runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(future)
    }
}

fn inode(file: &fs::File) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
}

fn links(file: &fs::File) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap())
}

/// Ends a lock as the death of its process does, though that process is this one.
fn let_go(lock: &Path) {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        if fs::read_link(entry.path()).is_ok_and(|path| path == lock) {
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let same = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).unwrap();
            rustix::fs::flock(&same, FlockOperation::Unlock).unwrap();
        }
    }
}
