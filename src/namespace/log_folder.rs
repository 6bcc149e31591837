//! `versions/N/_delta_log`: the table's own log files up to N, byte for byte.

use std::ffi::OsStr;
use std::sync::Arc;

use super::version_folder::{stamped, still_there};
use super::{
    DirectoryEntry, DirectoryListing, Found, Namespace, Node, Stamped, absent, inode::inode,
};
use crate::error::Result;
use crate::table::{LAST_CHECKPOINT, LastCheckpoint, LogFile, SIDECAR_DIRECTORY, Table};

impl Namespace {
    pub(super) fn log_folder_found(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        sidecars: bool,
    ) -> Found {
        let path = if sidecars { SIDECAR_DIRECTORY } else { "" };
        let number = inode("log folder", &[table.store().url(), &version.to_string(), path]);
        let attributes = self.options.mounter.directory(number, version.commit_ms);
        self.immutable(Node::LogFolder { table: table.clone(), version, sidecars }, attributes)
    }

    pub(super) fn log_file_found(
        &self,
        table: &Arc<Table>,
        file: Arc<LogFile>,
        modified_ms: i64,
    ) -> Found {
        // Its own time is part of it: a table that is dropped and made again often has a first
        // commit of the very same size.
        let parts = [
            table.store().url(),
            &file.name,
            &file.size.to_string(),
            &file.modified_ms.to_string(),
        ];
        let number = inode("log", &parts);
        let attributes = self.options.mounter.shared_file(number, file.size, modified_ms);
        self.immutable(Node::LogFile { table: table.clone(), file, modified_ms }, attributes)
    }

    pub(super) fn last_checkpoint_found(
        &self,
        table: &Arc<Table>,
        last: Arc<LastCheckpoint>,
        modified_ms: i64,
    ) -> Found {
        let content = String::from_utf8_lossy(&last.bytes);
        let parts = [table.store().url(), &content, &modified_ms.to_string()];
        let number = inode("last checkpoint", &parts);
        let size = last.bytes.len() as u64;
        let attributes = self.options.mounter.shared_file(number, size, modified_ms);
        self.immutable(Node::LastCheckpoint { table: table.clone(), last, modified_ms }, attributes)
    }

    pub(super) fn lookup_in_log(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        sidecars: bool,
        name: &str,
    ) -> Result<Found> {
        still_there(table, version)?;
        if name == LAST_CHECKPOINT && !sidecars {
            let last = table.frozen_last_checkpoint(version.version)?;
            let last = last.ok_or_else(|| absent(OsStr::new(name)))?;
            return Ok(self.last_checkpoint_at(table, version, last));
        }
        if name == SIDECAR_DIRECTORY && !sidecars {
            let files = table.frozen_log(version.version)?.files;
            if files.iter().any(is_sidecar) {
                return Ok(self.log_folder_found(table, version, true));
            }
        }
        let wanted =
            if sidecars { format!("{SIDECAR_DIRECTORY}/{name}") } else { name.to_string() };
        match table.frozen_log_file(version.version, &wanted)? {
            Some(file) => Ok(self.log_file_at(table, file)),
            None => Err(absent(OsStr::new(name))),
        }
    }

    pub(super) fn list_log(
        &self,
        table: &Arc<Table>,
        version: Stamped,
        sidecars: bool,
    ) -> Result<DirectoryListing> {
        still_there(table, version)?;
        let frozen = table.frozen_log(version.version)?;
        let mut entries = Vec::with_capacity(frozen.files.len() + 2);
        if !sidecars && frozen.files.iter().any(is_sidecar) {
            let found = self.log_folder_found(table, version, true);
            entries.push(DirectoryEntry::new(SIDECAR_DIRECTORY, found));
        }
        if let Some(last) = frozen.last_checkpoint.filter(|_| !sidecars) {
            let found = self.last_checkpoint_at(table, version, last);
            entries.push(DirectoryEntry::new(LAST_CHECKPOINT, found));
        }
        for file in frozen.files.into_iter().filter(|file| is_sidecar(file) == sidecars) {
            let name = file.name.rsplit('/').next().unwrap_or(&file.name).to_string();
            entries.push(DirectoryEntry::new(name, self.log_file_at(table, file)));
        }
        Ok(DirectoryListing { entries, immutable: true })
    }

    /// A log file with the commit time of its version; where that version can't be rebuilt any
    /// more, with its own time: the same in every version that shows it.
    fn log_file_at(&self, table: &Arc<Table>, file: LogFile) -> Found {
        let modified_ms =
            stamped(table, file.version).map_or(file.modified_ms, |version| version.commit_ms);
        self.log_file_found(table, Arc::new(file), modified_ms)
    }

    fn last_checkpoint_at(
        &self,
        table: &Arc<Table>,
        shown_in: Stamped,
        last: LastCheckpoint,
    ) -> Found {
        let of = stamped(table, last.version).unwrap_or(shown_in);
        self.last_checkpoint_found(table, Arc::new(last), of.commit_ms)
    }
}

fn is_sidecar(file: &LogFile) -> bool {
    file.name.starts_with(SIDECAR_DIRECTORY)
}
