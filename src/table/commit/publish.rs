//! Puts staged files into the store under the names that a plan gave them.
//!
//! On the table's own file system a published file is the staged one, linked. Two things of it are
//! set right before: everybody who may read the table may read it, and its time is now. VACUUM
//! deletes what no version names and is older than its limit, and a file from an old backup is
//! both, between here and the commit.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use rustix::io::Errno;

use super::facts::blocking;
use super::manifest::StagedFile;
use super::plan::Upload;
use crate::error::{Error, Result};
use crate::store::{Created, Store};
use crate::table::FilePath;
use crate::table::staging::Content;

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
    /// Times that files had before they were made new.
    times: Vec<(PathBuf, SystemTime)>,
}

impl Publications {
    /// Publishes what a plan wants to have published. Errors: the first one; what was published
    /// stays, named by no version.
    pub async fn publish(
        &mut self,
        store: &Store,
        files: &[StagedFile],
        uploads: &[Upload],
        progress: impl Fn(usize, usize),
    ) -> Result<Published> {
        let total = uploads.len();
        // Boxed and collected: else the compiler can't prove the whole commit to be Send.
        let mut tasks: Vec<BoxFuture<'_, _>> = Vec::with_capacity(total);
        for upload in uploads {
            let file = &files[upload.source];
            let task = async move { (upload, file.entry.size, put(store, file, &upload.to).await) };
            tasks.push(task.boxed());
        }
        let mut tasks = stream::iter(tasks).buffer_unordered(AT_ONCE);
        let (mut outcome, mut done) = (Ok(Published::All), 0);
        // All are waited for: one that is dropped half way may still take its name.
        while let Some((upload, size, result)) = tasks.next().await {
            done += 1;
            progress(done, total);
            match result {
                Ok(Put { created: Created::Created, was }) => {
                    self.ours.insert(files[upload.source].path.clone(), upload.to.clone());
                    // Bytes that the table had already are linked, not written.
                    self.bytes += if was.is_some() { size } else { 0 };
                    self.times.extend(was);
                }
                Ok(Put { created: Created::ExistsAlready, was }) => {
                    self.times.extend(was);
                    if outcome.is_ok() {
                        outcome = Ok(Published::NameTaken);
                    }
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Makes files new that no version names yet, for VACUUM goes by their age. False: one is gone,
    /// so plan again.
    pub async fn touch(&mut self, store: &Store, paths: &[FilePath]) -> Result<bool> {
        let touch = async |path: &FilePath| (path.clone(), store.touch(path.as_str()).await);
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
    created: Created,
    /// A spooled file and the time that it had.
    was: Option<(PathBuf, SystemTime)>,
}

async fn put(store: &Store, file: &StagedFile, to: &FilePath) -> Result<Put> {
    match &file.entry.content {
        Content::Spooled(path) => {
            let spooled = path.clone();
            let was = blocking(move || make_ready(&spooled)).await?;
            let created = store.publish(path, to.as_str()).await?;
            Ok(Put { created, was: Some((path.clone(), was)) })
        }
        Content::Reference(reference) => {
            let root = store.local_root().ok_or_else(|| {
                Error::Unsupported(format!("{to}: refers to a file that is on no local disk"))
            })?;
            let source = root.join(&reference.path);
            // Opened by the store, which follows no symlink out of the table.
            let is_shared = match store.open_local(&reference.path) {
                Some(file) => file?.metadata().is_ok_and(|metadata| metadata.nlink() > 1),
                None => false,
            };
            let created = match is_shared {
                true => store.publish_copy(&source, to.as_str()).await?,
                false => store.publish(&source, to.as_str()).await?,
            };
            Ok(Put { created, was: None })
        }
    }
}

/// Sets mode and time; returns the time that it had.
fn make_ready(path: &Path) -> Result<SystemTime> {
    let failed = |error| Error::from_io(format!("make {} ready", path.display()), &error);
    // By its path first: what its owner closed to himself can't be opened.
    std::fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(failed)?;
    let file = File::open(path).map_err(failed)?;
    let was = file.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::now())).map_err(failed)?;
    Ok(was)
}
