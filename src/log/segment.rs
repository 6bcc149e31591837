//! Which log files rebuild which versions, told from their names alone.
//!
//! A version can be rebuilt from version 0's commit or a checkpoint by every commit after it. This
//! module only plans: whether the files hold what their names promise, the reader finds out.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::listing::{LogFile, LogFileKind};
use crate::log::version::Version;

/// The commits and complete checkpoints of a log.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    commits: BTreeMap<Version, LogFile>,
    checkpoints: BTreeMap<Version, Vec<Checkpoint>>,
    /// Compacted commits by the last version that they hold.
    compactions: BTreeMap<Version, Vec<LogFile>>,
}

/// One version on the way up through a log.
#[derive(Clone, Debug)]
pub struct Step {
    pub version: Version,
    pub commit: Option<LogFile>,
}

/// One way to a version: a base, and the commits after it. Without a checkpoint the base is empty
/// and the commits start at version 0. One of the commits may be a range of them, compacted.
#[derive(Clone, Debug)]
pub struct Route {
    pub checkpoint: Option<Checkpoint>,
    pub commits: Vec<LogFile>,
}

impl Segments {
    /// Sorts a log's files.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a LogFile>) -> Segments {
        let files: Vec<LogFile> = files.into_iter().cloned().collect();
        let checkpoints = checkpoint::complete(&files);
        let mut segments = Segments { checkpoints, ..Segments::default() };
        for file in files {
            match file.kind {
                LogFileKind::Commit => drop(segments.commits.insert(file.version, file)),
                LogFileKind::Compacted { to } => {
                    segments.compactions.entry(to).or_default().push(file);
                }
                _ => {}
            }
        }
        segments
    }

    /// The newest version that the log speaks of, rebuildable or not.
    pub fn newest(&self) -> Option<Version> {
        let commit = self.commits.last_key_value().map(|(version, _)| *version);
        let checkpoint = self.checkpoints.last_key_value().map(|(version, _)| *version);
        commit.max(checkpoint)
    }

    /// The checkpoints of a version, in the order in which to try them.
    pub fn checkpoints_at(&self, version: Version) -> &[Checkpoint] {
        self.checkpoints.get(&version).map_or(&[], Vec::as_slice)
    }

    /// The newest checkpoint up to a version.
    pub fn checkpoint_up_to(&self, version: Version) -> Option<Version> {
        self.checkpoints.range(..=version).next_back().map(|(version, _)| *version)
    }

    /// The first checkpoint after a version.
    pub fn checkpoint_after(&self, version: Version) -> Option<Version> {
        self.checkpoints.range(version.next()..).next().map(|(version, _)| *version)
    }

    /// The compacted commits that end at a version and begin no later than `next`: who has the
    /// version before `next` needs no more. A commit that is in them twice changes nothing.
    pub fn compactions_to(
        &self,
        version: Version,
        next: Version,
    ) -> impl Iterator<Item = &LogFile> {
        let ending = self.compactions.get(&version).into_iter().flatten();
        ending.filter(move |file| file.version <= next && next <= version)
    }

    /// The commit file of a version.
    pub fn commit_at(&self, version: Version) -> Option<&LogFile> {
        self.commits.get(&version)
    }

    /// Every version that can be rebuilt if no file is damaged, ascending. A version's commit comes
    /// along even where only its checkpoint is needed, as it tells who made the version and when.
    pub fn steps(&self) -> Vec<Step> {
        // A compaction beyond all commits is of versions that nobody has committed.
        let newest = self.newest().unwrap_or_default();
        let compacted = self.compactions.range(..=newest).map(|(to, _)| to);
        let versions: BTreeSet<Version> =
            self.commits.keys().chain(self.checkpoints.keys()).chain(compacted).copied().collect();
        let mut steps: Vec<Step> = Vec::new();
        for version in versions {
            let commit = self.commits.get(&version);
            let before = steps.last().map(|step| step.version.next());
            let next = before.unwrap_or(Version(0));
            let follows = next == version && commit.is_some();
            if follows
                || self.checkpoints.contains_key(&version)
                || self.compactions_to(version, next).next().is_some()
            {
                steps.push(Step { version, commit: commit.cloned() });
            }
        }
        steps
    }

    /// Every way to a version, the one with the fewest commits first; checkpoints before commits
    /// from version 0. Empty where none leads there. Each is put together when it is asked for, as
    /// nearly always the first one will do.
    pub fn routes(&self, version: Version) -> impl Iterator<Item = Route> + '_ {
        // The commits without a gap before them, newest first.
        let mut from = version.next();
        while let Some(before) = from.previous()
            && self.commits.contains_key(&before)
        {
            from = before;
        }
        // Never after `version`, so that the range below can't panic.
        let earliest_base = from.previous().unwrap_or(Version(0));
        let bases = self.checkpoints.range(earliest_base..=version).rev();
        let checkpoints = bases.flat_map(|(_, checkpoints)| checkpoints).cloned().map(Some);
        let none = (from == Version(0)).then_some(None);
        checkpoints.chain(none).map(move |checkpoint| {
            let first = checkpoint.as_ref().map_or(Version(0), |base| base.version.next());
            // Not `first..=version`, which would panic where the checkpoint is the version's own.
            let commits = self.commits.range(first..).take_while(|(at, _)| **at <= version);
            let commits = commits.map(|(_, file)| file.clone()).collect();
            Route { checkpoint, commits }
        })
    }

    /// The ways to a version that take compacted commits in the place of single ones, for where
    /// one of these is missing or damaged.
    pub fn detours(&self, version: Version) -> impl Iterator<Item = Route> + '_ {
        let bases = self.checkpoints.range(..=version).rev();
        let checkpoints = bases.flat_map(|(_, checkpoints)| checkpoints).cloned().map(Some);
        checkpoints.chain([None]).filter_map(move |checkpoint| self.detour(checkpoint, version))
    }

    fn detour(&self, checkpoint: Option<Checkpoint>, version: Version) -> Option<Route> {
        let mut next = checkpoint.as_ref().map_or(Version(0), |base| base.version.next());
        let (mut commits, mut is_one) = (Vec::new(), false);
        while next <= version {
            let ends = self.compactions.range(next..=version).rev().map(|(to, _)| *to);
            let mut longest =
                ends.filter_map(|to| Some((to, self.compactions_to(to, next).next()?)));
            let (to, file) = match longest.next() {
                Some(found) => found,
                None => (next, self.commits.get(&next)?),
            };
            is_one |= file.kind != LogFileKind::Commit;
            commits.push(file.clone());
            next = to.next();
        }
        is_one.then_some(Route { checkpoint, commits })
    }

    /// When a version was put down, by its commit's file or what stands in for it.
    pub fn modified_ms(&self, version: Version) -> i64 {
        let checkpoints = self.checkpoints_at(version).first().map(Checkpoint::modified_ms);
        let compacted = || self.compactions.get(&version).and_then(|files| files.first());
        match self.commits.get(&version) {
            Some(commit) => commit.modified_ms,
            None => checkpoints
                .unwrap_or_else(|| compacted().map_or(0, |compacted| compacted.modified_ms)),
        }
    }

    /// The newest version up to this one without a commit: where there is a gap, its end.
    pub fn missing_before(&self, version: Version) -> Version {
        let mut missing = version;
        while self.commits.contains_key(&missing) {
            let Some(before) = missing.previous() else { break };
            missing = before;
        }
        missing
    }

    /// Says why a version can't be rebuilt though every file that is there could be read.
    pub fn gap_before(&self, version: Version) -> Error {
        let missing = self.missing_before(version);
        Error::Damaged(format!(
            "version {version} can't be rebuilt: commit {missing} is missing from the log and no \
             complete checkpoint of version {missing} or later stands in for it"
        ))
    }
}

/// Splits files into runs that are read at a time, in order: as many as `files_max`, and no more
/// bytes than `bytes_max` unless a file alone has them.
pub(super) fn batches<T>(
    items: Vec<T>,
    files_max: usize,
    bytes_max: u64,
    bytes: impl Fn(&T) -> u64,
) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut sum: u64 = 0;
    for item in items {
        let size = bytes(&item);
        match batches.last_mut() {
            Some(batch) if batch.len() < files_max && sum.saturating_add(size) <= bytes_max => {
                sum = sum.saturating_add(size);
                batch.push(item);
            }
            Some(_) | None => {
                sum = size;
                batches.push(vec![item]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::listing::parse_name;

    fn segments(names: &[&str]) -> Segments {
        let files: Vec<LogFile> = names
            .iter()
            .map(|name| {
                let (number, rest) = name.split_once('.').unwrap();
                let name = format!("{number:0>20}.{rest}");
                let (version, kind) = parse_name(&name).unwrap();
                LogFile { name, kind, version, size: 1, modified_ms: 1 }
            })
            .collect();
        Segments::new(&files)
    }

    fn steps(names: &[&str]) -> Vec<u64> {
        segments(names).steps().iter().map(|step| step.version.0).collect()
    }

    #[test]
    fn versions_up_to_a_gap_and_from_a_later_checkpoint_can_be_rebuilt() {
        assert_eq!(steps(&["0.json", "1.json", "2.json"]), [0, 1, 2]);
        assert_eq!(steps(&["0.json", "2.json"]), [0]);
        assert_eq!(steps(&["1.json", "2.json"]), [0u64; 0]);
        assert_eq!(steps(&["2.json", "3.checkpoint.parquet", "4.json"]), [3, 4]);
        assert_eq!(steps(&["0.json", "2.json", "3.checkpoint.parquet", "4.json"]), [0, 3, 4]);
        assert_eq!(steps(&["0.json", "1.checkpoint.parquet", "2.json", "4.json"]), [0, 1, 2]);
    }

    #[test]
    fn routes_try_the_newest_checkpoint_first_and_version_zero_last() {
        let all = segments(&[
            "0.json",
            "1.json",
            "1.checkpoint.parquet",
            "2.json",
            "2.checkpoint.parquet",
            "3.json",
        ]);
        let bases = |version| -> Vec<(Option<u64>, usize)> {
            let routes = all.routes(Version(version));
            let base = |route: &Route| route.checkpoint.as_ref().map(|base| base.version.0);
            routes.map(|route| (base(&route), route.commits.len())).collect()
        };
        assert_eq!(bases(3), [(Some(2), 1), (Some(1), 2), (None, 4)]);
        assert_eq!(bases(1), [(Some(1), 0), (None, 2)]);
        assert_eq!(bases(0), [(None, 1)]);
        assert!(segments(&["0.json", "2.json"]).routes(Version(2)).next().is_none());
        assert!(segments(&["0.json", "2.json"]).routes(Version(1)).next().is_none());
    }

    #[test]
    fn compacted_commits_lead_around_a_gap() {
        let compacted = "1.00000000000000000003.compacted.json";
        assert_eq!(steps(&["0.json", "1.json", compacted, "3.json", "4.json"]), [0, 1, 3, 4]);
        assert_eq!(steps(&["0.json", compacted, "4.json"]), [0, 3, 4]);
        // It begins too late, or ends where nobody ever committed.
        assert_eq!(steps(&[compacted, "3.json"]), [0u64; 0]);
        assert_eq!(steps(&["0.json", compacted]), [0]);
        let log = segments(&["0.json", "1.json", compacted, "3.json", "4.json"]);
        assert!(log.routes(Version(4)).next().is_none());
        let names = |version| -> Vec<Vec<String>> {
            let detours = log.detours(Version(version));
            let names = |route: Route| route.commits.into_iter().map(|file| file.name[17..].into());
            detours.map(|route| names(route).collect()).collect()
        };
        let way = ["000.json", &format!("00{compacted}"), "004.json"];
        assert_eq!(names(4), [way]);
        assert_eq!(names(1), [[""; 0]; 0]);
        assert_eq!(names(2), [[""; 0]; 0]);
    }

    #[test]
    fn a_batch_ends_at_either_bound_and_a_large_file_stands_alone() {
        let sizes = vec![1, 1, 1, 9, 50, 1, 5, 5, 1];
        let found = batches(sizes, 3, 10, |size| *size);
        assert_eq!(found, [vec![1, 1, 1], vec![9], vec![50], vec![1, 5], vec![5, 1]]);
        assert!(batches(Vec::new(), 3, 10, |size| *size).is_empty());
    }

    #[test]
    fn a_gap_is_told_by_the_missing_version() {
        let message = segments(&["0.json", "2.json", "3.json"]).gap_before(Version(3)).to_string();
        assert!(message.contains("commit 1 is missing"), "{message}");
        let message = segments(&["5.json", "6.json"]).gap_before(Version(6)).to_string();
        assert!(message.contains("commit 4 is missing"), "{message}");
    }
}
