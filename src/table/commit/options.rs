//! `.deltafs/options`: what a user may say about a commit, one `key=value` a line.

use crate::error::{Error, Result};
use crate::log::action::Txn;

/// The keys that there are, for the sentence that refuses another.
const KNOWN: &str = "mode=append|overwrite|replace_partitions, \
                     merge_schema=true|false, txn=APP:VERSION";

/// What the files of a staging directory do to those in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They join them.
    #[default]
    Append,
    /// They take the place of all.
    Overwrite,
    /// They take the place of all files of those partitions that they bring a file of.
    ReplacePartitions,
}

/// Options, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `None`: not said; [`Options::mode`] has the default.
    pub said_mode: Option<Mode>,
    /// Whether columns that the table lacks are added to it.
    pub merge_schema: Option<bool>,
    /// Application and version: a commit that the table has already is not made again.
    pub txn: Option<(String, i64)>,
}

impl Options {
    /// Reads the lines; empty ones and those that begin with `#` say nothing.
    /// Errors: [`Error::Refused`] naming the line and the keys that there are.
    pub fn parse(text: &str) -> Result<Options> {
        let mut options = Options::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |why: &str| {
                Err(Error::Refused(format!("option {line:?} {why}; there are: {KNOWN}")))
            };
            let Some((key, value)) = line.split_once('=') else {
                return refuse("is not key=value");
            };
            let (key, value) = (key.trim(), value.trim());
            let twice = match (key, value) {
                ("mode", "append" | "overwrite" | "replace_partitions") => {
                    let mode = match value {
                        "append" => Mode::Append,
                        "overwrite" => Mode::Overwrite,
                        _ => Mode::ReplacePartitions,
                    };
                    options.said_mode.replace(mode).is_some()
                }
                ("merge_schema", "true") => options.merge_schema.replace(true).is_some(),
                ("merge_schema", "false") => options.merge_schema.replace(false).is_some(),
                ("txn", value) => {
                    // The application's name may have colons in it, its version has none.
                    let parsed = value.rsplit_once(':').and_then(|(app, version)| {
                        let version = version.parse::<i64>().ok()?;
                        (!app.is_empty()).then(|| (app.to_owned(), version))
                    });
                    let Some(txn) = parsed else {
                        return refuse("needs an application and a whole number");
                    };
                    options.txn.replace(txn).is_some()
                }
                ("mode" | "merge_schema", _) => return refuse("has a value that it can't have"),
                _ => return refuse("is not known"),
            };
            if twice {
                return refuse("is given twice");
            }
        }
        Ok(options)
    }

    /// What the files do to those in the table.
    pub fn mode(&self) -> Mode {
        self.said_mode.unwrap_or_default()
    }

    /// Whether columns may be added.
    pub fn merges(&self) -> bool {
        self.merge_schema == Some(true)
    }

    /// The `txn` action, where there is one to write.
    pub fn txn_action(&self, now_ms: i64) -> Option<Txn> {
        self.txn.as_ref().map(|(app_id, version)| Txn {
            app_id: app_id.clone(),
            version: *version,
            last_updated: Some(now_ms),
        })
    }
}

/// The options of the next commit in the same directory: all but the transaction, which is one
/// commit's own.
pub fn without_txn(text: &str) -> String {
    let is_txn = |line: &&str| line.split_once('=').is_some_and(|(key, _)| key.trim() == "txn");
    text.lines().filter(|line| !is_txn(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read() {
        let options =
            Options::parse("# a comment\n\nmode = overwrite\nmerge_schema=true\ntxn=a:b:7\n")
                .unwrap();
        assert_eq!(options.mode(), Mode::Overwrite);
        assert!(options.merges());
        assert_eq!(options.txn, Some(("a:b".into(), 7)));
        for (text, mode) in [
            ("append", Mode::Append),
            ("overwrite", Mode::Overwrite),
            ("replace_partitions", Mode::ReplacePartitions),
        ] {
            assert_eq!(Options::parse(&format!("mode={text}")).unwrap().mode(), mode);
        }
        assert_eq!(Options::parse("").unwrap(), Options::default());
        assert_eq!(Options::default().mode(), Mode::Append);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, word) in [
            ("mod=append", "mod=append"),
            ("mode", "not key=value"),
            ("mode=replace", "value"),
            ("merge_schema=yes", "value"),
            ("txn=7", "application"),
            ("txn=:7", "application"),
            ("txn=a:x", "whole number"),
            ("mode=append\nmode=append", "twice"),
        ] {
            let error = Options::parse(text).unwrap_err();
            assert!(
                matches!(&error, Error::Refused(why) if why.contains(word) && why.contains(KNOWN)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_transaction_is_spent_and_the_rest_stays() {
        let text = "mode=overwrite\n txn = a:b:7\n# txn=no\nmerge_schema=true\n";
        assert_eq!(without_txn(text), "mode=overwrite\n# txn=no\nmerge_schema=true\n");
        assert_eq!(without_txn(""), "");
    }
}
