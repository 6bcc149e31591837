//! Plans appends, overwrites and new tables: data files that nobody's log speaks for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::examine::Examined;
use super::manifest::StagedFile;
use super::options::{Mode, Options};
use super::plan::{
    Added, Draft, Kind, Newest, PathFacts, Plan, Presence, Upload, changes, difference, target,
};
use super::properties::{self, Properties};
use super::row_ids::row_id_mark;
use crate::error::{Error, Result};
use crate::log::action::{Add, Remove};
use crate::log::conflict::Read;
use crate::log::partition_set::PartitionSet;
use crate::log::protocol::{check_commit, check_write};
use crate::table::{FilePath, Snapshot};

/// What a plan is made from.
pub struct Input<'a> {
    /// `None`: the table is new.
    pub newest: Option<&'a Newest>,
    /// Sorted by path.
    pub files: &'a [StagedFile],
    /// As many as files, in their order.
    pub facts: &'a [PathFacts],
    pub examined: &'a Examined,
    pub options: &'a Options,
    pub properties: &'a Properties,
    pub now_ms: i64,
    /// Short and never the same again.
    pub fresh_id: &'a mut dyn FnMut() -> String,
}

impl Input<'_> {
    fn kind(&self) -> Kind {
        match (self.newest, self.options.mode()) {
            (None, _) => Kind::Create,
            (Some(_), Mode::Append) => Kind::Append,
            (Some(_), Mode::Overwrite) => Kind::Overwrite,
            (Some(_), Mode::ReplacePartitions) => Kind::ReplacePartitions,
        }
    }

    /// The partitions that the files are of. Errors: [`Error::Refused`], where the table has none.
    fn partitions(&self) -> Result<PartitionSet> {
        let Examined { protocol, metadata, files } = self.examined;
        if metadata.partition_columns.is_empty() {
            return Err(Error::Refused(
                "mode=replace_partitions: the table has no partitions to be replaced; say \
                 mode=overwrite to replace all of it, or mode=append"
                    .into(),
            ));
        }
        let mut partitions = PartitionSet::of_table(protocol, metadata)?;
        files.iter().for_each(|file| partitions.insert(&file.partition_values));
        Ok(partitions)
    }
}

/// Plans the commit. Errors: what the table refuses, by name.
pub fn plan(mut input: Input<'_>) -> Result<Plan> {
    let kind = input.kind();
    let mut plan = Plan::empty(kind, input.newest);
    if input.files.is_empty() && input.properties.is_empty() {
        return Ok(plan);
    }
    check_commit(&input.examined.protocol)?;
    let replaced = match input.options.mode() {
        Mode::ReplacePartitions if !input.files.is_empty() => Some(input.partitions()?),
        Mode::ReplacePartitions | Mode::Append | Mode::Overwrite => None,
    };
    let wanted = choose(&mut input, &mut plan)?;
    let (adds, removes) = match (kind, snapshot(&input)) {
        // Properties alone take nothing's place.
        _ if input.files.is_empty() => (Vec::new(), Vec::new()),
        (Kind::Overwrite | Kind::ReplacePartitions, Some(snapshot)) => {
            replace(snapshot, wanted, replaced.as_ref(), input.now_ms)
        }
        (Kind::Overwrite | Kind::ReplacePartitions, None) => {
            return Err(Error::Damaged("BUG: an overwrite was planned without a snapshot".into()));
        }
        _ => {
            // A file that is live is in the table already, whatever of it was deleted since.
            let is_live = |path: &FilePath| {
                let at = input.files.binary_search_by(|file| file.path.cmp(path));
                at.is_ok_and(|at| input.facts[at].live.is_some())
            };
            let new = wanted.into_iter().filter(|(path, _)| !is_live(path));
            (new.map(|(_, added)| added).collect(), Vec::new())
        }
    };
    if !adds.is_empty() {
        check_write(&input.examined.protocol, &input.examined.metadata)?;
    }
    if let (Kind::ReplacePartitions, Some(partitions)) = (kind, replaced) {
        plan.read = Read::Partitions(partitions);
    }
    finish(input, plan, adds, removes)
}

/// What puts files in the place of all live ones, or of those of some partitions.
fn replace(
    snapshot: &Snapshot,
    wanted: BTreeMap<FilePath, Added>,
    partitions: Option<&PartitionSet>,
    now_ms: i64,
) -> (Vec<Added>, Vec<Remove>) {
    let goes =
        |add: &Add| partitions.is_none_or(|partitions| partitions.holds(&add.partition_values));
    let outside = snapshot.outside.values().filter(|add| goes(add));
    let outside: Vec<Remove> = outside.map(|add| add.to_remove(now_ms)).collect();
    let (adds, mut removes) = match partitions {
        None => difference(&snapshot.adds, wanted, now_ms),
        Some(_) => {
            // A wanted file that is live is never added again, whichever partition it is in.
            let live = snapshot.adds.iter();
            let live = live.filter(|(path, add)| goes(add) || wanted.contains_key(*path));
            let live = live.map(|(path, add)| (path.clone(), add.clone())).collect();
            difference(&live, wanted, now_ms)
        }
    };
    removes.extend(outside);
    (adds, removes)
}

fn finish(
    input: Input<'_>,
    mut plan: Plan,
    adds: Vec<Added>,
    removes: Vec<Remove>,
) -> Result<Plan> {
    plan.counts.added = adds.len() as u64;
    plan.counts.removed = removes.len() as u64;
    plan.counts.reused = plan.kept.len() as u64;
    plan.changes = changes(&adds, &removes, std::mem::take(&mut plan.kept));
    let examined = input.examined;
    let (protocol, metadata) = (&examined.protocol, &examined.metadata);
    plan.changes.extend(properties::changes(input.newest, protocol, metadata));
    let (operation, parameters) = input.operation(&mut plan.kind, adds.len() + removes.len());
    if plan.kind == Kind::Properties {
        plan.read = Read::Nothing;
    }
    plan.row_id_mark = snapshot(&input).and_then(|s| row_id_mark(&s.domains)).unwrap_or(-1);
    let draft = Draft {
        kind: plan.kind,
        newest: input.newest,
        protocol,
        metadata,
        adds,
        removes,
        domains: Vec::new(),
        row_id_mark: plan.row_id_mark,
        txn: input.options.txn_action(input.now_ms),
        operation,
        parameters,
        now_ms: input.now_ms,
    };
    (plan.actions, plan.info) = draft.finish()?;
    Ok(plan)
}

fn snapshot<'a>(input: &Input<'a>) -> Option<&'a Snapshot> {
    input.newest.and_then(|newest| newest.snapshot.as_deref())
}

/// Gives each staged file its name, and notes what has to be uploaded for it.
fn choose(input: &mut Input<'_>, plan: &mut Plan) -> Result<BTreeMap<FilePath, Added>> {
    let mut taken = BTreeSet::new();
    let mut wanted = BTreeMap::new();
    for (source, (file, facts)) in input.files.iter().zip(input.facts).enumerate() {
        // Bytes that are live under their own name are not staged a second time by being brought.
        let target = target(file, facts, &taken, input.fresh_id)?;
        let is_there =
            matches!(facts.presence, Presence::Same | Presence::SameShared | Presence::Ours);
        if target.path == file.path && is_there && facts.published.is_none() {
            plan.kept.insert(file.path.clone());
        }
        if target.uploads {
            let is_there = facts.presence == Presence::Ours && target.path == file.path;
            plan.uploads.push(Upload { source, to: target.path.clone(), is_there });
        }
        taken.insert(target.path.clone());
        let added = input.added(source, &target.path);
        wanted.insert(target.path, added);
    }
    Ok(wanted)
}

impl Input<'_> {
    /// What commitInfo calls the commit. One that has no file to add or remove is of properties.
    fn operation(&self, kind: &mut Kind, files: usize) -> (&'static str, Value) {
        if files == 0 && self.newest.is_some() && !self.properties.is_empty() {
            *kind = Kind::Properties;
            return (self.properties.operation(), self.properties.parameters());
        }
        let metadata = &self.examined.metadata;
        let text = |value: Value| Value::String(value.to_string());
        let replaces = matches!(*kind, Kind::Overwrite | Kind::ReplacePartitions);
        let mut parameters = json!({
            "mode": if replaces { "Overwrite" } else { "Append" },
            "partitionBy": text(json!(metadata.partition_columns)),
        });
        if *kind == Kind::ReplacePartitions {
            // As Spark's dynamic partition overwrite says it.
            parameters["isDynamicPartitionOverwrite"] = true.into();
        }
        if !self.properties.is_empty() {
            parameters["properties"] = self.properties.parameters()["properties"].take();
        }
        (kind.operation(), parameters)
    }

    fn added(&self, source: usize, path: &FilePath) -> Added {
        let (file, examined) = (&self.files[source], &self.examined.files[source]);
        let mut add = Add {
            path: path.to_log(),
            partition_values: examined.partition_values.clone(),
            size: i64::try_from(file.entry.size).unwrap_or(i64::MAX),
            modification_time: file.entry.modified_ms,
            data_change: true,
            stats: Some(examined.stats.clone()),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
            unknown: serde_json::Map::new(),
        };
        if let Some(snapshot) = snapshot(self) {
            keep_row_ids(&mut add, path, snapshot);
        }
        Added { add, rows: Some(examined.rows) }
    }
}

/// A file that the table has, or had, keeps the row ids of its last add (protocol: "recommitted").
fn keep_row_ids(add: &mut Add, path: &FilePath, snapshot: &Snapshot) {
    if let Some(live) = snapshot.adds.get(path) {
        add.base_row_id = live.base_row_id;
        add.default_row_commit_version = live.default_row_commit_version;
        return;
    }
    let first = (path.as_str().to_owned(), None);
    let tombstones = snapshot.removes.range(first..).take_while(|((at, _), _)| at == path.as_str());
    for (_, tombstone) in tombstones {
        add.base_row_id = add.base_row_id.or(tombstone.base_row_id);
        add.default_row_commit_version =
            add.default_row_commit_version.or(tombstone.default_row_commit_version);
    }
}
