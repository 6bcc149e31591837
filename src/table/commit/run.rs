//! Drives one commit from the seal to the proof.
//!
//! ```text
//! settle what an earlier attempt left → seal → read what was staged
//!      → look at the table → plan → publish data → journal → send → proof → empty the staging
//!             ↑   |                                ↑        |
//!             |   |__ rebase, where none of the winners ____|  another commit got in between
//!             |       is in conflict with the plan
//!             |_______ else all of it again
//! ```
//!
//! Invariants. Nothing of a plan is visible before its log entry is there, and its data is durable
//! before the entry is sent. The entry is journaled before it is sent, under a txnId that stays the
//! same for as long as the version that it was sent as is open: whichever of two sends lands, it is
//! found to be ours. An error before the entry was sent leaves the staging directory as it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint;
use super::checksum;
use super::facts::blocking;
use super::import;
use super::plan::{Kind, Plan};
use super::planner::{self, Planner};
use super::prepare::Prepared;
use super::publish::{Publications, Published};
use super::report::{self, CommitSummary};
use super::send::{Author, Sent, author, send};
use crate::error::{Error, Result};
use crate::log::action::Action;
use crate::table::staging::{Attempt, Held, Sealed, StagedIdentity};
use crate::table::{BoardLine, FilePath, Table, Version};

/// How often a commit is planned again because another one got in between.
const TRIES_MAX: u32 = if cfg!(test) { 40 } else { 1000 };
/// Longest pause between two tries; they are spread below it, so that two daemons don't keep step.
const PAUSE_MS_MAX: u64 = 50;

/// A commit that ended well.
pub struct Done {
    pub summary: CommitSummary,
    /// What is taken out of the staging directory now.
    pub staged: Vec<StagedIdentity>,
    /// The properties that the table has now, as they were set.
    pub properties: String,
}

/// A commit under way.
pub struct Run<'a> {
    pub table: &'a Arc<Table>,
    pub sealed: &'a Arc<Sealed>,
    pub line: &'a BoardLine<'a>,
    pub prepared: &'a Prepared,
    pub publications: Publications,
    /// The version that was sent last, and the txnId it was sent under.
    pub slot: Option<(Version, String)>,
    planner: Planner,
    /// A plan that was whole, and lost its version to another commit.
    lost: Option<Plan>,
}

/// What the journal has in place of a txnId where nothing was sent: the transaction was found.
const FOUND_PREFIX: &str = "in the table: ";

/// What became of one try.
enum Try {
    Done(Done),
    /// Another commit, or another file, was there first.
    Again,
}

/// Commits what was sealed. `slot`: the version and txnId of an attempt that may still arrive,
/// whose files these are. Errors: the store's, and what the table refuses.
pub async fn run(
    table: &Arc<Table>,
    sealed: &Arc<Sealed>,
    slot: Option<(Version, String)>,
    line: &BoardLine<'_>,
) -> Result<Done> {
    line.tell("reads what was staged");
    let (entries, log_store) = {
        let sealed = sealed.clone();
        blocking(move || {
            // The staged log first: reading it may make files of references.
            let log_store = sealed.log_store()?;
            Ok((sealed.files()?, log_store))
        })
        .await?
    };
    let lines = (sealed.options(), sealed.properties());
    let prepared = Prepared::read(entries, lines, log_store, table.store(), line).await?;
    let mut run = Run {
        table,
        sealed,
        line,
        prepared: &prepared,
        publications: Publications::default(),
        slot,
        planner: Planner::telling(line),
        lost: None,
    };
    let result = run.until_done().await;
    // A journaled attempt knows its files by these times, and whoever settles it needs all of them.
    if result.is_err() && matches!(sealed.attempt(), Ok(None)) {
        run.publications.give_times_back();
    }
    result
}

impl Run<'_> {
    async fn until_done(&mut self) -> Result<Done> {
        for tries in 0..TRIES_MAX {
            if tries > 0 {
                self.line.tell(format!("plans again: another commit was first ({tries})"));
                let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
                let pause = PAUSE_MS_MAX.min(u64::from(tries)) * spread / 255;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            if let Try::Done(done) = self.once().await? {
                return Ok(done);
            }
        }
        Err(Error::Busy(format!("other commits were first {TRIES_MAX} times in a row; sync again")))
    }

    async fn once(&mut self) -> Result<Try> {
        self.line.tell("looks at the table");
        self.table.refresh().await?;
        let prepared = self.prepared;
        let newest = planner::look(self.table)?;
        if let (Some((sent, _)), Some(newest)) = (&self.slot, &newest)
            && newest.version >= *sent
        {
            // Somebody has the version now, and it may be us: what was sent arrived late.
            match settle(self.table, self.sealed).await? {
                Settled::Committed(done) => return Ok(Try::Done(done)),
                Settled::Open(slot) => self.slot = slot,
                Settled::Spent => {
                    self.clear_attempt().await?;
                    self.slot = None;
                }
            }
        }
        if let Some(newest) = &newest
            && let Some(txn) = written_txn(self.table, prepared, newest.version)?
        {
            return Ok(Try::Done(self.nothing(newest.version, &txn).await?));
        }
        if newest.is_none() && prepared.log.is_some() {
            return match import::run(self).await? {
                Some(done) => Ok(Try::Done(done)),
                None => Ok(Try::Again),
            };
        }
        let plan = match (self.lost.take(), &newest) {
            (Some(lost), Some(newest)) => {
                self.planner.again(self.table, prepared, lost, newest).await?
            }
            (Some(_), None) | (None, _) => None,
        };
        let plan = match plan {
            Some(plan) => plan,
            None => self.planner.plan(self.table, prepared, newest, &self.publications).await?,
        };
        if !plan.uploads.is_empty() {
            // A full spool is noticed here, while nothing is published.
            let sealed = self.sealed.clone();
            blocking(move || sealed.set_result(&report::text(&report::running()))).await?;
        }
        self.sealed.uploading();
        self.publications.keeps_times = self.slot.is_some();
        let published = self.publications.publish(
            self.table.store(),
            self.sealed,
            &prepared.manifest.files,
            &plan.uploads,
            self.line,
        );
        let published = published.await?;
        if published == Published::NameTaken {
            return Ok(Try::Again);
        }
        if plan.actions.is_empty() {
            let mut summary = self.summary(None, plan.kind, &plan);
            if !prepared.properties.is_empty() {
                summary.reason = Some("the table has these properties already".into());
            }
            return Ok(Try::Done(self.done(summary, self.all_staged().await?)));
        }
        self.send(plan).await
    }

    /// Journals the plan's entry and sends it.
    async fn send(&mut self, plan: Plan) -> Result<Try> {
        // Before the journal, which has the staged files' times. What may still arrive from an
        // earlier run was made new then, and its journal must go on to know the files.
        let is_sent = self.slot.as_ref().is_some_and(|(version, _)| *version == plan.version);
        let new = if is_sent { Vec::new() } else { not_live(self.table, &plan).await? };
        if !self.publications.touch(self.table.store(), &new).await? {
            return Ok(Try::Again);
        }
        let (txn_id, in_flight) = match self.slot.take() {
            Some((version, txn_id)) if version == plan.version => (txn_id, true),
            _ => (uuid::Uuid::new_v4().to_string(), false),
        };
        self.slot = Some((plan.version, txn_id.clone()));
        let summary = self.summary(Some(plan.version), plan.kind, &plan);
        let staged = self.journal(&txn_id, plan.version, &summary, None).await?.files;
        self.line.tell(format!("sends version {}", plan.version));
        let entry = plan.entry(&txn_id).into();
        match send(self.table.store(), plan.version, entry, &txn_id, in_flight).await? {
            Sent::Committed => {
                let metadata = plan.actions.iter().find_map(|action| match action {
                    Action::MetaData(metadata) => Some(metadata.clone()),
                    _ => None,
                });
                self.after(plan.version, metadata).await;
                Ok(Try::Done(self.done(summary, staged)))
            }
            Sent::Lost => {
                // Settled: the version is another's. If the next plan is refused, the staging
                // directory must be open to the user again.
                self.clear_attempt().await?;
                self.lost = Some(plan);
                Ok(Try::Again)
            }
            Sent::NotThere(error) => {
                self.clear_attempt().await?;
                Err(error.during(&format!("commit version {}", plan.version)))
            }
        }
    }

    /// Journals an attempt, with the staged files as they are now, after they were published.
    pub async fn journal(
        &self,
        txn_id: &str,
        version: Version,
        summary: &CommitSummary,
        log_folder: Option<(u64, u64)>,
    ) -> Result<Attempt> {
        let (sealed, attempt) = (
            self.sealed.clone(),
            Attempt {
                txn_id: txn_id.to_owned(),
                version: version.0,
                result: summary.to_json(),
                options: self.sealed.options().to_owned(),
                properties: self.sealed.properties().to_owned(),
                log_folder,
                files: Vec::new(),
            },
        );
        blocking(move || {
            let files = sealed.files()?.into_iter().map(|entry| entry.identity).collect();
            let attempt = Attempt { files, ..attempt };
            sealed.record_attempt(&attempt)?;
            Ok(attempt)
        })
        .await
    }

    /// Takes the journaled attempt back: it is known not to be in the table.
    pub async fn clear_attempt(&self) -> Result<()> {
        let sealed = self.sealed.clone();
        blocking(move || sealed.clear_attempt()).await
    }

    /// What follows a commit; no failure here is one of the commit.
    async fn after(&self, version: Version, metadata: Option<crate::log::action::Metadata>) {
        if let Err(error) = self.table.refresh().await {
            tracing::warn!(table = self.table.label(), "look at the new version: {error}");
        }
        checksum::spawn(self.table.clone(), version);
        let known = self.table.read(|history| history.facts(version).map(|f| f.metadata.clone()));
        let metadata = metadata.map(Arc::new).or_else(|| known.ok().flatten());
        if metadata.is_some_and(|metadata| checkpoint::is_due(version, &metadata)) {
            checkpoint::spawn(self.table.store().clone(), version);
        }
    }

    /// What is staged was committed before, says its transaction. Journaled, for a crash between
    /// the end of the transaction and that of the files would make either serve the next batch.
    async fn nothing(&self, newest: Version, txn: &str) -> Result<Done> {
        let kind = kind(self.prepared, true);
        let counts = super::plan::Counts::default();
        let manifest = &self.prepared.manifest;
        let mut summary = CommitSummary::new(None, kind, counts, 0, manifest.left_out_paths());
        let taken = match manifest.files.len() {
            0 => String::new(),
            1 => "; 1 staged file was taken away".to_owned(),
            more => format!("; {more} staged files were taken away"),
        };
        summary.reason = Some(format!("txn {txn} is in the table already{taken}"));
        let staged = self.all_staged().await?;
        if !staged.is_empty() {
            self.journal(&format!("{FOUND_PREFIX}{txn}"), newest, &summary, None).await?;
        }
        Ok(self.done(summary, staged))
    }

    /// A commit of ours that ended well.
    pub fn done(&self, summary: CommitSummary, staged: Vec<StagedIdentity>) -> Done {
        Done { summary, staged, properties: self.sealed.properties().to_owned() }
    }

    pub fn summary(&self, version: Option<Version>, kind: Kind, plan: &Plan) -> CommitSummary {
        let left_out = self.prepared.manifest.left_out_paths();
        let restored = self.prepared.log.as_ref().map(|log| log.snapshot.version);
        let bytes = self.publications.bytes;
        CommitSummary {
            restored,
            ..CommitSummary::new(version, kind, plan.counts, bytes, left_out)
        }
    }

    /// What is staged, where it is all in the table; nothing, where nothing of it was data.
    async fn all_staged(&self) -> Result<Vec<StagedIdentity>> {
        let manifest = &self.prepared.manifest;
        if manifest.files.is_empty() && !manifest.has_log {
            return Ok(Vec::new());
        }
        let sealed = self.sealed.clone();
        let identities = move || {
            sealed.files().map(|files| files.into_iter().map(|entry| entry.identity).collect())
        };
        blocking(identities).await
    }
}

/// The files that a plan's entry names and the version before it doesn't.
async fn not_live(table: &Arc<Table>, plan: &Plan) -> Result<Vec<FilePath>> {
    let (mut files, mut vectors) = (Vec::new(), BTreeSet::new());
    let reach = table.store().reach();
    for action in &plan.actions {
        if let Action::Add(add) = action {
            match FilePath::from_log(&add.path) {
                Ok(path) => files.push(path),
                // Outside of the table's folder, where nothing of ours is.
                Err(Error::Unsupported(_)) => {}
                Err(error) => return Err(error),
            }
            let vector = add.deletion_vector.as_ref().map(|vector| vector.file(&reach));
            vectors.extend(vector.transpose()?.flatten());
        }
    }
    if let Some(newest) = plan.version.0.checked_sub(1).map(Version) {
        table.files(newest).await?.read(|era| {
            files.retain(|file| era.intervals().live(newest, file.as_str()).is_none());
            if !vectors.is_empty() {
                let live = era.deletion_vector_files(newest);
                vectors.retain(|vector| live.binary_search(vector).is_err());
            }
        });
    }
    files.extend(vectors);
    Ok(files)
}

/// What an earlier attempt came to.
pub enum Settled {
    Committed(Done),
    /// It is not in the table. Where its version is still open, it may yet land: whoever sends
    /// again sends under the same txnId.
    Open(Option<(Version, String)>),
    /// It is not in the table and never will be; the journal is to forget it.
    Spent,
}

/// Settles the attempt that the journal has, if any, by looking at the table.
pub async fn settle(table: &Arc<Table>, held: &Held) -> Result<Settled> {
    let Some(attempt) = held.attempt()? else { return Ok(Settled::Open(None)) };
    let version = Version(attempt.version);
    let found = match &attempt.txn_id {
        found if found.starts_with(FOUND_PREFIX) => Author::Us,
        _ if import::is_one(&attempt) => import::author(table, &attempt).await?,
        sent => sent_author(table, version, sent).await?,
    };
    match found {
        Author::Us => {
            let summary = CommitSummary::from_json(&attempt.result);
            let (staged, properties) = (attempt.files, attempt.properties);
            Ok(Settled::Committed(Done { summary, staged, properties }))
        }
        Author::Nobody if !import::is_one(&attempt) => {
            Ok(Settled::Open(Some((version, attempt.txn_id))))
        }
        Author::Nobody | Author::Another => Ok(Settled::Spent),
    }
}

/// Whose commit the version is that an attempt was sent as; nobody's: it is still open. Errors:
/// [`Error::Unknown`], where the log was cleaned up meanwhile, for then it may have been ours.
async fn sent_author(table: &Arc<Table>, version: Version, txn_id: &str) -> Result<Author> {
    let found = author(table.store(), version, txn_id).await?;
    if found != Author::Nobody {
        return Ok(found);
    }
    table.refresh().await?;
    if table.newest().map_or(true, |newest| newest < version) {
        return Ok(Author::Nobody);
    }
    // It may have come between the two looks.
    match author(table.store(), version, txn_id).await? {
        Author::Nobody => Err(Error::Unknown(format!(
            "version {version}, which this directory was sent as, is no longer in the log; compare \
             its files with the table, then rm -r it, or copy them to a new staging directory"
        ))),
        found => Ok(found),
    }
}

/// The options' transaction, where the table has it already.
pub fn written_txn(
    table: &Arc<Table>,
    prepared: &Prepared,
    newest: Version,
) -> Result<Option<String>> {
    let Some((app_id, version)) = &prepared.options.txn else { return Ok(None) };
    let written = table.read(|history| history.txn_version(app_id, newest))?;
    let is_written = written.is_some_and(|written| written >= *version);
    Ok(is_written.then(|| format!("{app_id}:{version}")))
}

fn kind(prepared: &Prepared, exists: bool) -> Kind {
    match (prepared.log.is_some(), exists, prepared.options.mode()) {
        (true, true, _) => Kind::Restore,
        (_, false, _) => Kind::Create,
        (false, true, super::options::Mode::Append) => Kind::Append,
        (false, true, super::options::Mode::Overwrite) => Kind::Overwrite,
        (false, true, super::options::Mode::ReplacePartitions) => Kind::ReplacePartitions,
    }
}
