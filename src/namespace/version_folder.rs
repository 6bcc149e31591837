//! The directories of a version: its live data files, the deletion vector files that they name, and
//! `_delta_log`. Nothing in them ever changes.

use std::ffi::OsStr;
use std::sync::Arc;

use super::{
    BRIEF, DataFile, DirectoryEntry, DirectoryListing, Found, Namespace, Node, Stamped, absent,
    inode::inode,
};
use crate::error::{Error, Result};
use crate::table::{Child, Files, LOG_DIRECTORY, LiveFile, Registry, Table, Version};

/// The time of a deletion vector file that the store has lost.
const LOST_MS: i64 = 0;

/// Of a directory with more entries only names are kept, for a node with its attributes takes some
/// hundred bytes: the kernel looks up those that somebody asks for.
const FOUND_MAX: usize = 128 * 1024;

impl Namespace {
    /// The directory of a version, as a name of `versions/`.
    pub(super) fn version_found(&self, table: &Arc<Table>, version: Version) -> Result<Found> {
        let mut found = self.version_folder_found(table, stamped(table, version)?, "");
        // Where the table is dropped and made again, this name comes to mean another version; all
        // names below it hang on this one.
        found.name_lifetime = BRIEF;
        Ok(found)
    }

    pub(super) fn version_folder_found(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        path: &str,
    ) -> Found {
        let number = inode("version", &[table.store().url(), &version.to_string(), path]);
        let attributes = self.options.mounter.directory(number, version.commit_ms);
        let node = Node::VersionFolder { table: table.clone(), version, path: path.into() };
        self.immutable(node, attributes)
    }

    pub(super) fn data_file_found(&self, table: &Arc<Table>, file: Arc<DataFile>) -> Found {
        let parts = [
            table.store().url(),
            &file.path,
            &file.size.to_string(),
            &file.modified_ms.to_string(),
        ];
        let number = inode("data", &parts);
        let attributes = self.options.mounter.shared_file(number, file.size, file.modified_ms);
        self.immutable(Node::DataFile { table: table.clone(), file }, attributes)
    }

    pub(super) async fn lookup_in_version(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        directory: &str,
        name: &str,
    ) -> Result<Found> {
        still_there(table, version)?;
        if directory.is_empty() && name == LOG_DIRECTORY {
            return Ok(self.log_folder_found(table, version, false));
        }
        let files = files_of(table, version).await?;
        let path = Registry::child_path(directory, name);
        let (live, is_directory) = files.read(|era| {
            let intervals = era.intervals();
            let live = intervals.live(version.version, &path).map(|file| data_file(&file));
            (live, intervals.is_directory(version.version, &path))
        });
        if let Some(file) = live {
            return Ok(self.data_file_found(table, file));
        }
        if is_directory {
            return Ok(self.version_folder_found(table, version, &path));
        }
        match files.vector_files(version.version).child(directory, name) {
            Some(Some(path)) => self.vector_file_found(table, path).await,
            Some(None) => Ok(self.version_folder_found(table, version, &path)),
            None => Err(absent(OsStr::new(name))),
        }
    }

    pub(super) async fn list_version(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        directory: &str,
    ) -> Result<DirectoryListing> {
        let files = files_of(table, version).await?;
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        files.read(|era| {
            era.intervals().for_each_child(version.version, directory, |child| {
                let mut entry = match child {
                    Child::Directory(name) => {
                        let path = Registry::child_path(directory, name);
                        DirectoryEntry::new(name, self.version_folder_found(table, version, &path))
                    }
                    Child::File(name, file) => {
                        DirectoryEntry::new(name, self.data_file_found(table, data_file(&file)))
                    }
                };
                if entries.len() >= FOUND_MAX {
                    entry.found = None;
                }
                if entries.len() == FOUND_MAX {
                    entries.iter_mut().for_each(|entry| entry.found = None);
                }
                entries.push(entry);
            });
        });
        if directory.is_empty() {
            let log = self.log_folder_found(table, version, false);
            entries.push(DirectoryEntry::new(LOG_DIRECTORY, log));
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let known = entries.len();
        let vectors = files.vector_files(version.version);
        for (name, file) in vectors.children(directory) {
            let is_listed = |entry: &DirectoryEntry| entry.name.as_os_str().cmp(OsStr::new(name));
            if entries[..known].binary_search_by(is_listed).is_ok() {
                continue;
            }
            let found = match file {
                Some(path) => self.vector_file_found(table, path).await?,
                None => self.version_folder_found(
                    table,
                    version,
                    &Registry::child_path(directory, name),
                ),
            };
            entries.push(DirectoryEntry::new(name, found));
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(DirectoryListing { entries, immutable: true })
    }

    /// A deletion vector file. The log doesn't tell its size, so the store is asked, once; of a
    /// lost one nothing may be kept.
    async fn vector_file_found(&self, table: &Arc<Table>, path: &str) -> Result<Found> {
        let entry = table.entry(path).await?;
        let is_lost = entry.is_none();
        let (size, modified_ms) =
            entry.map_or((1, LOST_MS), |entry| (entry.size, entry.modified_ms));
        let file = DataFile { path: path.to_string(), size, modified_ms, is_data: false };
        let found = self.data_file_found(table, Arc::new(file));
        Ok(if is_lost { self.changing(found.node, found.attributes) } else { found })
    }
}

fn data_file(file: &LiveFile<'_>) -> Arc<DataFile> {
    Arc::new(DataFile {
        path: file.path.to_string(),
        size: file.size,
        modified_ms: file.modified_ms,
        is_data: true,
    })
}

/// A version with its commit time. Errors: [`Error::NotFound`] where there is no such version.
pub(super) fn stamped(table: &Arc<Table>, version: Version) -> Result<Stamped> {
    let found = table.read(|history| history.facts(version).map(|facts| facts.commit_time_ms))?;
    match found {
        Some(commit_ms) => Ok(Stamped { version, commit_ms }),
        None => Err(Error::NotFound(format!("table {} has no version {version}", table.label()))),
    }
}

/// Refuses a directory that was opened before its table was dropped and made again: half of one
/// table and half of another would be worse than none.
pub(super) fn still_there(table: &Arc<Table>, version: Stamped) -> Result<()> {
    match stamped(table, version.version) {
        Ok(now) if now == version => Ok(()),
        _ => Err(Error::Conflict(format!(
            "table {} version {}: the table was dropped or made again; open the directory again",
            table.label(),
            version.version
        ))),
    }
}

/// The files of a version that may be shown. Errors: as [`still_there`], [`readable`] and
/// [`Table::files`].
async fn files_of(table: &Arc<Table>, version: Stamped) -> Result<Arc<Files>> {
    still_there(table, version)?;
    readable(table, version)?;
    let files = table.files(version.version).await?;
    // They may be of the table that was made in this one's place while they were loaded.
    still_there(table, version)?;
    Ok(files)
}

/// Refuses a version that needs a reader feature we don't have, by the feature's name.
fn readable(table: &Arc<Table>, version: Stamped) -> Result<()> {
    let version = version.version;
    let refusal =
        table.read(|history| history.facts(version).and_then(|facts| facts.unreadable.clone()))?;
    match refusal {
        Some(why) => {
            Err(Error::Unsupported(format!("table {} version {version}: {why}", table.label())))
        }
        None => Ok(()),
    }
}
