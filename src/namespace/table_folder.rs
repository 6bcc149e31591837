//! A table's directory: `latest`, `history`, `versions/`, `staging/`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::lake::STAGING;
use super::{
    BRIEF, DirectoryEntry, DirectoryListing, FOREVER, Found, Namespace, Node, absent, inode::inode,
};
use crate::error::Result;
use crate::table::{Table, Version, VersionFacts, describe};

/// How old the newest known version may be: others' commits are seen after this at the latest.
const LOOK_AGE_MAX: Duration = Duration::from_millis(100);

impl Namespace {
    pub(super) async fn lookup_in_table(&self, table: &Arc<Table>, name: &str) -> Result<Found> {
        match name {
            "latest" => self.latest_found(table).await,
            "history" => self.history_found(table).await,
            "versions" => self.versions_found(table).await,
            STAGING => Ok(self.staging_area_found(table)),
            _ => Err(absent(OsStr::new(name))),
        }
    }

    pub(super) async fn list_table(&self, table: &Arc<Table>) -> Result<DirectoryListing> {
        let mut entries = Vec::with_capacity(4);
        // A table whose log is damaged still shows what can be shown of it.
        if let Ok(found) = self.history_found(table).await {
            entries.push(DirectoryEntry::new("history", found));
        }
        if let Ok(found) = self.latest_found(table).await {
            entries.push(DirectoryEntry::new("latest", found));
        }
        entries.push(DirectoryEntry::new(STAGING, self.staging_area_found(table)));
        entries.push(DirectoryEntry {
            name: "versions".into(),
            inode: inode("versions", &[table.store().url()]),
            kind: super::Kind::Directory,
            found: None,
        });
        Ok(DirectoryListing { entries, immutable: false })
    }

    pub(super) fn table_found(&self, table: &Arc<Table>) -> Found {
        // The number of the folder that it is, as its parent lists it: a listing that told another
        // one would take the directory away from under whoever stands in it.
        let number = inode("folder", &[table.store().url()]);
        let attributes = self.options.mounter.directory(number, self.newest_ms(table));
        self.standing(Node::Table(table.clone()), attributes)
    }

    pub(super) async fn latest_found(&self, table: &Arc<Table>) -> Result<Found> {
        let target = self.latest_target(table).await?;
        let number = inode("latest", &[table.store().url()]);
        let attributes =
            self.options.mounter.symlink(number, target.len() as u64, self.newest_ms(table));
        Ok(self.changing(Node::Latest(table.clone()), attributes))
    }

    /// The target of `latest`, relative to the table's directory.
    pub(super) async fn latest_target(&self, table: &Arc<Table>) -> Result<String> {
        table.fresh(LOOK_AGE_MAX).await?;
        let newest = table.newest()?;
        Ok(format!("versions/{newest}"))
    }

    pub(super) async fn history_found(&self, table: &Arc<Table>) -> Result<Found> {
        let size = self.history_text(table).await?.len() as u64;
        let number = inode("history", &[table.store().url()]);
        let attributes = self.options.mounter.file(number, size, self.newest_ms(table));
        Ok(self.changing(Node::History(table.clone()), attributes))
    }

    /// One line for each version, newest first: version, commit time, operation, files added and
    /// removed, bytes added and removed, engine; separated by tabs.
    pub(super) async fn history_text(&self, table: &Arc<Table>) -> Result<String> {
        table.fresh(LOOK_AGE_MAX).await?;
        table.read(|history| {
            let mut text = String::new();
            for version in history.versions().into_iter().rev() {
                if let Some(facts) = history.facts(version) {
                    write_history_line(&mut text, facts);
                }
            }
            text
        })
    }

    pub(super) async fn versions_found(&self, table: &Arc<Table>) -> Result<Found> {
        table.fresh(LOOK_AGE_MAX).await?;
        let number = inode("versions", &[table.store().url()]);
        let attributes = self.options.mounter.directory(number, self.newest_ms(table));
        Ok(self.standing(Node::Versions(table.clone()), attributes))
    }

    pub(super) async fn list_versions(&self, table: &Arc<Table>) -> Result<DirectoryListing> {
        table.fresh(LOOK_AGE_MAX).await?;
        let versions = table.read(|history| history.versions())?;
        let entries = versions
            .into_iter()
            .map(|version| {
                Ok(DirectoryEntry::new(version.to_string(), self.version_found(table, version)?))
            })
            .collect::<Result<_>>()?;
        Ok(DirectoryListing { entries, immutable: false })
    }

    pub(super) async fn lookup_version(&self, table: &Arc<Table>, name: &str) -> Result<Found> {
        let Some(version) = Version::parse(name) else { return Err(absent(OsStr::new(name))) };
        let is_known = table.read(|history| history.facts(version).is_some()).unwrap_or(false);
        table.fresh(if is_known { BRIEF } else { LOOK_AGE_MAX }).await?;
        let found = self.version_found(table, version);
        if found.is_err() {
            // Where the log is damaged nobody can say that there is no such version.
            table.newest()?;
        }
        found
    }

    /// The commit time of the newest version; of the mount where the table has none.
    fn newest_ms(&self, table: &Arc<Table>) -> i64 {
        let newest = table.read(|history| {
            let newest = history.newest().ok()?;
            history.facts(newest).map(|facts| facts.commit_time_ms)
        });
        newest.ok().flatten().unwrap_or(self.options.mounted_ms)
    }

    pub(super) fn staging_area_found(&self, table: &Arc<Table>) -> Found {
        let number = inode("staging", &[table.store().url()]);
        let attributes = self.options.mounter.directory(number, self.options.mounted_ms);
        Found {
            node: Node::StagingArea(table.clone()),
            attributes,
            name_lifetime: BRIEF,
            attributes_lifetime: FOREVER,
        }
    }
}

fn write_history_line(text: &mut String, facts: &VersionFacts) {
    let written = writeln!(
        text,
        "{}\t{}\t{}\t+{} -{} files\t+{} -{} bytes\t{}",
        facts.version,
        describe::rfc3339(facts.commit_time_ms),
        facts.operation.as_deref().unwrap_or("-"),
        facts.files_added,
        facts.files_removed,
        facts.bytes_added,
        facts.bytes_removed,
        facts.engine.as_deref().unwrap_or("-"),
    );
    written.expect("BUG: a String takes all that is written");
}
