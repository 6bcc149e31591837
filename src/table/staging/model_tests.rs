//! Random operations on a staging directory and on a plain one, which must not differ.
//!
//! The model is the file system itself: each operation is also made on a directory beside the
//! lake, by path, as a process would. References have no counterpart there: the model writes
//! their bytes. Remounts and what the kernel forgets happen in between and must not show.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FallocateFlags, RenameFlags};

use super::tests::*;
use super::{
    Content, OpenFor, RenameMode, SetAttributes, StagedFile, StagedKind, Staging, StagingArea,
};

const SEEDS: u64 = 12;
const OPERATIONS: usize = 500;
const DATA_BYTES: usize = 300_000;

/// Deterministic (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A path out of few, so that operations meet: mostly directories above, files at the end.
    fn path(&mut self) -> String {
        let above = self.pick(&["", "", "D/", "D/", "E/", "D/E/", "a/"]);
        let last = self.pick(&["a", "b", "c", "d", "e", "f"]);
        format!("{above}{last}")
    }

    fn size(&mut self) -> usize {
        let bound = self.pick(&[1, 10, 5000, DATA_BYTES + 100]);
        self.below(bound + 1)
    }
}

type Outcome = Result<(), i32>;

struct Both {
    lake: Lake,
    area: StagingArea,
    staging: Arc<Staging>,
    model: PathBuf,
    open: Vec<(StagedFile, File)>,
    random: Random,
}

fn os<T>(result: std::io::Result<T>) -> Outcome {
    result.map(drop).map_err(|error| error.raw_os_error().unwrap())
}

fn ours<T>(result: crate::error::Result<T>) -> Outcome {
    result.map(drop).map_err(|error| errno(&error))
}

impl Both {
    fn new(seed: u64) -> Both {
        let lake = Lake::new();
        let area = lake.area();
        let staging = area.begin(name("load"), 0o755, me()).unwrap();
        let model = lake.folder.join("model");
        fs::create_dir(&model).unwrap();
        fs::set_permissions(&model, fs::Permissions::from_mode(0o755)).unwrap();
        // Some directories to begin with.
        for path in ["D", "E", "D/E"] {
            make_directory(&staging, path);
            fs::create_dir(model.join(path)).unwrap();
        }
        Both { lake, area, staging, model, open: Vec::new(), random: Random(seed) }
    }

    /// The number of a path's parent, and the name in it.
    fn parent<'a>(&self, path: &'a str) -> crate::error::Result<(u64, &'a std::ffi::OsStr)> {
        let path = Path::new(path);
        let parent = at(&self.staging, path.parent().unwrap().to_str().unwrap())?;
        if parent.kind == StagedKind::File {
            // The kernel finds it out while it walks the path.
            return Err(crate::error::Error::NotDirectory("not a directory".into()));
        }
        Ok((parent.id, path.file_name().unwrap()))
    }

    /// A path that is there, mostly.
    fn existing(&mut self) -> String {
        let mut there = BTreeMap::new();
        collect_names(&self.model, Path::new(""), &mut there);
        if there.is_empty() || self.random.below(6) == 0 {
            return self.random.path();
        }
        let at = self.random.below(there.len());
        there.into_keys().nth(at).unwrap()
    }

    /// Makes one operation on both; says what it was, and both outcomes.
    fn step(&mut self) -> (String, Outcome, Outcome) {
        match self.random.below(20) {
            0..=2 => self.create(),
            3 => self.make_directory(),
            4..=5 => self.remove(),
            6 => self.rename(),
            7 => self.link(),
            8..=9 => self.refer(),
            10..=11 => self.open(),
            12 => self.truncate(),
            13 => self.chmod(),
            14 => self.close(),
            15 => self.remount_or_forget(),
            _ if self.open.is_empty() => self.open(),
            16..=17 => self.write(),
            18 => self.allocate(),
            _ => self.copy(),
        }
    }

    fn create(&mut self) -> (String, Outcome, Outcome) {
        let path = self.random.path();
        let open = OpenFor {
            exclusive: self.random.below(2) == 0,
            truncate: self.random.below(2) == 0,
            ..WRITE
        };
        let mode = self.random.pick(&[0o644, 0o600, 0o755]);
        let here = self.parent(&path).and_then(|(parent, name)| {
            self.staging.create(parent, name, mode, me(), open).map(|(_, file)| file)
        });
        let mut options = File::options();
        options.read(true).write(true).mode(mode);
        options.create_new(open.exclusive).create(true).truncate(open.truncate);
        let target = self.model.join(&path);
        let is_new = fs::symlink_metadata(&target).is_err();
        let there = options.open(&target);
        if let (Ok(file), true) = (&there, is_new) {
            file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        }
        let outcomes = (both_outcome(&here), there.as_ref().map(drop).map_err(code));
        if let (Ok(here), Ok(there)) = (here, there) {
            self.open.push((here, there));
        }
        (format!("create {path} {open:?}"), outcomes.0, outcomes.1)
    }

    fn make_directory(&mut self) -> (String, Outcome, Outcome) {
        let path = self.random.path();
        let here = self
            .parent(&path)
            .and_then(|(parent, name)| self.staging.make_directory(parent, name, 0o755, me()));
        let target = self.model.join(&path);
        let there = fs::create_dir(&target);
        if there.is_ok() {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (format!("mkdir {path}"), ours(here), os(there))
    }

    fn remove(&mut self) -> (String, Outcome, Outcome) {
        let path = self.existing();
        let target = self.model.join(&path);
        let parent = self.parent(&path);
        if self.random.below(3) == 0 {
            let here = parent.and_then(|(id, name)| self.staging.remove_directory(id, name));
            return (format!("rmdir {path}"), ours(here), os(fs::remove_dir(target)));
        }
        let here = parent.and_then(|(id, name)| self.staging.unlink(id, name));
        (format!("unlink {path}"), ours(here), os(fs::remove_file(target)))
    }

    fn rename(&mut self) -> (String, Outcome, Outcome) {
        let from = self.existing();
        let to = if self.random.below(2) == 0 { self.existing() } else { self.random.path() };
        let (mode, flags) = self.random.pick(&[
            (RenameMode::Replace, RenameFlags::empty()),
            (RenameMode::Replace, RenameFlags::empty()),
            (RenameMode::NoReplace, RenameFlags::NOREPLACE),
            (RenameMode::Exchange, RenameFlags::EXCHANGE),
        ]);
        let here = self.parent(&from).and_then(|(parent, name)| {
            let (new_parent, new_name) = self.parent(&to)?;
            self.staging.rename(parent, name, new_parent, new_name, mode)
        });
        let (source, target) = (self.model.join(&from), self.model.join(&to));
        let there = rustix::fs::renameat_with(CWD, source, CWD, target, flags);
        (format!("rename {from} {to} {mode:?}"), ours(here), there.map_err(|e| e.raw_os_error()))
    }

    fn link(&mut self) -> (String, Outcome, Outcome) {
        let (from, to) = (self.existing(), self.random.path());
        let here = at(&self.staging, &from).and_then(|stat| {
            let (parent, name) = self.parent(&to)?;
            self.staging.link(stat.id, parent, name)
        });
        let there = fs::hard_link(self.model.join(&from), self.model.join(&to));
        (format!("link {from} {to}"), ours(here), os(there))
    }

    fn refer(&mut self) -> (String, Outcome, Outcome) {
        let path = self.random.path();
        let (reference, source) = self.lake.reference(DATA);
        let here = self.parent(&path).and_then(|(parent, name)| {
            self.staging.link_reference(&reference, &source, parent, name, me())
        });
        let target = self.model.join(&path);
        let there = File::options().write(true).create_new(true).open(&target).and_then(|file| {
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all_at(&bytes(DATA_BYTES), 0)
        });
        (format!("refer {path}"), ours(here), os(there))
    }

    fn open(&mut self) -> (String, Outcome, Outcome) {
        let path = self.existing();
        let open = OpenFor { truncate: self.random.below(5) == 0, ..WRITE };
        let here = at(&self.staging, &path).and_then(|stat| self.staging.open(stat.id, open));
        let there = File::options()
            .read(true)
            .write(true)
            .truncate(open.truncate)
            .open(self.model.join(&path));
        let outcomes = (both_outcome(&here), there.as_ref().map(drop).map_err(code));
        if let (Ok(here), Ok(there)) = (here, there) {
            self.open.push((here, there));
        }
        (format!("open {path} {open:?}"), outcomes.0, outcomes.1)
    }

    fn truncate(&mut self) -> (String, Outcome, Outcome) {
        let (path, size) = (self.existing(), self.random.size() as u64);
        let here = at(&self.staging, &path).and_then(|stat| set_size(&self.staging, stat.id, size));
        let there =
            File::options().write(true).open(self.model.join(&path)).and_then(|f| f.set_len(size));
        (format!("truncate {path} {size}"), ours(here), os(there))
    }

    fn chmod(&mut self) -> (String, Outcome, Outcome) {
        let (path, mode) = (self.existing(), self.random.pick(&[0o700, 0o755, 0o777]));
        let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        let here =
            at(&self.staging, &path).and_then(|stat| self.staging.set_attributes(stat.id, set));
        let target = self.model.join(&path);
        let there = fs::set_permissions(target, fs::Permissions::from_mode(mode));
        (format!("chmod {path} {mode:o}"), ours(here), os(there))
    }

    fn close(&mut self) -> (String, Outcome, Outcome) {
        if self.open.is_empty() {
            return ("close".into(), Ok(()), Ok(()));
        }
        let at = self.random.below(self.open.len());
        let (here, there) = self.open.swap_remove(at);
        drop(there);
        ("close".into(), ours(here.flush()), Ok(()))
    }

    fn write(&mut self) -> (String, Outcome, Outcome) {
        let (at, offset, size) =
            (self.random.below(self.open.len()), self.random.size(), self.random.size());
        let data = &bytes(size + 7)[7..];
        let (here, there) = &self.open[at];
        let outcome = here.write(offset as u64, data, false);
        assert!(outcome.as_ref().is_ok_and(|written| *written == size), "{outcome:?}");
        (
            format!("write {at} {offset} {size}"),
            ours(outcome),
            os(there.write_all_at(data, offset as u64)),
        )
    }

    fn allocate(&mut self) -> (String, Outcome, Outcome) {
        let (at, offset, size) =
            (self.random.below(self.open.len()), self.random.size(), self.random.size());
        let flags = self.random.pick(&[
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
        ]);
        let (here, there) = &self.open[at];
        let (offset, size) = (offset as u64, size as u64);
        let outcome = here.allocate(offset, size, flags.bits() as i32);
        let expected = rustix::fs::fallocate(there, flags, offset, size);
        let expected = expected.map_err(|error| error.raw_os_error());
        (format!("allocate {at} {offset} {size} {flags:?}"), ours(outcome), expected)
    }

    /// Copies into an open file, from the table or from another open file.
    fn copy(&mut self) -> (String, Outcome, Outcome) {
        let (from, to) = (self.random.below(self.open.len()), self.random.below(self.open.len()));
        let length = self.random.size() as u64;
        let (here, there) = &self.open[to];
        let end = here.stat().unwrap().size;
        let offset_in = self.random.pick(&[0, end, 1000]);
        let offset_out = self.random.pick(&[offset_in, offset_in, 0, end]);
        let source = &self.open[from];
        let mut data = Vec::new();
        let is_same = source.0.id() == here.id();
        let result = if is_same || self.random.below(2) == 0 {
            let (reference, open) = self.lake.reference(DATA);
            data = bytes(DATA_BYTES);
            here.copy_from_reference(&reference, &open, offset_in, offset_out, length)
        } else {
            let size = source.1.metadata().unwrap().len();
            data.resize(size as usize, 0);
            source.1.read_exact_at(&mut data, 0).unwrap();
            here.copy_from_staged(&source.0, offset_in, offset_out, length)
        };
        let from = (offset_in as usize).min(data.len());
        let part = &data[from..data.len().min(from + length as usize)];
        if let Ok(copied) = &result {
            assert_eq!(*copied, part.len() as u64, "the whole range");
        }
        let expected = there.write_all_at(part, offset_out);
        (format!("copy to {to} {offset_in} {offset_out} {length}"), ours(result), os(expected))
    }

    fn remount_or_forget(&mut self) -> (String, Outcome, Outcome) {
        if self.random.below(3) > 0 {
            let path = self.existing();
            if let Ok(stat) = at(&self.staging, &path) {
                self.staging.forget(stat.id);
                assert_eq!(self.staging.stat(stat.id).unwrap(), stat, "forgot {path}");
                self.staging.forget(stat.id);
            }
            return (format!("forget {path}"), Ok(()), Ok(()));
        }
        self.open.clear();
        let elsewhere = StagingArea::new(&self.lake.folder.join("elsewhere"), false);
        self.staging = elsewhere.begin(name("other"), 0o755, me()).unwrap();
        self.area = elsewhere;
        let area = self.lake.area();
        self.staging = area.open_all().unwrap().remove(0);
        self.area = area;
        fs::remove_dir_all(self.lake.folder.join(".deltafs/elsewhere")).unwrap();
        ("remount".into(), Ok(()), Ok(()))
    }

    /// Compares names, kinds, attributes and content of all that is there.
    fn compare(&self) {
        let mut here = BTreeMap::new();
        let root = self.staging.stat(self.staging.root_id()).unwrap();
        self.collect(root.id, Path::new(""), &mut here);
        let mut there = BTreeMap::new();
        collect_plain(&self.model, Path::new(""), &mut there);
        assert_eq!(here, there);
        for (staged, plain) in &self.open {
            let metadata = plain.metadata().unwrap();
            let stat = staged.stat().unwrap();
            let links = u64::from(stat.nlink);
            assert_eq!((stat.size, links), (metadata.len(), metadata.nlink()));
            let mut expected = vec![0; metadata.len() as usize];
            plain.read_exact_at(&mut expected, 0).unwrap();
            assert!(staged.read(0, expected.len() + 1).unwrap() == expected);
        }
    }

    fn collect(&self, id: u64, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for (name, stat) in self.staging.list(id).unwrap() {
            let path = path.join(&name);
            let is_file = stat.kind == StagedKind::File;
            let looked_up = self.staging.lookup(id, &name).unwrap();
            assert_eq!((looked_up.id, looked_up.size), (stat.id, stat.size));
            let content = if is_file {
                let file = self.staging.open(stat.id, READ).unwrap();
                digest(&file.read(0, stat.size as usize + 1).unwrap()).to_string()
            } else {
                self.collect(stat.id, &path, found);
                String::new()
            };
            let size = if is_file { stat.size } else { 0 };
            let line = format!("{is_file} {:o} {} {size} {content}", stat.mode, stat.nlink);
            found.insert(path, line);
        }
    }

    /// What a commit would read has the same bytes as well.
    async fn compare_manifest(&mut self) {
        self.open.clear();
        let sealed = self.staging.seal().await.unwrap();
        let files = sealed.files().unwrap();
        let mut there = BTreeMap::new();
        collect_plain(&self.model, Path::new(""), &mut there);
        there.retain(|_, line| line.starts_with("true"));
        assert_eq!(files.len(), there.len());
        for entry in files {
            let content = match &entry.content {
                Content::Spooled(path) => fs::read(path).unwrap(),
                Content::Reference(to) => fs::read(self.lake.table.join(&to.path)).unwrap(),
            };
            assert_eq!(content.len() as u64, entry.size);
            let plain = fs::read(self.model.join(&entry.path)).unwrap();
            assert!(content == plain, "{}", entry.path);
        }
        let data = fs::read(self.lake.table.join(DATA)).unwrap();
        assert!(data == bytes(DATA_BYTES), "the table's own file changed");
    }
}

fn collect_names(folder: &Path, path: &Path, found: &mut BTreeMap<String, ()>) {
    for entry in fs::read_dir(folder.join(path)).unwrap() {
        let entry = entry.unwrap();
        let path = path.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect_names(folder, &path, found);
        }
        found.insert(path.to_str().unwrap().into(), ());
    }
}

fn collect_plain(folder: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder.join(path)).unwrap() {
        let entry = entry.unwrap();
        let path = path.join(entry.file_name());
        let metadata = entry.metadata().unwrap();
        let is_file = metadata.is_file();
        let content = if is_file {
            digest(&fs::read(entry.path()).unwrap()).to_string()
        } else {
            collect_plain(folder, &path, found);
            String::new()
        };
        let size = if is_file { metadata.len() } else { 0 };
        let mode = metadata.mode() & 0o7777;
        found.insert(path, format!("{is_file} {mode:o} {} {size} {content}", metadata.nlink()));
    }
}

fn both_outcome<T>(result: &crate::error::Result<T>) -> Outcome {
    result.as_ref().map(drop).map_err(errno)
}

fn code(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

fn digest(content: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

#[tokio::test]
async fn random_operations_do_what_a_plain_directory_does() {
    for seed in 0..SEEDS {
        let mut both = Both::new(seed);
        let mut done = Vec::new();
        for at in 0..OPERATIONS {
            let (operation, here, there) = both.step();
            done.push(format!("{operation} -> {there:?}"));
            let recent = || done[done.len().saturating_sub(12)..].join("\n");
            assert_eq!(here, there, "seed {seed}, operation {at}:\n{}", recent());
            if at % 20 == 0 {
                both.compare();
            }
        }
        both.compare();
        both.compare_manifest().await;
    }
}
