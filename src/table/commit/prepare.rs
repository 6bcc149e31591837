//! What is known of a staging directory before any table is looked at: options, files, footers,
//! and the staged log where there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::digests;
use super::examine::{self, Opened};
use super::facts::blocking;
use super::holes;
use super::manifest::Manifest;
use super::options::Options;
use super::plan::{Newest, is_on};
use super::properties::Properties;
use crate::error::{Error, Result};
use crate::log::action::Action;
use crate::log::history::History;
use crate::log::listing::{commit_name, log_path};
use crate::store::Store;
use crate::table::staging::{Content, StagedEntry};
use crate::table::{FilePath, Progress, Snapshot, Version};

/// Footers that are read at a time.
const FOOTERS_AT_ONCE: usize = 8;

/// A staging directory, read.
pub struct Prepared {
    pub options: Options,
    pub properties: Properties,
    pub manifest: Manifest,
    pub log: Option<StagedLog>,
    /// Data files with their footers; none where a staged log speaks for them.
    pub opened: Arc<Vec<Opened>>,
    /// Rows of the data files beside a staged log, as far as they lie in the spool.
    pub rows: BTreeMap<FilePath, i64>,
}

/// A staged `_delta_log`.
pub struct StagedLog {
    /// Its newest version.
    pub snapshot: Snapshot,
    history: History,
    /// Files of the change data feed, which may lie beside the data.
    change_data: BTreeSet<FilePath>,
}

impl Prepared {
    /// Reads what was staged. `log_store`: the staged tree, where it has a log. Errors: what keeps
    /// it from being committed to any table, by name.
    pub async fn read(
        entries: Vec<StagedEntry>,
        (options, properties): (&str, &str),
        log_store: Option<Store>,
        table: &Store,
        progress: &Progress,
    ) -> Result<Prepared> {
        let options = Options::parse(options)?;
        let properties = Properties::parse(properties)?;
        let mut manifest = Manifest::of(entries)?;
        let mut digested = BTreeSet::new();
        if let Some(list) = manifest.digests.clone() {
            // Before the log is read, for it may be what was damaged.
            let (files, store) = (manifest.with_digests(), table.clone());
            let progress = progress.clone();
            let check = move || digests::check(&list, &files, &store, &progress);
            digested = blocking(check).await?;
        }
        let digested = Arc::new(digested);
        let holes = |entries: Vec<StagedEntry>| {
            let (store, digested) = (table.clone(), digested.clone());
            blocking(move || holes::check(&entries, &digested, &store))
        };
        holes(manifest.serving.clone()).await?;
        let log = match log_store {
            Some(_) if !manifest.has_log => return Err(empty_log()),
            Some(store) => {
                let store = store.seen_from(table);
                Some(StagedLog::read(&store, &options, &properties).await?)
            }
            None => None,
        };
        if let Some(log) = &log {
            manifest.take_in(|path| log.names(path));
        }
        holes(manifest.data()).await?;
        if log.is_none() {
            let (hidden, store) = (manifest.hidden(), table.clone());
            let check = move || hidden.iter().try_for_each(|it| examine::check_hidden(it, &store));
            blocking(check).await?;
        }
        let (mut opened, mut rows) = (Vec::new(), BTreeMap::new());
        let mut wanted = manifest.files.clone();
        wanted.retain(|file| {
            // A reference's bytes are the table's own, and its log speaks for them.
            let is_spooled = matches!(file.entry.content, Content::Spooled(_));
            log.is_none() || (is_spooled && !file.is_vector())
        });
        progress.count("reads footers", wanted.len() as u64, 0);
        let store = table.clone();
        let footers = wanted.into_iter().map(move |file| {
            let store = store.clone();
            blocking(move || examine::read_footer(&file, &store))
        });
        let mut footers = stream::iter(footers).buffered(FOOTERS_AT_ONCE);
        while let Some(file) = footers.try_next().await? {
            progress.advance(1, 0);
            // A backup may have very many files, and of these no more is needed.
            match log.is_some() {
                true => drop(rows.insert(file.path, file.footer.rows())),
                false => opened.push(file),
            }
        }
        drop(footers);
        if let Some(log) = &log {
            // Spark leaves files without rows behind that its log never names; nothing is lost.
            manifest.leave_out(|file| rows.get(&file.path) == Some(&0) && !log.names(&file.path));
        }
        Ok(Prepared { options, properties, manifest, log, opened: Arc::new(opened), rows })
    }

    /// The table that the files are to fit: the newest version, or one that is made for them, with
    /// the properties. `None`: there is none, and nothing to make one of.
    /// Errors: [`Error::Refused`] for files that make no table, and for properties.
    pub fn table(
        &self,
        newest: Option<&Newest>,
        unique: &str,
        now_ms: i64,
    ) -> Result<Option<Newest>> {
        match (newest, self.opened.first()) {
            (Some(newest), _) => self.properties.applied(newest, None, unique).map(Some),
            (None, Some(first)) => {
                let table = examine::new_table(&self.opened, unique.to_owned(), now_ms)?;
                self.properties.applied(&table, Some(first), unique).map(Some)
            }
            (None, None) if self.properties.is_empty() => Ok(None),
            (None, None) => Err(Error::Refused(
                "there is no table yet to set properties of; bring its first file too".into(),
            )),
        }
    }
}

/// Tools make folders before files; without its log a table would be appended, rows and all.
fn empty_log() -> Error {
    Error::Busy(
        "_delta_log is empty: a tool that brings a table was interrupted; let it finish, or remove \
         the directory to append the files"
            .into(),
    )
}

impl StagedLog {
    async fn read(store: &Store, options: &Options, properties: &Properties) -> Result<StagedLog> {
        let doing = "the staged _delta_log can't be restored from, bring a whole one";
        if options.said_mode.is_some() || options.merge_schema.is_some() {
            return Err(Error::Refused(
                "a staged _delta_log makes the table what it says: the options mode and \
                 merge_schema have no meaning beside it; take them out of \
                 .deltafs/options"
                    .into(),
            ));
        }
        if !properties.is_empty() {
            return Err(Error::Refused(
                "a staged _delta_log makes the table what it says, its properties too; empty \
                 .deltafs/properties, and set them afterwards in a staging directory of their own"
                    .into(),
            ));
        }
        let history = History::load(store).await.map_err(|error| error.during(doing))?;
        let newest = history.newest().map_err(|error| error.during(doing))?;
        let snapshot =
            Snapshot::load(store, Some(newest)).await.map_err(|error| error.during(doing))?;
        let change_data =
            change_data(store, &history).await.map_err(|error| error.during(doing))?;
        Ok(StagedLog { snapshot, history, change_data })
    }

    /// Whether any version of the staged log names a file.
    pub fn names(&self, path: &FilePath) -> bool {
        self.history.intervals().ever_held(path.as_str())
            || self.change_data.contains(path)
            || self.snapshot.removes.keys().any(|(removed, _)| removed == path.as_str())
    }
}

/// The files that `cdc` actions name, where any version has a change data feed. They are no part of
/// a version, so no snapshot has them.
async fn change_data(store: &Store, history: &History) -> Result<BTreeSet<FilePath>> {
    let mut named = BTreeSet::new();
    let has_feed = |version: &Version| {
        let facts = history.facts(*version);
        facts.is_some_and(|facts| is_on(&facts.metadata, "delta.enableChangeDataFeed"))
    };
    for version in history.versions().into_iter().filter(has_feed) {
        let bytes = match store.read(&log_path(&commit_name(version))).await {
            Ok(bytes) => bytes,
            // The version stands in a checkpoint alone.
            Err(Error::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(Some(Action::Cdc(cdc))) = Action::from_line(line)
                && let Some(path) = cdc.get("path").and_then(serde_json::Value::as_str)
            {
                match FilePath::from_log(path) {
                    Ok(path) => drop(named.insert(path)),
                    // Outside of the table's folder: nothing of it can be staged.
                    Err(Error::Unsupported(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(named)
}
