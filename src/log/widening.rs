//! Type widening: which type may become which, and the record that a change leaves in the schema.
//!
//! Follows the protocol's "Type Widening". The record is what readers validate, and what tells who
//! takes the feature away which files to rewrite: so a file of a narrower type needs one too.

use serde_json::{Value, json};

use crate::log::schema::{Field, Primitive};

/// Where a field's metadata has its type changes.
const TYPE_CHANGES: &str = "delta.typeChanges";

/// One change of a type, of a field itself or of a part of its list or map.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeChange {
    pub from: Primitive,
    pub to: Primitive,
    /// `element`, `key` and `value`, with dots between; empty for the field's own type.
    pub path: String,
}

/// The protocol's list of type changes.
pub fn widens(narrow: &Primitive, wide: &Primitive) -> bool {
    use Primitive::{Byte, Decimal, Double, Integer, Long, Short};
    match (narrow, wide) {
        (Byte | Short | Integer, Double) => true,
        (Byte | Short | Integer, Decimal { precision, scale }) => *precision >= 10 + scale,
        (Long, Decimal { precision, scale }) => *precision >= 20 + scale,
        _ => widens_unasked(narrow, wide),
    }
}

/// The changes that a file's type alone may bring about, as in the reference. Those from whole
/// numbers to others are not among them: a tool that writes 1.0 for 1 (pandas does, beside a null)
/// would turn a table's keys into doubles for good.
pub fn widens_unasked(narrow: &Primitive, wide: &Primitive) -> bool {
    use Primitive::{Byte, Date, Decimal, Double, Float, Integer, Long, Short, TimestampNtz};
    match (narrow, wide) {
        (Byte, Short | Integer | Long)
        | (Short, Integer | Long)
        | (Integer, Long)
        | (Float, Double)
        | (Date, TimestampNtz) => true,
        (Decimal { precision: p, scale: s }, Decimal { precision, scale }) => {
            narrow != wide && scale >= s && precision >= p && precision - p >= scale - s
        }
        _ => false,
    }
}

/// Whether a field's record has a change from that type, at that path.
pub fn is_recorded(field: &Field, path: &str, from: &Primitive) -> bool {
    let changes = field.metadata.get(TYPE_CHANGES).and_then(Value::as_array);
    changes.into_iter().flatten().any(|change| {
        let text = |key: &str| change.get(key).and_then(Value::as_str);
        text("fieldPath").unwrap_or_default() == path
            && text("fromType").and_then(Primitive::parse).as_ref() == Some(from)
    })
}

/// Appends changes to a field's record.
pub fn record(field: &mut Field, changes: &[TypeChange]) {
    if changes.is_empty() {
        return;
    }
    let known = field.metadata.entry(TYPE_CHANGES).or_insert_with(|| json!([]));
    if !known.is_array() {
        *known = json!([]);
    }
    let Some(known) = known.as_array_mut() else { return };
    for TypeChange { from, to, path } in changes {
        let mut change = json!({ "fromType": from.to_string(), "toType": to.to_string() });
        if !path.is_empty() {
            change["fieldPath"] = path.as_str().into();
        }
        known.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::schema::DataType;

    fn decimal(precision: u8, scale: u8) -> Primitive {
        Primitive::Decimal { precision, scale }
    }

    /// The protocol's list, written out; everything else is no widening.
    #[test]
    fn exactly_the_protocols_changes_widen() {
        use Primitive::{
            Binary, Boolean, Byte, Date, Double, Float, Integer, Long, Short, String, Timestamp,
            TimestampNtz,
        };
        let all = [
            Byte,
            Short,
            Integer,
            Long,
            Float,
            Double,
            Date,
            Timestamp,
            TimestampNtz,
            String,
            Binary,
            Boolean,
        ];
        let list = [
            (Byte, Short),
            (Byte, Integer),
            (Byte, Long),
            (Short, Integer),
            (Short, Long),
            (Integer, Long),
            (Float, Double),
            (Date, TimestampNtz),
            (Byte, Double),
            (Short, Double),
            (Integer, Double),
        ];
        for from in &all {
            for to in &all {
                let is_listed = list.contains(&(from.clone(), to.clone()));
                assert_eq!(widens(from, to), is_listed, "{from} {to}");
                let is_unasked = is_listed && (*to != Double || *from == Float);
                assert_eq!(widens_unasked(from, to), is_unasked, "{from} {to}");
            }
        }
    }

    #[test]
    fn decimals_keep_their_whole_digits() {
        for (from, to, widened) in [
            (decimal(10, 2), decimal(12, 4), true),
            (decimal(10, 2), decimal(12, 2), true),
            (decimal(10, 2), decimal(11, 4), false),
            (decimal(10, 2), decimal(12, 1), false),
            (decimal(10, 2), decimal(10, 2), false),
            (Primitive::Integer, decimal(10, 0), true),
            (Primitive::Byte, decimal(12, 2), true),
            (Primitive::Short, decimal(10, 1), false),
            (Primitive::Long, decimal(20, 0), true),
            (Primitive::Long, decimal(20, 1), false),
            (Primitive::Long, decimal(19, 0), false),
            (decimal(20, 0), Primitive::Long, false),
        ] {
            assert_eq!(widens(&from, &to), widened, "{from} {to}");
        }
        assert!(!widens_unasked(&Primitive::Integer, &decimal(10, 0)));
    }

    #[test]
    fn a_record_is_appended_and_found_by_its_path() {
        let mut field = Field::nullable("e", DataType::Primitive(Primitive::Long));
        field.metadata.insert("comment".into(), "kept".into());
        let change = |from, to, path: &str| TypeChange { from, to, path: path.into() };
        record(&mut field, &[]);
        assert_eq!(field.metadata.len(), 1);
        record(&mut field, &[change(Primitive::Short, Primitive::Integer, "")]);
        record(
            &mut field,
            &[
                change(Primitive::Integer, Primitive::Long, ""),
                change(decimal(6, 2), decimal(10, 4), "element.value"),
            ],
        );
        assert_eq!(
            Value::Object(field.metadata.clone()),
            json!({ "comment": "kept", TYPE_CHANGES: [
                { "fromType": "short", "toType": "integer" },
                { "fromType": "integer", "toType": "long" },
                { "fromType": "decimal(6,2)", "toType": "decimal(10,4)",
                  "fieldPath": "element.value" },
            ]})
        );
        assert!(is_recorded(&field, "", &Primitive::Short));
        assert!(is_recorded(&field, "element.value", &decimal(6, 2)));
        assert!(!is_recorded(&field, "", &Primitive::Byte));
        assert!(!is_recorded(&field, "", &decimal(6, 2)));
    }
}
