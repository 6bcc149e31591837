//! Staged files with bytes that nobody wrote.
//!
//! restic, and whoever else gives a file its whole size first and writes it in any order, leaves a
//! file behind when it is killed that has its size, its first bytes and its footer, and nothing in
//! between. Neither size nor footer tells it from a whole one; the file system does, by its holes.

use std::collections::BTreeSet;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::examine;
use super::manifest::DIGESTS;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::table::staging::{Content, StagedEntry};

/// Checks files that were staged as bytes of their own: a reference is all hole, and its bytes are
/// the table's. `digested`: what has the digest that it should have is whole (some file systems
/// keep zeros that were written as holes). Errors: [`Error::Refused`] naming the first file with a
/// hole.
pub fn check(entries: &[StagedEntry], digested: &BTreeSet<String>, store: &Store) -> Result<()> {
    let is_suspect = |entry: &&StagedEntry| {
        matches!(entry.content, Content::Spooled(_)) && !digested.contains(&entry.path)
    };
    entries.iter().filter(is_suspect).try_for_each(|entry| check_one(entry, store))
}

fn check_one(entry: &StagedEntry, store: &Store) -> Result<()> {
    let file = examine::open(&entry.content, store)?;
    let seek = |to| rustix::fs::seek(&file, to);
    let start = match seek(SeekFrom::Hole(0)) {
        Ok(start) if start < entry.size => start,
        // The end of a file is a hole, too. A file system that can't tell sees no holes.
        Ok(_) | Err(Errno::INVAL | Errno::NXIO | Errno::NOTSUP) => return Ok(()),
        Err(error) => {
            return Err(Error::from_io(format!("look for holes in {}", entry.path), &error.into()));
        }
    };
    let end = seek(SeekFrom::Data(start)).unwrap_or(entry.size);
    Err(Error::Refused(format!(
        "{}: nobody wrote its bytes {start} to {end}, so the tool that brought it was interrupted; \
         bring the file again (without --sparse, where the bytes are meant to be zeros), or bring \
         {DIGESTS} with its digest",
        entry.path
    )))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use crate::error::Error;
    use crate::table::commit::commit;
    use crate::table::commit::tests::{Lake, refused, rows};

    /// A staged file as a killed restic leaves it: all of its size, its end before its middle.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_was_not_written_whole_is_refused_though_its_footer_is_there() {
        let lake = Lake::new();
        lake.sync(&[("a.parquet", rows(&[1]))]).await.unwrap();
        let ids: Vec<i64> = (0..40_000).collect();
        let whole = rows(&ids);
        assert!(whole.len() > 3 << 16, "{}", whole.len());
        let stage = lake.stage(&[]).await;
        let file = File::create(stage.root.join("b.parquet")).unwrap();
        file.write_all_at(&whole[..1 << 16], 0).unwrap();
        file.write_all_at(&whole[2 << 16..], 2 << 16).unwrap();
        let error = commit(&lake.table, &stage.staging).await.unwrap_err();
        let expected = "b.parquet: nobody wrote its bytes 65536 to 131072";
        assert!(matches!(&error, Error::Refused(text) if text.starts_with(expected)), "{error:?}");
        assert_eq!(lake.ids(), [1]);
        file.write_all_at(&whole[1 << 16..2 << 16], 1 << 16).unwrap();
        commit(&lake.table, &stage.staging).await.unwrap();
        assert_eq!(lake.ids().len(), 40_001);
    }

    /// As a file system that compresses keeps zeros that were written.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_with_holes_is_whole_where_its_digest_says_so() {
        let lake = Lake::new();
        let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 60_000]));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", zeros, true)]).unwrap();
        let plain = WriterProperties::builder().set_dictionary_enabled(false).build();
        let mut whole = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut whole, batch.schema(), Some(plain)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert!(whole[1 << 16..2 << 16].iter().all(|byte| *byte == 0));
        let stage = lake.stage(&[]).await;
        let file = File::create(stage.root.join("b.parquet")).unwrap();
        file.write_all_at(&whole[..1 << 16], 0).unwrap();
        file.write_all_at(&whole[2 << 16..], 2 << 16).unwrap();
        refused(commit(&lake.table, &stage.staging).await, &["b.parquet", "SHA256SUMS"]);
        let sums = std::process::Command::new("sh")
            .args(["-c", "sha256sum b.parquet > SHA256SUMS"])
            .current_dir(&stage.root)
            .status();
        assert!(sums.unwrap().success());
        commit(&lake.table, &stage.staging).await.unwrap();
        assert_eq!(lake.ids().len(), 60_000);
    }
}
