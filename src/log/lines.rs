//! The lines of a commit or of a JSON checkpoint, some megabytes at a time.
//!
//! A log file is somebody else's bytes and may be of any size, so it is never read as one: slices
//! that end with a line are read one after the other and parsed side by side, and a line that is
//! longer than any writer makes is damage.

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::log::commit::{self, CommitContent, ParsedLines};
use crate::log::listing::LogFile;
use crate::store::Store;

/// Bytes that are read and parsed at a time.
const SLICE_BYTES: u64 = 4 * 1024 * 1024;
/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Slices of one file that are parsed at a time, while the next one is read.
const SLICES_AT_ONCE: usize = 4;
/// Larger slices are parsed off the runtime's own threads.
const PARSE_INLINE_BYTES_MAX: usize = 256 * 1024;

/// Reads and parses a file of JSON lines. One that grew since it was looked at is looked at again,
/// so that what `file` says of it is of the bytes that were read.
///
/// Errors: [`Error::Damaged`] naming file, version and line; else the store's.
pub(super) async fn read_content(store: &Store, file: &mut LogFile) -> Result<CommitContent> {
    let mut slices = Slices::new(store, file);
    let mut parsed = Box::pin(slices.stream().map(parse).buffered(SLICES_AT_ONCE));
    let mut all = ParsedLines::default();
    while let Some(part) = parsed.try_next().await? {
        let at_line = |(number, error)| commit::at_line(file, all.lines() + number, &error);
        let part = part.map_err(at_line)?;
        all.append(part);
    }
    drop(parsed);
    *file = slices.file;
    all.finish(file)
}

/// Gives the number of each line of a file, and the action that `parse` makes of it, to `take`.
///
/// Errors: as [`read_content`], and those of `take` as damage of the line.
pub(super) async fn for_each_action<T: Send + 'static>(
    store: &Store,
    file: &mut LogFile,
    parse: fn(&[u8]) -> Result<Option<T>>,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let mut slices = Slices::new(store, file);
    let parsing = slices.stream().map(|slice| async move {
        let slice = slice?;
        let parsing = tokio::task::spawn_blocking(move || {
            let actions: Vec<_> =
                slice.lines().map(|(number, line)| (number, parse(line))).collect();
            (slice.count(), actions)
        });
        parsing.await.map_err(|error| Error::Damaged(format!("BUG: parse a commit: {error}")))
    });
    let mut parsing = Box::pin(parsing.buffered(SLICES_AT_ONCE));
    let (mut before, mut is_empty) = (0, true);
    while let Some((count, actions)) = parsing.try_next().await? {
        for (number, action) in actions {
            is_empty = false;
            let number = before + number;
            let mut take = |action| take(number, action);
            let taken = action.and_then(|action| action.map_or(Ok(()), &mut take));
            taken.map_err(|error| commit::at_line(file, number, &error))?;
        }
        before += count;
    }
    drop(parsing);
    *file = slices.file;
    if is_empty { Err(commit::empty(file)) } else { Ok(()) }
}

type Parsed = std::result::Result<ParsedLines, (usize, Error)>;

async fn parse(slice: Result<Slice>) -> Result<Parsed> {
    let slice = slice?;
    if slice.bytes() <= PARSE_INLINE_BYTES_MAX {
        return Ok(slice.parse());
    }
    let parsing = tokio::task::spawn_blocking(move || slice.parse());
    parsing.await.map_err(|error| Error::Damaged(format!("BUG: parse a commit: {error}")))
}

/// Whole lines in one or two runs of bytes: the first one may have begun in the bytes before.
#[derive(Debug)]
pub(super) struct Slice {
    first: Bytes,
    rest: Bytes,
}

impl Slice {
    fn bytes(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// The lines that aren't blank, with their numbers from 1 within the slice.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let before = usize::from(!self.first.is_empty());
        let rest = commit::lines(&self.rest).map(move |(number, line)| (before + number, line));
        commit::lines(&self.first).chain(rest)
    }

    /// How many lines there are, blank ones among them.
    pub fn count(&self) -> usize {
        let ends = self.rest.iter().filter(|byte| **byte == b'\n').count();
        let cut = self.rest.last().is_some_and(|byte| *byte != b'\n');
        usize::from(!self.first.is_empty()) + ends + usize::from(cut)
    }

    fn parse(&self) -> Parsed {
        let mut parsed = ParsedLines::parse(&self.first)?;
        let before = parsed.lines();
        let rest = ParsedLines::parse(&self.rest);
        parsed.append(rest.map_err(|(number, error)| (before + number, error))?);
        Ok(parsed)
    }
}

/// Reads a file slice by slice.
pub(super) struct Slices<'a> {
    store: &'a Store,
    file: LogFile,
    /// Where to go on.
    at: u64,
    /// The beginning of a line whose end wasn't read yet.
    begun: Vec<Bytes>,
    begun_bytes: usize,
    is_done: bool,
}

impl<'a> Slices<'a> {
    pub fn new(store: &'a Store, file: &LogFile) -> Slices<'a> {
        let file = file.clone();
        Slices { store, file, at: 0, begun: Vec::new(), begun_bytes: 0, is_done: false }
    }

    /// As a stream; ends after an error.
    pub fn stream(&mut self) -> impl Stream<Item = Result<Slice>> {
        stream::unfold(Some(self), |slices| async move {
            let slices = slices?;
            match slices.next().await {
                Ok(slice) => Some((Ok(slice?), Some(slices))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Result<Option<Slice>> {
        while !self.is_done {
            let window = self.read().await?;
            if let Some(last) = window.iter().rposition(|byte| *byte == b'\n') {
                let first_end = match self.begun_bytes {
                    0 => 0,
                    _ => window.iter().position(|byte| *byte == b'\n').unwrap_or(last) + 1,
                };
                let first = self.end_line(window.slice(..first_end));
                let rest = window.slice(first_end..last + 1);
                self.begin_line(window.slice(last + 1..))?;
                return Ok(Some(Slice { first, rest }));
            }
            self.begin_line(window)?;
        }
        if self.begun_bytes == 0 {
            return Ok(None);
        }
        let first = self.end_line(Bytes::new());
        Ok(Some(Slice { first, rest: Bytes::new() }))
    }

    fn begin_line(&mut self, bytes: Bytes) -> Result<()> {
        self.begun_bytes += bytes.len();
        if self.begun_bytes > LINE_BYTES_MAX {
            return Err(Error::Damaged(format!(
                "{} (version {}) has a line of more than {LINE_BYTES_MAX} bytes",
                self.file.name, self.file.version
            )));
        }
        if !bytes.is_empty() {
            self.begun.push(bytes);
        }
        Ok(())
    }

    fn end_line(&mut self, end: Bytes) -> Bytes {
        let begun = std::mem::take(&mut self.begun);
        let bytes = std::mem::take(&mut self.begun_bytes) + end.len();
        match begun.as_slice() {
            [] => end,
            [only] if end.is_empty() => only.clone(),
            begun => {
                let mut line = Vec::with_capacity(bytes);
                begun.iter().chain([&end]).for_each(|part| line.extend_from_slice(part));
                line.into()
            }
        }
    }

    /// Reads on, and at the end of the file one byte more: then it has grown, or it hasn't.
    async fn read(&mut self) -> Result<Bytes> {
        let path = self.file.path();
        let end = (self.at + SLICE_BYTES).min(self.file.size);
        let is_last = end == self.file.size;
        let window = self.store.read_up_to(&path, self.at..end + u64::from(is_last)).await?;
        let read_to = self.at + window.len() as u64;
        if read_to == end {
            self.is_done = is_last;
            self.at = read_to;
            return Ok(window);
        }
        self.look_again(read_to).await?;
        Box::pin(self.read()).await
    }

    /// Looks at a file of another size than it was listed with, once.
    async fn look_again(&mut self, read_to: u64) -> Result<()> {
        let entry = self.store.head(&self.file.path()).await?;
        match entry.filter(|entry| entry.size >= read_to && entry.size != self.file.size) {
            Some(entry) => {
                (self.file.size, self.file.modified_ms) = (entry.size, entry.modified_ms);
                Ok(())
            }
            None => Err(Error::Damaged(format!(
                "{} (version {}) is still being written",
                self.file.name, self.file.version
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
