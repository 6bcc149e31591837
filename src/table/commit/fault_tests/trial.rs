//! One fault in one scripted commit, and what must hold after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::scene::{Files, Scene};
use super::session::{self, Blow, Ended, JournalFault, JournalPlan};
use super::world::{Dump, State, World, lost};
use crate::error::Error;
use crate::store::fault::{Call, Fault};
use crate::table::staging::Staging;
use crate::table::staging::journal_fault::Step;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Injury {
    Store(Fault),
    Journal(JournalFault),
}

/// What a scene comes to when nothing goes wrong.
pub struct Expected {
    /// The table before, and before but with the rivals' commits.
    before: Vec<State>,
    after: State,
    /// The version that the sync tells.
    made: Option<u64>,
    /// What stays staged.
    left: Files,
    options: String,
    rows: Vec<String>,
    is_new: bool,
    calls: BTreeMap<Call, usize>,
    journal_writes: usize,
}

/// What came of one trial.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// Whether the fault took place.
    pub is_hit: bool,
    /// Whether there were so many calls, or writes of the journal, at all.
    pub is_reached: bool,
}

impl Expected {
    /// Runs the scene without a fault.
    pub async fn of(scene: &Scene) -> Result<Expected, String> {
        let is_new = World::of(scene).observe().await?.version.is_none()
            && !scene.staged.iter().any(|(path, _)| path.starts_with("_delta_log/"));
        let world = world(scene, is_new);
        let mut before = vec![world.observe().await?];
        for (path, text) in &scene.rivals {
            let rival = text.clone().into();
            world.store.mended().store().create(path, rival).await.unwrap();
            before.push(world.observe().await?);
        }
        let world = self::world(scene, is_new);
        let staging = world.stage(scene).await;
        let spool = world.spool();
        let store = world.session(None);
        let (at, step, blow) = (usize::MAX, Step::Before, Blow::Stop);
        let journal = JournalPlan::new(JournalFault { at, step, blow, for_good: false });
        let ended = session::run(&store, (staging, &spool), Some(&journal), false).await?;
        let calls = Call::ALL.map(|call| (call, store.plan().calls_of(call))).into();
        let Ended::Committed(summary) = ended else {
            return Err(format!("without a fault: {ended:?}"));
        };
        let staging = world.adopt()?;
        let options = staging.options_text();
        drop(staging);
        let (after, left) = (world.observe().await?, world.staged());
        let made = summary.version.map(|version| version.0);
        let rows = rows(&world).await?;
        let journal_writes = journal.writes();
        let expected =
            Expected { before, after, made, left, options, rows, is_new, calls, journal_writes };
        expected.check_itself(scene)?;
        Ok(expected)
    }

    /// Whether the scene is one at all.
    fn check_itself(&self, scene: &Scene) -> Result<(), String> {
        let newest = self.before.iter().filter_map(|state| state.version).max();
        let is_commit = self.made.is_some() && self.made == self.after.version;
        let grows = match newest {
            Some(newest) => self.after.version == Some(newest + 1),
            None => is_commit,
        };
        let makes_nothing = self.made.is_none() && self.before.contains(&self.after);
        match (is_commit && grows) || makes_nothing {
            true => Ok(()),
            false => Err(format!("{}: {:?} of {newest:?}", scene.name, self.made)),
        }
    }

    /// How many calls of a kind there are, or writes of the journal.
    pub fn calls(&self, call: Option<Call>) -> usize {
        match call {
            Some(call) => self.calls[&call],
            None => self.journal_writes,
        }
    }

    pub fn is_commit(&self) -> bool {
        self.made.is_some()
    }
}

fn world(scene: &Scene, is_new: bool) -> World {
    let world = World::of(scene);
    if is_new { world.of_new_table() } else { world }
}

/// The rows that the kernel reads, or nothing where there is no table.
async fn rows(world: &World) -> Result<Vec<String>, String> {
    let folder = world.lay_down().await;
    let table = folder.path().join("t");
    if !table.join("_delta_log").exists() {
        return Ok(Vec::new());
    }
    let read = std::thread::spawn(move || crate::table::commit::tests::kernel(&table));
    let batches = read
        .join()
        .map_err(|_| "the kernel panics".to_owned())?
        .map_err(|error| format!("the kernel can't read the table: {error}"))?;
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(format!("{:?}", batch.slice(row, 1).columns()));
        }
    }
    rows.sort();
    Ok(rows)
}

/// A scene under one fault.
pub struct Trial<'a> {
    pub scene: &'a Scene,
    pub expected: &'a Expected,
    /// What went wrong with an earlier sync.
    pub earlier: Option<Fault>,
    /// Whether what was sent then arrives between the second sync and the third; else in the end.
    pub lands_between: bool,
    pub injury: Injury,
    /// Whether the daemon settles what is left before the user syncs again.
    pub recovers: bool,
    /// Whether the kernel reads the table in the end.
    pub asks_kernel: bool,
}

impl Trial<'_> {
    /// Commits under the fault, on a broken store again where it stays broken, and at last on a
    /// mended one. Errors: what didn't hold.
    pub async fn run(&self) -> Result<Tried, String> {
        let world = world(self.scene, self.expected.is_new);
        let before = world.dump().await;
        let staging = world.stage(self.scene).await;
        let Some(earlier) = self.earlier else {
            let (tried, ended) = self.hurt(&world, staging, self.injury).await?;
            let mut is_after = self.check(&world, &before, &ended, false, true).await?;
            if self.is_for_good() {
                let dump = world.dump().await;
                let (_, ended) = self.hurt(&world, world.adopt()?, self.injury).await?;
                is_after = self.check(&world, &dump, &ended, is_after, false).await?;
            }
            self.last(&world, is_after).await?;
            return Ok(tried);
        };
        let (_, ended) = self.hurt(&world, staging, Injury::Store(earlier)).await?;
        let is_after = self.check(&world, &before, &ended, false, true).await?;
        let dump = world.dump().await;
        let (tried, ended) = self.hurt(&world, world.adopt()?, self.injury).await?;
        let mut is_after = self.check(&world, &dump, &ended, is_after, false).await?;
        if self.lands_between {
            world.store.land(true).await;
            is_after |= world.observe().await? == self.expected.after;
        }
        self.last(&world, is_after).await?;
        Ok(tried)
    }

    fn is_for_good(&self) -> bool {
        match self.injury {
            Injury::Store(fault) => fault.for_good,
            Injury::Journal(fault) => fault.for_good,
        }
    }

    /// One life of a daemon under the fault.
    async fn hurt(
        &self,
        world: &World,
        staging: Arc<Staging>,
        injury: Injury,
    ) -> Result<(Tried, Ended), String> {
        let spool = world.spool();
        let (fault, journal) = match injury {
            Injury::Store(fault) => (Some(fault), None),
            Injury::Journal(fault) => (None, Some(JournalPlan::new(fault))),
        };
        let store = world.session(fault);
        let ended = session::run(&store, (staging, &spool), journal.as_ref(), false).await?;
        store.land(false).await;
        let tried = match (&journal, injury) {
            (Some(journal), Injury::Journal(fault)) => {
                Tried { is_hit: journal.hits() > 0, is_reached: journal.writes() > fault.at }
            }
            (_, Injury::Store(fault)) => Tried {
                is_hit: store.plan().hits() > 0,
                is_reached: store.plan().calls_of(fault.call) > fault.at,
            },
            (None, Injury::Journal(_)) => unreachable!(),
        };
        Ok((tried, ended))
    }

    /// What must hold after a life under the fault; says whether the commit is in the table.
    async fn check(
        &self,
        world: &World,
        dump: &Dump,
        ended: &Ended,
        was_after: bool,
        is_first: bool,
    ) -> Result<bool, String> {
        let expected = self.expected;
        let state = world.observe().await.map_err(|why| format!("{why}, after {ended:?}"))?;
        let is_after = state == expected.after;
        if !is_after && !expected.before.contains(&state) {
            return Err(format!("neither before nor after, after {ended:?}: {state}"));
        }
        if was_after && !is_after {
            return Err(format!("it went back, after {ended:?}"));
        }
        if let Some(path) = lost(dump, &world.dump().await) {
            return Err(format!("{path} changed, after {ended:?}"));
        }
        match ended {
            Ended::Committed(summary) => {
                let told = summary.version.map(|version| version.0);
                if !is_after || (told != expected.made && (is_first || told.is_some())) {
                    return Err(format!("it was said to be {told:?}, and is {state}"));
                }
            }
            // Of a commit that was unknown, any error may be told until it is known.
            Ended::Failed(Error::Unknown(_)) | Ended::Stopped => {}
            Ended::Failed(error) if is_first => {
                if expected.is_commit() && is_after {
                    return Err(format!(
                        "it is in the table, and was told to have failed: {error}"
                    ));
                }
                // An attempt that is still journaled knows its files by the times that they have.
                let is_open = world.spool().join("attempt").exists();
                let touched = if is_open { Vec::new() } else { world.touched(self.scene) };
                if !touched.is_empty() {
                    return Err(format!("{touched:?} lost their times, after {error}"));
                }
            }
            Ended::Failed(_) => {}
        }
        if !is_after {
            self.check_staged(world).map_err(|why| format!("{why}, after {ended:?}"))?;
        }
        Ok(is_after)
    }

    /// All that was staged is there.
    fn check_staged(&self, world: &World) -> Result<(), String> {
        let staged = world.staged();
        for (path, bytes) in &self.scene.staged {
            match staged.iter().find(|(found, _)| found == path) {
                Some((_, found)) if found == bytes => {}
                Some(_) => return Err(format!("staged {path} has other bytes")),
                None => return Err(format!("staged {path} is gone")),
            }
        }
        for (name, _) in &self.scene.references {
            if !staged.iter().any(|(found, _)| found == name) {
                return Err(format!("staged {name} is gone"));
            }
        }
        let staging = world.adopt()?;
        let said = (staging.options_text(), staging.properties_text());
        match said == (self.scene.options.into(), self.scene.properties.into()) {
            true => Ok(()),
            false => Err(format!("options and properties are {said:?}")),
        }
    }

    /// The table is mounted again on a store that works: one commit, whatever happened before.
    async fn last(&self, world: &World, was_after: bool) -> Result<(), String> {
        let expected = self.expected;
        let (spool, dump) = (world.spool(), world.dump().await);
        let store = world.session(None);
        let staging = (world.adopt()?, spool.as_path());
        let ended = session::run(&store, staging, None, self.recovers).await?;
        let Ended::Committed(summary) = &ended else {
            return Err(format!("mended, and {ended:?}"));
        };
        let told = summary.version.map(|version| version.0);
        // Recovery may have told it before.
        let may_be_told = was_after || self.recovers;
        if told != expected.made && !(may_be_told && told.is_none()) {
            return Err(format!("the repeated sync told {told:?}"));
        }
        let after = || async {
            let state = world.observe().await?;
            match state == expected.after {
                true => Ok(()),
                false => Err(format!("in the end it is {state}")),
            }
        };
        after().await?;
        if let Some(path) = lost(&dump, &world.dump().await) {
            return Err(format!("{path} changed in the end"));
        }
        self.check_settled(world)?;
        // Once more, and what is still on its way: neither makes a difference.
        let dump = world.dump().await;
        let store = world.session(None);
        let ended = session::run(&store, (world.adopt()?, &spool), None, false).await?;
        match &ended {
            Ended::Committed(summary) if summary.version.is_none() => {}
            ended => return Err(format!("once more is {ended:?}")),
        }
        world.store.land(true).await;
        after().await.map_err(|why| format!("what landed last: {why}"))?;
        if let Some(path) = lost(&dump, &world.dump().await) {
            return Err(format!("{path} was overwritten by what landed last"));
        }
        match self.asks_kernel && rows(world).await? != expected.rows {
            true => Err("the kernel reads other rows".into()),
            false => Ok(()),
        }
    }

    fn check_settled(&self, world: &World) -> Result<(), String> {
        let staging = world.adopt()?;
        let status = staging.status_text();
        if !status.starts_with("state=open\n") || world.spool().join("attempt").exists() {
            return Err(format!("unsettled: {status}"));
        }
        if world.staged() != self.expected.left {
            return Err(format!("still staged: {:?}", names(&world.staged())));
        }
        let said = (staging.options_text(), staging.properties_text());
        match said == (self.expected.options.clone(), String::new()) {
            true => Ok(()),
            false => Err(format!("options and properties are {said:?}")),
        }
    }
}

fn names(files: &Files) -> Vec<&str> {
    files.iter().map(|(path, _)| path.as_str()).collect()
}
