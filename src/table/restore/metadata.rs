//! What of a table's metadata and domains goes back in a restore, and what never does.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Result;
use crate::log::action::{DomainMetadata, Metadata};
use crate::log::changes::ROW_TRACKING;
use crate::log::schema::{DataType, Field, Schema};

/// Properties that speak of the log itself, not of a version's content.
const OF_THE_LOG: [&str; 3] = [
    "delta.enableInCommitTimestamps",
    "delta.inCommitTimestampEnablementVersion",
    "delta.inCommitTimestampEnablementTimestamp",
];
const COLUMN_ID_MARK: &str = "delta.columnMapping.maxColumnId";
const CLUSTERING: &str = "delta.clustering";
const NOT_CLUSTERED: &str = r#"{"clusteringColumns":[]}"#;
const IDENTITY_STEP: &str = "delta.identity.step";
const IDENTITY_MARK: &str = "delta.identity.highWaterMark";

/// The metadata of the restored table.
pub fn restored(newest: &Metadata, staged: &Metadata) -> Result<Metadata> {
    let mut restored = staged.clone();
    restored.id.clone_from(&newest.id);
    for property in OF_THE_LOG {
        match newest.configuration.get(property) {
            Some(value) => restored.configuration.insert(property.into(), value.clone()),
            None => restored.configuration.remove(property),
        };
    }
    // Column ids are never given twice, so their mark goes up only.
    let mark = |metadata: &Metadata| -> Option<i64> {
        metadata.configuration.get(COLUMN_ID_MARK)?.parse().ok()
    };
    if let Some(highest) = mark(newest).max(mark(staged)) {
        restored.configuration.insert(COLUMN_ID_MARK.into(), highest.to_string());
    }
    if staged.schema_string != newest.schema_string {
        let mut schema = Schema::from_json(&staged.schema_string)?;
        let current = Schema::from_json(&newest.schema_string)?;
        let is_raised = raise_identities(&mut schema, &current);
        if schema == current {
            // The same schema in another spelling, as checkpoints of some writers have it.
            restored.schema_string.clone_from(&newest.schema_string);
        } else if is_raised {
            restored.schema_string = schema.to_json();
        }
    }
    // Only when something else changed is it another metaData action.
    let same = Metadata { created_time: newest.created_time, ..restored.clone() };
    Ok(if same == *newest { same } else { restored })
}

/// Raises the high-water marks of identity columns to those of the newest schema, so that no number
/// is given a second time. False: none had to be.
fn raise_identities(staged: &mut Schema, newest: &Schema) -> bool {
    let mut raised = false;
    for field in &mut staged.fields {
        let Some(twin) = newest.field(&field.name) else { continue };
        if let (DataType::Struct(inner), DataType::Struct(twin)) =
            (&mut field.data_type, &twin.data_type)
        {
            raised |= raise_identities(inner, twin);
        }
        raised |= raise_identity(field, twin);
    }
    raised
}

fn raise_identity(field: &mut Field, newest: &Field) -> bool {
    let number = |field: &Field, key: &str| field.metadata.get(key).and_then(Value::as_i64);
    let (Some(step), Some(mark)) = (number(field, IDENTITY_STEP), number(newest, IDENTITY_MARK))
    else {
        return false;
    };
    let is_beyond = number(field, IDENTITY_MARK)
        .is_none_or(|held| if step > 0 { mark > held } else { mark < held });
    if is_beyond {
        field.metadata.insert(IDENTITY_MARK.into(), mark.into());
    }
    is_beyond
}

/// The domain actions that bring the staged domains back.
///
/// Row ids have their own rule. A system's domain that we don't know stays as it is, as the
/// protocol wants it ("Writer Requirements for Domain Metadata"); clustering and users' domains are
/// content, and go back.
pub fn domains(
    newest: &BTreeMap<String, DomainMetadata>,
    staged: &BTreeMap<String, DomainMetadata>,
) -> Vec<DomainMetadata> {
    let goes_back =
        |name: &str| name != ROW_TRACKING && (name == CLUSTERING || !name.starts_with("delta."));
    let removed = newest
        .values()
        .filter(|domain| goes_back(&domain.domain) && !staged.contains_key(&domain.domain))
        .filter(|domain| domain.configuration != NOT_CLUSTERED)
        .map(|domain| match domain.domain.as_str() {
            // The feature stays, and it wants its domain to be there, as Spark's RESTORE has it.
            CLUSTERING => DomainMetadata { configuration: NOT_CLUSTERED.into(), ..domain.clone() },
            _ => DomainMetadata { removed: true, ..domain.clone() },
        });
    let returned = staged
        .values()
        .filter(|domain| goes_back(&domain.domain) && newest.get(&domain.domain) != Some(domain))
        .cloned();
    removed.chain(returned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(id: &str, schema: &str, properties: &[(&str, &str)]) -> Metadata {
        let configuration: BTreeMap<&str, &str> = properties.iter().copied().collect();
        serde_json::from_value(json!({
            "id": id, "schemaString": schema, "createdTime": 7, "configuration": configuration,
        }))
        .unwrap()
    }

    fn identity(step: i64, mark: i64) -> String {
        json!({"type": "struct", "fields": [{"name": "i", "type": "long", "nullable": true,
            "metadata": {"delta.identity.step": step, "delta.identity.highWaterMark": mark}}]})
        .to_string()
    }

    const PLAIN: &str = r#"{"type":"struct","fields":[]}"#;

    #[test]
    fn properties_go_back_and_the_tables_own_stay() {
        let newest = metadata(
            "mine",
            PLAIN,
            &[("a", "new"), ("delta.enableInCommitTimestamps", "true"), (COLUMN_ID_MARK, "9")],
        );
        let staged = metadata("other", PLAIN, &[("a", "old"), (COLUMN_ID_MARK, "3")]);
        let restored = restored(&newest, &staged).unwrap();
        assert_eq!(restored.id, "mine");
        assert_eq!(restored.configuration["a"], "old");
        assert_eq!(restored.configuration["delta.enableInCommitTimestamps"], "true");
        assert_eq!(restored.configuration[COLUMN_ID_MARK], "9");
    }

    #[test]
    fn in_commit_timestamps_are_not_turned_on_by_a_restore() {
        let newest = metadata("mine", PLAIN, &[]);
        let staged = metadata("mine", PLAIN, &[("delta.enableInCommitTimestamps", "true")]);
        assert_eq!(restored(&newest, &staged).unwrap(), newest);
    }

    #[test]
    fn an_identity_never_gives_a_number_twice() {
        for (step, newest, staged, expected) in [(1, 90, 10, 90), (1, 10, 90, 90), (-1, -9, -2, -9)]
        {
            let newest = metadata("t", &identity(step, newest), &[]);
            let staged = metadata("t", &identity(step, staged), &[]);
            let schema = Schema::from_json(&restored(&newest, &staged).unwrap().schema_string);
            let mark = schema.unwrap().fields[0].metadata[IDENTITY_MARK].as_i64();
            assert_eq!(mark, Some(expected));
        }
    }

    #[test]
    fn domains_go_back_but_for_those_of_systems() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, DomainMetadata> {
            let domain = |(name, configuration): &(&str, &str)| DomainMetadata {
                domain: name.to_string(),
                configuration: configuration.to_string(),
                removed: false,
            };
            pairs.iter().map(|pair| (pair.0.to_owned(), domain(pair))).collect()
        };
        let newest =
            map(&[("mine", "1"), ("gone", "1"), ("delta.future", "1"), (ROW_TRACKING, "9")]);
        let staged = map(&[
            ("mine", "1"),
            ("delta.clustering", "c"),
            ("delta.future", "0"),
            (ROW_TRACKING, "1"),
        ]);
        let shown: Vec<(String, bool)> =
            domains(&newest, &staged).into_iter().map(|d| (d.domain, d.removed)).collect();
        assert_eq!(shown, [("gone".to_owned(), true), ("delta.clustering".to_owned(), false)]);
        let unclustered = domains(&map(&[(CLUSTERING, "c")]), &map(&[]));
        assert_eq!(unclustered[0].configuration, NOT_CLUSTERED);
        assert!(!unclustered[0].removed);
    }
}
