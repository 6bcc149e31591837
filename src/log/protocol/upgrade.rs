//! Protocols that are asked to go up, by a feature's name or by version numbers.
//!
//! Versions and features are only added, and none that we couldn't commit under afterwards.

use super::{
    FEATURES, Handling, READER_VERSION_FEATURES, WRITER_VERSION_FEATURES, supports, union,
    with_features,
};
use crate::error::{Error, Result};
use crate::log::action::Protocol;

/// Features that stand only beside others.
const REQUIRES: [(&str, &str); 2] =
    [("rowTracking", "domainMetadata"), ("variantShredding", "variantType")];

/// The one feature that an older reader version than that of the lists implies.
const MAPPED: &str = "columnMapping";

/// A feature that may be added by its name; case doesn't count.
/// Errors: [`Error::Refused`] with the reason.
pub fn feature(name: &str) -> Result<&'static str> {
    let refuse = |why: &str| {
        Err(Error::Refused(format!("the table feature {name:?} can't be added: {why}")))
    };
    let Some(found) = FEATURES.iter().find(|known| known.name.eq_ignore_ascii_case(name)) else {
        return refuse("deltafs doesn't know it");
    };
    match (found.name, found.handling) {
        ("clustering", _) => {
            refuse("it comes with the clustering of a table, which an engine does")
        }
        (_, Handling::ReadWrite) => Ok(found.name),
        (_, Handling::ReadCatalog) => refuse("a catalog would own the table's commits"),
        (_, Handling::Read(why) | Handling::Refused(why)) => refuse(why),
    }
}

/// The protocol with features added, and with those that they require.
pub fn with_required(protocol: &Protocol, names: &[&'static str]) -> Protocol {
    let mut all = names.to_vec();
    for (name, required) in REQUIRES {
        let has = |name: &str| supports(protocol, name) || supports(protocol, &preview(name));
        if names.contains(&name) && !has(required) {
            all.push(required);
        }
    }
    let upgraded = with_features(protocol, &all);
    let reads = upgraded.reader_features.as_deref();
    if protocol.min_reader_version < READER_VERSION_FEATURES && reads == Some(&[MAPPED.into()]) {
        // Readers from before the lists know it by its version, and Spark keeps it to that.
        return Protocol { min_reader_version: 2, reader_features: None, ..upgraded };
    }
    upgraded
}

fn preview(name: &str) -> String {
    format!("{name}-preview")
}

/// The protocol at higher versions; features that they imply stay supported.
/// Errors: [`Error::Refused`] for versions that are lower or don't belong together.
pub fn with_versions(
    protocol: &Protocol,
    reader: Option<i32>,
    writer: Option<i32>,
) -> Result<Protocol> {
    let (has_reader, has_writer) = (protocol.min_reader_version, protocol.min_writer_version);
    let (reader, writer) = (reader.unwrap_or(has_reader), writer.unwrap_or(has_writer));
    if (reader, writer) == (has_reader, has_writer) {
        return Ok(protocol.clone());
    }
    let refuse = |why: &str| {
        Err(Error::Refused(format!(
            "the protocol can't go from reader version {has_reader} and writer version \
             {has_writer} to {reader} and {writer}: {why}"
        )))
    };
    if reader < has_reader || writer < has_writer {
        return refuse("versions only go up");
    }
    if reader == READER_VERSION_FEATURES && writer != WRITER_VERSION_FEATURES {
        return refuse("reader version 3 goes with writer version 7");
    }
    if reader == 2 && !(5..WRITER_VERSION_FEATURES).contains(&writer) {
        return refuse("reader version 2 goes with the writer versions 5 and 6");
    }
    let wanted =
        Protocol { min_reader_version: reader, min_writer_version: writer, ..Protocol::default() };
    Ok(union(protocol, &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy(reader: i32, writer: i32) -> Protocol {
        Protocol { min_reader_version: reader, min_writer_version: writer, ..Protocol::default() }
    }

    #[test]
    fn a_feature_is_added_by_name_where_we_can_write_it() {
        assert_eq!(feature("deletionvectors").unwrap(), "deletionVectors");
        assert_eq!(feature("v2Checkpoint").unwrap(), "v2Checkpoint");
        for (name, word) in [
            ("teleport", "doesn't know"),
            ("catalogManaged", "catalog"),
            ("icebergCompatV2", "Iceberg"),
            ("geospatial", "types"),
            ("clustering", "engine"),
        ] {
            let error = feature(name).unwrap_err();
            assert!(matches!(&error, Error::Refused(why) if why.contains(word)), "{error:?}");
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn a_feature_brings_what_it_requires() {
        let protocol = with_required(&legacy(1, 2), &["rowTracking"]);
        assert_eq!((protocol.min_reader_version, protocol.min_writer_version), (1, 7));
        for name in ["rowTracking", "domainMetadata", "appendOnly", "invariants"] {
            assert!(supports(&protocol, name), "{name}");
        }
        assert_eq!(protocol.reader_features, None);
        let preview = Protocol {
            reader_features: Some(vec!["variantType-preview".into()]),
            writer_features: Some(vec!["variantType-preview".into()]),
            ..legacy(3, 7)
        };
        assert!(!supports(&with_required(&preview, &["variantShredding"]), "variantType"));
    }

    #[test]
    fn mapped_columns_ask_for_no_more_of_readers_than_their_version() {
        let mapped = with_required(&legacy(1, 2), &["columnMapping"]);
        assert_eq!((mapped.min_reader_version, mapped.min_writer_version), (2, 7));
        assert_eq!(mapped.reader_features, None);
        assert!(supports(&mapped, "columnMapping"));
        // What comes next has a list, and it knows what the version implied.
        let next = with_required(&mapped, &["deletionVectors"]);
        assert_eq!(next.reader_features.unwrap(), ["columnMapping", "deletionVectors"]);
        let both = with_required(&legacy(1, 2), &["columnMapping", "deletionVectors"]);
        assert_eq!(both.min_reader_version, 3);
    }

    #[test]
    fn versions_go_up_and_belong_together() {
        assert_eq!(with_versions(&legacy(1, 2), None, Some(4)).unwrap(), legacy(1, 4));
        assert_eq!(with_versions(&legacy(1, 2), Some(2), Some(5)).unwrap(), legacy(2, 5));
        assert_eq!(with_versions(&legacy(1, 2), Some(1), None).unwrap(), legacy(1, 2));
        let listed = with_versions(&legacy(1, 2), Some(3), Some(7)).unwrap();
        assert_eq!(listed.reader_features.as_deref(), Some(&[][..]));
        assert_eq!(listed.writer_features.unwrap(), ["appendOnly", "invariants"]);
        for (reader, writer) in [(None, Some(1)), (Some(3), None), (Some(2), Some(7))] {
            let error = with_versions(&legacy(1, 2), reader, writer).unwrap_err();
            assert!(matches!(error, Error::Refused(_)), "{reader:?} {writer:?}");
        }
    }
}
