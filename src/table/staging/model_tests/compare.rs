//! What must be equal of both sides: names, kinds, modes, links, sizes, bytes, times that were set.

use std::fs;
use std::hash::Hasher;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::super::StagedKind;
use super::super::tests::*;
use super::world::{Listing, World};

/// Times before it were set by somebody; later ones are of the clock.
const SET_SECONDS_MAX: u64 = 1_750_000_000;

pub(super) fn digest(content: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

/// One file or directory, in words.
struct Seen {
    is_file: bool,
    mode: u32,
    links: u64,
    size: u64,
    content: u64,
    modified: Duration,
}

impl Seen {
    /// `loosely`: without what a commit that was stopped half way leaves behind.
    fn line(&self, loosely: bool) -> String {
        let Seen { is_file, mode, links, size, content, modified } = self;
        if !is_file {
            return format!("directory {mode:o}");
        }
        if loosely {
            return format!("file {size} {content:x}");
        }
        let was_set = modified.as_secs() < SET_SECONDS_MAX;
        let time = if was_set { format!("{modified:?}") } else { "now".into() };
        format!("file {mode:o} {links} {size} {content:x} {time}")
    }
}

impl World {
    /// Compares all that there is.
    pub(super) fn compare(&self) {
        let (mut here, mut there) = (Listing::new(), Listing::new());
        self.collect(self.staging.root_id(), Path::new(""), &mut here);
        self.collect_plain(Path::new(""), &mut there);
        assert_eq!(here, there, "here, and there");
        for (staged, plain) in &self.open {
            let (stat, metadata) = (staged.stat().unwrap(), plain.metadata().unwrap());
            assert_eq!(stat.size, metadata.len());
            assert!(self.is_loose() || u64::from(stat.nlink) == metadata.nlink());
            let mut expected = vec![0; metadata.len() as usize];
            plain.read_exact_at(&mut expected, 0).unwrap();
            assert!(staged.read(0, expected.len() + 1).unwrap() == expected);
        }
    }

    fn is_loose(&self) -> bool {
        self.was_interrupted || self.running.is_some()
    }

    fn collect(&self, id: u64, path: &Path, found: &mut Listing) {
        for (name, stat) in self.staging.list(id).unwrap() {
            let path = path.join(&name);
            let is_file = stat.kind == StagedKind::File;
            let looked_up = self.staging.lookup(id, &name).unwrap();
            assert_eq!((looked_up.id, looked_up.size), (stat.id, stat.size));
            let mut content = 0;
            if is_file {
                let file = self.staging.open(stat.id, READ).unwrap();
                content = digest(&file.read(0, stat.size as usize + 1).unwrap());
            } else {
                self.collect(stat.id, &path, found);
            }
            let seen = Seen {
                is_file,
                mode: stat.mode,
                links: stat.nlink.into(),
                size: stat.size,
                content,
                modified: stat.mtime.duration_since(UNIX_EPOCH).unwrap(),
            };
            found.insert(path, seen.line(self.is_loose()));
        }
    }

    fn collect_plain(&self, path: &Path, found: &mut Listing) {
        for entry in fs::read_dir(self.model.join(path)).unwrap() {
            let entry = entry.unwrap();
            let path: PathBuf = path.join(entry.file_name());
            let metadata = entry.metadata().unwrap();
            let is_file = metadata.is_file();
            let mut content = 0;
            if is_file {
                content = digest(&fs::read(entry.path()).unwrap());
            } else {
                self.collect_plain(&path, found);
            }
            let seen = Seen {
                is_file,
                mode: metadata.mode() & 0o7777,
                links: metadata.nlink(),
                size: metadata.len(),
                content,
                modified: metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap(),
            };
            found.insert(path, seen.line(self.is_loose()));
        }
    }
}
