//! Checkpoints: the whole state of one version in Parquet (protocol: "Checkpoints").
//!
//! `read` brings Parquet batches from the store, `column` takes columns out of them without
//! trusting their types, `state` and `actions` turn rows into what the interval table and what a
//! snapshot needs. All of V1 (one file, or parts) and V2 (top level with sidecars) is one list of
//! files to read; only a V2 top level may be JSON.

mod actions;
pub(super) mod column;
mod page;
mod parsed;
mod read;
mod source;
mod state;
pub mod write;

use std::collections::BTreeMap;

#[cfg(test)]
pub(super) use actions::deletion_vector;

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::log::action::{Action, Metadata, Protocol};
use crate::log::commit::{self, CommitContent};
use crate::log::listing::{LogFile, LogFileKind, SIDECAR_DIRECTORY, log_path};
use crate::log::path::FilePath;
use crate::log::version::Version;
use crate::store::Store;

/// Files of one checkpoint that are read at a time.
const FILES_AT_ONCE: usize = 4;

/// A checkpoint all of whose files were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The version whose state it is.
    pub version: Version,
    /// One file, or all parts in order.
    pub files: Vec<LogFile>,
}

impl Checkpoint {
    /// When it was written, in milliseconds since the epoch.
    pub fn modified_ms(&self) -> i64 {
        self.files.iter().map(|file| file.modified_ms).max().unwrap_or(0)
    }
}

/// The complete checkpoints of a log, those of one version in the order in which to try them:
/// single files, then multi-part ones with the fewest parts, then V2 ones.
pub fn complete(files: &[LogFile]) -> BTreeMap<Version, Vec<Checkpoint>> {
    let mut found: BTreeMap<Version, Vec<Checkpoint>> = BTreeMap::new();
    let mut parts_of: BTreeMap<(Version, u32), BTreeMap<u32, LogFile>> = BTreeMap::new();
    let mut second: Vec<Checkpoint> = Vec::new();
    for file in files {
        let single = Checkpoint { version: file.version, files: vec![file.clone()] };
        match file.kind {
            LogFileKind::Checkpoint => found.entry(file.version).or_default().push(single),
            LogFileKind::CheckpointUuid { .. } => second.push(single),
            LogFileKind::CheckpointPart { part, parts } => {
                let held = parts_of.entry((file.version, parts)).or_default();
                held.insert(part, file.clone());
            }
            LogFileKind::Commit
            | LogFileKind::Compacted { .. }
            | LogFileKind::Checksum
            | LogFileKind::Sidecar => {}
        }
    }
    for ((version, parts), held) in parts_of {
        // Part numbers are within 1..=parts, so as many as there are is all of them.
        if u32::try_from(held.len()) == Ok(parts) {
            let files = held.into_values().collect();
            found.entry(version).or_default().push(Checkpoint { version, files });
        }
    }
    for checkpoint in second {
        found.entry(checkpoint.version).or_default().push(checkpoint);
    }
    found
}

/// Reads what the interval table needs of a checkpoint: no statistics, no tombstones.
///
/// Errors: [`Error::Damaged`] naming the file and version where it can't be read or its columns
/// aren't the protocol's; else the store's.
pub(super) async fn read_state(store: &Store, checkpoint: &Checkpoint) -> Result<CommitContent> {
    let budget = read::DecodeBudget::default();
    let mut all = CommitContent::default();
    let mut parts = read_files(checkpoint.files.clone(), |file| state::read(store, file, &budget));
    while let Some(part) = parts.try_next().await? {
        all.append(part);
    }
    drop(parts);
    let sidecars = sidecar_files(checkpoint, &std::mem::take(&mut all.sidecars))?;
    let mut parts = read_files(sidecars, |file| state::read(store, file, &budget));
    while let Some(part) = parts.try_next().await? {
        all.append(part);
    }
    Ok(all)
}

/// Reads the protocol and metadata that a checkpoint has, in its own spelling. Errors: as
/// [`read_state`].
pub async fn read_rules(
    store: &Store,
    checkpoint: &Checkpoint,
) -> Result<(Option<Protocol>, Option<Metadata>)> {
    let mut all = CommitContent::default();
    for file in &checkpoint.files {
        all.append(state::read_rules(store, file).await?);
    }
    Ok((all.protocol, all.metadata))
}

/// Gives every action of a checkpoint, statistics and tombstones included, to `take`: whole actions
/// are large, so they are never held twice. Errors: as [`read_state`], and those of `take`.
pub(super) async fn read_actions(
    store: &Store,
    checkpoint: &Checkpoint,
    mut take: impl FnMut(Action) -> Result<()>,
) -> Result<()> {
    let mut sidecars = Vec::new();
    for file in &checkpoint.files {
        sidecars.extend(actions::read(store, file, &mut take).await?);
    }
    for file in sidecar_files(checkpoint, &sidecars)? {
        actions::read(store, &file, &mut take).await?;
    }
    Ok(())
}

/// The names within `_sidecars` that a checkpoint's file refers to; none for other log files.
pub(super) async fn sidecar_names(store: &Store, file: &LogFile) -> Result<Vec<String>> {
    match file.kind {
        LogFileKind::Checkpoint | LogFileKind::CheckpointUuid { .. } => {
            state::read_sidecar_names(store, file).await
        }
        LogFileKind::Commit
        | LogFileKind::CheckpointPart { .. }
        | LogFileKind::Compacted { .. }
        | LogFileKind::Checksum
        | LogFileKind::Sidecar => Ok(Vec::new()),
    }
}

/// Reads files concurrently and yields them in order.
fn read_files<'a, T, F>(
    files: Vec<LogFile>,
    read: impl Fn(LogFile) -> F + 'a,
) -> impl stream::Stream<Item = Result<T>> + Unpin + 'a
where
    F: Future<Output = Result<T>> + 'a,
    T: 'a,
{
    Box::pin(stream::iter(files).map(read).buffered(FILES_AT_ONCE))
}

/// The sidecars as log files. Their sizes are not the checkpoint's word: the reader asks the store.
fn sidecar_files(checkpoint: &Checkpoint, names: &[String]) -> Result<Vec<LogFile>> {
    let mut files = Vec::with_capacity(names.len());
    for path in names {
        let name = sidecar_name(path).ok_or_else(|| {
            Error::Damaged(format!(
                "checkpoint of version {} refers to a sidecar {path:?}, which is no file name",
                checkpoint.version
            ))
        })?;
        files.push(LogFile {
            name: format!("{SIDECAR_DIRECTORY}/{name}"),
            kind: LogFileKind::Sidecar,
            version: checkpoint.version,
            size: 0,
            modified_ms: 0,
        });
    }
    Ok(files)
}

/// The bare name in a sidecar's path. Some writers put the folder before it, and the protocol has
/// all sidecars in one folder.
fn sidecar_name(path: &str) -> Option<String> {
    let name = FilePath::from_log(path.rsplit('/').next()?).ok()?;
    Some(name.as_str().to_owned())
}

/// Bytes of a file: as listed, or as the store says for a sidecar.
async fn file_bytes(store: &Store, file: &LogFile) -> Result<u64> {
    if file.kind != LogFileKind::Sidecar {
        return Ok(file.size);
    }
    match store.head(&log_path(&file.name)).await? {
        Some(entry) => Ok(entry.size),
        None => Err(Error::Damaged(format!(
            "sidecar {} of the checkpoint of version {} is missing",
            file.name, file.version
        ))),
    }
}

/// Whether a file of a checkpoint is JSON lines.
fn is_json(file: &LogFile) -> bool {
    matches!(file.kind, LogFileKind::CheckpointUuid { json: true, .. })
}

/// Puts file and version before what is wrong with a checkpoint's file.
fn in_file(file: &LogFile, error: Error) -> Error {
    let error = match error {
        Error::Damaged(message) => Error::Damaged(commit::shortened(message)),
        error => error,
    };
    error.during(&format!("{} (version {})", file.name, file.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::listing::parse_name;

    fn files(names: &[&str]) -> Vec<LogFile> {
        let file = |name: &&str| {
            let (version, kind) = parse_name(name).unwrap();
            LogFile { name: (*name).to_owned(), kind, version, size: 1, modified_ms: 1 }
        };
        names.iter().map(file).collect()
    }

    #[test]
    fn only_checkpoints_with_all_their_parts_count() {
        let found = complete(&files(&[
            "00000000000000000001.checkpoint.0000000001.0000000002.parquet",
            "00000000000000000002.checkpoint.0000000001.0000000002.parquet",
            "00000000000000000002.checkpoint.0000000002.0000000002.parquet",
            "00000000000000000002.checkpoint.0000000001.0000000003.parquet",
            "00000000000000000003.checkpoint.956ea395-e95c-4292-a67e-37b8b282af28.parquet",
            "00000000000000000003.checkpoint.parquet",
            "00000000000000000003.json",
        ]));
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [Version(2), Version(3)]);
        assert_eq!(found[&Version(2)].len(), 1);
        assert_eq!(found[&Version(2)][0].files.len(), 2);
        assert_eq!(found[&Version(3)].len(), 2);
        assert_eq!(found[&Version(3)][0].files[0].kind, LogFileKind::Checkpoint);
    }

    #[test]
    fn a_sidecar_is_one_name_in_one_folder() {
        assert_eq!(sidecar_name("a.parquet").as_deref(), Some("a.parquet"));
        assert_eq!(sidecar_name("file:/t/_delta_log/_sidecars/a%20b").as_deref(), Some("a b"));
        assert_eq!(sidecar_name(".."), None);
        assert_eq!(sidecar_name("a%2F..%2F..%2Fb"), None);
        assert_eq!(sidecar_name(""), None);
    }
}
