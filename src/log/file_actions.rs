//! File actions on their way from a log file into the interval table.
//!
//! A log file may hold millions, so they are a few runs of memory and not an object each. What a
//! commit does is a list of pieces in the order of its lines; which actions count is decided by
//! `interval` and `replay`.

use crate::error::{Error, Result};
use crate::log::action::DeletionVector;
use crate::log::commit::{self, Place};
use crate::log::path::{self, FilePath};
use crate::log::values::{PartitionSet, SetWriter, ValuesId, ValuesTable};
use crate::store::{Located, Reach};

/// Paths of one piece take no more than this, so that a place among them has 32 bits.
const PATHS_BYTES_MAX: usize = 1 << 31;

/// File actions in the order of the log, and what they refer to.
#[derive(Clone, Debug, Default)]
pub struct FileActions {
    /// Decoded paths, one after the other.
    paths: String,
    actions: Vec<FileAction>,
    values: ValuesTable,
    vectors: Vec<DeletionVector>,
    /// Actions on files outside the table's folder.
    outside: Vec<OutsideAction>,
}

/// Adds or removes a file within the table.
#[derive(Clone, Copy, Debug)]
pub struct FileAction {
    pub size: u64,
    pub modified_ms: i64,
    path_start: u32,
    path_bytes: u16,
    pub is_add: bool,
    /// The number in `values` of an added file's.
    pub values: ValuesId,
    /// One more than the number in `vectors`; 0 is none.
    vector: u32,
}

/// Adds or removes a file outside of the table's folder.
#[derive(Clone, Debug)]
pub struct OutsideAction {
    /// Normalized.
    pub uri: String,
    pub vector: Option<DeletionVector>,
    pub kind: OutsideKind,
    /// The number of the action within the table that it stands before.
    before: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum OutsideKind {
    Add(Stat, ValuesId),
    Remove,
}

/// What the log says of an added file, but for its path, vector and partition values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub size: u64,
    pub modified_ms: i64,
}

impl FileActions {
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.outside.is_empty()
    }

    pub fn actions(&self) -> &[FileAction] {
        &self.actions
    }

    pub fn outside(&self) -> &[OutsideAction] {
        &self.outside
    }

    pub fn has_vectors(&self) -> bool {
        !self.vectors.is_empty()
    }

    /// Takes away the partition values: the actions keep their numbers.
    pub fn take_values(&mut self) -> ValuesTable {
        std::mem::take(&mut self.values)
    }

    /// An action's path.
    pub fn path(&self, action: &FileAction) -> &str {
        let start = action.path_start as usize;
        &self.paths[start..start + usize::from(action.path_bytes)]
    }

    /// An action's deletion vector.
    pub fn vector(&self, action: &FileAction) -> Option<&DeletionVector> {
        self.vectors.get((action.vector as usize).checked_sub(1)?)
    }

    /// The number of an added file's partition values.
    pub fn intern(&mut self, set: PartitionSet<'_>) -> ValuesId {
        self.values.intern(set)
    }

    /// The number of partition values by their entries. Errors: as [`SetWriter::write`].
    pub fn intern_entries<'e>(
        &mut self,
        writer: &mut SetWriter,
        entries: &mut Vec<(&'e str, Option<&'e str>)>,
    ) -> Result<ValuesId> {
        Ok(self.values.intern(writer.write(entries)?))
    }

    /// Takes in an added file. Errors: [`Error::Damaged`] for more paths than a piece can hold.
    pub fn add(
        &mut self,
        place: Place,
        stat: Stat,
        values: ValuesId,
        vector: Option<DeletionVector>,
    ) -> Result<()> {
        match place {
            Place::Inside(path) => self.push(path.as_str(), stat, true, values, vector),
            Place::Outside(uri) => {
                self.push_outside(uri, vector, OutsideKind::Add(stat, values));
                Ok(())
            }
        }
    }

    /// As [`FileActions::add`], for a path of the log that may need no decoding: then nothing is
    /// allocated for it.
    pub fn add_encoded(&mut self, encoded: &str, stat: Stat, values: ValuesId) -> Result<()> {
        if path::is_plain(encoded) {
            return self.push(encoded, stat, true, values, None);
        }
        self.add(commit::place(encoded)?, stat, values, None)
    }

    /// Takes in a removed file. Errors: as [`FileActions::add`].
    pub fn remove(&mut self, place: Place, vector: Option<DeletionVector>) -> Result<()> {
        match place {
            Place::Inside(path) => {
                let stat = Stat { size: 0, modified_ms: 0 };
                self.push(path.as_str(), stat, false, 0, vector)
            }
            Place::Outside(uri) => {
                self.push_outside(uri, vector, OutsideKind::Remove);
                Ok(())
            }
        }
    }

    /// As the table sees its files: what an absolute path finds in its own folder is the file
    /// inside, in the same order.
    pub fn seen_from(mut self, reach: &Reach) -> FileActions {
        let is_inside = |action: &OutsideAction| {
            matches!(reach.locate(&action.uri), Located::Inside(path)
                if FilePath::from_decoded(path).is_ok())
        };
        // Nearly always.
        if !self.outside.iter().any(is_inside) {
            return self;
        }
        let actions = std::mem::take(&mut self.actions);
        let mut outside = std::mem::take(&mut self.outside).into_iter().peekable();
        for (at, action) in actions.into_iter().map(Some).chain([None]).enumerate() {
            while let Some(action) = outside.next_if(|outside| outside.before <= at) {
                self.place(action, reach);
            }
            self.actions.extend(action);
        }
        self
    }

    fn place(&mut self, action: OutsideAction, reach: &Reach) {
        let OutsideAction { uri, vector, kind, .. } = action;
        let path = match reach.locate(&uri) {
            Located::Inside(path) => FilePath::from_decoded(path).ok(),
            Located::Allowed | Located::Beyond => None,
        };
        let placed = path.map(|path| match kind {
            OutsideKind::Add(stat, values) => {
                self.push(path.as_str(), stat, true, values, vector.clone())
            }
            OutsideKind::Remove => self.remove(Place::Inside(path), vector.clone()),
        });
        // A piece that is full of paths, some 20 million of them, takes no more.
        if !matches!(placed, Some(Ok(()))) {
            self.push_outside(uri, vector, kind);
        }
    }

    fn push_outside(&mut self, uri: String, vector: Option<DeletionVector>, kind: OutsideKind) {
        self.outside.push(OutsideAction { uri, vector, kind, before: self.actions.len() });
    }

    /// The path has been checked: it is a `FilePath`, or `is_plain`.
    fn push(
        &mut self,
        path: &str,
        stat: Stat,
        is_add: bool,
        values: ValuesId,
        vector: Option<DeletionVector>,
    ) -> Result<()> {
        if self.paths.len() + path.len() > PATHS_BYTES_MAX {
            return Err(Error::Damaged(format!("more than {PATHS_BYTES_MAX} bytes of paths")));
        }
        let path_start = self.paths.len() as u32;
        self.paths.push_str(path);
        let path_bytes = u16::try_from(path.len()).expect("BUG: a path has at most 4095 bytes");
        let vector = match vector {
            Some(vector) => {
                self.vectors.push(vector);
                self.vectors.len() as u32
            }
            None => 0,
        };
        let Stat { size, modified_ms } = stat;
        let action =
            FileAction { size, modified_ms, path_start, path_bytes, is_add, values, vector };
        self.actions.push(action);
        Ok(())
    }
}
