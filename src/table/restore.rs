//! Plans a restore: the table becomes exactly the snapshot that a staged log describes.
//!
//! The difference is taken against the newest version by path and deletion vector, as Spark's
//! RESTORE takes it. Files, schema, properties, deletion vectors and row ids come from the staged
//! log; the protocol only goes up, transaction ids stay, the table keeps its own id and the times
//! of its in-commit timestamps, and identity columns never give a number twice. `metadata` has the
//! rules of what goes back.

mod metadata;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::error::{Error, Result};
use crate::log::action::{Add, DeletionVector, Metadata};
use crate::log::protocol::{check_commit, union};
use crate::table::commit::facts::still_held;
use crate::table::commit::manifest::StagedFile;
use crate::table::commit::options::Options;
use crate::table::commit::plan::{
    Added, Draft, Kind, Newest, PathFacts, Plan, Presence, Upload, changes, difference, is_on,
    renamed,
};
use crate::table::commit::row_ids::{row_id_mark, rows_of};
use crate::table::{FilePath, Snapshot};

/// What a restore is planned from.
pub struct Input<'a> {
    /// With its snapshot.
    pub newest: &'a Newest,
    /// The newest version of the staged log.
    pub staged: &'a Snapshot,
    /// Staged data and deletion vectors, sorted by path.
    pub files: &'a [StagedFile],
    /// As many as files, in their order.
    pub facts: &'a [PathFacts],
    /// Rows of the staged data files that were read.
    pub rows: &'a BTreeMap<FilePath, i64>,
    /// Sizes of what the store has of the files that the staged snapshot needs.
    pub store: &'a BTreeMap<FilePath, u64>,
    /// Whether any version of the staged log names a file.
    pub is_named: &'a dyn Fn(&FilePath) -> bool,
    pub options: &'a Options,
    pub now_ms: i64,
    /// Short and never the same again.
    pub fresh_id: &'a mut dyn FnMut() -> String,
}

impl Input<'_> {
    /// Whether the staged log is this table's own: then a name means the same bytes in both.
    fn is_same_table(&self) -> bool {
        self.newest.metadata.id == self.staged.metadata.id
    }
}

/// Plans the commit. Errors: [`Error::Damaged`] naming a file that is nowhere or isn't what the
/// log says, [`Error::Refused`] naming a staged file that the log doesn't know, and what the table
/// refuses.
pub fn plan(mut input: Input<'_>) -> Result<Plan> {
    let newest = input.newest;
    let Some(current) = newest.snapshot.clone() else {
        return Err(Error::Damaged("BUG: a restore was planned without a snapshot".into()));
    };
    let protocol = union(&newest.protocol, &input.staged.protocol);
    check_commit(&protocol)?;
    let restored = metadata::restored(&newest.metadata, &input.staged.metadata)?;
    let mut plan = Plan::empty(Kind::Restore, Some(newest));
    let wanted = choose(&mut input, &current, &mut plan)?;
    let same_table = input.is_same_table();
    let mark =
        [row_id_mark(&current.domains), row_id_mark(&input.staged.domains).filter(|_| same_table)];
    let outside = wanted_outside(input.staged, same_table);
    let again = recommitted(&restored, &current.adds, &wanted).into_iter();
    let again: Vec<Added> =
        again.chain(recommitted(&restored, &current.outside, &outside)).collect();
    let (mut adds, mut removes) = difference(&current.adds, wanted, input.now_ms);
    let (adds_outside, removes_outside) = difference(&current.outside, outside, input.now_ms);
    adds.extend(adds_outside);
    removes.extend(removes_outside);
    plan.counts.added = adds.len() as u64;
    plan.counts.removed = removes.len() as u64;
    plan.counts.reused = plan.kept.len() as u64;
    let repaired = std::mem::take(&mut plan.changes);
    plan.changes = changes(&adds, &removes, std::mem::take(&mut plan.kept));
    plan.changes.extend(repaired);
    // What is only said again, for its row ids, is no news to who restores.
    adds.extend(again);
    plan.row_id_mark = mark.into_iter().flatten().max().unwrap_or(-1);
    let draft = Draft {
        kind: Kind::Restore,
        newest: Some(newest),
        protocol: &protocol,
        metadata: &restored,
        adds,
        removes,
        domains: metadata::domains(&current.domains, &input.staged.domains),
        row_id_mark: plan.row_id_mark,
        txn: input.options.txn_action(input.now_ms),
        operation: Kind::Restore.operation(),
        parameters: json!({ "version": input.staged.version.0.to_string(), "timestamp": null }),
        now_ms: input.now_ms,
    };
    (plan.actions, plan.info) = draft.finish()?;
    Ok(plan)
}

/// Where row tracking is on, and was off: files that stay need ids as well, by a recommit.
fn recommitted<P: Ord>(
    restored: &Metadata,
    live: &BTreeMap<P, Add>,
    wanted: &BTreeMap<P, Added>,
) -> Vec<Added> {
    if !is_on(restored, "delta.enableRowTracking") {
        return Vec::new();
    }
    let lacks = |path: &P| live.get(path).is_some_and(|live| live.base_row_id.is_none());
    wanted
        .iter()
        .filter(|(path, added)| lacks(path) && is_live(live, path, &added.add))
        .map(|(_, added)| Added {
            add: Add { data_change: false, ..added.add.clone() },
            rows: added.rows,
        })
        .collect()
}

/// The files outside of the table's folder that the staged snapshot has. They are where they are:
/// the log is all there is to bring.
fn wanted_outside(staged: &Snapshot, same_table: bool) -> BTreeMap<String, Added> {
    let files = staged.outside.iter().map(|(uri, add)| {
        let add = brought(add, same_table);
        let rows = rows_of(&add);
        (uri.clone(), Added { add, rows })
    });
    files.collect()
}

/// What the staged log says of a file, as the table will say it.
fn brought(add: &Add, same_table: bool) -> Add {
    let mut add = Add { data_change: true, ..add.clone() };
    if !same_table {
        // Another table's ids may be other rows' ids here.
        (add.base_row_id, add.default_row_commit_version) = (None, None);
    }
    add
}

/// Finds the bytes of each file that the staged snapshot has: staged, or in the store already.
fn choose(
    input: &mut Input<'_>,
    current: &Snapshot,
    plan: &mut Plan,
) -> Result<BTreeMap<FilePath, Added>> {
    let staged: BTreeMap<&FilePath, usize> =
        input.files.iter().enumerate().map(|(at, file)| (&file.path, at)).collect();
    refuse_strangers(input, &staged)?;
    let mut taken: BTreeSet<FilePath> = input.staged.adds.keys().cloned().collect();
    let mut wanted = BTreeMap::new();
    let same_table = input.is_same_table();
    for (path, add) in &input.staged.adds {
        let mut add = brought(add, same_table);
        if FilePath::from_log(&add.path).is_err() {
            // An absolute path into the table's own folder.
            add.path = path.to_log();
        }
        let mut at = path.clone();
        match staged.get(path) {
            None => stored(input, path, &add)?,
            Some(source) => {
                check_size(&input.files[*source], &add)?;
                at = place(input, *source, &taken, plan)?;
                let is_put_back = at == *path && !plan.kept.contains(path);
                if is_put_back && is_live(&current.adds, path, &add) {
                    plan.counts.repaired += 1;
                    plan.changes.push(format!("+ {path}"));
                }
                if at != *path {
                    add.path = at.to_log();
                    taken.insert(at.clone());
                }
            }
        }
        let rows = rows_of(&add).or_else(|| input.rows.get(path).copied());
        wanted.insert(at, Added { add, rows });
    }
    vectors(input, &staged, plan)?;
    Ok(wanted)
}

/// Finds a staged file its name: its own, unless other bytes have that.
fn place(
    input: &mut Input<'_>,
    source: usize,
    taken: &BTreeSet<FilePath>,
    plan: &mut Plan,
) -> Result<FilePath> {
    let (path, facts) = (input.files[source].path.clone(), &input.facts[source]);
    if let Some(published) = &facts.published {
        return Ok(published.clone());
    }
    match presence(facts) {
        Presence::SameShared if facts.live.is_none() => rename(input, source, taken, plan),
        Presence::Same | Presence::SameShared => {
            plan.kept.insert(path.clone());
            Ok(path)
        }
        Presence::Ours => {
            plan.kept.insert(path.clone());
            plan.uploads.push(Upload { source, to: path.clone(), is_there: true });
            Ok(path)
        }
        // Another table's file must not be read as what our versions had under that name.
        Presence::Absent if facts.held && !input.is_same_table() => {
            rename(input, source, taken, plan)
        }
        Presence::Absent => {
            plan.uploads.push(Upload { source, to: path.clone(), is_there: false });
            Ok(path)
        }
        // What stands there is left as it is; the table turns to the staged bytes.
        Presence::Other => rename(input, source, taken, plan),
    }
}

fn rename(
    input: &mut Input<'_>,
    source: usize,
    taken: &BTreeSet<FilePath>,
    plan: &mut Plan,
) -> Result<FilePath> {
    let to = renamed(&input.files[source].path, taken, input.fresh_id)?;
    plan.uploads.push(Upload { source, to: to.clone(), is_there: false });
    Ok(to)
}

fn presence(facts: &PathFacts) -> Presence {
    match facts.collision {
        Some(_) => Presence::Other,
        None => facts.presence,
    }
}

/// A file that no version of the staged log names was put there by mistake.
fn refuse_strangers(input: &Input<'_>, staged: &BTreeMap<&FilePath, usize>) -> Result<()> {
    let vectors: BTreeSet<FilePath> = vector_files(input.staged)?;
    let is_known = |path: &FilePath| {
        input.staged.adds.contains_key(path) || vectors.contains(path) || (input.is_named)(path)
    };
    let is_old_vector = |at: usize| input.files[at].is_vector();
    match staged.iter().find(|(path, at)| !is_known(path) && !is_old_vector(**at)) {
        None => Ok(()),
        Some((path, _)) => Err(Error::Refused(format!(
            "{path}: the staged _delta_log doesn't name this file; remove it, or append it in a \
             staging directory of its own"
        ))),
    }
}

/// A file that wasn't staged must be in the store, whole.
fn stored(input: &Input<'_>, path: &FilePath, add: &Add) -> Result<()> {
    match input.store.get(path) {
        Some(_) if !input.is_same_table() => Err(Error::Damaged(format!(
            "{path}: it was not staged, and the staged log is that of another table, so the file \
             of that name here may be another one; bring it"
        ))),
        Some(size) if i64::try_from(*size) == Ok(add.size) => Ok(()),
        Some(size) => Err(Error::Damaged(format!(
            "{path}: it was not staged, and the table's file has {size} bytes where the staged \
             log says {}; bring it",
            add.size
        ))),
        None => Err(Error::Damaged(format!(
            "{path}: named by the staged log (version {}), and neither staged nor in the table; \
             bring it from another copy, or restore a version that doesn't name it",
            input.staged.version
        ))),
    }
}

fn check_size(file: &StagedFile, add: &Add) -> Result<()> {
    if i64::try_from(file.entry.size) == Ok(add.size) {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "{}: the staged file has {} bytes, and its log says {}; bring it again",
        file.path, file.entry.size, add.size
    )))
}

fn is_live<P: Ord>(live: &BTreeMap<P, Add>, path: &P, add: &Add) -> bool {
    live.get(path).is_some_and(|live| {
        live.deletion_vector.as_ref().map(DeletionVector::unique_id)
            == add.deletion_vector.as_ref().map(DeletionVector::unique_id)
    })
}

/// The files in the table's folder that hold the deletion vectors of a snapshot's files.
pub fn vector_files(snapshot: &Snapshot) -> Result<BTreeSet<FilePath>> {
    let vectors = snapshot.live().filter_map(|add| add.deletion_vector.as_ref());
    vectors.filter_map(|vector| vector.file(&snapshot.reach).transpose()).collect()
}

/// Deletion vectors are found by a name that is in the log, so theirs can't be another one.
fn vectors(input: &Input<'_>, staged: &BTreeMap<&FilePath, usize>, plan: &mut Plan) -> Result<()> {
    for path in vector_files(input.staged)? {
        let lost = |why: &str| {
            Err(Error::Damaged(format!("{path}: a deletion vector of the staged log, {why}")))
        };
        match staged.get(&path) {
            None if input.store.contains_key(&path) => {}
            None => return lost("neither staged nor in the table; bring it from another copy"),
            Some(source) if input.facts[*source].published.is_some() => {}
            Some(source) => match presence(&input.facts[*source]) {
                Presence::SameShared if !input.facts[*source].held => {
                    return Err(still_held(&path));
                }
                Presence::Same | Presence::SameShared => {
                    plan.kept.insert(path);
                }
                Presence::Ours => {
                    plan.kept.insert(path.clone());
                    plan.uploads.push(Upload { source: *source, to: path, is_there: true });
                }
                Presence::Absent => {
                    plan.uploads.push(Upload { source: *source, to: path, is_there: false });
                }
                Presence::Other => {
                    return lost(
                        "and the table has other bytes under that name; move that file away, or \
                         bring the backup to a folder where no table is",
                    );
                }
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod other_tests;
#[cfg(test)]
mod tests;
