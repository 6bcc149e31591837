//! What the interval table needs of a checkpoint's rows, and nothing that is not needed for it.

use arrow::record_batch::RecordBatch;

use super::column::{Fields, TextMap, integer_at, text_at};
use super::read::{self, DecodeBudget, for_each_batch};
use super::{actions, in_file, is_json, sidecar_name};
use crate::error::{Error, Result};
use crate::log::action::Txn;
use crate::log::commit::{self, CommitContent};
use crate::log::file_actions::{FileActions, Stat};
use crate::log::lines;
use crate::log::listing::LogFile;
use crate::log::values::{SetWriter, ValuesId};
use crate::store::Store;

/// The columns that are read: no statistics, tags or tombstones.
const COLUMNS: [&str; 10] = [
    "protocol",
    "metaData",
    "txn",
    "domainMetadata",
    "sidecar.path",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.deletionVector",
];

/// Reads one file of a checkpoint.
pub async fn read(
    store: &Store,
    mut file: LogFile,
    budget: &DecodeBudget,
) -> Result<CommitContent> {
    if is_json(&file) {
        return lines::read_content(store, &mut file).await;
    }
    let parts = read::map_row_groups(store, &file, &COLUMNS, budget, |batches| {
        let mut content = CommitContent::default();
        let mut adds = Adds::default();
        for batch in batches {
            read_batch(&batch, &mut content, &mut adds)?;
        }
        if !adds.changes.is_empty() {
            content.changes.push(adds.changes);
        }
        Ok(content)
    });
    let mut content = CommitContent::default();
    parts.await?.into_iter().for_each(|part| content.append(part));
    Ok(content)
}

/// Reads only which sidecars a file of a checkpoint refers to.
pub async fn read_sidecar_names(store: &Store, file: &LogFile) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    if is_json(file) {
        paths = lines::read_content(store, &mut file.clone()).await?.sidecars;
    } else {
        for_each_batch(store, file, &["sidecar.path"], |batch| read_sidecars(batch, &mut paths))
            .await?;
    }
    let names = paths.iter().map(|path| {
        let wrong = || Error::Damaged(format!("sidecar {path:?} is no file name"));
        sidecar_name(path).ok_or_else(wrong).map_err(|error| in_file(file, error))
    });
    names.collect()
}

/// Reads only the protocol and metadata that a file of a checkpoint has.
pub async fn read_rules(store: &Store, file: &LogFile) -> Result<CommitContent> {
    if is_json(file) {
        return lines::read_content(store, &mut file.clone()).await;
    }
    let (mut content, mut adds) = (CommitContent::default(), Adds::default());
    for_each_batch(store, file, &["protocol", "metaData"], |batch| {
        read_batch(batch, &mut content, &mut adds)
    })
    .await?;
    Ok(content)
}

fn read_batch(batch: &RecordBatch, content: &mut CommitContent, adds: &mut Adds) -> Result<()> {
    if let Some(fields) = Fields::of(batch, "protocol")? {
        for row in fields.rows() {
            content.protocol = Some(actions::protocol(fields, row)?);
        }
    }
    if let Some(fields) = Fields::of(batch, "metaData")? {
        for row in fields.rows() {
            content.metadata = Some(actions::metadata(fields, row)?);
        }
    }
    if let Some(fields) = Fields::of(batch, "txn")? {
        let txns: Result<Vec<Txn>> = fields.rows().map(|row| actions::txn(fields, row)).collect();
        content.txns.extend(txns?);
    }
    if let Some(fields) = Fields::of(batch, "domainMetadata")? {
        for row in fields.rows() {
            content.domains.push(actions::domain(fields, row)?);
        }
    }
    read_sidecars(batch, &mut content.sidecars)?;
    match Fields::of(batch, "add")? {
        Some(fields) => adds.read(fields),
        None => Ok(()),
    }
}

pub fn read_sidecars(batch: &RecordBatch, paths: &mut Vec<String>) -> Result<()> {
    let Some(fields) = Fields::of(batch, "sidecar")? else { return Ok(()) };
    let path = fields.text_required("path")?;
    for row in fields.rows() {
        paths.push(text_at(path, row).ok_or_else(|| fields.null("path"))?.to_owned());
    }
    Ok(())
}

/// The added files of some rows.
#[derive(Default)]
struct Adds {
    changes: FileActions,
    writer: SetWriter,
}

impl Adds {
    fn read(&mut self, fields: Fields<'_>) -> Result<()> {
        let path = fields.text_required("path")?;
        let size = fields.integers_required("size")?;
        let modified = fields.integers("modificationTime")?;
        let values = fields.map("partitionValues")?;
        let vectors = fields.fields("deletionVector")?;
        // Reused from row to row.
        let mut entries = Vec::new();
        for row in fields.rows() {
            let path = text_at(path, row).ok_or_else(|| fields.null("path"))?;
            let size = size.get(row).ok_or_else(|| fields.null("size"))?;
            let modified_ms = integer_at(modified, row).unwrap_or(0);
            let stat = Stat { size: commit::file_size(path, size)?, modified_ms };
            let values = self.values(values, row, &mut entries)?;
            match vectors {
                Some(vectors) if !vectors.is_null(row) => {
                    let vector = actions::deletion_vector(vectors, row)?;
                    let place = commit::place_of(path, Some(&vector))?;
                    self.changes.add(place, stat, values, Some(vector))?;
                }
                Some(_) | None => self.changes.add_encoded(path, stat, values)?,
            }
        }
        Ok(())
    }

    fn values<'e>(
        &mut self,
        map: Option<TextMap<'e>>,
        row: usize,
        entries: &mut Vec<(&'e str, Option<&'e str>)>,
    ) -> Result<ValuesId> {
        entries.clear();
        entries.extend(map.and_then(|map| map.entries(row)).into_iter().flatten());
        self.changes.intern_entries(&mut self.writer, entries)
    }
}
