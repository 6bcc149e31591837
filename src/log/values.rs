//! Partition values of many files, each distinct set kept once.
//!
//! A table has few sets of values or, at worst, one for each file: so a set is a run of text and
//! not a map. The text is canonical, keys ascending, so that equal texts are equal sets.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::error::{Error, Result};

/// Longest key or value in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Numbers from here on are no characters for a while (surrogates), so lengths skip those.
const SURROGATES_FROM: u32 = 0xD800;
const SURROGATES: u32 = 0x800;

/// The number of a set in its [`ValuesTable`]; the same set has the same number.
pub type ValuesId = u32;

/// The partition values of a file, by physical name; null is `None`, or the empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet<'a> {
    /// For each key, ascending: its length, itself, the value's length plus one (0 is null), the
    /// value. Lengths are characters.
    text: &'a str,
}

impl<'a> PartitionSet<'a> {
    /// Keys and values, by key.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let key = take_text(&mut rest, 0)?;
            Some((key, take_text(&mut rest, 1)))
        })
    }

    /// The value of a key; `None` where it is null or there is no such key.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == key)?.1
    }
}

/// Takes a length that is `shift` greater than the text, and the text.
fn take_text<'a>(rest: &mut &'a str, shift: usize) -> Option<&'a str> {
    let length = rest.chars().next()?;
    let (_, after) = rest.split_at(length.len_utf8());
    let number = u32::from(length);
    let number = if number >= SURROGATES_FROM { number - SURROGATES } else { number };
    let Some(bytes) = (number as usize).checked_sub(shift) else {
        *rest = after;
        return None;
    };
    let (text, after) = after.split_at(bytes);
    *rest = after;
    Some(text)
}

/// Distinct sets of partition values.
#[derive(Clone, Debug, Default)]
pub struct ValuesTable {
    text: String,
    /// Where each set ends in `text`.
    ends: Vec<usize>,
    /// By hash. Of sets with one hash only the first is found again, and the others are kept more
    /// often than once: that costs bytes and nothing else, so half a hash will do.
    by_hash: HashMap<u32, ValuesId, BuildHasherDefault<Spread>>,
    hasher: RandomState,
}

/// Takes a number that is half a hash for one, as it is.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, half: u32) {
        // A map looks at both ends of a hash.
        self.0 = u64::from(half) << 32 | u64::from(half);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl ValuesTable {
    /// A set by its number.
    pub fn get(&self, id: ValuesId) -> PartitionSet<'_> {
        let at = id as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        PartitionSet { text: &self.text[start..self.ends[at]] }
    }

    /// How many sets there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        let by_hash = self.by_hash.capacity() * (size_of::<(u32, ValuesId)>() + 1);
        self.text.capacity() + self.ends.capacity() * size_of::<usize>() + by_hash
    }

    /// Every set, by number.
    pub fn sets(&self) -> impl Iterator<Item = PartitionSet<'_>> {
        (0..self.ends.len()).map(|at| self.get(at as ValuesId))
    }

    /// Whether two numbers are of equal sets.
    pub fn is_same(&self, one: ValuesId, other: ValuesId) -> bool {
        one == other || self.get(one) == self.get(other)
    }

    /// The number of a set, which is taken in if it is new.
    pub fn intern(&mut self, set: PartitionSet<'_>) -> ValuesId {
        let hash = self.hasher.hash_one(set.text) as u32;
        if let Some(id) = self.by_hash.get(&hash)
            && self.get(*id) == set
        {
            return *id;
        }
        let id = ValuesId::try_from(self.ends.len()).expect("BUG: as many sets as files, at most");
        self.text.push_str(set.text);
        self.ends.push(self.text.len());
        self.by_hash.entry(hash).or_insert(id);
        id
    }
}

/// Writes sets of partition values; reused from file to file.
#[derive(Debug, Default)]
pub struct SetWriter {
    text: String,
}

impl SetWriter {
    /// A set from its entries; of entries with one key the last counts.
    ///
    /// Errors: [`Error::Damaged`] for a key or value that is too long.
    pub fn write<'e>(
        &mut self,
        entries: &mut Vec<(&'e str, Option<&'e str>)>,
    ) -> Result<PartitionSet<'_>> {
        if !entries.is_sorted_by(|one, other| one.0 < other.0) {
            entries.reverse();
            entries.sort_by_key(|entry| entry.0);
            entries.dedup_by_key(|entry| entry.0);
        }
        self.text.clear();
        for (key, value) in entries {
            self.push(key, 0)?;
            match value {
                Some(value) => self.push(value, 1)?,
                None => self.text.push('\0'),
            }
        }
        Ok(PartitionSet { text: &self.text })
    }

    fn push(&mut self, text: &str, shift: u32) -> Result<()> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::Damaged(format!(
                "a partition value of {} bytes: more than {TEXT_BYTES_MAX}",
                text.len()
            )));
        }
        let number = text.len() as u32 + shift;
        let number = if number >= SURROGATES_FROM { number + SURROGATES } else { number };
        self.text.push(char::from_u32(number).expect("BUG: 1 MiB is below the last character"));
        self.text.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        let mut writer = SetWriter::default();
        let mut table = ValuesTable::default();
        let set = writer.write(&mut entries.to_vec()).unwrap();
        let id = table.intern(set);
        assert_eq!(table.intern(set), id);
        let owned = |(key, value): (&str, Option<&str>)| (key.into(), value.map(str::to_owned));
        table.get(id).iter().map(owned).collect()
    }

    #[test]
    fn a_set_is_read_as_it_was_written_sorted_and_the_last_of_a_key_counts() {
        assert_eq!(written(&[]), []);
        let entries = [("q", None), ("p", Some("")), ("é\0", Some("\0ü")), ("p", Some("x"))];
        let wanted = [
            ("p".to_owned(), Some("x".to_owned())),
            ("q".to_owned(), None),
            ("é\0".to_owned(), Some("\0ü".to_owned())),
        ];
        assert_eq!(written(&entries), wanted);
    }

    #[test]
    fn lengths_around_the_surrogates_and_the_bound_are_kept() {
        for bytes in [127, 128, 0xD7FE, 0xD7FF, 0xD800, 0xDFFF, 0xE000, TEXT_BYTES_MAX] {
            let text = "v".repeat(bytes);
            let read = written(&[("p", Some(&text)), (&text, Some("after"))]);
            assert_eq!(read.len(), 2);
            assert!(read.iter().any(|(_, value)| value.as_ref() == Some(&text)), "{bytes}");
            assert!(read.iter().any(|(_, value)| value.as_deref() == Some("after")), "{bytes}");
        }
        let long = "v".repeat(TEXT_BYTES_MAX + 1);
        let error = SetWriter::default().write(&mut vec![("p", Some(&long))]).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }

    #[test]
    fn equal_sets_have_one_number_and_others_another() {
        let mut table = ValuesTable::default();
        let mut writer = SetWriter::default();
        let mut id = |entries: &[(&str, Option<&str>)]| {
            table.intern(writer.write(&mut entries.to_vec()).unwrap())
        };
        assert_eq!(id(&[("a", None), ("b", None)]), id(&[("b", None), ("a", None)]));
        assert_ne!(id(&[("a", None)]), id(&[("a", Some(""))]));
        assert_ne!(id(&[("ab", Some("c"))]), id(&[("a", Some("bc"))]));
        assert_eq!(table.sets().count(), 5);
    }
}
