//! Where a deletion vector's bytes are (protocol: "Deletion Vector Descriptor Schema").
//!
//! A reader of a version needs the files that hold the deletion vectors of its live files, so this
//! module turns descriptors into paths. What is in such a file is the reader's business.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::log::action::DeletionVector;
use crate::log::path::FilePath;
use crate::store::{Located, Reach, normalized};

/// Digits of Z85 (ZeroMQ RFC 32), in which descriptors write UUIDs.
const Z85: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
/// A UUID in Z85: 16 bytes, five digits for every four.
const UUID_DIGITS: usize = 20;
/// A deletion vector in a file stands between its size and its CRC-32, four bytes each.
const FRAME_BYTES: u64 = 8;

/// Where a deletion vector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VectorPlace {
    /// In the log itself.
    Inline,
    Inside(FilePath),
    /// At an absolute path or URI, in its one spelling; it may lead into the table's folder.
    Absolute(String),
}

impl DeletionVector {
    /// Where the deletion vector is. Errors: [`Error::Damaged`] for what is no descriptor.
    pub(super) fn place(&self) -> Result<VectorPlace> {
        match self.storage_type.as_str() {
            "i" => Ok(VectorPlace::Inline),
            "u" => self.relative_file().map(VectorPlace::Inside),
            "p" => normalized(&self.path_or_inline_dv).map(VectorPlace::Absolute),
            other => {
                Err(Error::Damaged(format!("deletion vector of unknown storage type {other:?}")))
            }
        }
    }

    /// The file in the table's folder that holds the deletion vector; `None` when it is inline, or
    /// outside. Errors: [`Error::Damaged`] for what is no descriptor.
    pub fn file(&self, reach: &Reach) -> Result<Option<FilePath>> {
        Ok(match self.place()? {
            VectorPlace::Inline => None,
            VectorPlace::Inside(path) => Some(path),
            VectorPlace::Absolute(place) => match reach.locate(&place) {
                Located::Inside(path) => FilePath::from_decoded(path).ok(),
                Located::Allowed | Located::Beyond => None,
            },
        })
    }

    /// The place of the deletion vector, where it is outside and nobody allowed that.
    pub(super) fn beyond(&self, reach: &Reach) -> Option<String> {
        if self.storage_type != "p" {
            return None;
        }
        let Ok(VectorPlace::Absolute(place)) = self.place() else { return None };
        match reach.locate(&place) {
            Located::Inside(path) if FilePath::from_decoded(path).is_ok() => None,
            Located::Allowed => None,
            Located::Inside(_) | Located::Beyond => Some(place),
        }
    }

    /// Bytes that the file must have at least for this deletion vector to be in it.
    pub fn file_bytes_min(&self) -> u64 {
        let offset = u64::try_from(self.offset.unwrap_or(0)).unwrap_or(0);
        let size = u64::try_from(self.size_in_bytes).unwrap_or(0);
        offset + size + FRAME_BYTES
    }

    /// Whether two descriptors name the same logical file (protocol: "Action Reconciliation").
    pub fn is_same(&self, other: &DeletionVector) -> bool {
        self.path_or_inline_dv == other.path_or_inline_dv
            && self.offset == other.offset
            && self.storage_type == other.storage_type
    }

    /// Errors: [`Error::Damaged`] where sizes or counts can't be.
    pub(super) fn check(&self) -> Result<()> {
        if self.size_in_bytes < 0 || self.cardinality < 0 || self.offset.is_some_and(|at| at < 0) {
            return Err(Error::Damaged(format!(
                "deletion vector {:?} has a negative offset, size or row count",
                self.path_or_inline_dv
            )));
        }
        Ok(())
    }

    /// `<prefix>/deletion_vector_<uuid>.bin`: an optional prefix, then the UUID in Z85.
    fn relative_file(&self) -> Result<FilePath> {
        let text = self.path_or_inline_dv.as_str();
        let damaged = || Error::Damaged(format!("deletion vector {text:?} has no UUID in Z85"));
        let at = text.len().checked_sub(UUID_DIGITS).ok_or_else(damaged)?;
        let (prefix, digits) = text.split_at_checked(at).ok_or_else(damaged)?;
        let uuid = decode_uuid(digits.as_bytes()).ok_or_else(damaged)?;
        let name = format!("deletion_vector_{}.bin", uuid.hyphenated());
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        FilePath::from_decoded(&path)
            .map_err(|error| Error::Damaged(format!("deletion vector {text:?}: {error}")))
    }
}

/// Five digits are one big-endian word.
fn decode_uuid(digits: &[u8]) -> Option<Uuid> {
    let mut bytes = [0; 16];
    if digits.len() != UUID_DIGITS {
        return None;
    }
    for (word, digits) in bytes.chunks_exact_mut(4).zip(digits.chunks_exact(5)) {
        let mut value: u64 = 0;
        for digit in digits {
            let digit = Z85.iter().position(|known| known == digit)?;
            value = value * 85 + digit as u64;
        }
        word.copy_from_slice(&u32::try_from(value).ok()?.to_be_bytes());
    }
    Some(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn vector(storage_type: &str, path: &str) -> DeletionVector {
        DeletionVector {
            storage_type: storage_type.into(),
            path_or_inline_dv: path.into(),
            offset: Some(1),
            size_in_bytes: 36,
            cardinality: 2,
        }
    }

    fn file(storage_type: &str, path: &str) -> Option<FilePath> {
        vector(storage_type, path).file(&Reach::default()).unwrap()
    }

    /// The two examples of the protocol's text.
    #[test]
    fn a_relative_descriptor_names_a_file_with_and_without_a_prefix() {
        let plain = file("u", "^-aqEH.-t@S}K{vb[*k^").unwrap();
        assert_eq!(plain.as_str(), "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
        let prefixed = file("u", "ab^-aqEH.-t@S}K{vb[*k^").unwrap();
        assert_eq!(
            prefixed.as_str(),
            "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
        );
    }

    #[test]
    fn an_inline_one_has_no_file_and_an_absolute_one_is_where_its_path_leads() {
        assert_eq!(file("i", "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"), None);
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let root = store.local_root().unwrap().display().to_string();
        let at = |path: &str, reach: &Reach| {
            let vector = vector("p", path);
            (vector.file(reach).unwrap().map(|path| path.to_string()), vector.beyond(reach))
        };
        let reach = store.reach();
        assert_eq!(at(&format!("file://{root}/a%20b.bin"), &reach), (Some("a b.bin".into()), None));
        let (outside, spelled) = ("s3a://bucket/x.bin", "s3://bucket/x.bin");
        assert_eq!(at(outside, &reach), (None, Some(spelled.into())));
        let reach = store.allowing(vec!["s3://bucket".into()]).reach();
        assert_eq!(at(outside, &reach), (None, None));
    }

    #[test]
    fn what_is_no_descriptor_is_damage() {
        for bad in [
            "",
            "short",
            "~~~~~~~~~~~~~~~~~~~~",
            "#####################",
            "../^-aqEH.-t@S}K{vb[*k^",
            "ééééééééééé",
        ] {
            let error = vector("u", bad).place();
            assert!(matches!(error, Err(Error::Damaged(_))), "{bad:?}: {error:?}");
        }
        assert!(matches!(vector("x", "a").place(), Err(Error::Damaged(_))));
        assert!(matches!(vector("p", "/a/../b").place(), Err(Error::Damaged(_))));
    }

    #[test]
    fn the_file_holds_size_and_checksum_beside_the_vector() {
        assert_eq!(vector("u", "^-aqEH.-t@S}K{vb[*k^").file_bytes_min(), 1 + 4 + 36 + 4);
    }
}
