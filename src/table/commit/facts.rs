//! Asks the table and the store about the names that staged files would have.
//!
//! A name may be free, or taken by the same bytes, by other bytes, or by a file that this very
//! commit published a moment ago. Bytes are compared, not times or sizes alone: a restore must
//! notice a damaged original, and an append must not take another file for its own. Equal bytes
//! that another name can reach are told apart: they stay equal only until somebody writes there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::examine;
use super::manifest::StagedFile;
use super::plan::{PathFacts, Presence};
use super::publish::Publications;
use crate::error::{Error, Result};
use crate::log::history::{Era, Names};
use crate::store::{Entry, Store};
use crate::table::staging::Content;
use crate::table::{FilePath, Progress, Table, Version};

/// Store calls, or comparisons, at once.
const AT_ONCE: usize = 16;
/// From so many names in one folder on, the folder is listed instead.
const NAMES_LOOKED_AT: usize = 32;
/// How much of two files is compared at a time.
const COMPARE_BYTES: usize = 1 << 20;

/// What the store has under some names; folders with many of them are listed once.
pub async fn look(store: &Store, paths: &BTreeSet<&FilePath>) -> Result<BTreeMap<FilePath, Entry>> {
    let mut folders: BTreeMap<&str, Vec<&FilePath>> = BTreeMap::new();
    for path in paths {
        let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().push(path);
    }
    // Boxed and collected: else the compiler can't prove the whole commit to be Send.
    let looks: Vec<BoxFuture<'_, _>> =
        folders.into_iter().map(|(folder, paths)| look_in(store, folder, paths).boxed()).collect();
    let found: Vec<Vec<(FilePath, Entry)>> =
        stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn look_in(
    store: &Store,
    folder: &str,
    paths: Vec<&FilePath>,
) -> Result<Vec<(FilePath, Entry)>> {
    let mut found = Vec::new();
    if paths.len() <= NAMES_LOOKED_AT {
        for path in paths {
            found.extend(store.head(path.as_str()).await?.map(|entry| (path.clone(), entry)));
        }
        return Ok(found);
    }
    let listed: HashMap<String, Entry> = store
        .list(folder)
        .await?
        .files
        .into_iter()
        .map(|entry| (entry.path.clone(), entry))
        .collect();
    found.extend(
        paths.into_iter().filter_map(|path| {
            listed.get(path.as_str()).map(|entry| (path.clone(), entry.clone()))
        }),
    );
    Ok(found)
}

/// What the store has under the staged files' own names. `publications`: those of this commit.
pub async fn gather(
    store: &Store,
    files: &[StagedFile],
    publications: &Publications,
    progress: &Progress,
) -> Result<Vec<Presence>> {
    let paths = files.iter().map(|file| &file.path).collect();
    let entries = look(store, &paths).await?;
    let is_ours = |file: &StagedFile| publications.ours.get(&file.path) == Some(&file.path);
    let compared = files.iter().filter(|file| entries.contains_key(&file.path) && !is_ours(file));
    let sizes: Vec<u64> = compared.map(|file| file.entry.size).collect();
    if !sizes.is_empty() {
        let doing = "compares with the table's files";
        progress.count(doing, sizes.len() as u64, sizes.iter().sum());
    }
    let look = async |file: &StagedFile| match entries.get(&file.path) {
        None if publications.is_refused(&file.path) => Ok(Presence::Other),
        None => Ok(Presence::Absent),
        Some(_) if is_ours(file) => Ok(Presence::Ours),
        Some(entry) => {
            let presence = compare(store, file, entry.size).await;
            progress.advance(1, file.entry.size);
            presence
        }
    };
    let compare: Vec<BoxFuture<'_, _>> = files.iter().map(|file| look(file).boxed()).collect();
    stream::iter(compare).buffered(AT_ONCE).try_collect().await
}

/// What the log says of names.
pub struct Known<'a> {
    newest: Version,
    /// Has the newest version.
    era: &'a Era,
    /// Of the versions that the era doesn't have.
    names: Option<&'a Names>,
}

/// Gives `answer` what the log says of names.
pub async fn known<T>(
    table: &Arc<Table>,
    newest: Version,
    answer: impl FnOnce(&Known<'_>) -> T,
) -> Result<T> {
    let files = table.files(newest).await?;
    let names = table.names(&files, newest).await?;
    Ok(files.read(|era| match &names {
        Some(names) => names.read(|names| answer(&Known { newest, era, names: Some(names) })),
        None => answer(&Known { newest, era, names: None }),
    }))
}

/// What the table's versions say of the staged files' names. Pure.
pub fn facts(
    known: Option<&Known<'_>>,
    files: &[StagedFile],
    presence: &[Presence],
    ours: &BTreeMap<FilePath, FilePath>,
) -> Vec<PathFacts> {
    let of = |(file, presence): (&StagedFile, &Presence)| {
        let published = ours.get(&file.path).cloned();
        let (presence, path) = (*presence, file.path.as_str());
        let Some(Known { newest, era, names }) = known else {
            return PathFacts { presence, live: None, held: false, collision: None, published };
        };
        let (intervals, newest) = (era.intervals(), *newest);
        let live = intervals.live(newest, path).map(|live| live.deletion_vector.cloned());
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let collision = if intervals.is_directory(newest, path) {
            Some(format!("{path} is a folder in the table"))
        } else {
            above
                .filter(|folder| intervals.live(newest, folder).is_some())
                .map(|folder| format!("{folder} is a file in the table"))
                .next()
        };
        // No list of all deletion vectors is kept, so they are looked for where it matters.
        let is_vector = presence == Presence::SameShared && file.is_vector();
        let held = intervals.ever_held(path)
            || names.is_some_and(|names| names.contains(&file.path))
            || (is_vector && era.ever_named_vector(&file.path));
        PathFacts { presence, live, held, collision, published }
    };
    files.iter().zip(presence).map(of).collect()
}

/// Compares a staged file with the store's of the same name, which has `size` bytes.
async fn compare(store: &Store, file: &StagedFile, size: u64) -> Result<Presence> {
    let entry = &file.entry;
    if size != entry.size {
        return Ok(Presence::Other);
    }
    if store.local_root().is_none() {
        return compare_remote(store, file, size).await;
    }
    let path = file.path.as_str().to_owned();
    let (store, content) = (store.clone(), entry.content.clone());
    blocking(move || {
        let stored = store.open_local(&path).expect("BUG: a local disk opens its files")?;
        let staged = examine::open(&content, &store)?;
        let is_reference = matches!(content, Content::Reference(_));
        let is_same_inode = same_inode(&stored, &staged)?;
        // Its name in the staging directory goes with this commit.
        if is_same_inode && !is_reference {
            return Ok(Presence::Ours);
        }
        let failed = |error| Error::from_io(format!("compare {path} with the store's"), &error);
        if !is_same_inode && !same_bytes(&stored, &staged, size).map_err(failed)? {
            return Ok(Presence::Other);
        }
        let is_shared = stored.metadata().map_err(failed)?.nlink() > 1;
        Ok(if is_shared { Presence::SameShared } else { Presence::Same })
    })
    .await
}

/// Compares with a store that has no local files, a piece at a time.
async fn compare_remote(store: &Store, file: &StagedFile, size: u64) -> Result<Presence> {
    if let Content::Reference(reference) = &file.entry.content
        && reference.path == file.path.as_str()
    {
        return Ok(Presence::Same);
    }
    let staged = examine::open(&file.entry.content, store)?;
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(COMPARE_BYTES as u64);
        let theirs = store.read_range(file.path.as_str(), offset..offset + length).await?;
        let mut ours = vec![0; theirs.len()];
        staged.read_exact_at(&mut ours, offset).map_err(|error| {
            Error::from_io(format!("compare {} with the store's", file.path), &error)
        })?;
        if ours != theirs {
            return Ok(Presence::Other);
        }
        offset += length;
    }
    Ok(Presence::Same)
}

/// What to do about bytes that a staging directory can still change.
pub fn still_held(path: &FilePath) -> Error {
    Error::Busy(format!(
        "{path}: the file of that name beside the table has another link, and may still be written \
         to: another directory of staging/ still holds this file; sync or remove it, then sync again"
    ))
}

fn same_inode(one: &File, other: &File) -> Result<bool> {
    let identity = |file: &File| {
        file.metadata()
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .map_err(|error| Error::from_io("look at a staged file", &error))
    };
    Ok(identity(one)? == identity(other)?)
}

fn same_bytes(one: &File, other: &File, size: u64) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let mut offset = 0;
    while offset < size {
        let length = usize::try_from(size - offset).unwrap_or(COMPARE_BYTES).min(COMPARE_BYTES);
        one.read_exact_at(&mut left[..length], offset)?;
        other.read_exact_at(&mut right[..length], offset)?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(true)
}

/// Runs calls on local disk away from the runtime's own threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Damaged(format!("BUG: work on the disk panicked: {error}"))),
    }
}
