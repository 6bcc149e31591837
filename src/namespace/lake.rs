//! Plain directories of the lake: what holds tables, and what may become one.
//!
//! An empty directory is a table to be, and one with data and no log is what is left of a table:
//! both show `staging/`, and the first commit there creates the table, or brings it back. Only
//! directories are shown; files of the lake that belong to no table are not.

use std::ffi::OsStr;
use std::sync::Arc;

use super::{
    BRIEF, DirectoryEntry, DirectoryListing, Found, Namespace, Node, ROOT, absent, inode::inode,
};
use crate::error::{Error, Result};
use crate::table::{Folder, Registry, Table, is_hidden};

/// The name of the directory that takes files.
pub(super) const STAGING: &str = "staging";

impl Namespace {
    pub(super) async fn lookup_in_folder(&self, path: &str, name: &str) -> Result<Found> {
        if let Some(table) = self.standing_table(path).await? {
            return self.lookup_in_table(&table, name).await;
        }
        let (names, has_data) = match self.folder(path).await? {
            Folder::Table(table) => return self.lookup_in_table(&table, name).await,
            Folder::Plain { names, has_data } => (names, has_data),
        };
        if names.iter().any(|found| found == name) || self.is_awaited(path, name).await? {
            return self.folder_found(&Registry::child_path(path, name)).await;
        }
        if name == STAGING && self.may_become_table(path, &names, has_data).await? {
            return Ok(self.staging_area_found(&self.registry.table(path)));
        }
        Err(absent(OsStr::new(name)))
    }

    /// A directory of the lake, as the table that it is or as itself.
    pub(super) async fn folder_found(&self, path: &str) -> Result<Found> {
        if let Some(table) = self.standing_table(path).await? {
            return Ok(self.at_root(path, self.table_found(&table)));
        }
        if let Folder::Table(table) = self.folder(path).await? {
            return Ok(self.at_root(path, self.table_found(&table)));
        }
        let number = self.folder_inode(path);
        let attributes = self.options.mounter.directory(number, self.options.mounted_ms);
        Ok(self.at_root(path, self.standing(Node::Folder(path.into()), attributes)))
    }

    /// The root keeps its number and its node: an empty one may become a table while it is open.
    fn at_root(&self, path: &str, mut found: Found) -> Found {
        if path.is_empty() {
            found.attributes.inode = ROOT;
            found.node = Node::Folder("".into());
        }
        found
    }

    /// The table that is known to be at a path and is still there, without a look at its folder.
    async fn standing_table(&self, path: &str) -> Result<Option<Arc<Table>>> {
        let Some(table) = self.registry.known_table(path) else { return Ok(None) };
        table.fresh(BRIEF).await?;
        Ok(table.exists().then_some(table))
    }

    fn folder_inode(&self, path: &str) -> u64 {
        inode("folder", &[self.registry.store().child(path).url()])
    }

    pub(super) async fn list_folder(&self, path: &str) -> Result<DirectoryListing> {
        if let Some(table) = self.standing_table(path).await? {
            return self.list_table(&table).await;
        }
        let (mut names, has_data) = match self.folder(path).await? {
            Folder::Table(table) => return self.list_table(&table).await,
            Folder::Plain { names, has_data } => (names, has_data),
        };
        let may_become_table = self.may_become_table(path, &names, has_data).await?;
        for name in self.registry.spooled(path).await {
            if !names.contains(&name) && self.is_awaited(path, &name).await? {
                names.push(name);
            }
        }
        let mut entries = Vec::with_capacity(names.len());
        if may_become_table {
            let found = self.staging_area_found(&self.registry.table(path));
            entries.push(DirectoryEntry::new(STAGING, found));
        }
        for name in names {
            let number = self.folder_inode(&Registry::child_path(path, &name));
            entries.push(DirectoryEntry {
                name: name.into(),
                inode: number,
                kind: super::Kind::Directory,
                found: None,
            });
        }
        Ok(DirectoryListing { entries, immutable: false })
    }

    /// Looks at a folder. One that was removed while files are staged for a table there stands as
    /// an empty one: who restores a table that somebody dropped must not lose sight of them.
    async fn folder(&self, path: &str) -> Result<Folder> {
        match self.registry.folder(path).await {
            Err(error @ Error::NotFound(_)) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                match self.is_awaited(parent, name).await? {
                    true => Ok(Folder::Plain { names: Vec::new(), has_data: false }),
                    false => Err(error),
                }
            }
            found => found,
        }
    }

    /// Whether files are staged for a table of that name.
    async fn is_awaited(&self, parent: &str, name: &str) -> Result<bool> {
        if is_hidden(name) || name.is_empty() || !self.registry.is_spooled(parent, name).await {
            return Ok(false);
        }
        let table = self.registry.table(&Registry::child_path(parent, name));
        table.settled().await?;
        Ok(!table.staging().list().is_empty())
    }

    /// Whether a plain directory shows `staging/`: it has no directories, is what is left of a
    /// table, or has staged files already.
    async fn may_become_table(&self, path: &str, names: &[String], has_data: bool) -> Result<bool> {
        if names.iter().any(|name| name == STAGING) {
            return Ok(false);
        }
        if names.is_empty() || has_data {
            return Ok(true);
        }
        let table = self.registry.table(path);
        table.settled().await?;
        Ok(!table.staging().list().is_empty())
    }

    pub(super) async fn make_folder(&self, path: &str, name: &str) -> Result<Found> {
        if is_hidden(name) || name.starts_with('_') {
            return Err(Error::Refused(format!(
                "{name}: a table's or folder's name can't begin with '.' or '_'"
            )));
        }
        if let Folder::Table(table) = self.registry.folder(path).await? {
            return Err(Error::NotPermitted(format!(
                "{name}: {} is a table; make directories in its staging/",
                table.label()
            )));
        }
        match self.lookup_in_folder(path, name).await {
            Ok(_) => return Err(Error::Exists(format!("{name}: exists already"))),
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let child = Registry::child_path(path, name);
        self.registry.make_folder(&child).await?;
        self.folder_found(&child).await
    }

    pub(super) async fn remove_folder(&self, path: &str, name: &OsStr) -> Result<()> {
        let name = name.to_str().ok_or_else(|| absent(name))?;
        let found = self.lookup_in_folder(path, name).await?;
        let Node::Folder(child) = &found.node else {
            return Err(Error::NotPermitted(format!(
                "{name}: deltafs removes no table; use the tool that owns it"
            )));
        };
        let table = self.registry.table(child);
        table.settled().await?;
        if !table.staging().list().is_empty() {
            return Err(Error::NotEmpty(format!("{name}: its staging/ holds files")));
        }
        self.registry.remove_folder(child).await
    }
}
