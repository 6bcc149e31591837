//! Commits: what `sync` of a staging directory does.
//!
//! ```text
//! manifest   what was staged, by what it is      options   what the user said
//! properties what the table shall be
//! prepare    all that is known before the table  examine   footers, fit, statistics
//! facts      what has the staged names already   digests   SHA256SUMS
//! holes      files that were not written whole
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
mod holes;
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
use crate::table::staging::{Held, Staging};
use crate::table::{BoardLine, Progress, Table};

/// Commits what is staged, empties the staging directory, and writes its `result`; does what
/// `sync DIR` does. What is staged while it runs stays, for the next commit.
///
/// Errors leave the staging directory as it was, and `result` has the sentence. After
/// [`Error::Unknown`] its files take no change until it is synced again, which looks first.
pub async fn commit(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<CommitSummary> {
    let line = table.commits().begin(staging.name());
    loop {
        match part(table, staging, &line).await {
            Ok((summary, Part::Now)) => return Ok(summary),
            Ok((summary, Part::Earlier)) => {
                // What was brought since is part of what this sync promises.
                let looked_at = staging.clone();
                if blocking(move || looked_at.is_spent()).await? {
                    return Ok(summary);
                }
            }
            Err(error) => {
                tracing::warn!(
                    table = table.label(),
                    staging = staging.name(),
                    "nothing was committed: {error}"
                );
                let (told, text) = (staging.clone(), report::text(&report::failure(&error)));
                blocking(move || told.set_result(&text)).await.unwrap_or_else(not_kept);
                return Err(error);
            }
        }
    }
}

/// Settles a commit that an earlier daemon left in the middle, without beginning another.
pub async fn recover(table: &Arc<Table>, staging: &Arc<Staging>) -> Result<()> {
    let held = staging.hold()?;
    match run::settle(table, &held).await? {
        Settled::Committed(done) => {
            let edition = held.edition();
            finish(table, held, edition, done).await.1
        }
        open => {
            let is_spent = matches!(open, Settled::Spent);
            blocking(move || {
                held.remove_links();
                if is_spent { held.clear_attempt() } else { Ok(()) }
            })
            .await
        }
    }
}

/// Which of a staging directory's files a commit was of.
enum Part {
    /// All that was staged.
    Now,
    /// Those of an attempt that an earlier sync left open.
    Earlier,
}

/// Makes one commit, or settles one that was sent before.
async fn part(
    table: &Arc<Table>,
    staging: &Arc<Staging>,
    line: &BoardLine<'_>,
) -> Result<(CommitSummary, Part)> {
    let store = table.store().clone();
    blocking(move || store.check_in_place()).await?;
    let mut held = staging.hold()?;
    let slot = match run::settle(table, &held).await? {
        Settled::Committed(done) => {
            let edition = held.edition();
            let (summary, emptied) = finish(table, held, edition, done).await;
            emptied?;
            return Ok((summary, Part::Earlier));
        }
        Settled::Open(slot) => slot,
        Settled::Spent => {
            held = blocking(move || held.clear_attempt().map(|()| held)).await?;
            None
        }
    };
    let (attempt, part) = match &slot {
        Some(_) => (held.attempt()?, Part::Earlier),
        None => (None, Part::Now),
    };
    let sealed = Arc::new(held.seal(attempt).await?);
    let result = run::run(table, &sealed, slot, line).await;
    let Some(sealed) = Arc::into_inner(sealed) else {
        return Err(Error::Busy("BUG: the seal is still held elsewhere".into()));
    };
    let (held, edition) = blocking(move || Ok(sealed.open())).await?;
    let (summary, emptied) = finish(table, held, edition, result?).await;
    match (emptied, part) {
        (Ok(()), part) => Ok((summary, part)),
        // Nothing else was staged when this sync began: it has what it promises.
        (Err(_), Part::Now) => Ok((summary, Part::Now)),
        (Err(error), Part::Earlier) => Err(error),
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
    // Nobody waits for it as for a commit, so it is told on no board.
    let unseen = Progress::default();
    let lines = (options.as_str(), properties.as_str());
    let prepared = Prepared::read(entries, lines, log_store, table.store(), &unseen).await?;
    table.refresh().await?;
    let newest = planner::look(table)?;
    let left_out = prepared.manifest.left_out_paths().into_iter();
    let left_out = left_out.map(|path| format!("! {path} is left out"));
    if newest.is_none() && prepared.log.is_some() {
        let files = prepared.manifest.files.iter().map(|file| format!("+ {}", file.path));
        return Ok(files.chain(left_out).collect());
    }
    if let Some(newest) = &newest
        && let Some(txn) = run::written_txn(table, &prepared, newest.version)?
    {
        return Ok(vec![format!("! txn {txn} is in the table: what is staged is taken away")]);
    }
    let publications = Publications::default();
    let plan = Planner::default().plan(table, &prepared, newest, &publications).await?;
    Ok(plan.changes.into_iter().chain(left_out).collect())
}

/// Tells the result, then takes away what is in the table now, the properties too, and the
/// transaction, which is not the next commit's: what is staged next would be taken for committed.
/// The commit stands whatever of this fails: then the journal has it, and the next sync, or daemon,
/// does the rest.
async fn finish(
    table: &Arc<Table>,
    held: Held,
    edition: u64,
    done: Done,
) -> (CommitSummary, Result<()>) {
    let Done { summary, staged, properties } = done;
    tracing::info!(
        table = table.label(),
        version = summary.version.map(|version| version.0),
        kind = summary.kind,
        added = summary.files_added,
        removed = summary.files_removed,
        "committed"
    );
    let text = report::text(&summary.to_json());
    let emptied = blocking(move || {
        held.set_result(&text).unwrap_or_else(not_kept);
        held.spend_options(options::without_txn)?;
        held.spend_properties(&properties)?;
        held.empty(&staged, edition)
    });
    let emptied = emptied.await;
    if let Err(error) = &emptied {
        tracing::warn!(table = table.label(), "the staging directory was not emptied: {error}");
    }
    (summary, emptied)
}

fn not_kept(error: Error) {
    tracing::warn!("the result of a commit could not be kept: {error}");
}

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod append_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod outside_tests;
#[cfg(test)]
mod replace_tests;
#[cfg(test)]
mod rival_tests;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
pub(super) mod tests;
