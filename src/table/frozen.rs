//! Which log files a version directory shows, fixed when they are first asked for.
//!
//! A checkpoint of version N is written after commit N, and `_last_checkpoint` is overwritten by
//! each later one. A version directory never changes, so the first listing of a version's log is
//! the one it keeps for as long as the daemon lives: files that arrive later, though their version
//! is not newer, are shown only in versions that were not looked at before.

use std::collections::HashMap;

use bytes::Bytes;

use crate::log::history::Timeline;
use crate::log::listing::{LogFile, LogFileKind};
use crate::log::version::Version;

/// The log files that one version directory shows.
#[derive(Clone, Debug)]
pub struct FrozenLog {
    /// Sorted by name.
    pub files: Vec<LogFile>,
    /// `_last_checkpoint`, where the table's own one was true for this version.
    pub last_checkpoint: Option<LastCheckpoint>,
}

/// The table's `_last_checkpoint` as it once was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    pub bytes: Bytes,
    /// The version that it points to.
    pub version: Version,
}

impl LastCheckpoint {
    /// Reads the version out of it; `None` where it isn't what the protocol says, and then nobody
    /// is shown it: it is a hint, and a wrong one is worse than none.
    pub fn parse(bytes: Bytes) -> Option<LastCheckpoint> {
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let version = Version(u64::try_from(value.get("version")?.as_i64()?).ok()?);
        Some(LastCheckpoint { bytes, version })
    }
}

/// What was seen of a table's log, and when, counted in looks at the store.
#[derive(Debug, Default)]
pub(super) struct LogSightings {
    look: u64,
    /// Files that arrived after the first look, with the look that saw them.
    late: HashMap<String, u64>,
    frozen: HashMap<Version, (u64, Option<LastCheckpoint>)>,
    last_checkpoint: Option<LastCheckpoint>,
}

impl LogSightings {
    /// Notes what a look at the log found: files not known before, and `_last_checkpoint`.
    pub fn note<'a>(
        &mut self,
        new_files: impl Iterator<Item = &'a str>,
        last_checkpoint: Option<LastCheckpoint>,
    ) {
        self.look += 1;
        self.late.extend(new_files.map(|name| (name.to_string(), self.look)));
        self.last_checkpoint = last_checkpoint;
    }

    /// Takes over what another look at the same log had fixed.
    pub fn keep(&mut self, earlier: LogSightings) {
        self.look += earlier.look;
        self.late = earlier.late;
        self.frozen = earlier.frozen;
    }

    /// Fixes what `version` shows, if it isn't yet; the look that counts and the hint.
    fn fix(&mut self, version: Version) -> (u64, Option<LastCheckpoint>) {
        let now = (self.look, self.last_checkpoint.clone());
        self.frozen.entry(version).or_insert(now).clone()
    }

    fn was_seen(&self, file: &LogFile, look: u64) -> bool {
        self.late.get(&file.name).is_none_or(|at| *at <= look)
    }

    /// The log of `version`, as it was when first asked for.
    pub fn freeze(&mut self, history: &Timeline, version: Version) -> FrozenLog {
        let (look, _) = self.fix(version);
        let files = history.log_files(version).into_iter();
        let files = files.filter(|file| self.was_seen(file, look)).cloned().collect();
        FrozenLog { files, last_checkpoint: self.freeze_last_checkpoint(history, version) }
    }

    /// One file of `freeze`, for a lookup.
    pub fn freeze_file(
        &mut self,
        history: &Timeline,
        version: Version,
        name: &str,
    ) -> Option<LogFile> {
        let (look, _) = self.fix(version);
        let file = history.log_file(name).filter(|file| file.shown_from() <= version)?;
        self.was_seen(file, look).then(|| file.clone())
    }

    /// The hint of `freeze`: only where the log that is shown has the checkpoint that it names.
    pub fn freeze_last_checkpoint(
        &mut self,
        history: &Timeline,
        version: Version,
    ) -> Option<LastCheckpoint> {
        let (look, last) = self.fix(version);
        let last = last.filter(|last| last.version <= version)?;
        let mut files = history.log_files(last.version).into_iter();
        let is_there = files.any(|file| {
            file.version == last.version
                && self.was_seen(file, look)
                && matches!(
                    file.kind,
                    LogFileKind::Checkpoint
                        | LogFileKind::CheckpointPart { .. }
                        | LogFileKind::CheckpointUuid { .. }
                )
        });
        is_there.then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_at_a_version_that_no_log_can_have_is_none() {
        for (text, version) in [
            (r#"{"version":7,"size":1}"#, Some(7)),
            (r#"{"version":9223372036854775807}"#, Some(i64::MAX.unsigned_abs())),
            (r#"{"version":9223372036854775808}"#, None),
            (r#"{"version":-1}"#, None),
            (r#"{"version":"7"}"#, None),
            (r#"{"size":1}"#, None),
            ("{", None),
        ] {
            let hint = LastCheckpoint::parse(Bytes::from_static(text.as_bytes()));
            assert_eq!(hint.map(|hint| hint.version.0), version, "{text}");
        }
    }
}
