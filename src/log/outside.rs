//! The live files outside of a table's folder, and which of them keep a version from being read.
//!
//! They are in the log alone: no directory shows them. What the mount allows beside the table makes
//! no version unreadable; anything else does, by name. A file inside may have its deletion vector
//! outside, and is judged by that too.

use std::collections::BTreeMap;

use crate::log::action::DeletionVector;
use crate::log::commit::Place;
use crate::log::file_actions::{FileActions, OutsideAction, OutsideKind, Stat};
use crate::log::interval::Effect;
use crate::log::path::FilePath;
use crate::store::{Located, Reach};

/// What is live outside at one version.
#[derive(Clone, Debug, Default)]
pub(super) struct OutsideFiles {
    reach: Reach,
    /// By their one spelling.
    files: BTreeMap<String, OutsideFile>,
    /// By path or URI of the data file: its deletion vector, and the place that nobody allowed.
    beyond: BTreeMap<String, (Option<String>, String)>,
}

/// What is kept of a file outside.
#[derive(Clone, Debug)]
struct OutsideFile {
    stat: Stat,
    vector: Option<DeletionVector>,
}

impl OutsideFile {
    fn has_vector(&self, vector: Option<&DeletionVector>) -> bool {
        match (&self.vector, vector) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl OutsideFiles {
    pub fn new(reach: Reach) -> OutsideFiles {
        OutsideFiles { reach, ..OutsideFiles::default() }
    }

    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len() + self.beyond.len()
    }

    /// Forgets all files.
    pub fn clear(&mut self) {
        self.files.clear();
        self.beyond.clear();
    }

    /// Why the version can't be read, as a sentence.
    pub fn refusal(&self) -> Option<String> {
        self.beyond.values().next().map(|(_, place)| refusal(place))
    }

    /// File actions as the table sees them.
    pub fn place(&self, changes: Vec<FileActions>) -> Vec<FileActions> {
        changes.into_iter().map(|piece| piece.seen_from(&self.reach)).collect()
    }

    /// Goes up by a commit's changes, which are placed.
    pub fn apply(&mut self, changes: &[FileActions], effect: &mut Effect) {
        for piece in changes {
            if piece.has_vectors() || !self.beyond.is_empty() {
                for action in piece.actions() {
                    self.apply_inside(piece.path(action), piece.vector(action), action.is_add);
                }
            }
            for OutsideAction { uri, vector, kind, .. } in piece.outside() {
                match kind {
                    OutsideKind::Add(stat, _) => self.add(uri, *stat, vector.as_ref(), effect),
                    OutsideKind::Remove => self.remove(uri, vector.as_ref(), effect),
                }
            }
        }
    }

    /// Takes in a checkpoint's files, which are placed; its tombstones say nothing.
    pub fn rebase(&mut self, changes: &[FileActions], effect: &mut Effect) {
        for piece in changes {
            let added = piece.actions().iter().filter(|action| action.is_add);
            for action in added.filter(|_| piece.has_vectors()) {
                self.apply_inside(piece.path(action), piece.vector(action), true);
            }
            for OutsideAction { uri, vector, kind, .. } in piece.outside() {
                if let OutsideKind::Add(stat, _) = kind {
                    self.add(uri, *stat, vector.as_ref(), effect);
                }
            }
        }
    }

    /// Notes a file inside that became live, or was removed.
    fn apply_inside(&mut self, path: &str, vector: Option<&DeletionVector>, is_add: bool) {
        if is_add {
            let beyond = vector.and_then(|vector| vector.beyond(&self.reach));
            self.note(path, vector, beyond);
        } else {
            self.forget(path, vector);
        }
    }

    fn add(&mut self, uri: &str, stat: Stat, vector: Option<&DeletionVector>, effect: &mut Effect) {
        let beyond = match self.reach.locate(uri) {
            Located::Beyond => Some(uri.to_owned()),
            Located::Inside(_) | Located::Allowed => {
                vector.and_then(|vector| vector.beyond(&self.reach))
            }
        };
        self.note(uri, vector, beyond);
        let file = OutsideFile { stat, vector: vector.cloned() };
        match self.files.get(uri) {
            // Statistics or tags were written anew.
            Some(held) if held.stat == stat && held.has_vector(vector) => return,
            Some(held) => effect.removed.put(held.stat.size, held.vector.as_ref()),
            None => {}
        }
        effect.added.put(stat.size, vector);
        self.files.insert(uri.to_owned(), file);
    }

    fn remove(&mut self, uri: &str, vector: Option<&DeletionVector>, effect: &mut Effect) {
        if let Some(held) = self.files.get(uri)
            && held.has_vector(vector)
        {
            effect.removed.put(held.stat.size, held.vector.as_ref());
            self.files.remove(uri);
            self.forget(uri, vector);
        }
    }

    fn note(&mut self, path: &str, vector: Option<&DeletionVector>, beyond: Option<String>) {
        match beyond {
            Some(place) => {
                let vector = vector.map(DeletionVector::unique_id);
                self.beyond.insert(path.to_owned(), (vector, place));
            }
            // Nearly always there is none to forget.
            None if self.beyond.is_empty() => {}
            None => drop(self.beyond.remove(path)),
        }
    }

    fn forget(&mut self, path: &str, vector: Option<&DeletionVector>) {
        if self.beyond.is_empty() {
            return;
        }
        let same =
            |(held, _): &(Option<String>, String)| *held == vector.map(DeletionVector::unique_id);
        if self.beyond.get(path).is_some_and(same) {
            self.beyond.remove(path);
        }
    }
}

/// A place as the table sees it: an absolute path into its own folder is the file inside.
pub(super) fn seen_from(reach: &Reach, place: Place) -> Place {
    let Place::Outside(uri) = &place else { return place };
    match reach.locate(uri) {
        Located::Inside(path) => FilePath::from_decoded(path).map_or(place, Place::Inside),
        Located::Allowed | Located::Beyond => place,
    }
}

/// Why a version that needs a file there can't be read.
pub(super) fn refusal(place: &str) -> String {
    format!(
        "its file {place:?} is outside of the table's folder: tables that point there (shallow \
         clones) are read where the mount allows the place, by --allow-outside"
    )
}
