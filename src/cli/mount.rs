//! `deltafs mount`.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::config::{Memory, MountConfig, MountRequest};
use crate::daemon::{self, background};
use crate::error::{Error, Result};

/// Mount a Delta table, or a folder of them.
///
/// Returns when the mount answers; a daemon serves it in the background until `deltafs unmount`.
/// If it can't be mounted, the reason is printed and the exit code is 1.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  deltafs mount /data/lake /mnt/lake
  deltafs mount --read-only --foreground file:///data/lake/sales /mnt/sales

SIGINT, SIGTERM and SIGHUP unmount: running commits are waited for, and the exit code is 0.
Started with SIGHUP ignored, as by nohup, it stays ignored.")]
pub struct Mount {
    /// The table, or the folder that holds tables: a path or a file:// URL.
    source: OsString,

    /// An empty directory, outside of SOURCE.
    mountpoint: PathBuf,

    /// Stay in the foreground and trace to standard error.
    #[arg(long)]
    foreground: bool,

    /// Refuse every change.
    #[arg(long)]
    read_only: bool,

    /// Let every user of this machine in. All of them can then read all tables, whatever the modes
    /// and owners of the files in SOURCE are. For ordinary users this needs the line
    /// `user_allow_other` in /etc/fuse.conf.
    #[arg(long)]
    allow_other: bool,

    /// Show tables whose log names files outside of their own folder, where these are beneath
    /// PREFIX: an absolute path or a URI. Shallow clones name such files. They stay where they are:
    /// a version's directory, and so a copy of it, holds none of them. May be given many times.
    #[arg(long, value_name = "PREFIX")]
    allow_outside: Vec<OsString>,

    /// How much memory the lists of files of all tables' versions may take: bytes, or a number with
    /// K, M, G or T. Those not looked at for longest are forgotten first, and read from the log
    /// again when they are looked at; a version that is larger alone is held while it is read.
    #[arg(long, default_value = "1G", value_name = "SIZE")]
    memory: Memory,

    /// How much to trace.
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    log_level: LogLevel,

    /// Append the trace to this file. Without it a daemon traces to
    /// $XDG_STATE_HOME/deltafs/MOUNTPOINT.log (in ~/.local/state if unset).
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// This process is the daemon that another one started.
    #[arg(long, hide = true, requires = "foreground")]
    daemon: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Mount {
    /// Mounts.
    pub fn run(self) -> Result<()> {
        if !self.foreground {
            return self.start_daemon();
        }
        self.trace()?;
        let started = self.request().check().and_then(|config| daemon::start(&config));
        if !self.daemon {
            return started?.run();
        }
        let daemon = started.inspect_err(background::report_failure)?;
        background::report_ready()?;
        daemon.run().inspect_err(|error| tracing::error!("{error}"))
    }

    fn request(&self) -> MountRequest {
        MountRequest {
            source: self.source.clone(),
            mountpoint: self.mountpoint.clone(),
            read_only: self.read_only,
            allow_other: self.allow_other,
            memory: self.memory,
            allow_outside: self.allow_outside.clone(),
        }
    }

    /// Checks first, so that the commonest mistakes are told without a daemon.
    fn start_daemon(&self) -> Result<()> {
        let config = self.request().check()?;
        let trace = self.open_trace(&config)?;
        background::spawn(&self.daemon_arguments(&config), trace)
    }

    /// Where the daemon's standard error goes. A default that can't be opened is no reason not to
    /// mount.
    fn open_trace(&self, config: &MountConfig) -> Result<Option<File>> {
        if let Some(path) = &self.log_file {
            let opened = background::open_trace(path);
            return opened.map(Some).map_err(|error| trace_failed(path, &error));
        }
        let path = background::default_trace(&config.mountpoint);
        Ok(path.and_then(|path| background::open_default_trace(&path).ok()))
    }

    /// The same mount, as the daemon is told to make it. The trace is its standard error.
    fn daemon_arguments(&self, config: &MountConfig) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["mount".into()];
        arguments.extend(["--foreground".into(), "--daemon".into(), "--log-level".into()]);
        arguments.push(self.log_level.name().into());
        arguments.extend(["--memory".into(), self.memory.to_string().into()]);
        if self.read_only {
            arguments.push("--read-only".into());
        }
        if self.allow_other {
            arguments.push("--allow-other".into());
        }
        for place in &self.allow_outside {
            arguments.extend(["--allow-outside".into(), place.clone()]);
        }
        arguments.push("--".into());
        arguments.push(self.source.clone());
        arguments.push(config.mountpoint.clone().into());
        arguments
    }

    /// Sends what is traced to the file, or to standard error.
    fn trace(&self) -> Result<()> {
        // A trace that can't be written is lost. Internal errors would go to standard error by
        // `eprintln!`, which panics where that is what fails: in the hook below, an abort.
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(self.log_level.filter())
            .log_internal_errors(false);
        let file = self
            .log_file
            .as_ref()
            .map(|path| background::open_trace(path).map_err(|error| trace_failed(path, &error)));
        let terminal = !self.daemon && std::io::IsTerminal::is_terminal(&std::io::stderr());
        let set = match file.transpose()? {
            Some(file) => subscriber.with_ansi(false).with_writer(file).try_init(),
            None => subscriber.with_ansi(terminal).with_writer(std::io::stderr).try_init(),
        };
        set.map_err(|error| Error::Damaged(format!("BUG: traced twice: {error}")))?;
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(())
    }
}

fn trace_failed(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::from_io(format!("open the trace {}", path.display()), error)
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}
