//! The tables of a lake, found as they are walked to.
//!
//! A folder is a table where it holds `_delta_log`. Nothing is searched ahead: a lake of ten
//! thousand tables costs what is looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::table::Table;
use crate::error::Result;
use crate::log::listing::LOG_DIRECTORY;
use crate::store::{Store, join};
use crate::table::staging::SPOOL_DIRECTORY;

/// All tables that were walked to, by path within the lake.
pub struct Registry {
    store: Store,
    read_only: bool,
    budget: Arc<Budget>,
    tables: Mutex<HashMap<String, Arc<Table>>>,
}

/// What a folder of the lake is.
pub enum Folder {
    Table(Arc<Table>),
    /// A plain directory; tables may be in it.
    Plain {
        /// Its subdirectories that are shown.
        names: Vec<String>,
        /// Whether it has files or partitions of data, as a table that lost its log.
        has_data: bool,
    },
}

impl Registry {
    /// The tables beneath the root of `store`; the files of their versions take no more memory than
    /// `memory_bytes_max`, but where one version alone does.
    pub fn new(store: Store, read_only: bool, memory_bytes_max: usize) -> Registry {
        let budget = Budget::new(memory_bytes_max);
        Registry { store, read_only, budget, tables: Mutex::default() }
    }

    /// The lake's own store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the mount takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The table at `path`, whether it has a log yet or will get one.
    pub fn table(&self, path: &str) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .entry(path.to_string())
            .or_insert_with(|| {
                let (store, budget) = (self.store.child(path), self.budget.clone());
                Arc::new(Table::new(path.to_string(), store, self.read_only, budget))
            })
            .clone()
    }

    /// All tables that were walked to, sorted by path.
    pub fn known(&self) -> Vec<Arc<Table>> {
        let mut known: Vec<Arc<Table>> = {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.values().cloned().collect()
        };
        known.sort_by(|a, b| a.path().cmp(b.path()));
        known
    }

    /// The table at `path` if it is known to have a log: answered from memory.
    pub fn known_table(&self, path: &str) -> Option<Arc<Table>> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.get(path).filter(|table| table.exists()).cloned()
    }

    /// Looks at the folder at `path` of the lake.
    pub async fn folder(&self, path: &str) -> Result<Folder> {
        // Before the listing: a table's own folder may hold a million files.
        if self.store.has_directory(&join(path, LOG_DIRECTORY)).await? {
            return Ok(Folder::Table(self.table(path)));
        }
        let listing = self.store.list(path).await?;
        let has_data = listing.directories.iter().any(|name| name.contains('='))
            || listing.files.iter().any(|file| file.name().ends_with(".parquet"));
        let visible = listing.directories.into_iter().filter(|name| !is_hidden(name));
        Ok(Folder::Plain { names: visible.collect(), has_data })
    }

    /// The names beneath a folder that files are staged for; a table of that name may be no more.
    pub async fn spooled(&self, path: &str) -> Vec<String> {
        // Where there is no spool, or another user's, nothing of ours is staged.
        let spools = self.store.list(&join(path, SPOOL_DIRECTORY)).await;
        spools.map(|spools| spools.directories).unwrap_or_default()
    }

    /// Whether files are staged for one name beneath a folder.
    pub async fn is_spooled(&self, path: &str, name: &str) -> bool {
        let spool = join(&join(path, SPOOL_DIRECTORY), name);
        // As above.
        self.store.has_directory(&spool).await.unwrap_or(false)
    }

    /// Makes the folder at `path`.
    pub async fn make_folder(&self, path: &str) -> Result<()> {
        self.store.make_directory(path).await
    }

    /// Removes the empty folder at `path`.
    pub async fn remove_folder(&self, path: &str) -> Result<()> {
        self.store.remove_directory(path).await?;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.remove(path);
        Ok(())
    }

    /// The path of a folder's child.
    pub fn child_path(parent: &str, name: &str) -> String {
        join(parent, name)
    }
}

/// Names that a lake doesn't show: ours, and those that Delta and Hadoop hide.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == LOG_DIRECTORY
}
