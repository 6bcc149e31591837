//! Columns of a checkpoint's batches by name and checked type: a missing or mistyped column is
//! damage with a sentence, never a panic.

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StringViewArray, StructArray,
};

use crate::error::{Error, Result};

/// One struct column, such as `add`, and the name it goes by in messages.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    array: &'a StructArray,
    name: &'static str,
}

/// Integers of either width: writers differ in it for versions and offsets.
#[derive(Clone, Copy)]
pub enum Integers<'a> {
    Narrow(&'a Int32Array),
    Wide(&'a Int64Array),
}

/// Text, copied into the batch or left in the file's pages.
#[derive(Clone, Copy)]
pub enum Texts<'a> {
    Copied(&'a StringArray),
    Viewed(&'a StringViewArray),
}

/// A map of text to text.
#[derive(Clone, Copy)]
pub struct TextMap<'a> {
    map: &'a MapArray,
    keys: Texts<'a>,
    values: Texts<'a>,
}

/// A list of text.
#[derive(Clone, Copy)]
pub struct TextList<'a> {
    list: &'a ListArray,
    values: Texts<'a>,
}

impl<'a> Fields<'a> {
    /// A root column; `None` where the file has it not.
    pub fn of(batch: &'a RecordBatch, name: &'static str) -> Result<Option<Fields<'a>>> {
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        let array = downcast::<StructArray>(column, name, "a struct")?;
        Ok(Some(Fields { array, name }))
    }

    /// The rows in which the struct is not null.
    pub fn rows(self) -> impl Iterator<Item = usize> + 'a {
        (0..self.array.len()).filter(move |row| self.array.is_valid(*row))
    }

    pub fn is_null(self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// A struct within; `None` where the file has it not.
    pub fn fields(self, name: &'static str) -> Result<Option<Fields<'a>>> {
        let Some(column) = self.array.column_by_name(name) else { return Ok(None) };
        Ok(Some(Fields { array: downcast(column, &self.path(name), "a struct")?, name }))
    }

    /// The struct within, as arrow has it; `None` where the file has it not.
    pub fn structs(self, name: &str) -> Result<Option<&'a StructArray>> {
        self.column(name, "a struct")
    }

    pub fn text(self, name: &str) -> Result<Option<Texts<'a>>> {
        match self.array.column_by_name(name) {
            Some(column) => Texts::of(column, &self.path(name), "text").map(Some),
            None => Ok(None),
        }
    }

    pub fn text_required(self, name: &str) -> Result<Texts<'a>> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub fn booleans(self, name: &str) -> Result<Option<&'a BooleanArray>> {
        self.column(name, "booleans")
    }

    pub fn integers(self, name: &str) -> Result<Option<Integers<'a>>> {
        let Some(column) = self.array.column_by_name(name) else { return Ok(None) };
        let any = column.as_any();
        if let Some(narrow) = any.downcast_ref() {
            return Ok(Some(Integers::Narrow(narrow)));
        }
        match any.downcast_ref() {
            Some(wide) => Ok(Some(Integers::Wide(wide))),
            None => Err(mistyped(column, &self.path(name), "integers")),
        }
    }

    pub fn integers_required(self, name: &str) -> Result<Integers<'a>> {
        self.integers(name)?.ok_or_else(|| self.missing(name))
    }

    pub fn map(self, name: &str) -> Result<Option<TextMap<'a>>> {
        let Some(map) = self.column::<MapArray>(name, "a map")? else { return Ok(None) };
        let path = self.path(name);
        let keys = Texts::of(map.keys(), &path, "a map with keys of text")?;
        let values = Texts::of(map.values(), &path, "a map with values of text")?;
        Ok(Some(TextMap { map, keys, values }))
    }

    pub fn list(self, name: &str) -> Result<Option<TextList<'a>>> {
        let Some(list) = self.column::<ListArray>(name, "a list")? else { return Ok(None) };
        let values = Texts::of(list.values(), &self.path(name), "a list of text")?;
        Ok(Some(TextList { list, values }))
    }

    /// The error of a row that has no value where the protocol wants one.
    pub fn null(self, name: &str) -> Error {
        Error::Damaged(format!("{} is null", self.path(name)))
    }

    fn column<T: 'static>(self, name: &str, wanted: &str) -> Result<Option<&'a T>> {
        match self.array.column_by_name(name) {
            Some(column) => downcast(column, &self.path(name), wanted).map(Some),
            None => Ok(None),
        }
    }

    fn missing(self, name: &str) -> Error {
        Error::Damaged(format!("column {} is missing", self.path(name)))
    }

    fn path(self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef, path: &str, wanted: &str) -> Result<Texts<'a>> {
        let any = column.as_any();
        if let Some(viewed) = any.downcast_ref() {
            return Ok(Texts::Viewed(viewed));
        }
        match any.downcast_ref() {
            Some(copied) => Ok(Texts::Copied(copied)),
            None => Err(mistyped(column, path, wanted)),
        }
    }
}

impl Integers<'_> {
    pub fn get(self, row: usize) -> Option<i64> {
        match self {
            Integers::Narrow(array) => array.is_valid(row).then(|| i64::from(array.value(row))),
            Integers::Wide(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }

    pub fn get_narrow(self, row: usize) -> Option<i32> {
        self.get(row).and_then(|value| i32::try_from(value).ok())
    }
}

impl<'a> TextMap<'a> {
    /// The entries of a row, in the order of the file; `None` where the map is null.
    pub fn entries(self, row: usize) -> Option<impl Iterator<Item = (&'a str, Option<&'a str>)>> {
        if self.map.is_null(row) {
            return None;
        }
        let (start, end) = range(self.map.value_offsets(), row)?;
        Some((start..end).filter_map(move |at| {
            text_at(self.keys, at).map(|key| (key, text_at(self.values, at)))
        }))
    }

    pub fn get(self, row: usize) -> Option<BTreeMap<String, Option<String>>> {
        let entries = self.entries(row)?;
        Some(entries.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).collect())
    }
}

impl TextList<'_> {
    /// The texts of a row without nulls; `None` where the list is null.
    pub fn get(self, row: usize) -> Option<Vec<String>> {
        if self.list.is_null(row) {
            return None;
        }
        let (start, end) = range(self.list.value_offsets(), row)?;
        Some((start..end).filter_map(|at| text_at(self.values, at)).map(str::to_owned).collect())
    }
}

/// The text of a row; `None` where it is null.
pub fn text_at(texts: Texts<'_>, row: usize) -> Option<&str> {
    match texts {
        Texts::Copied(array) => array.is_valid(row).then(|| array.value(row)),
        Texts::Viewed(array) => array.is_valid(row).then(|| array.value(row)),
    }
}

/// The text of a row of a column that may be missing.
pub fn owned_text(texts: Option<Texts<'_>>, row: usize) -> Option<String> {
    texts.and_then(|texts| text_at(texts, row)).map(str::to_owned)
}

/// The integer of a row of a column that may be missing.
pub fn integer_at(integers: Option<Integers<'_>>, row: usize) -> Option<i64> {
    integers.and_then(|integers| integers.get(row))
}

fn range(offsets: &[i32], row: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(*offsets.get(row)?).ok()?;
    let end = usize::try_from(*offsets.get(row + 1)?).ok()?;
    Some((start, end))
}

fn downcast<'a, T: 'static>(column: &'a ArrayRef, path: &str, wanted: &str) -> Result<&'a T> {
    column.as_any().downcast_ref().ok_or_else(|| mistyped(column, path, wanted))
}

fn mistyped(column: &ArrayRef, path: &str, wanted: &str) -> Error {
    Error::Damaged(format!("column {path} is {} and not {wanted}", column.data_type()))
}
