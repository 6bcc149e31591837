//! The bar that `deltafs commit` draws on a terminal, from the commit's line in the table's
//! `.deltafs/commits`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const COUNTED: &str = "{spinner} {msg} [{bar:30}] {percent}% {elapsed}";
const UNCOUNTED: &str = "{spinner} {msg} {elapsed}";
/// How often the spinner turns, also while nothing else is new.
const TURN: Duration = Duration::from_millis(200);

/// What the board tells of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    doing: String,
    files: (u64, u64),
    bytes: (u64, u64),
}

impl Line {
    /// Finds a staging directory's line. `None`: it has none, so its commit hasn't begun, or ended.
    pub fn find(board: &str, name: &str) -> Option<Line> {
        let mut lines = board.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let ours = |line: &Vec<&str>| line[0].strip_prefix("staging/") == Some(name);
        let line = lines.find(ours)?;
        let [_, doing, files, bytes, ..] = line[..] else { return None };
        Some(Line { doing: doing.into(), files: amount(files)?, bytes: amount(bytes)? })
    }

    /// Done and total of what tells most: of bytes, else of files, else nothing.
    fn progress(&self) -> Option<(u64, u64)> {
        [self.bytes, self.files].into_iter().find(|(_, total)| *total > 0)
    }

    fn message(&self) -> String {
        match self.files {
            (_, 0) => self.doing.clone(),
            (done, total) => format!("{}: {done} of {total} files", self.doing),
        }
    }
}

/// Reads `DONE/TOTAL UNIT`.
fn amount(text: &str) -> Option<(u64, u64)> {
    let (done, total) = text.split_once(' ')?.0.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

/// A bar on standard error; nothing where that is no terminal. It goes when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// Draws at once: most commits are over before anything could be told of them.
    pub fn new() -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(UNCOUNTED));
        bar.set_message("commits");
        bar.tick();
        bar.enable_steady_tick(TURN);
        Bar(bar)
    }

    pub fn show(&self, line: &Line) {
        match line.progress() {
            Some((done, total)) => {
                self.0.set_style(style(COUNTED));
                self.0.set_length(total);
                self.0.set_position(done);
            }
            None => self.0.set_style(style(UNCOUNTED)),
        }
        self.0.set_message(line.message());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("BUG: the template is one").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: &str = "staging/other\tsends version 7\t0/0 files\t0/0 bytes\t3 s\n\
        staging/a b\tpublishes files\t1/3 files\t40/100 bytes\t3 s\n";

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let line = Line::find(BOARD, "a b").expect("there is one");
        assert_eq!(
            (line.progress(), line.message().as_str()),
            (Some((40, 100)), "publishes files: 1 of 3 files")
        );
        let line = Line::find(BOARD, "other").expect("there is one");
        assert_eq!((line.progress(), line.message().as_str()), (None, "sends version 7"));
        assert_eq!(Line::find(BOARD, "a"), None);
        assert_eq!(Line::find("", "a"), None);
        assert_eq!(Line::find("staging/a\tan older daemon's line\n", "a"), None);
    }

    #[test]
    fn files_are_counted_where_bytes_are_not() {
        let board = "staging/a\treads footers\t2/9 files\t0/0 bytes\t0 s\n";
        assert_eq!(Line::find(board, "a").expect("a line").progress(), Some((2, 9)));
    }
}
