//! `staging/` and what is in it. What the calls on staged files do is the business of
//! `table::staging`, which `fs` calls itself.

use std::ffi::OsStr;
use std::sync::Arc;

use super::{DirectoryEntry, DirectoryListing, Found, NEVER, Namespace, Node, STAGED, absent};
use crate::error::Result;
use crate::table::Table;
use crate::table::staging::{Owner, Staging, Stat};

impl Namespace {
    pub(super) async fn lookup_staging(&self, table: &Arc<Table>, name: &str) -> Result<Found> {
        table.settled().await?;
        let staging =
            table.staging().get(OsStr::new(name)).ok_or_else(|| absent(OsStr::new(name)))?;
        let stat = staging.stat(staging.root_id())?;
        Ok(self.staged_found(table, &staging, stat))
    }

    pub(super) async fn list_staging(&self, table: &Arc<Table>) -> Result<DirectoryListing> {
        table.settled().await?;
        let mut entries = Vec::new();
        for staging in table.staging().list() {
            // Else it went just now, and is no entry any more.
            if let Ok(stat) = staging.stat(staging.root_id()) {
                let found = self.staged_found(table, &staging, stat);
                entries.push(DirectoryEntry::new(staging.name(), found));
            }
        }
        Ok(DirectoryListing { entries, immutable: false })
    }

    /// What a name in `staging/` is now, where `directory` is one: its listing was taken when it
    /// was opened, and the name may have been removed since, and made again. The kernel takes what
    /// it is told with an entry for newer than all it knows. `None`: another directory.
    pub fn staging_now(&self, directory: &Node, name: &OsStr) -> Option<Option<Found>> {
        let Node::StagingArea(table) = directory else { return None };
        let staging = table.staging().get(name);
        Some(staging.and_then(|staging| {
            let stat = staging.stat(staging.root_id()).ok()?;
            Some(self.staged_found(table, &staging, stat))
        }))
    }

    pub(super) async fn begin_staging(
        &self,
        table: &Arc<Table>,
        name: &str,
        mode: u32,
        owner: Owner,
    ) -> Result<Found> {
        let staging = table.begin_staging(OsStr::new(name), mode, owner).await?;
        let stat = staging.stat(staging.root_id())?;
        Ok(self.staged_found(table, &staging, stat))
    }

    pub(super) fn lookup_staged(
        &self,
        table: &Arc<Table>,
        staging: &Arc<Staging>,
        parent: u64,
        name: &OsStr,
    ) -> Result<Found> {
        let mut found = self.staged_found(table, staging, staging.lookup(parent, name)?);
        if parent == staging.root_id() {
            // A commit empties the root behind the kernel's back; names below it are reached
            // through it and need no such care.
            found.name_lifetime = NEVER;
        }
        Ok(found)
    }

    pub(super) fn list_staged(
        &self,
        table: &Arc<Table>,
        staging: &Arc<Staging>,
        id: u64,
    ) -> Result<DirectoryListing> {
        let is_root = id == staging.root_id();
        let entries = staging.list(id)?.into_iter().map(|(name, stat)| {
            let mut found = self.staged_found(table, staging, stat);
            if is_root {
                found.name_lifetime = NEVER;
            }
            DirectoryEntry::new(name, found)
        });
        Ok(DirectoryListing { entries: entries.collect(), immutable: false })
    }

    /// A staged file or directory, as `fs` answers for it after each change.
    pub fn staged_found(&self, table: &Arc<Table>, staging: &Arc<Staging>, stat: Stat) -> Found {
        let id = stat.id;
        Found {
            node: Node::Staged { table: table.clone(), staging: staging.clone(), id },
            attributes: stat.into(),
            name_lifetime: STAGED,
            attributes_lifetime: STAGED,
        }
    }
}
