//! Everything of one version: what commits, restores and checkpoints are made from.
//!
//! Unlike the interval table it holds whole actions, statistics and tags included, of one version
//! only. It is read by the shortest way, the newest usable checkpoint and the commits after it.
//!
//! Tombstones are all those that the log still has. Whoever writes a checkpoint leaves out those
//! older than `delta.deletedFileRetentionDuration`: only it has a clock.

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::error::{Error, Result};
use crate::log::action::{
    Action, Add, CommitInfo, DeletionVector, DomainMetadata, Metadata, Protocol, Remove, Txn,
};
use crate::log::checkpoint;
use crate::log::commit::{self, Place};
use crate::log::history::{self, COMMIT_BYTES_AT_ONCE, COMMITS_AT_ONCE};
use crate::log::lines;
use crate::log::listing::{self, LogFile, LogFileKind};
use crate::log::outside::{refusal, seen_from};
use crate::log::path::FilePath;
use crate::log::segment::{self, Route, Segments};
use crate::log::version::Version;
use crate::log::{protocol, timestamp};
use crate::store::{Located, Reach, Store};

/// A log that is cleaned up while it is read is read again, so often.
const LOADS_MAX: usize = 3;

/// One version of a table with whole actions.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub version: Version,
    /// As [`VersionFacts`](crate::log::facts::VersionFacts) has it.
    pub commit_time_ms: i64,
    /// What the version's own commit says, where in-commit timestamps are on.
    pub in_commit_timestamp: Option<i64>,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// Live files by decoded path.
    pub adds: BTreeMap<FilePath, Add>,
    /// Live files outside of the table's folder, where the mount allows them; by the one spelling
    /// of their URI.
    pub outside: BTreeMap<String, Add>,
    /// Tombstones by decoded path, or URI, and deletion vector.
    pub removes: BTreeMap<(String, Option<String>), Remove>,
    pub txns: BTreeMap<String, Txn>,
    /// Without the removed ones.
    pub domains: BTreeMap<String, DomainMetadata>,
    /// What the absolute paths of the log mean.
    pub reach: Reach,
}

impl Snapshot {
    /// Every live file, those in the table's folder first.
    pub fn live(&self) -> impl Iterator<Item = &Add> + Clone {
        self.adds.values().chain(self.outside.values())
    }

    /// How many `live` has.
    pub fn live_count(&self) -> usize {
        self.adds.len() + self.outside.len()
    }

    /// Loads a version, or the newest.
    ///
    /// Errors: [`Error::NotFound`] where there is no log, or no such version in it;
    /// [`Error::Damaged`] naming file and version where it can't be rebuilt; [`Error::Unsupported`]
    /// where its features, or files outside the table's folder, keep us from reading it.
    pub async fn load(store: &Store, version: Option<Version>) -> Result<Snapshot> {
        let mut tries_left = LOADS_MAX;
        loop {
            tries_left -= 1;
            let files = listing::list_log(store).await?.files;
            let segments = Segments::new(&files);
            let newest = segments.newest();
            let newest = newest.ok_or_else(|| Error::Damaged("the log is empty".into()))?;
            let version = version.unwrap_or(newest);
            if version > newest {
                let message = format!("there is no version {version}: the newest is {newest}");
                return Err(Error::NotFound(message));
            }
            match load_version(store, &segments, version, tries_left == 0).await {
                // A file went away between the listing and its turn, or came while it was taken.
                Err(Error::NotFound(_)) if tries_left > 0 => {}
                result => return result,
            }
        }
    }
}

/// Tries every way to the version; the first error is the one that tells most. A file that is
/// listed and not there, or there and not listed, is damage on the last try.
async fn load_version(
    store: &Store,
    segments: &Segments,
    version: Version,
    last_try: bool,
) -> Result<Snapshot> {
    let mut first: Option<Error> = None;
    for route in segments.routes(version).chain(segments.detours(version)) {
        let error = match load_route(store, segments, version, route).await {
            Err(Error::NotFound(message)) if last_try => Error::Damaged(message),
            Err(error @ (Error::Damaged(_) | Error::Unsupported(_))) => error,
            result => return result,
        };
        tracing::warn!(%version, %error, "one way to a version is closed");
        first.get_or_insert(error);
    }
    Err(match first {
        Some(error) => error,
        None => match history::gap_before(store, segments, version).await? {
            Error::NotFound(message) if last_try => Error::Damaged(message),
            gap => gap,
        },
    })
}

async fn load_route(
    store: &Store,
    segments: &Segments,
    version: Version,
    route: Route,
) -> Result<Snapshot> {
    let base = route.checkpoint.as_ref().map_or(Version(0), |base| base.version);
    let ends_with_commit = route.commits.last().is_some_and(|f| f.kind == LogFileKind::Commit);
    let mut state = State { reach: store.reach(), ..State::default() };
    if let Some(checkpoint) = &route.checkpoint {
        checkpoint::read_actions(store, checkpoint, |action| state.take(action)).await?;
    }
    let size = |file: &LogFile| file.size;
    for batch in segment::batches(route.commits, COMMITS_AT_ONCE, COMMIT_BYTES_AT_ONCE, size) {
        for actions in join_all(batch.into_iter().map(|file| read_actions(store, file))).await {
            let (file, actions) = actions?;
            state.info = CommitInfo::default();
            for (number, action) in actions {
                state.take(action).map_err(|error| commit::at_line(&file, number, &error))?;
            }
        }
    }
    if !ends_with_commit && let Some(file) = segments.commit_at(version) {
        // Only the commit knows its in-commit timestamp; a checkpoint or compaction has all else,
        // so that a damaged commit is no reason to refuse the version.
        match read_actions(store, file.clone()).await {
            Ok((_, actions)) => state.info = info_of(actions),
            Err(error @ Error::Damaged(_)) => tracing::warn!(%version, %error, "no commitInfo"),
            Err(error) => return Err(error),
        }
    }
    state.into_snapshot(segments, version, base)
}

fn info_of(actions: Lines) -> CommitInfo {
    let mut infos = actions.into_iter().filter_map(|(_, action)| match action {
        Action::CommitInfo(info) => Some(info),
        _ => None,
    });
    infos.next_back().unwrap_or_default()
}

type Lines = Vec<(usize, Action)>;

async fn read_actions(store: &Store, mut file: LogFile) -> Result<(LogFile, Lines)> {
    let mut actions = Vec::new();
    lines::for_each_action(store, &mut file, commit::read_action, |number, action| {
        actions.push((number, action));
        Ok(())
    })
    .await?;
    Ok((file, actions))
}

/// A snapshot in the making (protocol: "Action Reconciliation").
#[derive(Default)]
struct State {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    reach: Reach,
    adds: BTreeMap<FilePath, Add>,
    outside: BTreeMap<String, Add>,
    removes: BTreeMap<(String, Option<String>), Remove>,
    txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, DomainMetadata>,
    info: CommitInfo,
}

impl State {
    fn take(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Add(add) => self.add(add)?,
            Action::Remove(remove) => self.remove(remove)?,
            Action::MetaData(metadata) => self.metadata = Some(metadata),
            Action::Protocol(protocol) => self.protocol = Some(protocol),
            Action::Txn(txn) => drop(self.txns.insert(txn.app_id.clone(), txn)),
            Action::DomainMetadata(domain) if domain.removed => {
                self.domains.remove(&domain.domain);
            }
            Action::DomainMetadata(domain) => {
                self.domains.insert(domain.domain.clone(), domain);
            }
            Action::CommitInfo(info) => self.info = info,
            Action::Cdc(_) => {}
        }
        Ok(())
    }

    fn add(&mut self, add: Add) -> Result<()> {
        commit::file_size(&add.path, add.size)?;
        let place = commit::place_of(&add.path, add.deletion_vector.as_ref())?;
        let place = seen_from(&self.reach, place);
        if !self.removes.is_empty() {
            let path = match &place {
                Place::Inside(path) => path.as_str(),
                Place::Outside(uri) => uri,
            };
            let vector = add.deletion_vector.as_ref().map(DeletionVector::unique_id);
            self.removes.remove(&(path.to_owned(), vector));
        }
        match place {
            Place::Inside(path) => drop(self.adds.insert(path, add)),
            Place::Outside(uri) => drop(self.outside.insert(uri, add)),
        }
        Ok(())
    }

    fn remove(&mut self, remove: Remove) -> Result<()> {
        let vector = remove.deletion_vector.as_ref();
        let is_same = |live: &Add| same(live.deletion_vector.as_ref(), vector);
        let path = match seen_from(&self.reach, commit::place(&remove.path)?) {
            Place::Inside(path) => {
                if self.adds.get(path.as_str()).is_some_and(is_same) {
                    self.adds.remove(path.as_str());
                }
                path.as_str().to_owned()
            }
            Place::Outside(uri) => {
                if self.outside.get(&uri).is_some_and(is_same) {
                    self.outside.remove(&uri);
                }
                uri
            }
        };
        let vector = vector.map(DeletionVector::unique_id);
        self.removes.insert((path, vector), remove);
        Ok(())
    }

    /// A place that a live file needs and that nobody allowed.
    fn beyond(&self) -> Option<String> {
        let is_beyond = |uri: &&String| self.reach.locate(uri) == Located::Beyond;
        self.outside.keys().find(is_beyond).cloned().or_else(|| {
            let live = self.adds.values().chain(self.outside.values());
            let mut vectors = live.filter_map(|add| add.deletion_vector.as_ref());
            vectors.find_map(|vector| vector.beyond(&self.reach))
        })
    }

    fn into_snapshot(
        self,
        segments: &Segments,
        version: Version,
        base: Version,
    ) -> Result<Snapshot> {
        let lacks =
            |what| Error::Damaged(format!("the log has no {what} in versions {base} to {version}"));
        let beyond = self.beyond();
        let protocol = self.protocol.ok_or_else(|| lacks("protocol"))?;
        let metadata = self.metadata.ok_or_else(|| lacks("metaData"))?;
        protocol::check_read(&protocol)?;
        if let Some(place) = beyond {
            return Err(Error::Unsupported(refusal(&place)));
        }
        let in_commit_timestamp = self
            .info
            .in_commit_timestamp
            .filter(|_| timestamp::has_in_commit_timestamps(&metadata));
        let file_time = file_time(segments, version);
        Ok(Snapshot {
            version,
            commit_time_ms: in_commit_timestamp.unwrap_or(file_time),
            in_commit_timestamp,
            protocol,
            metadata,
            adds: self.adds,
            outside: self.outside,
            removes: self.removes,
            txns: self.txns,
            domains: self.domains,
            reach: self.reach,
        })
    }
}

fn same(one: Option<&DeletionVector>, other: Option<&DeletionVector>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The commit file's time, else the checkpoint's, made monotonic over the versions before it as
/// history does. Only where in-commit timestamps were turned off again may history know better.
fn file_time(segments: &Segments, version: Version) -> i64 {
    let steps = segments.steps().into_iter().take_while(|step| step.version <= version);
    let times = steps.map(|step| segments.modified_ms(step.version));
    let time = times.fold(None, |previous, modified_ms| {
        Some(timestamp::commit_time(None, None, modified_ms, previous))
    });
    time.unwrap_or(0)
}

#[cfg(test)]
mod tests;
