//! A checkpoint in the making: which columns and files it has, and each file encoded when its turn
//! comes.
//!
//! Nothing here touches the store. Which form a table wants is its parent's matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema as Columns;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::columns::{self, AddColumns};
use super::rows::{BATCH_ROWS, Filled, Rows};
use super::statistics::{PartitionColumns, StatisticsColumns};
use super::{Encoded, Form, SidecarFile, TopLevel, property};
use crate::error::{Error, Result};
use crate::log::action::{Action, Add, DomainMetadata, Metadata, Remove, Txn};
use crate::log::duration::Duration;
use crate::log::listing::SIDECAR_DIRECTORY;
use crate::log::schema::{Mapping, Schema};
use crate::log::snapshot::Snapshot;
use crate::log::version::Version;

/// How long a tombstone is kept where the table doesn't say: a week.
pub const RETENTION_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// A checkpoint whose form and columns are settled.
#[derive(Debug)]
pub struct Draft {
    snapshot: Arc<Snapshot>,
    form: Form,
    adds: AddColumns,
    /// Tombstones deleted up to then are left out.
    expired_by: Option<i64>,
    /// Transactions made up to then too, where the table forgets them.
    txns_expired_by: Option<i64>,
    removes: usize,
}

impl Draft {
    /// In the form that the table wants.
    pub fn new(snapshot: Arc<Snapshot>, now_ms: i64) -> Result<Draft> {
        let mut draft = Draft::in_form(snapshot, Form::Classic, now_ms)?;
        let (protocol, metadata) = (&draft.snapshot.protocol, &draft.snapshot.metadata);
        draft.form = Form::of(protocol, metadata, draft.file_actions());
        Ok(draft)
    }

    /// In a form of the caller's choice.
    pub fn in_form(snapshot: Arc<Snapshot>, form: Form, now_ms: i64) -> Result<Draft> {
        let metadata = &snapshot.metadata;
        let is = |name: &str| {
            property(metadata, name).and_then(|value| match value.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            })
        };
        let json = is("delta.checkpoint.writeStatsAsJson").unwrap_or(true);
        let mut adds = AddColumns { json, statistics: None, partitions: None };
        if is("delta.checkpoint.writeStatsAsStruct").unwrap_or(!json) {
            let schema = Schema::from_json(&metadata.schema_string)?;
            let mapping = Mapping::of(&snapshot.protocol, metadata)?;
            let all = || snapshot.live();
            adds.statistics = Some(StatisticsColumns::of(&schema, mapping, all())?);
            adds.partitions = PartitionColumns::of(metadata, &schema, mapping, all())?;
        }
        let expired_by = retention_ms(metadata).map(|kept| now_ms.saturating_sub(kept));
        let kept =
            property(metadata, "delta.setTransactionRetentionDuration").and_then(interval_ms);
        let txns_expired_by = kept.map(|kept| now_ms.saturating_sub(kept));
        let mut draft = Draft { snapshot, form, adds, expired_by, txns_expired_by, removes: 0 };
        draft.removes = draft.kept_removes().count();
        Ok(draft)
    }

    pub fn version(&self) -> Version {
        self.snapshot.version
    }

    fn kept_removes(&self) -> impl Iterator<Item = &Remove> {
        let is_kept = |remove: &&Remove| {
            let deleted = remove.deletion_timestamp.unwrap_or(0);
            self.expired_by.is_none_or(|limit| deleted > limit)
        };
        self.snapshot.removes.values().filter(is_kept)
    }

    pub fn form(&self) -> Form {
        self.form
    }

    pub fn add_files(&self) -> usize {
        self.snapshot.live_count()
    }

    /// Adds, and tombstones that are kept.
    pub fn file_actions(&self) -> usize {
        self.snapshot.live_count() + self.removes
    }

    /// Without those past their retention. One that doesn't say when it was made is kept.
    fn txns(&self) -> Vec<&Txn> {
        let limit = self.txns_expired_by;
        let is_kept = |txn: &&Txn| match (limit, txn.last_updated) {
            (Some(limit), Some(updated)) => updated > limit,
            (None, _) | (_, None) => true,
        };
        self.snapshot.txns.values().filter(is_kept).collect()
    }

    fn domains(&self) -> Vec<&DomainMetadata> {
        self.snapshot.domains.values().filter(|domain| !domain.removed).collect()
    }

    /// How many sidecars there are to encode.
    pub fn sidecars(&self) -> usize {
        match self.form {
            Form::Classic | Form::Inline(_) => 0,
            Form::Sidecars(_, actions) => self.file_actions().div_ceil(actions.max(1)),
        }
    }

    /// Encodes one of the sidecars.
    pub fn sidecar(&self, index: usize, id: Uuid) -> Result<Encoded> {
        let name = format!("{SIDECAR_DIRECTORY}/{id}.parquet");
        let actions = match self.form {
            Form::Classic | Form::Inline(_) => 0,
            Form::Sidecars(_, actions) => actions,
        };
        let first = index * actions;
        let adds = self.snapshot.live().skip(first).take(actions);
        let all_adds = self.snapshot.live_count();
        let removes = (first + actions).saturating_sub(all_adds).min(actions);
        let removes = self.kept_removes().skip(first.saturating_sub(all_adds)).take(removes);
        let columns = self.sidecar_columns();
        let bytes = self.parquet(&name, columns, |rows| rows.files(&self.adds, adds, removes))?;
        Ok(Encoded { name, bytes })
    }

    /// Encodes the file that makes it a checkpoint, and refers to the sidecars.
    pub fn top_level(&self, sidecars: &[SidecarFile], id: Uuid) -> Result<Encoded> {
        let version = self.version();
        let name = match self.form {
            Form::Classic => format!("{version:020}.checkpoint.parquet"),
            Form::Inline(TopLevel::Parquet) | Form::Sidecars(TopLevel::Parquet, _) => {
                format!("{version:020}.checkpoint.{id}.parquet")
            }
            Form::Inline(TopLevel::Json) | Form::Sidecars(TopLevel::Json, _) => {
                format!("{version:020}.checkpoint.{id}.json")
            }
        };
        let Some(top_columns) = self.top_columns() else {
            return Ok(Encoded { name, bytes: self.json_lines(sidecars).into() });
        };
        let bytes = self.parquet(&name, top_columns, |rows| {
            if self.form != Form::Classic {
                let tags = self.tags(sidecars);
                let version = i64::try_from(version.0).unwrap_or(i64::MAX);
                rows.write("checkpointMetadata", columns::header(version, &tags))?;
            }
            self.write_others(rows)?;
            if let Form::Sidecars(..) = self.form {
                return rows.write("sidecar", columns::sidecar_rows(sidecars));
            }
            rows.files(&self.adds, self.snapshot.live(), self.kept_removes())
        })?;
        Ok(Encoded { name, bytes })
    }

    /// The tags of `checkpointMetadata`, by which a reader knows what the sidecars cost.
    fn tags(&self, sidecars: &[SidecarFile]) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::new();
        if let Form::Sidecars(..) = self.form {
            let bytes: i64 = sidecars.iter().map(|sidecar| sidecar.size).sum();
            tags.insert("sidecarNumActions".into(), self.file_actions().to_string());
            tags.insert("sidecarSizeInBytes".into(), bytes.to_string());
        }
        tags.insert("numOfAddFiles".into(), self.snapshot.live_count().to_string());
        tags
    }

    /// The actions of a V2 top level that are neither files nor sidecars, as JSON.
    pub fn head_actions(&self, sidecars: &[SidecarFile]) -> Vec<String> {
        let metadata = json!({"version": self.version().0, "tags": self.tags(sidecars)});
        let mut lines = vec![json!({"checkpointMetadata": metadata}).to_string()];
        let mut add = |action: Action| lines.push(action.to_line());
        add(Action::Protocol(self.snapshot.protocol.clone()));
        add(Action::MetaData(self.snapshot.metadata.clone()));
        self.txns().into_iter().for_each(|txn| add(Action::Txn(txn.clone())));
        let domains = self.domains().into_iter();
        domains.for_each(|domain| add(Action::DomainMetadata(domain.clone())));
        lines
    }

    fn json_lines(&self, sidecars: &[SidecarFile]) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        self.head_actions(sidecars).iter().for_each(|action| line(action));
        if let Form::Sidecars(..) = self.form {
            let action = |sidecar| json!({"sidecar": sidecar_json(sidecar)}).to_string();
            sidecars.iter().for_each(|sidecar| line(&action(sidecar)));
            return text;
        }
        for add in self.snapshot.live() {
            line(&Action::Add(Add { data_change: false, ..add.clone() }).to_line());
        }
        for remove in self.kept_removes() {
            let tombstone =
                Remove { data_change: false, stats: None, tags: None, ..remove.clone() };
            line(&Action::Remove(tombstone).to_line());
        }
        text
    }

    /// Protocol and metadata come first: a reader who wants no more finds them early.
    fn write_others(&self, rows: &mut Rows) -> Filled {
        rows.write("protocol", columns::protocol(&self.snapshot.protocol))?;
        rows.write("metaData", columns::metadata(&self.snapshot.metadata))?;
        for txns in self.txns().chunks(BATCH_ROWS) {
            rows.write("txn", columns::txn_rows(txns))?;
        }
        for domains in self.domains().chunks(BATCH_ROWS) {
            rows.write("domainMetadata", columns::domain_rows(domains))?;
        }
        Ok(())
    }

    fn sidecar_columns(&self) -> Columns {
        Columns::new(vec![
            columns::action("add", self.adds.fields()),
            columns::action("remove", columns::remove_fields()),
        ])
    }

    /// The columns of the top level; `None`: it is JSON.
    pub fn top_columns(&self) -> Option<Columns> {
        let mut all = vec![
            columns::action("txn", columns::txn_fields()),
            columns::action("add", self.adds.fields()),
            columns::action("remove", columns::remove_fields()),
            columns::action("metaData", columns::metadata_fields()),
            columns::action("protocol", columns::protocol_fields()),
            columns::action("domainMetadata", columns::domain_fields()),
        ];
        match self.form {
            Form::Classic => {}
            Form::Inline(TopLevel::Parquet) | Form::Sidecars(TopLevel::Parquet, _) => {
                all.push(columns::action("checkpointMetadata", columns::header_fields()));
                all.push(columns::action("sidecar", columns::sidecar_fields()));
            }
            Form::Inline(TopLevel::Json) | Form::Sidecars(TopLevel::Json, _) => return None,
        }
        Some(Columns::new(all))
    }

    /// Encodes one Parquet file.
    fn parquet(
        &self,
        name: &str,
        columns: Columns,
        fill: impl FnOnce(&mut Rows) -> Filled,
    ) -> Result<Bytes> {
        let encode = || -> std::result::Result<Bytes, Box<dyn std::error::Error>> {
            let mut rows = Rows::new(columns)?;
            fill(&mut rows)?;
            Ok(rows.finish()?.into())
        };
        encode().map_err(|error| Error::Damaged(format!("encode {name}: {error}")))
    }
}

/// A sidecar as its action, and `_last_checkpoint`, have it.
pub fn sidecar_json(sidecar: &SidecarFile) -> Value {
    json!({
        "path": sidecar.name,
        "sizeInBytes": sidecar.size,
        "modificationTime": sidecar.modified_ms,
    })
}

/// How long tombstones are kept, in milliseconds; `None`: the property can't be read, so all are.
pub fn retention_ms(metadata: &Metadata) -> Option<i64> {
    match metadata.configuration.get("delta.deletedFileRetentionDuration") {
        Some(text) => interval_ms(text),
        None => Some(RETENTION_MS),
    }
}

fn interval_ms(text: &str) -> Option<i64> {
    Duration::parse(text).ok().map(|duration| duration.milliseconds())
}
