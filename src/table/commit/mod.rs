//! Commits: what `sync` of a staging directory does.
//!
//! ```text
//! manifest   what was staged, by what it is      options   what the user said
//! properties what the table shall be
//! prepare    all that is known before the table  examine   footers, fit, statistics
//! facts      what has the staged names already   digests   SHA256SUMS
//! plan       what the commit will be; shared by write (append, overwrite, create) and restore
//! planner    makes it, and moves it on where another commit was first
//! row_ids    of files that are added            publish   data into the store
//! send       the log entry, with proof
//! import     a whole staged table                run       the order of it all
//! checkpoint, checksum   after the commit        report    what the user is told
//! ```

pub mod checkpoint;
pub(super) mod checksum;
mod digests;
mod examine;
pub(super) mod facts;
mod import;
pub(super) mod manifest;
pub mod options;
pub(super) mod plan;
mod planner;
mod prepare;
pub mod properties;
mod publish;
mod report;
pub(super) mod row_ids;
mod run;
mod send;
mod write;

use std::sync::Arc;

pub use report::CommitSummary;

use self::facts::blocking;
use self::planner::Planner;
use self::prepare::Prepared;
use self::publish::Publications;
use self::run::{Done, Settled};
use crate::error::{Error, Result};
use crate::table::Table;
use crate::table::staging::{Sealed, Staging};

/// Commits what is staged, empties the staging directory, and writes its `result`; does what
/// `sync DIR` does.
///
/// Errors leave the staging directory as it was, and `result` has the sentence. After
/// [`Error::Unknown`] the directory takes no change until it is synced again, which looks first.
pub async fn commit(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<CommitSummary> {
    let line = table.commits().begin(staging.name());
    let sealed = match staging.seal().await {
        Ok(sealed) => Arc::new(sealed),
        Err(error) => {
            staging.tell_result(&report::text(&report::failure(&error)));
            return Err(error);
        }
    };
    match run::run(table, &sealed, &line).await {
        Ok(done) => finish(table, sealed, done).await,
        Err(error) => {
            tracing::warn!(
                table = table.label(),
                staging = staging.name(),
                "nothing was committed: {error}"
            );
            tell(&sealed, &report::text(&report::failure(&error))).await;
            Err(error)
        }
    }
}

/// Settles a commit that an earlier daemon left in the middle, without beginning another.
pub async fn recover(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<()> {
    let sealed = Arc::new(staging.seal().await?);
    match run::settle(table, &sealed).await? {
        Settled::Committed(done) => finish(table, sealed, done).await.map(drop),
        Settled::Open(_) => Ok(()),
    }
}

/// What `sync` would do, a line a file: `+` added, `-` removed, `=` in the table already; `!` why
/// it would do nothing.
pub async fn changes(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<String> {
    match planned(table, staging).await {
        Ok(lines) => Ok(lines.into_iter().map(|line| line + "\n").collect()),
        Err(error) => Ok(format!("! {error}\n")),
    }
}

async fn planned(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<Vec<String>> {
    let peeked = staging.clone();
    // Without the seal: a look must not get into a writer's way.
    let (entries, log_store) = blocking(move || Ok((peeked.peek()?, peeked.peek_log()?))).await?;
    let (options, properties) = (staging.options_text(), staging.properties_text());
    let prepared =
        Prepared::read(entries, (&options, &properties), log_store, table.store()).await?;
    table.refresh().await?;
    let newest = planner::look(table)?;
    let left_out = prepared.manifest.left_out_paths().into_iter();
    let left_out = left_out.map(|path| format!("! {path} is left out"));
    if newest.is_none() && prepared.log.is_some() {
        let files = prepared.manifest.files.iter().map(|file| format!("+ {}", file.path));
        return Ok(files.chain(left_out).collect());
    }
    let publications = Publications::default();
    let plan = Planner::default().plan(table, &prepared, newest, &publications).await?;
    Ok(plan.changes.into_iter().chain(left_out).collect())
}

/// Tells the result, then takes away what is in the table now, the properties too, and the
/// transaction, which is not the next commit's: what is staged next would be taken for committed.
/// The commit stands,
/// whatever of this fails: then the journal has it, and the next sync, or daemon, does the rest.
async fn finish(table: &Arc<Table>, sealed: Arc<Sealed>, done: Done) -> Result<CommitSummary> {
    let Done { summary, staged } = done;
    tell(&sealed, &report::text(&summary.to_json())).await;
    tracing::info!(
        table = table.label(),
        version = summary.version.map(|version| version.0),
        kind = summary.kind,
        added = summary.files_added,
        removed = summary.files_removed,
        "committed"
    );
    let is_commit = summary.version.is_some();
    let emptied = match Arc::into_inner(sealed) {
        Some(sealed) => {
            blocking(move || {
                if is_commit {
                    sealed.spend_options(options::without_txn)?;
                }
                sealed.spend_properties()?;
                sealed.empty(&staged, &[])
            })
            .await
        }
        None => Err(Error::Busy("BUG: the seal is still held elsewhere".into())),
    };
    if let Err(error) = emptied {
        tracing::warn!(table = table.label(), "the staging directory was not emptied: {error}");
    }
    Ok(summary)
}

async fn tell(sealed: &Arc<Sealed>, result: &str) {
    let (sealed, text) = (sealed.clone(), result.to_owned());
    if let Err(error) = blocking(move || sealed.set_result(&text)).await {
        tracing::warn!("the result of a commit could not be kept: {error}");
    }
}

#[cfg(test)]
mod append_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod outside_tests;
#[cfg(test)]
mod rival_tests;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
pub(super) mod tests;
