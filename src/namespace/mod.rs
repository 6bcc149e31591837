//! What is at a path: the tree of DESIGN.md 1, as nodes with attributes.
//!
//! Every call is async and ready at once where the answer is in memory, so that `fs` can answer on
//! the kernel's own thread. Nothing here changes a table but [`Namespace::sync_directory`], which
//! hands a staging directory to `table::commit`. What the kernel asked is the business of `fs`.

mod attributes;
mod control;
mod inode;
mod lake;
mod log_folder;
mod node;
mod staging_folder;
mod table_folder;
mod version_folder;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::table::commit;
use crate::table::staging::{OpenFor, Owner, Reference, StagedFile};
use crate::table::{Registry, Table};
pub use attributes::{Attributes, BRIEF, FOREVER, Kind, Mounter, NEVER, STAGED};
pub use inode::ROOT;
pub use node::{ControlOf, DataFile, Node, Stamped};

/// The name of control directories; found by name and never listed.
pub const CONTROL: &str = ".deltafs";

/// What was found at a name.
#[derive(Clone)]
pub struct Found {
    pub node: Node,
    pub attributes: Attributes,
    /// How long the kernel may keep the name.
    pub name_lifetime: Duration,
    /// How long the kernel may keep the attributes.
    pub attributes_lifetime: Duration,
}

/// One entry of a directory.
#[derive(Clone)]
pub struct DirectoryEntry {
    pub name: OsString,
    pub inode: u64,
    pub kind: Kind,
    /// Node and attributes where they cost nothing; else the kernel looks the name up.
    pub found: Option<Box<Found>>,
}

/// A directory as it stood when it was opened, without `.` and `..`.
#[derive(Clone)]
pub struct DirectoryListing {
    pub entries: Vec<DirectoryEntry>,
    /// The kernel may keep it for ever.
    pub immutable: bool,
}

/// An opened file.
pub enum Opened {
    /// A file of the table on local disk: immutable, and open to passthrough.
    Local { file: File, size: u64 },
    /// Content taken when it was opened.
    Memory(Vec<u8>),
    /// A staged file.
    Staged(StagedFile),
    /// A control file open for writing, with what it holds now.
    Control(Vec<u8>),
}

/// What a mount is told besides its source.
#[derive(Clone, Debug)]
pub struct NamespaceOptions {
    pub mounter: Mounter,
    /// When the mount began, for directories that have no time of their own.
    pub mounted_ms: i64,
    /// Lines of `.deltafs/status` that the daemon knows: `key value`.
    pub about: String,
}

/// The tree of one mount.
pub struct Namespace {
    registry: Registry,
    options: NamespaceOptions,
    controls: control::ControlCache,
}

impl Namespace {
    /// The tree over the lake, or the one table, of `registry`.
    pub fn new(registry: Registry, options: NamespaceOptions) -> Arc<Namespace> {
        Arc::new(Namespace { registry, options, controls: control::ControlCache::default() })
    }

    /// The root of the mount, as it is before anybody looked.
    pub fn root(&self) -> Found {
        let attributes = self.options.mounter.directory(ROOT, self.options.mounted_ms);
        self.standing(Node::Folder("".into()), attributes)
    }

    /// Finds `name` in a directory. Errors: [`Error::NotFound`], and what the store or the log say.
    pub async fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Found> {
        let Some(text) = name.to_str() else {
            // Only staged files can have names that are not UTF-8.
            return match parent {
                Node::Staged { table, staging, id } => {
                    self.lookup_staged(table, staging, *id, name)
                }
                _ => Err(absent(name)),
            };
        };
        if name.len() > 255 {
            return Err(Error::NameTooLong(format!("{text}: longer than 255 bytes")));
        }
        if text == CONTROL
            && let Some(of) = self.control_of(parent).await?
        {
            return Ok(self.control_folder(of));
        }
        match parent {
            Node::Folder(path) => self.lookup_in_folder(path, text).await,
            Node::Table(table) => self.lookup_in_table(table, text).await,
            Node::Versions(table) => self.lookup_version(table, text).await,
            Node::VersionFolder { table, version, path } => {
                self.lookup_in_version(table, *version, path, text).await
            }
            Node::LogFolder { table, version, sidecars } => {
                self.lookup_in_log(table, *version, *sidecars, text)
            }
            Node::StagingArea(table) => self.lookup_staging(table, text).await,
            Node::Staged { table, staging, id } => self.lookup_staged(table, staging, *id, name),
            Node::Control(of) => self.lookup_control(of, text).await,
            Node::Latest(_)
            | Node::History(_)
            | Node::DataFile { .. }
            | Node::LogFile { .. }
            | Node::LastCheckpoint { .. }
            | Node::ControlFile { .. } => {
                Err(Error::NotDirectory(format!("{text}: its parent is not a directory")))
            }
        }
    }

    /// What `stat` says now, and for how long.
    pub async fn attributes(&self, node: &Node) -> Result<(Attributes, Duration)> {
        let found = match node {
            Node::Folder(path) => self.folder_found(path).await?,
            Node::Table(table) => self.table_found(table),
            Node::Latest(table) => self.latest_found(table).await?,
            Node::History(table) => self.history_found(table).await?,
            Node::Versions(table) => self.versions_found(table).await?,
            Node::VersionFolder { table, version, path } => {
                version_folder::still_there(table, *version)?;
                self.version_folder_found(table, *version, path)
            }
            Node::DataFile { table, file } => self.data_file_found(table, file.clone()),
            Node::LogFolder { table, version, sidecars } => {
                version_folder::still_there(table, *version)?;
                self.log_folder_found(table, *version, *sidecars)
            }
            Node::LogFile { table, file, modified_ms } => {
                self.log_file_found(table, file.clone(), *modified_ms)
            }
            Node::LastCheckpoint { table, last, modified_ms } => {
                self.last_checkpoint_found(table, last.clone(), *modified_ms)
            }
            Node::StagingArea(table) => self.staging_area_found(table),
            Node::Staged { table, staging, id } => {
                self.staged_found(table, staging, staging.stat(*id)?)
            }
            Node::Control(of) => self.control_folder(of.clone()),
            Node::ControlFile { of, name } => self.control_file_found(of, name).await?,
        };
        Ok((found.attributes, found.attributes_lifetime))
    }

    /// Lists a directory as it stands.
    pub async fn list(&self, node: &Node) -> Result<DirectoryListing> {
        match node {
            Node::Folder(path) => self.list_folder(path).await,
            Node::Table(table) => self.list_table(table).await,
            Node::Versions(table) => self.list_versions(table).await,
            Node::VersionFolder { table, version, path } => {
                self.list_version(table, *version, path).await
            }
            Node::LogFolder { table, version, sidecars } => {
                self.list_log(table, *version, *sidecars)
            }
            Node::StagingArea(table) => self.list_staging(table).await,
            Node::Staged { table, staging, id } => self.list_staged(table, staging, *id),
            Node::Control(of) => Ok(self.list_control(of)),
            Node::Latest(_)
            | Node::History(_)
            | Node::DataFile { .. }
            | Node::LogFile { .. }
            | Node::LastCheckpoint { .. }
            | Node::ControlFile { .. } => Err(Error::NotDirectory("not a directory".into())),
        }
    }

    /// The target of a symlink.
    pub async fn read_link(&self, node: &Node) -> Result<OsString> {
        match node {
            Node::Latest(table) => self.latest_target(table).await.map(OsString::from),
            _ => Err(Error::Refused("not a symlink".into())),
        }
    }

    /// Opens a file. Errors: [`Error::ReadOnly`] for writes outside staging, [`Error::Damaged`]
    /// where the store has not what the log says.
    pub async fn open(&self, node: &Node, open: OpenFor) -> Result<Opened> {
        if let Node::Staged { staging, id, .. } = node {
            return Ok(Opened::Staged(staging.open(*id, open)?));
        }
        if let Node::ControlFile { of, name } = node {
            return self.open_control(of, name, &open).await;
        }
        if open.write || open.truncate {
            return Err(read_only("a version, and all that is not staged"));
        }
        match node {
            Node::DataFile { table, file } => {
                let opened = table.open_file(&file.path, file.size)?;
                Ok(Opened::Local { file: opened, size: file.size })
            }
            Node::LogFile { table, file, .. } => {
                let opened = table.open_file(&file.path(), file.size)?;
                Ok(Opened::Local { file: opened, size: file.size })
            }
            Node::LastCheckpoint { last, .. } => Ok(Opened::Memory(last.bytes.to_vec())),
            Node::History(table) => Ok(Opened::Memory(self.history_text(table).await?.into())),
            _ => Err(Error::IsDirectory("a directory can't be read as a file".into())),
        }
    }

    /// Takes what was written to a control file. Errors: [`Error::Refused`] says what it takes.
    pub fn write_control(&self, node: &Node, content: &[u8]) -> Result<()> {
        match node {
            Node::ControlFile { of: ControlOf::Staging(table, staging), name } => {
                control::write(table, staging, name, content)
            }
            _ => Err(read_only(control::NOT_WRITTEN)),
        }
    }

    /// Makes a directory: a folder of the lake, a staging directory, or one within it.
    pub async fn make_directory(
        &self,
        parent: &Node,
        name: &OsStr,
        mode: u32,
        owner: Owner,
    ) -> Result<Found> {
        if let Node::Staged { table, staging, id } = parent {
            let stat = staging.make_directory(*id, name, mode, owner)?;
            return Ok(self.staged_found(table, staging, stat));
        }
        if self.registry.is_read_only() {
            return Err(read_only("a mount with --read-only"));
        }
        let Some(text) = name.to_str() else {
            return Err(Error::Refused(format!("{}: not UTF-8", name.display())));
        };
        match parent {
            Node::Folder(path) => self.make_folder(path, text).await,
            Node::StagingArea(table) => self.begin_staging(table, text, mode, owner).await,
            _ => Err(read_only("all that is not staged")),
        }
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, parent: &Node, name: &OsStr) -> Result<()> {
        if let Node::Staged { staging, id, .. } = parent {
            return staging.remove_directory(*id, name);
        }
        if self.registry.is_read_only() {
            return Err(read_only("a mount with --read-only"));
        }
        match parent {
            Node::Folder(path) => self.remove_folder(path, name).await,
            Node::StagingArea(table) => table.abandon_staging(name).await,
            _ => Err(read_only("all that is not staged")),
        }
    }

    /// What a link or a copy from a version into staging refers to; `None` for all that is not a
    /// data file of a version.
    pub fn reference(&self, node: &Node) -> Option<(Arc<Table>, Reference)> {
        let Node::DataFile { table, file } = node else { return None };
        let reference =
            Reference { path: file.path.clone(), size: file.size, modified_ms: file.modified_ms };
        file.is_data.then(|| (table.clone(), reference))
    }

    /// What fsync of a directory means: a commit for the root of a staging directory, durability
    /// for a directory in it, nothing elsewhere.
    pub async fn sync_directory(&self, node: &Node) -> Result<()> {
        match node {
            Node::Staged { table, staging, id } if *id == staging.root_id() => {
                commit::commit(table, staging).await.map(|_| ())
            }
            Node::Staged { staging, id, .. } => staging.sync_directory(*id),
            _ => Ok(()),
        }
    }

    /// Something that never changes.
    fn immutable(&self, node: Node, attributes: Attributes) -> Found {
        Found { node, attributes, name_lifetime: FOREVER, attributes_lifetime: FOREVER }
    }

    /// A directory that stands, as far as anybody knows who looked a moment ago.
    fn standing(&self, node: Node, attributes: Attributes) -> Found {
        Found { node, attributes, name_lifetime: BRIEF, attributes_lifetime: BRIEF }
    }

    /// Something that may be another thing the next time.
    fn changing(&self, node: Node, attributes: Attributes) -> Found {
        Found { node, attributes, name_lifetime: NEVER, attributes_lifetime: NEVER }
    }
}

impl DirectoryEntry {
    /// An entry whose node is known.
    fn new(name: impl Into<OsString>, found: Found) -> DirectoryEntry {
        DirectoryEntry {
            name: name.into(),
            inode: found.attributes.inode,
            kind: found.attributes.kind,
            found: Some(Box::new(found)),
        }
    }
}

fn absent(name: &OsStr) -> Error {
    Error::NotFound(format!("{}: nothing of that name", name.display()))
}

fn read_only(what: &str) -> Error {
    Error::ReadOnly(format!("{what} can't be written; bring files to staging/NAME and sync it"))
}
