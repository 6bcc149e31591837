//! Puts staged files into the store under the names that a plan gave them.
//!
//! On the table's own file system a published file is the staged one, linked. Two things of it are
//! set right before: everybody who may read the table may read it, and its time is now. VACUUM
//! deletes what no version names and is older than its limit, and a file from an old backup is
//! both, between here and the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use rustix::io::Errno;

use super::examine;
use super::facts::blocking;
use super::manifest::StagedFile;
use super::plan::Upload;
use crate::error::{Error, Result};
use crate::store::{Created, Store};
use crate::table::staging::{Content, Reference, Sealed};
use crate::table::{FilePath, Progress};

/// Files on their way at once.
const AT_ONCE: usize = 8;
/// Mode of a table's files.
const FILE_MODE: u32 = 0o644;

/// Whether everything got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    All,
    /// Somebody took a name in between: plan again.
    NameTaken,
}

/// What was published, over all tries of one commit.
#[derive(Debug, Default)]
pub struct Publications {
    /// By staged names: the names that were free until we took them.
    pub ours: BTreeMap<FilePath, FilePath>,
    pub bytes: u64,
    /// How often a name could not be had.
    refused: BTreeMap<FilePath, u32>,
    /// Times that files had before they were made new.
    times: Vec<(PathBuf, SystemTime)>,
    /// Whether the files keep the times that they have: an attempt that may still arrive made them
    /// new, and its journal must go on to know the files.
    pub keeps_times: bool,
}

impl Publications {
    /// Whether a name can't be had though nothing is seen there: a folder has it, or a link. Once
    /// may be a file that is gone again.
    pub fn is_refused(&self, path: &FilePath) -> bool {
        self.refused.get(path).is_some_and(|times| *times > 1)
    }

    /// Publishes what a plan wants to have published. Errors: the first one; what was published
    /// stays, named by no version.
    pub async fn publish(
        &mut self,
        store: &Store,
        sealed: &Arc<Sealed>,
        files: &[StagedFile],
        uploads: &[Upload],
        progress: &Progress,
    ) -> Result<Published> {
        if !uploads.is_empty() {
            let bytes = uploads.iter().map(|upload| files[upload.source].entry.size).sum();
            progress.count("publishes files", uploads.len() as u64, bytes);
        }
        // Boxed and collected: else the compiler can't prove the whole commit to be Send.
        let mut tasks: Vec<BoxFuture<'_, _>> = Vec::with_capacity(uploads.len());
        let keeps_time = self.keeps_times;
        for upload in uploads {
            let file = &files[upload.source];
            let put = put(store, sealed, file, upload, keeps_time);
            let task = async move { (upload, put.await) };
            tasks.push(task.boxed());
        }
        let mut tasks = stream::iter(tasks).buffer_unordered(AT_ONCE);
        let mut outcome = Ok(Published::All);
        // All are waited for: one that is dropped half way may still take its name.
        while let Some((upload, Put { created, was })) = tasks.next().await {
            let file = &files[upload.source];
            progress.advance(1, file.entry.size);
            match created {
                Ok(Created::Created) => {
                    self.ours.insert(file.path.clone(), upload.to.clone());
                    // Bytes that the table had already are linked, not written.
                    let is_written = was.is_some() && !upload.is_there;
                    self.bytes += if is_written { file.entry.size } else { 0 };
                }
                Ok(Created::ExistsAlready) => {
                    *self.refused.entry(upload.to.clone()).or_default() += 1;
                    outcome = outcome.and(Ok(Published::NameTaken));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
            self.times.extend(was);
        }
        outcome
    }

    /// Makes files new that no version names yet, for VACUUM goes by their age; and durable those
    /// that others brought there. False: one is gone, so plan again.
    pub async fn touch(&mut self, store: &Store, paths: &[FilePath]) -> Result<bool> {
        let durable: BTreeSet<FilePath> = self.ours.values().cloned().collect();
        let touch = async |path: &FilePath| {
            let touched = store.touch(path.as_str()).await;
            let made_durable = match touched {
                Err(Error::NotFound(_)) => Ok(()),
                _ if durable.contains(path) => Ok(()),
                _ => store.make_durable(path.as_str()).await,
            };
            (path.clone(), made_durable.and(touched))
        };
        let tasks: Vec<BoxFuture<'_, _>> = paths.iter().map(|path| touch(path).boxed()).collect();
        let mut tasks = stream::iter(tasks).buffer_unordered(AT_ONCE);
        let mut outcome = Ok(true);
        while let Some((path, result)) = tasks.next().await {
            match result {
                Ok(was) => {
                    let file = store.local_root().map(|root| root.join(path.as_str()));
                    self.times.extend(file.zip(was));
                }
                Err(Error::NotFound(_)) => {
                    self.ours.retain(|_, to| *to != path);
                    outcome = outcome.and(Ok(false));
                }
                // Another user's file: whoever vacuums may take it for old, as any reader may.
                Err(Error::System { code, .. }) if is_denied(code) => {
                    tracing::warn!(path = path.as_str(), "a file that is not ours keeps its age");
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Gives the staged files the times back that their user knows, after a commit that failed.
    pub fn give_times_back(&self) {
        // A file can be there twice, and the first time is the user's.
        for (path, time) in self.times.iter().rev() {
            let set = File::open(path).and_then(|file| file.set_modified(*time));
            if let Err(error) = set {
                tracing::warn!(path = %path.display(), "a staged file's time is not as it was: {error}");
            }
        }
    }
}

fn is_denied(code: i32) -> bool {
    [Errno::PERM, Errno::ACCESS].iter().any(|errno| errno.raw_os_error() == code)
}

struct Put {
    created: Result<Created>,
    /// A spooled file and the time that it had.
    was: Option<(PathBuf, SystemTime)>,
}

async fn put(
    store: &Store,
    sealed: &Arc<Sealed>,
    file: &StagedFile,
    upload: &Upload,
    keeps_time: bool,
) -> Put {
    let to = &upload.to;
    match &file.entry.content {
        Content::Spooled(path) => {
            let spooled = path.clone();
            match blocking(move || make_ready(&spooled, keeps_time)).await {
                Ok(was) => {
                    let created = put_spooled(store, sealed, path, upload).await;
                    Put { created, was: Some((path.clone(), was)) }
                }
                Err(error) => Put { created: Err(error), was: None },
            }
        }
        Content::Reference(reference) => {
            Put { created: put_reference(store, reference, to).await, was: None }
        }
    }
}

async fn put_spooled(
    store: &Store,
    sealed: &Arc<Sealed>,
    path: &Path,
    upload: &Upload,
) -> Result<Created> {
    let (sealed, spooled) = (sealed.clone(), path.to_owned());
    blocking(move || sealed.make_durable(&spooled)).await?;
    if !upload.is_there {
        return store.publish(path, upload.to.as_str()).await;
    }
    match store.make_durable(upload.to.as_str()).await {
        Ok(()) => Ok(Created::Created),
        // Taken away since it was looked at: to be planned again.
        Err(Error::NotFound(_)) => Ok(Created::ExistsAlready),
        Err(error) => Err(error),
    }
}

async fn put_reference(store: &Store, reference: &Reference, to: &FilePath) -> Result<Created> {
    let root = store.local_root().ok_or_else(|| {
        Error::Unsupported(format!("{to}: refers to a file that is on no local disk"))
    })?;
    let source = root.join(&reference.path);
    let (opened, content) = (store.clone(), Content::Reference(reference.clone()));
    let is_shared = blocking(move || {
        // Opened by the store, which follows no symlink out of the table.
        let file = examine::open(&content, &opened)?;
        // Whoever put it into the table may not have done this.
        let links = file.sync_all().and_then(|()| file.metadata()).map(|found| found.nlink());
        let failed = |error| Error::from_io("make the source of a reference durable", &error);
        links.map(|links| links > 1).map_err(failed)
    })
    .await?;
    match is_shared {
        true => store.publish_copy(&source, to.as_str()).await,
        false => store.publish(&source, to.as_str()).await,
    }
}

/// Sets mode and time; returns the time that it had.
fn make_ready(path: &Path, keeps_time: bool) -> Result<SystemTime> {
    let failed = |error| Error::from_io(format!("make {} ready", path.display()), &error);
    // By its path first: what its owner closed to himself can't be opened.
    std::fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(failed)?;
    let file = File::open(path).map_err(failed)?;
    let was = file.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
    if !keeps_time {
        file.set_times(FileTimes::new().set_modified(SystemTime::now())).map_err(failed)?;
    }
    Ok(was)
}
