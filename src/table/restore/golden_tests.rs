//! Golden tables of other engines, brought back to each of their versions and read by delta_kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::log::schema::Schema;
use crate::table::commit::commit;
use crate::table::commit::tests::{Lake, copy, kernel, put};
use crate::table::{Snapshot, Version};

/// Rows of all kinds, so that the whole table is compared.
fn shown(folder: &Path) -> Result<Vec<String>, String> {
    let batches = kernel(folder)?;
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let row = batch.slice(row, 1);
            rows.push(format!("{:?}", row.columns()));
        }
    }
    rows.sort();
    Ok(rows)
}

fn unpack(archive: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(target);
    assert!(tar.status().unwrap().success(), "unpack {}", archive.display());
}

fn find_logs(folder: &Path, found: &mut Vec<PathBuf>) {
    if folder.join("_delta_log").is_dir() {
        return found.push(folder.to_owned());
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_logs(&path, found);
        }
    }
}

fn golden_tables(scratch: &Path) -> Option<Vec<PathBuf>> {
    let Some(golden) = std::env::var_os("DELTAFS_GOLDEN").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
        println!("SKIPPED: DELTAFS_GOLDEN isn't set, no golden table was restored");
        return None;
    };
    let mut found = Vec::new();
    for kind in ["expected", "features"] {
        for entry in fs::read_dir(golden.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // 300,000 files tell nothing more than three.
            if name.starts_with("300k") {
                continue;
            }
            match name.strip_suffix(".tar.zst") {
                Some(stem) => {
                    let target = scratch.join(kind).join(stem);
                    unpack(&path, &target);
                    find_logs(&target, &mut found);
                }
                None if path.is_dir() => find_logs(&path, &mut found),
                None => {}
            }
        }
    }
    found.sort();
    Some(found)
}

/// The log files of a version directory: everything up to the version.
fn copy_log(table: &Path, version: u64, target: &Path) {
    for entry in fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_upto = name.get(..20).and_then(|digits| digits.parse::<u64>().ok());
        if path.is_file() && is_upto.is_some_and(|at| at <= version) {
            put(&target.join("_delta_log").join(&name), &fs::read(&path).unwrap());
        }
        if name == "_sidecars" {
            copy_folder(&path, &target.join("_delta_log/_sidecars"));
        }
    }
}

fn copy_folder(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    copy(source, target);
}

/// Brings a copy of the table back to a version; what stood in the way, as a sentence.
async fn restore(table: &Path, version: u64) -> Result<(), Error> {
    let lake = Lake::new();
    copy_folder(table, &lake.path());
    let wanted = Snapshot::load(lake.table.store(), Some(Version(version))).await?;
    lake.table.refresh().await?;
    let stage = lake.stage(&[]).await;
    copy_log(table, version, &stage.root);
    commit(&lake.table, &stage.staging).await?;
    let found = lake.snapshot().await;
    let files = |snapshot: &Snapshot| -> Vec<(String, Option<String>)> {
        let of = |(path, add): (&crate::table::FilePath, &crate::log::action::Add)| {
            let vector = add.deletion_vector.as_ref();
            (path.as_str().to_owned(), vector.map(|vector| vector.unique_id()))
        };
        snapshot.adds.iter().map(of).collect()
    };
    assert_eq!(files(&found), files(&wanted), "{} {version}", table.display());
    let schema = |snapshot: &Snapshot| Schema::from_json(&snapshot.metadata.schema_string);
    assert_eq!(schema(&found)?, schema(&wanted)?, "{} {version}", table.display());
    let original = Lake::new();
    fs::create_dir_all(original.path()).unwrap();
    for path in wanted.adds.keys() {
        let bytes = fs::read(table.join(path.as_str())).unwrap();
        put(&original.path().join(path.as_str()), &bytes);
    }
    for vector in super::vector_files(&wanted)? {
        let bytes = fs::read(table.join(vector.as_str())).unwrap();
        put(&original.path().join(vector.as_str()), &bytes);
    }
    copy_log(table, version, &original.path());
    let rows = shown(&original.path()).map_err(|error| {
        Error::Unsupported(format!("delta_kernel can't read the original: {error}"))
    })?;
    assert_eq!(shown(&lake.path()), Ok(rows), "{} {version}", table.display());
    Ok(())
}

/// Stages a copy of the whole table where none is, as a backup is brought to a new place.
async fn import(table: &Path) -> Result<(), Error> {
    let lake = Lake::new();
    let stage = lake.stage(&[]).await;
    copy_folder(table, &stage.root);
    commit(&lake.table, &stage.staging).await?;
    let rows = shown(table).map_err(|error| {
        Error::Unsupported(format!("delta_kernel can't read the original: {error}"))
    })?;
    assert_eq!(shown(&lake.path()), Ok(rows), "{}", table.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_table_can_be_brought_to_a_new_place() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(tables) = golden_tables(scratch.path()) else { return };
    let (mut imported, mut refused) = (0, Vec::new());
    for table in tables {
        match import(&table).await {
            Ok(()) => imported += 1,
            Err(error) => refused.push(format!("{}: {error}", table.display())),
        }
    }
    println!("{}", refused.join("\n"));
    println!("{imported} tables brought to a new place");
    assert!(imported > 80, "too few to be true: {imported}, refused: {refused:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_golden_table_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(tables) = golden_tables(scratch.path()) else { return };
    let mut restored = 0;
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in tables {
        let lake = Lake::new();
        copy_folder(&table, &lake.path());
        lake.table.refresh().await.unwrap_or_default();
        let versions = lake.table.read(|history| history.versions()).unwrap_or_default();
        // The newest and a few before it; histories are long and versions alike.
        for version in versions.iter().rev().step_by(1 + versions.len() / 4) {
            match restore(&table, version.0).await {
                Ok(()) => restored += 1,
                Err(error) => {
                    let text = error.to_string();
                    let name = format!("{} {version}", table.display());
                    refused.entry(text).or_default().push(name);
                }
            }
        }
    }
    for (reason, versions) in &refused {
        println!("{}: {reason}", versions.join(", "));
    }
    println!("{restored} versions restored");
    assert!(restored > 100, "too few to be true: {restored}, refused: {refused:#?}");
}
