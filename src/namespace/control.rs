//! `.deltafs/`: what a version, a table, a staging directory and the mount say of themselves.
//!
//! Contents are made when a file is looked up, so that its size is exact before it is opened; those
//! of versions never change and are kept.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::node::ControlOf;
use super::{
    CONTROL, DirectoryEntry, DirectoryListing, Found, Kind, Namespace, Node, Opened, Stamped,
    absent, inode::inode, read_only, version_folder,
};
use crate::error::{Error, Result};
use crate::table::staging::{OpenFor, Staging};
use crate::table::{Snapshot, Table, checksum, commit, describe};

/// Bytes of contents of version control files that are kept; the one used last always is, for it is
/// asked for three times in a row: lookup, stat, open.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// The control files of a staging directory that users write.
const WRITTEN: [&str; 2] = ["options", "properties"];
pub(super) const NOT_WRITTEN: &str = "a control file other than options and properties";

type Key = (String, Stamped, &'static str);

/// Contents of the control files of versions that were looked at last.
pub(super) struct ControlCache(Mutex<Kept>);

struct Kept {
    texts: LruCache<Key, Arc<str>>,
    bytes: usize,
}

impl Default for ControlCache {
    fn default() -> ControlCache {
        ControlCache(Mutex::new(Kept { texts: LruCache::unbounded(), bytes: 0 }))
    }
}

impl ControlCache {
    fn get(&self, key: &Key) -> Option<Arc<str>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.texts.get(key).cloned()
    }

    fn put(&self, key: Key, text: Arc<str>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += text.len();
        if let Some(old) = kept.texts.put(key, text) {
            kept.bytes -= old.len();
        }
        while kept.bytes > KEPT_BYTES_MAX && kept.texts.len() > 1 {
            let oldest = kept.texts.pop_lru();
            kept.bytes -= oldest.map_or(0, |(_, text)| text.len());
        }
    }
}

impl Namespace {
    /// Whose control directory the name `.deltafs` stands for in `parent`.
    pub(super) async fn control_of(&self, parent: &Node) -> Result<Option<ControlOf>> {
        Ok(match parent {
            Node::Folder(path) if path.is_empty() => Some(ControlOf::Mount),
            Node::Table(table) => Some(ControlOf::Table(table.clone())),
            Node::VersionFolder { table, version, path } if path.is_empty() => {
                Some(ControlOf::Version(table.clone(), *version))
            }
            Node::Staged { table, staging, id } if *id == staging.root_id() => {
                Some(ControlOf::Staging(table.clone(), staging.clone()))
            }
            _ => None,
        })
    }

    pub(super) fn control_folder(&self, of: ControlOf) -> Found {
        let number = control_inode(&of, self.registry.store().url(), "");
        let attributes = self.options.mounter.directory(number, self.options.mounted_ms);
        self.changing(Node::Control(of), attributes)
    }

    pub(super) async fn lookup_control(&self, of: &ControlOf, name: &str) -> Result<Found> {
        match self.control_names(of).find(|known| *known == name) {
            Some(name) => self.control_file_found(of, name).await,
            None => Err(absent(std::ffi::OsStr::new(name))),
        }
    }

    pub(super) async fn control_file_found(
        &self,
        of: &ControlOf,
        name: &'static str,
    ) -> Result<Found> {
        let size = self.control_text(of, name).await?.len() as u64;
        let number = control_inode(of, self.registry.store().url(), name);
        let modified_ms = match of {
            ControlOf::Version(_, version) => version.commit_ms,
            _ => self.options.mounted_ms,
        };
        let attributes = self.options.mounter.file(number, size, modified_ms);
        Ok(self.changing(Node::ControlFile { of: of.clone(), name }, attributes))
    }

    /// The entries carry no attributes: making every content for an `ls` would be waste.
    pub(super) fn list_control(&self, of: &ControlOf) -> DirectoryListing {
        let url = self.registry.store().url();
        let entries = self.control_names(of).map(|name| DirectoryEntry {
            name: name.into(),
            inode: control_inode(of, url, name),
            kind: Kind::File,
            found: None,
        });
        DirectoryListing { entries: entries.collect(), immutable: false }
    }

    pub(super) async fn open_control(
        &self,
        of: &ControlOf,
        name: &'static str,
        open: &OpenFor,
    ) -> Result<Opened> {
        if !open.write && !open.truncate {
            return Ok(Opened::Memory(self.control_text(of, name).await?.as_bytes().to_vec()));
        }
        match of {
            ControlOf::Staging(..) if WRITTEN.contains(&name) => {
                let now = match open.truncate {
                    true => Vec::new(),
                    false => self.control_text(of, name).await?.as_bytes().to_vec(),
                };
                Ok(Opened::Control(now))
            }
            _ => Err(read_only(NOT_WRITTEN)),
        }
    }

    /// The names in a control directory. Where the mount is one table, its root is both.
    fn control_names<'a>(&self, of: &'a ControlOf) -> impl Iterator<Item = &'static str> + use<'a> {
        let of_table: &[&str] = match of {
            ControlOf::Mount => &["commits"],
            _ => &[],
        };
        of_table.iter().chain(of.names()).copied()
    }

    async fn control_text(&self, of: &ControlOf, name: &'static str) -> Result<Arc<str>> {
        match of {
            ControlOf::Mount if name == "status" => Ok(self.mount_status().into()),
            ControlOf::Mount => Ok(self.registry.table("").commits().text().into()),
            ControlOf::Table(table) => Ok(table.commits().text().into()),
            ControlOf::Version(table, version) => self.version_text(table, *version, name).await,
            ControlOf::Staging(table, staging) => Ok(match name {
                "changes" => commit::changes(table, staging).await?.into(),
                "options" => staging.options_text().into(),
                "properties" => staging.properties_text().into(),
                "result" => staging.result_text().into(),
                _ => staging_status(table, staging).into(),
            }),
        }
    }

    /// What the daemon is, and the staging directories of the tables that were walked to.
    fn mount_status(&self) -> String {
        let mut text = self.options.about.clone();
        for table in self.registry.known() {
            for staging in table.staging().list() {
                let path = match table.path() {
                    "" => format!("staging/{}", staging.name()),
                    path => format!("{path}/staging/{}", staging.name()),
                };
                writeln!(text, "staging {path}").expect("BUG: a String takes all");
            }
            for line in table.commits().text().lines() {
                writeln!(text, "commit {} {line}", table.path()).expect("BUG: a String takes all");
            }
        }
        text
    }

    async fn version_text(
        &self,
        table: &Arc<Table>,
        stamped: Stamped,
        name: &'static str,
    ) -> Result<Arc<str>> {
        version_folder::still_there(table, stamped)?;
        let version = stamped.version;
        let key = (table.store().url().to_string(), stamped, name);
        if let Some(text) = self.controls.get(&key) {
            return Ok(text);
        }
        let text: Arc<str> = match name {
            "files" => {
                let snapshot = Snapshot::load(table.store(), Some(version)).await?;
                describe::files(&snapshot).into()
            }
            "missing" => describe::missing(table, version).await?.into(),
            "checksum" => checksum::text(table, version).await?.into(),
            _ => table
                .read(|history| {
                    let facts = history.facts(version).ok_or_else(|| {
                        Error::NotFound(format!("{CONTROL}: no version {version}"))
                    })?;
                    Ok::<_, Error>(match name {
                        "commit.json" => describe::commit(facts),
                        "schema.json" => facts.metadata.schema_string.clone(),
                        _ => describe::properties(facts),
                    })
                })??
                .into(),
        };
        // What the store has lost, or has again, is asked anew each time; so is whether there is a
        // checksum by now.
        let is_kept = name != "missing" && !(name == "checksum" && &*text == "absent\n");
        if is_kept {
            self.controls.put(key, text.clone());
        }
        Ok(text)
    }
}

/// The staging directory's own lines, and why what was said of its commit is refused.
fn staging_status(table: &Table, staging: &Staging) -> String {
    let mut text = staging.status_text();
    let refused = [
        commit::options::Options::parse(&staging.options_text()).map(drop),
        commit::properties::check(table, &staging.properties_text()),
    ];
    for error in refused.into_iter().filter_map(Result::err) {
        writeln!(text, "refused={error}").expect("BUG: a String takes all that is written");
    }
    text
}

/// Takes what was written to a control file of a staging directory. It is kept though it may be
/// refused: a shell ignores a failed close, and the next sync must not go on with something else
/// than was asked for.
pub(super) fn write(table: &Table, staging: &Staging, name: &str, content: &[u8]) -> Result<()> {
    let text = || {
        let text = std::str::from_utf8(content);
        text.map_err(|_| Error::Refused(format!("{name}: not UTF-8")))
    };
    match name {
        "options" => {
            staging.set_options(text()?)?;
            commit::options::Options::parse(text()?).map(drop)
        }
        "properties" => {
            staging.set_properties(text()?)?;
            commit::properties::check(table, text()?)
        }
        _ => Err(read_only(NOT_WRITTEN)),
    }
}

fn control_inode(of: &ControlOf, url: &str, name: &str) -> u64 {
    match of {
        ControlOf::Mount => inode("control", &[url, name]),
        ControlOf::Table(table) => inode("table control", &[table.store().url(), name]),
        ControlOf::Version(table, version) => {
            inode("version control", &[table.store().url(), &version.to_string(), name])
        }
        ControlOf::Staging(table, staging) => {
            inode("staging control", &[table.store().url(), staging.name(), name])
        }
    }
}
