//! Checks of the source itself: imports go down only, files and functions keep their lengths.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARACTERS_MAX: usize = 100;

/// The layers and what each may import (DESIGN.md 8).
const MAY_IMPORT: [(&str, &[&str]); 5] = [
    ("fs", &["fs", "namespace", "table", "error"]),
    ("namespace", &["namespace", "table", "error"]),
    ("table", &["table", "log", "store", "error"]),
    ("log", &["log", "store", "error"]),
    ("store", &["store", "error"]),
];

/// Crates that one layer alone may name. What `cli` and `daemon` mount with is part of `fs`.
const ALONE_MAY_NAME: [(&str, &[&str]); 4] =
    [("fuser", &["fs"]), ("arrow", &["log"]), ("parquet", &["log"]), ("object_store", &["store"])];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    assert!(found.len() > 30, "the walk found too little to be true");
    found
}

/// The first folder below `src`, or the file's own name without its ending.
fn layer(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// The code of a file: without its comments, and for imports without its tests, which may use an
/// oracle's crates.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    name == "tests" || name.ends_with("_tests") || name == "tidy" || name == "fault"
}

fn before_tests(text: &str) -> &str {
    match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => text,
    }
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if is_test_file(&path) {
            continue;
        }
        let layer = layer(&path);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == layer) else {
            continue;
        };
        for (number, line) in code(before_tests(&text)) {
            for rest in line.split("crate::").skip(1) {
                let module: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !module.is_empty() && !allowed.contains(&module.as_str()) {
                    wrong.push(format!("{}:{}: {layer} -> {module}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn each_crate_is_named_in_its_own_layer() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if is_test_file(&path) {
            continue;
        }
        let layer = layer(&path);
        for (number, line) in code(before_tests(&text)) {
            for (name, layers) in ALONE_MAY_NAME {
                let named =
                    line.contains(&format!("{name}::")) || line.contains(&format!("use {name}"));
                if named && !layers.contains(&layer.as_str()) {
                    wrong.push(format!("{}:{}: names {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "crates named outside their layer:\n{}", wrong.join("\n"));
}

#[test]
fn files_and_lines_keep_their_lengths_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: doesn't open with what it is", path.display()));
        }
        for (number, line) in text.lines().enumerate() {
            // A literal that can't be broken may be longer.
            if line.chars().count() > LINE_CHARACTERS_MAX && !line.contains('"') {
                wrong.push(format!("{}:{}: a long line", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_keep_their_length() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let mut open: Option<(usize, String, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let indent = &line[..line.len() - trimmed.len()];
            let is_function = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn "]
                .iter()
                .chain(&["pub async fn ", "pub(super) async fn ", "pub(crate) async fn "])
                .any(|start| trimmed.starts_with(start));
            if is_function && open.is_none() && !line.trim_end().ends_with('}') {
                open = Some((number, indent.to_string(), trimmed.to_string()));
            } else if let Some((start, at, name)) = &open
                && line.strip_prefix(at.as_str()).is_some_and(|rest| rest == "}")
            {
                if number - start + 1 > FUNCTION_LINES_MAX {
                    let length = number - start + 1;
                    wrong.push(format!("{}:{}: {length} lines: {name}", path.display(), start + 1));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "functions that are too long:\n{}", wrong.join("\n"));
}
