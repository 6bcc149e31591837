//! What the interval table needs of a checkpoint's rows, and nothing that is not needed for it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::column::{Fields, TextMap, integer_at, text_at};
use super::read::for_each_batch;
use super::{actions, in_file, is_json, sidecar_name};
use crate::error::{Error, Result};
use crate::log::action::{PartitionValues, Txn};
use crate::log::commit::{self, Change, CommitContent};
use crate::log::listing::LogFile;
use crate::store::Store;

/// The columns that are read: no statistics, tags or tombstones.
const COLUMNS: [&str; 9] = [
    "protocol",
    "metaData",
    "txn",
    "sidecar.path",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.deletionVector",
];

/// Reads one file of a checkpoint.
pub async fn read(store: &Store, file: LogFile) -> Result<CommitContent> {
    if is_json(&file) {
        let bytes = store.read(&file.path()).await?;
        return commit::parse_content(&file, &bytes);
    }
    let mut content = CommitContent::default();
    let mut interner = Interner::default();
    for_each_batch(store, &file, &COLUMNS, |batch| read_batch(batch, &mut content, &mut interner))
        .await?;
    Ok(content)
}

/// Reads only which sidecars a file of a checkpoint refers to.
pub async fn read_sidecar_names(store: &Store, file: &LogFile) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    if is_json(file) {
        let bytes = store.read(&file.path()).await?;
        paths = commit::parse_content(file, &bytes)?.sidecars;
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

fn read_batch(
    batch: &RecordBatch,
    content: &mut CommitContent,
    interner: &mut Interner,
) -> Result<()> {
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
    read_sidecars(batch, &mut content.sidecars)?;
    match Fields::of(batch, "add")? {
        Some(fields) => read_adds(fields, content, interner),
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

fn read_adds(
    fields: Fields<'_>,
    content: &mut CommitContent,
    interner: &mut Interner,
) -> Result<()> {
    let path = fields.text_required("path")?;
    let size = fields.integers_required("size")?;
    let modified = fields.integers("modificationTime")?;
    let values = fields.map("partitionValues")?;
    let vectors = fields.fields("deletionVector")?;
    for row in fields.rows() {
        let path = text_at(path, row).ok_or_else(|| fields.null("path"))?;
        let size = size.get(row).ok_or_else(|| fields.null("size"))?;
        let vector = match vectors {
            Some(vectors) if !vectors.is_null(row) => {
                Some(Box::new(actions::deletion_vector(vectors, row)?))
            }
            Some(_) | None => None,
        };
        let (place, state) = commit::file_added(
            path,
            size,
            integer_at(modified, row).unwrap_or(0),
            interner.values(values, row),
            vector,
        )?;
        content.changes.push(Change::Add(place, state));
    }
    Ok(())
}

/// Shares equal partition values of a file's rows without building them anew.
#[derive(Default)]
struct Interner {
    by_text: HashMap<Box<str>, Arc<PartitionValues>>,
    none: Arc<PartitionValues>,
    /// Reused from row to row.
    text: String,
}

impl Interner {
    fn values(&mut self, map: Option<TextMap<'_>>, row: usize) -> Arc<PartitionValues> {
        let Some(entries) = map.and_then(|map| map.entries(row)) else { return self.none.clone() };
        self.text.clear();
        for (key, value) in entries {
            // Lengths before the texts, so that no two maps have one text.
            let (name_bytes, value) = (key.len(), value.map(|value| (value.len(), value)));
            self.text.push_str(&name_bytes.to_string());
            self.text.push(':');
            self.text.push_str(key);
            if let Some((value_bytes, value)) = value {
                self.text.push_str(&value_bytes.to_string());
                self.text.push('=');
                self.text.push_str(value);
            }
        }
        if self.text.is_empty() {
            return self.none.clone();
        }
        if let Some(values) = self.by_text.get(self.text.as_str()) {
            return values.clone();
        }
        let values = Arc::new(map.and_then(|map| map.get(row)).unwrap_or_default());
        self.by_text.insert(self.text.as_str().into(), values.clone());
        values
    }
}
