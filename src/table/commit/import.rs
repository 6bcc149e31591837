//! A staged table where none exists: it appears at once, with its whole history.
//!
//! All data files first, under their own names, then the sealed `_delta_log` by one rename. No
//! entry of ours is written, so the proof is another one: the table's log is that very folder.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::facts;
use super::facts::blocking;
use super::manifest::StagedFile;
use super::plan::{Counts, Kind, Presence, Upload};
use super::prepare::StagedLog;
use super::publish::{Publications, Published};
use super::report::CommitSummary;
use super::run::{Done, Run};
use super::send::Author;
use crate::error::{Error, Result};
use crate::log::protocol::check_commit;
use crate::store::Created;
use crate::table::restore::vector_files;
use crate::table::staging::{Attempt, Content, Sealed, StagedIdentity};
use crate::table::{FilePath, LOG_DIRECTORY, Table};

/// What the journal calls an attempt that renames a log into place.
const TXN_PREFIX: &str = "import-";

/// Whether a journaled attempt is an import.
pub fn is_one(attempt: &Attempt) -> bool {
    attempt.txn_id.starts_with(TXN_PREFIX)
}

/// Whether an import took place: the table's log is the very folder that was staged. Nobody does
/// this rename later, so what isn't there now is not on its way.
pub async fn author(table: &Arc<Table>, attempt: &Attempt) -> Result<Author> {
    let wanted = attempt.log_folder;
    let Some(root) = table.store().local_root() else { return Ok(Author::Another) };
    let log = root.join(LOG_DIRECTORY);
    match blocking(move || identity(&log)).await {
        Ok(found) if Some(found) == wanted => {
            let (root, files) = (root.to_owned(), attempt.files.clone());
            if !blocking(move || Ok(has_staged_log(&root, &files))).await? {
                return Err(Error::Unknown(format!(
                    "whether the staged table was published can't be told: {LOG_DIRECTORY} of the \
                     table has none of its files any more; compare the staged files with the \
                     table, then rm -r the directory, or copy them to a new one"
                )));
            }
            table.store().make_durable(LOG_DIRECTORY).await?;
            Ok(Author::Us)
        }
        Ok(_) => Ok(Author::Another),
        Err(Error::NotFound(_)) => Ok(Author::Nobody),
        Err(error) => Err(error),
    }
}

/// Device and inode of a folder, which a rename keeps.
fn identity(folder: &Path) -> Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(folder)
        .map_err(|error| Error::from_io(format!("look at {}", folder.display()), &error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether a file of the staged log stands in the table's. The number of a folder that was removed
/// is given to another one; that of a file isn't for as long as the file is staged.
fn has_staged_log(root: &Path, files: &[StagedIdentity]) -> bool {
    let mut in_log = files.iter().filter(|file| Path::new(&file.path).starts_with(LOG_DIRECTORY));
    in_log.any(|file| {
        identity(&root.join(&file.path)).is_ok_and(|found| found == (file.dev, file.ino))
    })
}

/// Publishes the staged table. `None`: another table, or file, was there first.
pub async fn run(run: &mut Run<'_>) -> Result<Option<Done>> {
    let prepared = run.prepared;
    let Some(log) = &prepared.log else {
        return Err(Error::Damaged("BUG: an import was begun without a staged log".into()));
    };
    if prepared.options.txn.is_some() {
        return Err(Error::Refused(
            "a staged table appears with its own history, so the option txn can't be written; \
             remove it"
                .into(),
        ));
    }
    if let Err(error @ Error::CatalogManaged(_)) = check_commit(&log.snapshot.protocol) {
        return Err(error);
    }
    let manifest = &prepared.manifest;
    let files: Vec<StagedFile> = [&manifest.files[..], &manifest.change_data[..]].concat();
    check(log, &files)?;
    let store = run.table.store().clone();
    let presence = facts::gather(&store, &files, &run.publications, run.line).await?;
    let (uploads, reused) = uploads(&files, &presence, &run.publications)?;
    run.sealed.uploading();
    let published =
        run.publications.publish(&store, run.sealed, &files, &uploads, run.line).await?;
    if published == Published::NameTaken {
        return Ok(None);
    }
    let serving = manifest.serving.iter().map(|entry| entry.content.clone()).collect();
    make_durable(run.sealed, serving).await?;
    let version = log.snapshot.version;
    let counts = Counts { added: log.snapshot.live_count() as u64, reused, ..Counts::default() };
    let left_out = manifest.left_out_paths();
    let bytes = run.publications.bytes;
    let summary = CommitSummary::new(Some(version), Kind::Create, counts, bytes, left_out);
    let txn_id = format!("{TXN_PREFIX}{}", uuid::Uuid::new_v4());
    let folder = run.sealed.root().join(LOG_DIRECTORY);
    let log = folder.clone();
    let log = blocking(move || identity(&log)).await?;
    let attempt = run.journal(&txn_id, version, &summary, Some(log)).await?;
    run.line.tell(format!("publishes the log up to version {version}"));
    let outcome = store.publish_directory(&folder, LOG_DIRECTORY).await;
    match (outcome, author(run.table, &attempt).await) {
        (Ok(Created::Created), _) | (Err(_), Ok(Author::Us)) => {
            run.table.refresh().await.unwrap_or_else(|error| {
                tracing::warn!(table = run.table.label(), "look at the new table: {error}");
            });
            Ok(Some(run.done(summary, attempt.files)))
        }
        (Ok(Created::ExistsAlready), _) => {
            run.clear_attempt().await?;
            run.table.refresh().await?;
            match run.table.exists() {
                true => Ok(None),
                false => Err(Error::Busy(format!(
                    "{LOG_DIRECTORY}: a folder with no commit in it is where the table's log would \
                     be: somebody writes the first one, or was interrupted; sync again, and if it \
                     stays, remove that folder"
                ))),
            }
        }
        (Err(error), Ok(Author::Nobody | Author::Another)) => {
            run.clear_attempt().await?;
            Err(error)
        }
        (Err(error), Err(_)) => Err(Error::Unknown(format!(
            "whether the table was published can't be told yet: {error}; sync again"
        ))),
    }
}

/// Makes the staged log's files durable: where that fails, no later attempt may take it for done.
async fn make_durable(sealed: &Arc<Sealed>, files: Vec<Content>) -> Result<()> {
    let sealed = sealed.clone();
    blocking(move || {
        files.iter().try_for_each(|content| match content {
            Content::Spooled(path) => sealed.make_durable(path),
            Content::Reference(_) => Ok(()),
        })
    })
    .await
}

/// The log and the files must be of one table: all that its newest version needs is staged, and
/// nothing is that no version names.
fn check(log: &StagedLog, files: &[StagedFile]) -> Result<()> {
    let find = |path: &FilePath| {
        files.iter().find(|file| file.path == *path).ok_or_else(|| {
            Error::Damaged(format!(
                "{path}: named by the staged log (version {}) and not staged; bring it from another \
                 copy, or an older version that doesn't name it",
                log.snapshot.version
            ))
        })
    };
    let by_path: std::collections::BTreeMap<&FilePath, &StagedFile> =
        files.iter().map(|file| (&file.path, file)).collect();
    for (path, add) in &log.snapshot.adds {
        let file = match by_path.get(path) {
            Some(file) => file,
            None => find(path)?,
        };
        if i64::try_from(file.entry.size) != Ok(add.size) {
            return Err(Error::Damaged(format!(
                "{path}: the staged file has {} bytes, and its log says {}; bring it again",
                file.entry.size, add.size
            )));
        }
    }
    for path in vector_files(&log.snapshot)? {
        find(&path)?;
    }
    let is_change_data = |file: &StagedFile| file.path.as_str().starts_with("_change_data/");
    match files.iter().find(|f| !f.is_vector() && !is_change_data(f) && !log.names(&f.path)) {
        None => Ok(()),
        Some(file) => Err(Error::Refused(format!(
            "{}: the staged _delta_log doesn't name this file; remove it",
            file.path
        ))),
    }
}

fn uploads(
    files: &[StagedFile],
    presence: &[Presence],
    publications: &Publications,
) -> Result<(Vec<Upload>, u64)> {
    let (mut uploads, mut reused) = (Vec::new(), 0);
    for (source, (file, presence)) in files.iter().zip(presence).enumerate() {
        let upload = |is_there| Upload { source, to: file.path.clone(), is_there };
        match presence {
            Presence::Absent => uploads.push(upload(false)),
            Presence::Ours => {
                reused += 1;
                if !publications.ours.contains_key(&file.path) {
                    uploads.push(upload(true));
                }
            }
            Presence::Same => reused += 1,
            Presence::SameShared => return Err(facts::still_held(&file.path)),
            Presence::Other => {
                return Err(Error::Refused(format!(
                    "{}: another file has that name where the table would be; move it away",
                    file.path
                )));
            }
        }
    }
    Ok((uploads, reused))
}
