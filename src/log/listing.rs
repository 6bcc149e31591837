//! The files of a table's log by what their names say (protocol: "File Types").
//!
//! A listing is the only source of what the log holds: `_last_checkpoint` is carried along because
//! version directories may show it, and is never believed.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::log::checkpoint;
use crate::log::version::Version;
use crate::store::{Entry, Store};

/// The folder of the log beneath a table's root.
pub const LOG_DIRECTORY: &str = "_delta_log";
/// The folder of V2 checkpoints' sidecar files beneath the log.
pub const SIDECAR_DIRECTORY: &str = "_sidecars";
/// What the name of a local file has in it while it is written under another one.
const UNFINISHED: char = '#';
/// The hint at the newest checkpoint.
pub const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// What a log file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFileKind {
    /// `<version>.json`: the actions of one commit.
    Commit,
    /// `<version>.checkpoint.parquet`: the whole state in one file, V1 or V2.
    Checkpoint,
    /// `<version>.checkpoint.<part>.<parts>.parquet`: a part, from 1, of a V1 checkpoint.
    CheckpointPart { part: u32, parts: u32 },
    /// `<version>.checkpoint.<uuid>.json` or `.parquet`: the top level of a V2 checkpoint.
    CheckpointUuid { uuid: String, json: bool },
    /// `<version>.<to>.compacted.json`: the commits of a range of versions in one file.
    Compacted { to: Version },
    /// `<version>.crc`: the version checksum.
    Checksum,
    /// `_sidecars/<name>`: file actions of a V2 checkpoint.
    Sidecar,
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Name within `_delta_log`; sidecars have their folder before it.
    pub name: String,
    pub kind: LogFileKind,
    /// The version of the name; of a sidecar, that of the first checkpoint that refers to it.
    pub version: Version,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
}

impl LogFile {
    /// The path beneath the table's root.
    pub fn path(&self) -> String {
        log_path(&self.name)
    }

    /// The first version whose log has the file.
    pub fn shown_from(&self) -> Version {
        match self.kind {
            LogFileKind::Compacted { to } => to,
            LogFileKind::Commit
            | LogFileKind::Checkpoint
            | LogFileKind::CheckpointPart { .. }
            | LogFileKind::CheckpointUuid { .. }
            | LogFileKind::Checksum
            | LogFileKind::Sidecar => self.version,
        }
    }
}

/// What `_delta_log` holds.
#[derive(Clone, Debug, Default)]
pub struct LogListing {
    /// Sorted by name; files that the protocol doesn't know are left out.
    pub files: Vec<LogFile>,
    /// What stands in `_last_checkpoint`, where it is.
    pub last_checkpoint: Option<Bytes>,
}

/// The path beneath the table's root of a name within the log.
pub fn log_path(name: &str) -> String {
    format!("{LOG_DIRECTORY}/{name}")
}

/// The name of a commit's file.
pub fn commit_name(version: Version) -> String {
    format!("{:020}.json", version.0)
}

/// What a name within `_delta_log` says; `None` when the protocol has no such file.
pub fn parse_name(name: &str) -> Option<(Version, LogFileKind)> {
    let mut fields = name.split('.');
    let version = Version::parse_padded(fields.next()?)?;
    let fields: Vec<&str> = fields.collect();
    let kind = match fields.as_slice() {
        ["json"] => LogFileKind::Commit,
        ["crc"] => LogFileKind::Checksum,
        ["checkpoint", "parquet"] => LogFileKind::Checkpoint,
        ["checkpoint", part, parts, "parquet"] => {
            let (part, parts) = (parse_part(part)?, parse_part(parts)?);
            if part == 0 || part > parts {
                return None;
            }
            LogFileKind::CheckpointPart { part, parts }
        }
        ["checkpoint", uuid, form @ ("json" | "parquet")] => {
            uuid::Uuid::try_parse(uuid).ok()?;
            LogFileKind::CheckpointUuid { uuid: (*uuid).to_owned(), json: *form == "json" }
        }
        [to, "compacted", "json"] => {
            let to = Version::parse_padded(to).filter(|to| *to >= version)?;
            LogFileKind::Compacted { to }
        }
        _ => return None,
    };
    Some((version, kind))
}

/// Ten digits.
fn parse_part(text: &str) -> Option<u32> {
    let digits = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Lists the log of the table at the store's root.
///
/// Errors: [`Error::NotFound`] where there is no `_delta_log` or nothing in it, [`Error::Damaged`]
/// where it holds neither a commit nor a checkpoint.
pub async fn list_log(store: &Store) -> Result<LogListing> {
    let found = store.list(LOG_DIRECTORY).await?;
    let mut files: Vec<LogFile> = found.files.iter().filter_map(log_file).collect();
    if !files.iter().any(|file| may_rebuild(&file.kind)) {
        // An empty folder is what a first commit leaves that didn't get so far, a store of objects
        // has no such thing, and a table may be made in it.
        let is_unfinished = |entry: &Entry| entry.name().contains(UNFINISHED);
        let exists = !found.directories.is_empty() || !found.files.iter().all(is_unfinished);
        return Err(if exists {
            Error::Damaged("_delta_log holds no commit and no checkpoint".into())
        } else {
            Error::NotFound("_delta_log is missing or empty: this is no Delta table".into())
        });
    }
    let last_checkpoint =
        match found.files.iter().any(|entry| entry.path.ends_with(LAST_CHECKPOINT)) {
            true => read_if_there(store, &log_path(LAST_CHECKPOINT)).await?,
            false => None,
        };
    if found.directories.iter().any(|name| name == SIDECAR_DIRECTORY) {
        let sidecars = list_sidecars(store, &files).await?;
        files.extend(sidecars);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(LogListing { files, last_checkpoint })
}

/// What an entry of the log's folder is; `None` when the protocol has no such file.
pub fn log_file(entry: &Entry) -> Option<LogFile> {
    let name = entry.path.rsplit('/').next()?;
    let (version, kind) = parse_name(name)?;
    Some(LogFile {
        name: name.to_owned(),
        kind,
        version,
        size: entry.size,
        modified_ms: entry.modified_ms,
    })
}

fn may_rebuild(kind: &LogFileKind) -> bool {
    match kind {
        LogFileKind::Commit
        | LogFileKind::Checkpoint
        | LogFileKind::CheckpointPart { .. }
        | LogFileKind::CheckpointUuid { .. } => true,
        LogFileKind::Compacted { .. } | LogFileKind::Checksum | LogFileKind::Sidecar => false,
    }
}

/// The sidecars that checkpoints refer to. One that none refers to was left by a failed writer, and
/// belongs to no version.
async fn list_sidecars(store: &Store, files: &[LogFile]) -> Result<Vec<LogFile>> {
    let entries = store.list(&log_path(SIDECAR_DIRECTORY)).await?.files;
    let mut first_version: BTreeMap<String, Version> = BTreeMap::new();
    for file in files {
        let names = match checkpoint::sidecar_names(store, file).await {
            Ok(names) => names,
            Err(error @ (Error::Damaged(_) | Error::Unsupported(_) | Error::NotFound(_))) => {
                tracing::warn!(file = file.name, %error, "sidecars of an unreadable checkpoint");
                continue;
            }
            Err(error) => return Err(error),
        };
        for name in names {
            let version = first_version.entry(name).or_insert(file.version);
            *version = file.version.min(*version);
        }
    }
    let named = entries.into_iter().filter_map(|entry| {
        let name = entry.path.rsplit('/').next()?;
        let version = *first_version.get(name)?;
        Some(LogFile {
            name: format!("{SIDECAR_DIRECTORY}/{name}"),
            kind: LogFileKind::Sidecar,
            version,
            size: entry.size,
            modified_ms: entry.modified_ms,
        })
    });
    Ok(named.collect())
}

async fn read_if_there(store: &Store, path: &str) -> Result<Option<Bytes>> {
    match store.read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_log_file_is_known_by_its_name() {
        let uuid = "956ea395-e95c-4292-a67e-37b8b282af28";
        let cases = [
            ("00000000000000000007.json".to_owned(), LogFileKind::Commit),
            ("00000000000000000007.crc".to_owned(), LogFileKind::Checksum),
            ("00000000000000000007.checkpoint.parquet".to_owned(), LogFileKind::Checkpoint),
            (
                "00000000000000000007.checkpoint.0000000001.0000000002.parquet".to_owned(),
                LogFileKind::CheckpointPart { part: 1, parts: 2 },
            ),
            (
                format!("00000000000000000007.checkpoint.{uuid}.json"),
                LogFileKind::CheckpointUuid { uuid: uuid.into(), json: true },
            ),
            (
                format!("00000000000000000007.checkpoint.{uuid}.parquet"),
                LogFileKind::CheckpointUuid { uuid: uuid.into(), json: false },
            ),
            (
                "00000000000000000007.00000000000000000009.compacted.json".to_owned(),
                LogFileKind::Compacted { to: Version(9) },
            ),
        ];
        for (name, kind) in cases {
            assert_eq!(parse_name(&name), Some((Version(7), kind)), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_nearly_one_is_none() {
        for name in [
            "",
            "_last_checkpoint",
            "7.json",
            "0000000000000000000a.json",
            "00000000000000000007.json.tmp",
            ".00000000000000000007.json.crc",
            "00000000000000000007.checkpoint",
            "00000000000000000007.checkpoint.0000000003.0000000002.parquet",
            "00000000000000000007.checkpoint.0000000000.0000000002.parquet",
            "00000000000000000007.checkpoint.1.2.parquet",
            "00000000000000000007.checkpoint.not-a-uuid.parquet",
            "00000000000000000007.00000000000000000006.compacted.json",
            "99999999999999999999.json",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
