//! Commits: the table as it must be, version by version.
//!
//! A version is a set of files, known by their bytes. Each version that appears is another
//! engine's, or one of ours: then it follows from the one before and from what was staged. A commit
//! of which nothing can be wrong must succeed; of which something surely is must be refused; and
//! whatever it says must be so, in the table and in the directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::super::Reference;
use super::super::tests::*;
use super::compare::digest;
use super::count;
use super::operation::BLOBS;
use super::world::{Frozen, World, blob, names_below, ours};
use crate::error::Result;
use crate::log::action::Add;
use crate::table::commit::CommitSummary;
use crate::table::{FilePath, Snapshot, Version};

/// Digests of the files of a version, by path.
pub(super) type Live = BTreeMap<String, u64>;

/// What the table has.
#[derive(Default)]
pub(super) struct History {
    pub versions: Vec<Live>,
    /// Those that another engine made, and the file that each adds.
    pub foreign: BTreeMap<usize, (String, u64)>,
    /// The highest transaction.
    pub txn: Option<i64>,
}

/// What a commit is of.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub files: Vec<Seen>,
    pub overwrite: bool,
    pub txn: Option<i64>,
    /// The version that it brings back.
    pub restores: Option<usize>,
    pub expected: Expected,
}

/// A file of the plain directory.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    path: String,
    inode: u64,
    digest: u64,
    is_data: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Expected {
    Accepted,
    /// With one of these.
    Refused(Vec<i32>),
    Either,
}

impl World {
    /// What is staged, and what must come of it.
    pub(super) fn staged(&self) -> Staged {
        let (mut wrong, mut is_sure) = (Vec::new(), !self.was_interrupted);
        let mut files = Vec::new();
        for path in self.names() {
            let here = self.model.join(&path);
            let metadata = here.metadata().unwrap();
            if !metadata.is_file() {
                continue;
            }
            let content = fs::read(&here).unwrap();
            let name = path.rsplit('/').next().unwrap();
            let is_data = !path.split('/').any(|part| part.starts_with(['_', '.']));
            if name.starts_with('.') && !content.is_empty() {
                wrong.push(Errno::BUSY.raw_os_error());
            }
            if self.cut.contains_key(&metadata.ino()) {
                wrong.push(Errno::IO.raw_os_error());
            }
            // Rows under a name that Delta hides.
            if !is_data && content.starts_with(b"PAR1") {
                wrong.push(Errno::INVAL.raw_os_error());
            }
            if is_data && !(content.starts_with(b"PAR1") && content.ends_with(b"PAR1")) {
                wrong.push(Errno::INVAL.raw_os_error());
            } else if is_data {
                let is_whole = (0..BLOBS).any(|number| blob(number) == content);
                is_sure &= is_whole && !self.collides(&path);
            }
            let (inode, digest) = (metadata.ino(), digest(&content));
            files.push(Seen { path, inode, digest, is_data });
        }
        if self.open.iter().any(|(_, plain)| plain.metadata().unwrap().nlink() > 0) {
            wrong.push(Errno::BUSY.raw_os_error());
        } else if self.open.iter().any(|(file, _)| file.stat().unwrap().nlink > 0) {
            // It has a name in the table alone, which a commit that was stopped gave it.
            is_sure = false;
            wrong.clear();
        }
        if self.was_interrupted && !wrong.is_empty() {
            // Of a file that was written to when the daemon died, that may be told instead.
            wrong.push(Errno::IO.raw_os_error());
        }
        let expected = match (wrong.is_empty(), is_sure) {
            (false, _) => Expected::Refused(wrong),
            (true, true) => Expected::Accepted,
            (true, false) => Expected::Either,
        };
        Staged { files, overwrite: self.overwrite, txn: self.txn, restores: None, expected }
    }

    /// All names of the plain directory, sorted.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names_below(&self.model, Path::new(""), &mut names);
        names.sort();
        names
    }

    /// Whether a file of the table is where a folder would have to be, or the other way round.
    fn collides(&self, path: &str) -> bool {
        let root = self.lake.join("t");
        let above = path.match_indices('/').any(|(at, _)| root.join(&path[..at]).is_file());
        above || root.join(path).is_dir()
    }

    /// Files of `staged` that are still there under their names, and the directories above them;
    /// or all directories, where the seal is a new one.
    pub(super) fn freeze(&mut self, staged: &Staged, is_new: bool) {
        let mut frozen = Frozen::default();
        for file in staged.files.iter().filter(|file| self.is_still_there(file)) {
            frozen.files.insert(file.inode, File::open(self.model.join(&file.path)).unwrap());
            let above = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            for folder in above.map(|above| File::open(self.model.join(above)).unwrap()) {
                frozen.directories.insert(folder.metadata().unwrap().ino(), folder);
            }
        }
        for path in self.names().iter().map(|name| self.model.join(name)) {
            if is_new && path.is_dir() {
                let folder = File::open(path).unwrap();
                frozen.directories.insert(folder.metadata().unwrap().ino(), folder);
            }
        }
        self.frozen = frozen;
    }

    fn is_still_there(&self, file: &Seen) -> bool {
        let now = fs::symlink_metadata(self.model.join(&file.path));
        now.is_ok_and(|now| now.ino() == file.inode)
    }

    /// A commit has ended: it must have been as it says.
    pub(super) fn ended(&mut self, staged: &Staged, result: &Result<CommitSummary>) {
        let version = self.follow(Some(staged));
        match (result, &staged.expected) {
            (Ok(summary), Expected::Accepted | Expected::Either) => {
                assert_eq!(summary.version.map(|version| version.0 as usize), version);
                assert!(version.is_some() || self.is_nothing(staged), "{staged:?}: {summary:?}");
                self.take_away(staged, version.is_some());
                let is_new = version.is_some();
                count(if is_new { "commits" } else { "commits of nothing new" });
            }
            (Err(error), Expected::Refused(allowed)) => {
                assert_eq!(version, None, "{error}");
                let code = ours(result).unwrap_err();
                assert!(allowed.contains(&code), "{error}, and not {allowed:?}");
                count("commits refused");
            }
            (Err(error), Expected::Either) => assert_eq!(version, None, "{error}"),
            (_, expected) => panic!("{expected:?}, and it was {result:?}"),
        }
    }

    /// Whether the newest version has all of it, or its transaction.
    pub(super) fn is_nothing(&self, staged: &Staged) -> bool {
        let last = self.history.versions.last().cloned().unwrap_or_default();
        self.is_written(staged) || staged.is_in(&last)
    }

    fn is_written(&self, staged: &Staged) -> bool {
        staged.txn.is_some() && staged.txn <= self.history.txn
    }

    /// What was committed, or was in the table already, is no longer staged; nor is what was left
    /// out beside it. Directories that hold nothing went as well, as far as they did.
    pub(super) fn take_away(&mut self, staged: &Staged, is_commit: bool) {
        if staged.data().next().is_some() || is_commit {
            for file in staged.files.iter().filter(|file| self.is_still_there(file)) {
                fs::remove_file(self.model.join(&file.path)).unwrap();
            }
        }
        // Those within before those around; it fails where there is something.
        for name in self.names().iter().rev() {
            if at(&self.staging, name).is_err() {
                let _ = fs::remove_dir(self.model.join(name));
            }
        }
        let is_found = staged.data().next().is_some() && self.is_written(staged);
        let is_set_since = (self.overwrite, self.txn) != (staged.overwrite, staged.txn);
        if (is_commit || is_found) && !is_set_since {
            self.txn = None;
        }
    }

    /// Whether a directory holds no file, however deep.
    pub(super) fn has_empty_directory(&self) -> bool {
        let names = self.names();
        let is_leaf = |name: &&String| {
            self.model.join(name).is_dir()
                && !names.iter().any(|n| n.starts_with(&format!("{name}/")))
        };
        names.iter().any(|name| is_leaf(&name))
    }

    /// Takes in the versions that there are now. The one that is ours, if one is.
    pub(super) fn follow(&mut self, staged: Option<&Staged>) -> Option<usize> {
        self.follow_to(usize::MAX, staged)
    }

    /// As `follow`, for the versions below one.
    pub(super) fn follow_to(&mut self, end: usize, staged: Option<&Staged>) -> Option<usize> {
        let mut found = None;
        for version in self.history.versions.len()..end {
            if !self.log_entry(version).exists() {
                break;
            }
            let now = self.live_in(version);
            let before = self.history.versions.last().cloned().unwrap_or_default();
            if let Some((path, digest)) = self.history.foreign.get(&version) {
                let mut expected = before;
                expected.insert(path.clone(), *digest);
                assert_eq!(now, expected, "version {version}, another engine's");
            } else {
                let staged = staged.filter(|_| found.is_none());
                let staged = staged.unwrap_or_else(|| panic!("version {version} is nobody's"));
                let wrong = staged.wrong_in(&before, &now, &self.history);
                assert_eq!(wrong, None, "version {version}: {staged:?} {before:?} {now:?}");
                self.history.txn = self.history.txn.max(staged.txn);
                found = Some(version);
            }
            self.history.versions.push(now);
        }
        found
    }

    pub(super) fn log_entry(&self, version: usize) -> PathBuf {
        self.lake.join(format!("t/_delta_log/{version:020}.json"))
    }

    /// What a version has, as the log and the disk say.
    pub(super) fn live_in(&self, version: usize) -> Live {
        let load = Snapshot::load(self.table.store(), Some(Version(version as u64)));
        let snapshot = self.block_on(load).unwrap();
        let file = |(path, add): (&FilePath, &Add)| {
            let content = fs::read(self.lake.join("t").join(path.as_str())).unwrap();
            assert_eq!(content.len() as i64, add.size, "{path}");
            (path.as_str().to_owned(), digest(&content))
        };
        snapshot.adds.iter().map(file).collect()
    }

    /// Files of a version never change, whatever is done to what they were made of.
    pub(super) fn check_table(&self) {
        if let Some(last) = self.history.versions.last() {
            assert_eq!(self.live_in(self.history.versions.len() - 1), *last, "the newest version");
        }
    }

    /// A file of the newest version, as a link from it would find it.
    pub(super) fn reference(&self, which: usize) -> Option<(Reference, File)> {
        let live = self.history.versions.last().filter(|live| !live.is_empty())?;
        let path = live.keys().nth(which % live.len()).unwrap().clone();
        Some(self.reference_to(&path))
    }

    pub(super) fn reference_to(&self, path: &str) -> (Reference, File) {
        let source = File::open(self.lake.join("t").join(path)).unwrap();
        let size = source.metadata().unwrap().len();
        (Reference { path: path.into(), size, modified_ms: 1_700_000_000_123 }, source)
    }
}

impl Staged {
    pub(super) fn data(&self) -> impl Iterator<Item = &Seen> {
        self.files.iter().filter(|file| file.is_data)
    }

    /// Without the files that are no longer there.
    pub(super) fn still_there(&self, world: &World) -> Staged {
        let mut staged = self.clone();
        staged.files.retain(|file| world.is_still_there(file));
        staged
    }

    /// Whether none of the files is staged any more that the plain directory still has.
    pub(super) fn is_gone(&self, world: &World) -> bool {
        let is_gone = |file: &Seen| at(&world.staging, &file.path).is_err();
        let there = self.still_there(world).files;
        self.data().next().is_some() && !there.is_empty() && there.iter().all(is_gone)
    }

    /// Whether a version has all of it, so that there is nothing to commit.
    fn is_in(&self, live: &Live) -> bool {
        match self.restores {
            Some(_) => true,
            None => self.data().all(|file| live.get(&file.path) == Some(&file.digest)),
        }
    }

    /// Why the version `now` is not what this makes of the version before it.
    pub(super) fn wrong_in(&self, before: &Live, now: &Live, history: &History) -> Option<String> {
        if let Some(version) = self.restores {
            // A file that shares its bytes with another name is copied, under a name of its own.
            let is_so = contents(now) == contents(&history.versions[version]);
            return (!is_so).then(|| format!("it is not as version {version}"));
        }
        let mut expected: Vec<u64> = Vec::new();
        if !self.overwrite || self.data().next().is_none() {
            let is_kept = |(path, digest)| now.get(path) == Some(digest);
            if !before.iter().all(is_kept) {
                return Some("an append changed what was there".into());
            }
            expected.extend(before.values());
        }
        // A file that is live under its own name is in the table already.
        let is_new = |file: &&Seen| self.overwrite || before.get(&file.path) != Some(&file.digest);
        expected.extend(self.data().filter(is_new).map(|file| file.digest));
        expected.sort_unstable();
        let found = contents(now);
        (found != expected).then(|| format!("it has {found:x?} and not {expected:x?}"))
    }
}

pub(super) fn contents(live: &Live) -> Vec<u64> {
    let mut contents: Vec<u64> = live.values().copied().collect();
    contents.sort_unstable();
    contents
}
