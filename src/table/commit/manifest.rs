//! What was staged, sorted by what it is: data, the table's own log, markers, half-written files.
//!
//! Tools leave more behind than data (FACTS: "What engines do to a destination"). Names that Delta
//! hides are left out and reported. A temporary name with bytes in it means that somebody is still
//! writing, or was interrupted: then there is no commit. Whether a file is data is told by its
//! content alone, for Flink's files end in nothing and Beam's in numbers.

use crate::error::{Error, Result};
use crate::log::path::FilePath;
use crate::table::LOG_DIRECTORY;
use crate::table::staging::StagedEntry;

/// Digests that a backup brought along.
pub const DIGESTS: &str = "SHA256SUMS";
/// The folder of the change data feed.
const CHANGE_DATA: &str = "_change_data/";

/// The staged files by what they are.
#[derive(Debug, Default)]
pub struct Manifest {
    /// Data files and deletion vectors, sorted by path.
    pub files: Vec<StagedFile>,
    /// Files of the change data feed, which only a table's whole history needs.
    pub change_data: Vec<StagedFile>,
    /// Whether a `_delta_log` was staged.
    pub has_log: bool,
    /// The log's files and the digests: they serve the commit and are no part of it.
    pub serving: Vec<StagedEntry>,
    /// `SHA256SUMS`, where it was brought along.
    pub digests: Option<StagedEntry>,
    /// Hidden names, empty temporary files, and files without rows that a staged log doesn't name.
    pub left_out: Vec<StagedEntry>,
}

/// A staged file that may become part of the table.
#[derive(Clone, Debug)]
pub struct StagedFile {
    pub path: FilePath,
    pub entry: StagedEntry,
}

impl StagedFile {
    /// Whether the name is that of a deletion vector's file.
    pub fn is_vector(&self) -> bool {
        let name = self.path.file_name();
        name.starts_with("deletion_vector_") && name.ends_with(".bin")
    }
}

impl Manifest {
    /// Sorts staged files. Errors: [`Error::Busy`] naming an interrupted tool's file,
    /// [`Error::Refused`] and [`Error::NameTooLong`] naming one that can't be in a table.
    pub fn of(entries: Vec<StagedEntry>) -> Result<Manifest> {
        let mut manifest = Manifest::default();
        for entry in entries {
            // Before the log: a log that a tool was interrupted in would be an older version.
            if let Some(tool) = temporary(&entry.path) {
                if entry.size > 0 {
                    return Err(Error::Busy(format!(
                        "{}: {tool} is still writing here, or was interrupted; let it finish, or \
                         remove the file",
                        entry.path
                    )));
                }
                manifest.left_out.push(entry);
            } else if entry
                .path
                .strip_prefix(LOG_DIRECTORY)
                .is_some_and(|rest| rest.starts_with('/'))
            {
                manifest.has_log = true;
                manifest.serving.push(entry);
            } else if let Some(above) = above_log(&entry.path) {
                return Err(Error::Refused(format!(
                    "{above} is a table of its own, and a staging directory holds one, at its \
                     root; move what is in {above} up to it, or remove it, then sync"
                )));
            } else if entry.path == DIGESTS {
                manifest.digests = Some(entry.clone());
                manifest.serving.push(entry);
            } else if entry.path.starts_with(CHANGE_DATA) {
                manifest.change_data.push(staged(entry)?);
            } else if is_hidden(&entry.path) {
                manifest.left_out.push(entry);
            } else {
                manifest.files.push(staged(entry)?);
            }
        }
        if !manifest.has_log {
            let change_data = manifest.change_data.drain(..).map(|file| file.entry);
            manifest.left_out.extend(change_data);
            if let Some(vector) = manifest.files.iter().find(|file| file.is_vector()) {
                return Err(Error::Refused(format!(
                    "{}: a deletion vector without the log that says which rows it deletes; bring \
                     the whole table with its {LOG_DIRECTORY}",
                    vector.path
                )));
            }
        }
        Ok(manifest)
    }

    /// What a list of digests can speak of: all that was staged, but for the list itself.
    pub fn with_digests(&self) -> Vec<StagedEntry> {
        let serving = self.serving.iter().filter(|entry| entry.path != DIGESTS);
        self.data().into_iter().chain(serving.chain(&self.left_out).cloned()).collect()
    }

    /// What is left out for its name alone. The change data feed of a table has rows that are none
    /// of the table's.
    pub fn hidden(&self) -> Vec<StagedEntry> {
        let is_change = |entry: &&StagedEntry| entry.path.starts_with(CHANGE_DATA);
        self.left_out.iter().filter(|entry| !is_change(entry)).cloned().collect()
    }

    /// What becomes files of the table.
    pub fn data(&self) -> Vec<StagedEntry> {
        self.files.iter().chain(&self.change_data).map(|file| file.entry.clone()).collect()
    }

    /// Takes hidden files for data after all: a log that names them says so.
    pub fn take_in(&mut self, is_named: impl Fn(&FilePath) -> bool) {
        let is_data = |entry: &StagedEntry| {
            FilePath::from_decoded(&entry.path).is_ok_and(|path| is_named(&path))
        };
        let (data, left_out): (Vec<_>, _) =
            std::mem::take(&mut self.left_out).into_iter().partition(is_data);
        self.left_out = left_out;
        for entry in data {
            self.files.extend(staged(entry));
        }
        self.files.sort_by(|one, other| one.path.cmp(&other.path));
    }

    /// Moves files to those that are left out.
    pub fn leave_out(&mut self, which: impl Fn(&StagedFile) -> bool) {
        let (left_out, files) = std::mem::take(&mut self.files).into_iter().partition(which);
        self.files = files;
        self.left_out.extend(Vec::into_iter(left_out).map(|file: StagedFile| file.entry));
    }

    /// Paths that were left out, for the report.
    pub fn left_out_paths(&self) -> Vec<String> {
        self.left_out.iter().map(|entry| entry.path.clone()).collect()
    }
}

fn staged(entry: StagedEntry) -> Result<StagedFile> {
    Ok(StagedFile { path: FilePath::from_decoded(&entry.path)?, entry })
}

/// The directory that holds a log below the root: `restic restore` brings the whole path back.
fn above_log(path: &str) -> Option<&str> {
    path.find(&format!("/{LOG_DIRECTORY}/")).map(|at| &path[..at])
}

/// Whether Delta hides a path: a component begins with `_` or `.`, but for directories of
/// partitions.
fn is_hidden(path: &str) -> bool {
    let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_marked = |name: &str| name.starts_with('_') || name.starts_with('.');
    is_marked(name) || directories.split('/').any(|name| is_marked(name) && !name.contains('='))
}

/// Who keeps unfinished bytes under such a name.
fn temporary(path: &str) -> Option<&'static str> {
    let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
    // Spark also keeps markers and checksums beside its unfinished files.
    let is_checksum = name.starts_with('.') && name.ends_with(".crc");
    for directory in directories.split('/').filter(|_| !is_checksum) {
        if directory == "_temporary" || directory.starts_with(".spark-staging-") {
            return Some("Spark");
        }
        if directory.starts_with(".staging_") {
            return Some("Flink");
        }
        if directory.starts_with("beam-temp-") || directory.starts_with(".temp-beam") {
            return Some("Beam");
        }
    }
    if name.contains(".inprogress.") {
        return Some("Flink");
    }
    if name.ends_with("._COPYING_") {
        return Some("hdfs");
    }
    if name.ends_with(".partial") {
        return Some("rclone");
    }
    if name.strip_prefix("sed").is_some_and(is_random) {
        return Some("sed");
    }
    let rsync = name.strip_prefix('.').and_then(|rest| rest.rsplit_once('.'));
    if rsync.is_some_and(|(stem, random)| !stem.is_empty() && is_random(random)) {
        return Some("rsync");
    }
    None
}

/// The six characters of mkstemp.
fn is_random(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::table::staging::{Content, StagedIdentity};

    fn entry(path: &str, size: u64) -> StagedEntry {
        StagedEntry {
            path: path.into(),
            size,
            modified_ms: 0,
            content: Content::Spooled(PathBuf::from(path)),
            identity: StagedIdentity { path: path.into(), dev: 0, ino: 0, size, mtime_ns: 0 },
        }
    }

    fn sorted(paths: &[&str]) -> Manifest {
        Manifest::of(paths.iter().map(|path| entry(path, 9)).collect()).unwrap()
    }

    #[test]
    fn markers_are_left_out_and_data_is_not() {
        let manifest = sorted(&[
            "a.parquet",
            "p=1/part-00000-of-2",
            "_p=1/b",
            ".p=1/c",
            "_SUCCESS",
            ".a.parquet.crc",
            "._SUCCESS.crc",
            "sub/.DS_Store",
            "_hidden/x.parquet",
            ".cache/x.parquet",
            "_change_data/cdc.parquet",
        ]);
        let data: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(data, ["a.parquet", "p=1/part-00000-of-2", "_p=1/b", ".p=1/c"]);
        assert_eq!(manifest.left_out.len(), 7);
        assert!(!manifest.has_log && manifest.change_data.is_empty());
    }

    #[test]
    fn unfinished_files_of_every_tool_are_busy_by_name() {
        for path in [
            ".a.parquet.Xy12Zz",
            "p=1/.a.parquet.Xy12Zz",
            "_temporary/0/_temporary/attempt_1/part-0.parquet",
            ".spark-staging-1/p=0/a.parquet",
            ".staging_1/task-0/part-0",
            ".part-0.inprogress.1",
            "beam-temp-x-1/a",
            "a.parquet.1a2b3c4d.partial",
            "sedAb12Cd",
            "a.parquet._COPYING_",
        ] {
            let error = Manifest::of(vec![entry(path, 9)]).unwrap_err();
            assert!(matches!(&error, Error::Busy(text) if text.contains(path)), "{error:?}");
            let empty = Manifest::of(vec![entry(path, 0)]).unwrap();
            assert_eq!(empty.left_out.len(), 1, "{path}");
        }
    }

    #[test]
    fn a_log_makes_change_data_and_deletion_vectors_count() {
        let manifest = sorted(&[
            "_delta_log/00000000000000000000.json",
            "a.parquet",
            "deletion_vector_1.bin",
            "_change_data/cdc.parquet",
        ]);
        assert!(manifest.has_log && manifest.files[1].is_vector());
        assert_eq!((manifest.serving.len(), manifest.change_data.len()), (1, 1));
        let error = Manifest::of(vec![entry("deletion_vector_1.bin", 9)]).unwrap_err();
        assert!(matches!(error, Error::Refused(_)));
    }

    #[test]
    fn a_table_below_the_root_is_refused_and_an_interrupted_log_is_busy() {
        let nested = "versions/4/_delta_log/00000000000000000000.json";
        let error = Manifest::of(vec![entry(nested, 9)]).unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.starts_with("versions/4 is")));
        let cut = "_delta_log/.00000000000000000001.json.Xy12Zz";
        assert!(matches!(Manifest::of(vec![entry(cut, 9)]), Err(Error::Busy(_))));
    }

    #[test]
    fn a_folder_that_only_begins_like_the_log_is_none() {
        assert!(!sorted(&["_delta_logs/a.json"]).has_log);
    }
}
