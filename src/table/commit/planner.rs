//! Makes the plan of a commit, and moves one that came too late onto the newest version.
//!
//! Planning asks the store what stands under the staged names, compares bytes, fits columns, and
//! may load a whole version. Where the commits that were first are in no conflict with the plan,
//! and what was known of the staged names is still so, nothing of that is done again: the plan gets
//! another version, row ids and times (`log::conflict` and `log::rebase` have the rules).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::now_ms;
use super::examine::{self, Examined};
use super::facts::{self, blocking};
use super::options::Mode;
use super::plan::{Newest, PathFacts, Plan, Presence};
use super::prepare::Prepared;
use super::publish::Publications;
use super::write;
use crate::error::{Error, Result};
use crate::log::action::Action;
use crate::log::changes::Changes;
use crate::log::conflict::{Isolation, Transaction, decide};
use crate::log::listing::{commit_name, log_path};
use crate::log::protocol::supports;
use crate::log::rebase::{Base, rebase};
use crate::table::restore;
use crate::table::{FilePath, Progress, Snapshot, Table, Version};

/// More commits than these, or more bytes of them, are not read one by one: the plan is made again.
const WINNERS_MAX: u64 = 64;
const WINNERS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Makes plans, and keeps of one what the next can use.
#[derive(Default)]
pub struct Planner {
    examined: Option<(Newest, Arc<Examined>)>,
    /// A new table's id, and what sets its hidden columns apart.
    unique: Option<String>,
    /// What the last plan stood on: a version, and what was known of the staged names.
    ground: Option<(Newest, Vec<PathFacts>)>,
    progress: Progress,
}

/// The newest version at the last look; `None`: there is no table yet. Errors:
/// [`Error::Unsupported`] for a version that we can't read.
pub fn look(table: &Arc<Table>) -> Result<Option<Newest>> {
    let read = table.read(|history| -> Result<Newest> {
        let version = history.newest()?;
        let facts = history
            .facts(version)
            .ok_or_else(|| Error::Damaged(format!("version {version} can't be rebuilt")))?;
        if let Some(why) = &facts.unreadable {
            return Err(Error::Unsupported(why.clone()));
        }
        Ok(Newest {
            version,
            protocol: facts.protocol.clone(),
            metadata: facts.metadata.clone(),
            commit_time_ms: facts.commit_time_ms,
            snapshot: None,
        })
    });
    match read {
        Ok(newest) => newest.map(Some),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest version with as much of it as a plan needs.
async fn with_snapshot(
    table: &Arc<Table>,
    prepared: &Prepared,
    mut newest: Newest,
) -> Result<Newest> {
    let needs_all = prepared.log.is_some()
        || prepared.properties.needs_files()
        || prepared.options.mode() != Mode::Append
        || ["rowTracking", "clustering"].iter().any(|name| supports(&newest.protocol, name));
    if needs_all {
        let snapshot = Snapshot::load(table.store(), Some(newest.version)).await?;
        newest.snapshot = Some(Arc::new(snapshot));
    }
    Ok(newest)
}

impl Planner {
    /// A planner that tells how far it is.
    pub fn telling(progress: &Progress) -> Planner {
        Planner { progress: progress.clone(), ..Planner::default() }
    }

    /// Plans the commit against one newest version.
    pub async fn plan(
        &mut self,
        table: &Arc<Table>,
        prepared: &Prepared,
        newest: Option<Newest>,
        publications: &Publications,
    ) -> Result<Plan> {
        let newest = match newest {
            Some(newest) => Some(with_snapshot(table, prepared, newest).await?),
            None => None,
        };
        let files = &prepared.manifest.files;
        let presence = facts::gather(table.store(), files, publications, &self.progress);
        let presence = presence.await?;
        let of = |known: Option<&facts::Known<'_>>| {
            facts::facts(known, files, &presence, &publications.ours)
        };
        let facts = match &newest {
            Some(newest) => facts::known(table, newest.version, |known| of(Some(known))).await?,
            None => of(None),
        };
        self.ground = newest.clone().map(|newest| (newest, facts.clone()));
        let mut fresh_id = || uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        if let (Some(log), Some(newest)) = (&prepared.log, &newest) {
            let store = self.sizes(table, &log.snapshot).await?;
            return restore::plan(restore::Input {
                newest,
                staged: &log.snapshot,
                files,
                facts: &facts,
                rows: &prepared.rows,
                store: &store,
                is_named: &|path| log.names(path),
                options: &prepared.options,
                now_ms: now_ms(),
                fresh_id: &mut fresh_id,
            });
        }
        self.progress.tell("fits files to the table");
        let examined = self.examine(table, prepared, newest.as_ref()).await?;
        write::plan(write::Input {
            newest: newest.as_ref(),
            files,
            facts: &facts,
            examined: &examined,
            options: &prepared.options,
            properties: &prepared.properties,
            now_ms: now_ms(),
            fresh_id: &mut fresh_id,
        })
    }

    /// Sizes of what the store has of the files that a staged snapshot needs.
    async fn sizes(
        &self,
        table: &Arc<Table>,
        staged: &Snapshot,
    ) -> Result<BTreeMap<FilePath, u64>> {
        let vectors = restore::vector_files(staged)?;
        let paths = staged.adds.keys().chain(&vectors).collect();
        let found = facts::look(table.store(), &paths).await?;
        Ok(found.into_iter().map(|(path, entry)| (path, entry.size)).collect())
    }

    /// Fits the files to the table; done again only when its schema or rules changed.
    async fn examine(
        &mut self,
        table: &Arc<Table>,
        prepared: &Prepared,
        newest: Option<&Newest>,
    ) -> Result<Arc<Examined>> {
        let unique = self.unique.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
        let Some(base) = prepared.table(newest, unique, now_ms())? else {
            return Ok(Arc::new(Examined::nothing()));
        };
        if let Some((known, examined)) = &self.examined
            && known.has_rules_of(&base)
        {
            return Ok(examined.clone());
        }
        let (opened, store) = (prepared.opened.clone(), table.store().clone());
        let merge = match prepared.options.merges() {
            true if newest.is_some() => Some(table.read(examine::past_schemas)?),
            is_merge => is_merge.then(Default::default),
        };
        let against = base.clone();
        let examine = move || examine::examine(&opened, &store, &against, merge.as_ref());
        let examined = blocking(examine).await?;
        let examined = Arc::new(examined);
        self.examined = Some((base, examined.clone()));
        Ok(examined)
    }

    /// Moves a plan that lost its version onto the newest one. `None`: it must be made again.
    /// Errors: those of the store.
    pub async fn again(
        &mut self,
        table: &Arc<Table>,
        prepared: &Prepared,
        mut plan: Plan,
        newest: &Newest,
    ) -> Result<Option<Plan>> {
        let Some((ground, known)) = self.ground.take() else { return Ok(None) };
        let files = &prepared.manifest.files;
        let presence: Vec<Presence> = known.iter().map(|facts| facts.presence).collect();
        let is_so = facts::known(table, newest.version, |of| {
            let now = facts::facts(Some(of), files, &presence, &Default::default());
            known.iter().zip(&now).all(|(known, now)| known.says_of_the_log(now))
        });
        let is_so = is_so.await?;
        if !is_so || !is_same_table(&ground, newest, &plan) {
            return Ok(None);
        }
        let Some(winners) = winners(table, plan.version, newest.version).await? else {
            return Ok(None);
        };
        if let Err(why) = check(&plan, newest, &winners) {
            tracing::debug!(table = table.label(), version = plan.version.0, "plans again: {why}");
            return Ok(None);
        }
        let marks = winners.iter().filter_map(|winner| winner.row_id_mark);
        let from = base(&ground, plan.row_id_mark);
        let to = base(newest, marks.fold(plan.row_id_mark, i64::max));
        rebase(&mut plan.info, &mut plan.actions, &from, &to, now_ms())?;
        plan.version = newest.version.next();
        plan.row_id_mark = to.row_id_mark;
        // They are there: a plan is sent when its data is published.
        plan.uploads.clear();
        self.ground = Some((newest.clone(), known));
        Ok(Some(plan))
    }
}

fn base(newest: &Newest, row_id_mark: i64) -> Base {
    Base { version: newest.version, commit_time_ms: newest.commit_time_ms, row_id_mark }
}

/// Whether the table is the one that the plan was made for, with the same rules; one that was
/// dropped and made anew has other ones, at the least another id.
fn is_same_table(ground: &Newest, newest: &Newest, plan: &Plan) -> bool {
    ground.version.next() == plan.version
        && newest.version >= plan.version
        && ground.protocol == newest.protocol
        && ground.metadata == newest.metadata
}

/// What the commits from `first` to `newest` changed, where they are few and can be read.
async fn winners(
    table: &Arc<Table>,
    first: Version,
    newest: Version,
) -> Result<Option<Vec<Changes>>> {
    if newest.0 - first.0 >= WINNERS_MAX {
        return Ok(None);
    }
    let names: Vec<String> = (first.0..=newest.0).map(|at| commit_name(Version(at))).collect();
    let bytes = table.read(|history| {
        let sizes = names.iter().map(|name| history.log_file(name).map(|file| file.size));
        sizes.sum::<Option<u64>>()
    })?;
    if bytes.is_none_or(|bytes| bytes > WINNERS_BYTES_MAX) {
        return Ok(None);
    }
    let mut winners = Vec::with_capacity(names.len());
    for name in names {
        let bytes = match table.store().read(&log_path(&name)).await {
            Ok(bytes) => bytes,
            // Cleaned up meanwhile.
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        match Changes::read(&bytes) {
            Ok(changes) => winners.push(changes),
            // Whoever makes the plan again reads the log, and says it with the file's name.
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(winners))
}

/// Whether a plan may follow the winners. Errors: [`Error::Conflict`], why not.
fn check(plan: &Plan, newest: &Newest, winners: &[Changes]) -> Result<()> {
    let is_rule = |action: &Action| matches!(action, Action::MetaData(_) | Action::Protocol(_));
    if plan.actions.iter().any(is_rule) {
        let why = "this commit changes the table's rules, which may name its version";
        return Err(Error::Conflict(why.into()));
    }
    let changes = Changes::of(&plan.info, &plan.actions)?;
    let isolation = match plan.kind.is_absolute() {
        true => Isolation::Serializable,
        false => Isolation::of(&newest.metadata),
    };
    let mine = Transaction { changes: &changes, read: &plan.read, isolation };
    for winner in winners {
        decide(&mine, winner).map_err(|conflict| Error::Conflict(conflict.to_string()))?;
        // Statistics follow the clustering, and a restore sets domains back.
        if let Some(domain) = winner.domains.first() {
            let why = format!("another commit changed the metadata of the domain {domain:?}");
            return Err(Error::Conflict(why));
        }
    }
    Ok(())
}
