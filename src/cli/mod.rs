//! The command line: flags become a checked request, and one call carries it out.
//!
//! A failure is one sentence on standard error and exit code 1; a mistake in the flags is 2.

mod bar;
mod commit;
mod mount;
mod status;
mod unmount;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// Mounts Delta Lake tables as directories: every version browsable, every restore one commit.
#[derive(Debug, Parser)]
#[command(name = "deltafs", version, max_term_width = 100, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example, for a folder /data/lake that holds tables:
  deltafs mount /data/lake /mnt/lake
  ls /mnt/lake/sales/versions
  cp -a /mnt/lake/sales/versions/12 /backup/sales      # a backup is a copy
  mkdir /mnt/lake/sales/staging/undo
  cp -a /backup/sales/. /mnt/lake/sales/staging/undo/
  deltafs commit /mnt/lake/sales/staging/undo          # a restore is one commit
  deltafs unmount /mnt/lake";

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::Mount),
    Unmount(unmount::Unmount),
    Commit(commit::Commit),
    Status(status::Status),
}

/// Carries out the command line of this process.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Mount(mount) => mount.run(),
        Command::Unmount(unmount) => unmount.run(),
        Command::Commit(commit) => commit.run(),
        Command::Status(status) => status.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Says a sentence on standard error.
fn complain(sentence: &str) {
    // Nothing is left to tell it to if standard error is closed.
    let _ = writeln!(io::stderr(), "deltafs: {sentence}");
}

/// Prints text on standard output. A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::from_io("write to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Reads a file of a mount whose daemon may hang: None after `limit`, or if it can't be read.
fn read_within(path: PathBuf, limit: std::time::Duration) -> Option<String> {
    let (sender, text) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more after the limit.
        let _ = sender.send(std::fs::read_to_string(path));
    });
    text.recv_timeout(limit).ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Arguments::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn mount_takes_its_flags_anywhere() {
        let line = ["deltafs", "mount", "--read-only", "a", "--log-level", "debug", "b"];
        assert!(Arguments::try_parse_from(line).is_ok());
        assert!(Arguments::try_parse_from(["deltafs", "mount", "a"]).is_err());
        let loud = ["deltafs", "mount", "a", "b", "--log-level", "loud"];
        assert!(Arguments::try_parse_from(loud).is_err());
    }
}
