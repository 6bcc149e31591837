//! Slices of a log file against the whole of it: every line once, in order, whatever its length.

use super::*;
use crate::log::listing::LogFileKind;
use crate::log::version::Version;

struct Scratch {
    folder: tempfile::TempDir,
    store: Store,
}

impl Scratch {
    fn new() -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("_delta_log")).unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        Scratch { folder, store }
    }

    fn write(&self, bytes: &[u8]) -> LogFile {
        let name = "00000000000000000003.json".to_owned();
        std::fs::write(self.folder.path().join("_delta_log").join(&name), bytes).unwrap();
        let (version, size) = (Version(3), bytes.len() as u64);
        LogFile { name, kind: LogFileKind::Commit, version, size, modified_ms: 1 }
    }
}

fn add(number: usize, stats_bytes: usize) -> String {
    let stats = "s".repeat(stats_bytes);
    format!(r#"{{"add":{{"path":"f{number}","size":{number},"stats":"{stats}"}}}}"#)
}

/// Lines shorter and longer than a slice, blank ones, and lines that end with a slice.
#[tokio::test]
async fn every_line_is_read_once_and_in_order_across_slices() {
    let scratch = Scratch::new();
    let slice = SLICE_BYTES as usize;
    let mut text = String::new();
    for (number, stats) in [10, slice, 3, 2 * slice + 7, 1, slice - 40, 0].into_iter().enumerate() {
        text.push_str(&add(number, stats));
        text.push_str(if number % 2 == 0 { "\n\n" } else { "\r\n" });
    }
    // A line whose end is the first slice's.
    let line = add(7, 0);
    let fill = slice - (text.len() % slice) - line.len() - 1;
    text.push_str(&add(7, fill));
    assert_eq!(text.len() % slice, slice - 1);
    text.push('\n');
    text.push_str(&add(8, 5));
    let mut file = scratch.write(text.as_bytes());
    let content = read_content(&scratch.store, &mut file).await.unwrap();
    let actions = content.changes.iter().flat_map(|piece| {
        piece.actions().iter().map(|action| (piece.path(action).to_owned(), action.size))
    });
    let wanted: Vec<(String, u64)> = (0..9).map(|number| (format!("f{number}"), number)).collect();
    assert_eq!(actions.collect::<Vec<_>>(), wanted);

    let mut numbers = Vec::new();
    let parse = |line: &[u8]| Ok(Some(line.len()));
    let each = |number, bytes| {
        numbers.push((number, bytes));
        Ok(())
    };
    for_each_action(&scratch.store, &mut file, parse, each).await.unwrap();
    let lines = commit::lines(text.as_bytes());
    assert_eq!(numbers, lines.map(|(number, line)| (number, line.len())).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_is_told_by_the_line_of_the_whole_file() {
    let scratch = Scratch::new();
    let mut text = add(0, SLICE_BYTES as usize);
    text.push_str("\n\n");
    text.push_str(&add(1, SLICE_BYTES as usize));
    text.push_str("\n{\"add\":{\"path\":7}}\n");
    let mut file = scratch.write(text.as_bytes());
    let error = read_content(&scratch.store, &mut file).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("00000000000000000003.json (version 3), line 4"), "{error}");
    let parse = commit::read_action;
    let error = for_each_action(&scratch.store, &mut file, parse, |_, _| Ok(())).await.unwrap_err();
    assert!(error.to_string().contains("line 4"), "{error}");
}

#[tokio::test]
async fn a_line_without_an_end_is_damage_long_before_it_is_read() {
    let scratch = Scratch::new();
    let mut file = scratch.write(b"{\"txn\":{\"appId\":\"a\",\"version\":1}}\n{");
    file.size = 1 << 40;
    let path = scratch.folder.path().join("_delta_log").join(&file.name);
    std::fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
    let error = read_content(&scratch.store, &mut file).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("00000000000000000003.json (version 3) has a line of more than"),
        "{message}"
    );
}

#[tokio::test]
async fn an_empty_file_and_one_of_blank_lines_are_damage() {
    let scratch = Scratch::new();
    for text in ["", "\n", "\n \r\n"] {
        let mut file = scratch.write(text.as_bytes());
        let error = read_content(&scratch.store, &mut file).await.unwrap_err();
        assert!(error.to_string().contains("is empty"), "{text:?}: {error}");
        let parse = commit::read_action;
        let error =
            for_each_action(&scratch.store, &mut file, parse, |_, _| Ok(())).await.unwrap_err();
        assert!(error.to_string().contains("is empty"), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_file_of_another_size_than_listed_is_looked_at_again() {
    let scratch = Scratch::new();
    let text = format!("{}\n{}\n", add(1, 3), add(2, 3));
    for listed in [0, 5, text.len() + 1, text.len() + 100] {
        let mut file = scratch.write(text.as_bytes());
        file.size = listed as u64;
        let content = read_content(&scratch.store, &mut file).await.unwrap();
        assert_eq!(content.changes[0].actions().len(), 2);
        assert_eq!(file.size, text.len() as u64);
    }
}
