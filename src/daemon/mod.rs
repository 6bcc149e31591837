//! The process behind a mount: starts it, says when it answers, and takes it away again.
//!
//! States: checked -> mounted -> answering -> stopping -> gone.
//!
//! - `start` mounts and serves; nothing is printed before the mount answers a request.
//! - A signal, or somebody's `umount`, ends it with exit 0. Running commits are waited for, and no
//!   new one starts.
//! - Only a mount that the kernel's table still shows as this one is ever unmounted.
//! - A crash leaves the mount dead ("Transport endpoint is not connected") on purpose: an empty
//!   mountpoint under `rsync --delete` would delete somebody's backup.

pub mod background;
pub mod check;
pub mod mount;
pub mod mountinfo;
pub mod unmount;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::MountConfig;
use crate::daemon::mount::MountOptions;
use crate::daemon::mountinfo::Mount;
use crate::daemon::unmount::{Force, same, unmount};
use crate::error::{Error, Result};
use crate::fs::{Commits, Server};
use crate::namespace::{Mounter, Namespace, NamespaceOptions};
use crate::table::Registry;

/// How long a new mount may take to answer its first request.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long running commits are waited for when the daemon is told to stop.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// How long the session may go on after it was unmounted, for files that are still open.
const SESSION_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of the runtime may take.
const RUNTIME_LIMIT: Duration = Duration::from_secs(2);

/// A mount that answers.
pub struct Daemon {
    runtime: Runtime,
    mount: Mount,
    commits: Arc<Commits>,
    ended: oneshot::Receiver<std::io::Result<()>>,
    signals: Signals,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None if it was ignored at our start (nohup), and is to stay so.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let hangup = (!is_ignored(SignalKind::hangup())).then(|| on(SignalKind::hangup()));
        Ok(Signals {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    /// Waits for the first of them.
    async fn any(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Mounts, serves, and returns when the mount answers. What was mounted is unmounted again if it
/// doesn't.
pub fn start(config: &MountConfig) -> Result<Daemon> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads())
        .enable_all()
        .thread_name("deltafs")
        .build()
        .map_err(|error| Error::from_io("start the runtime", &error))?;
    // Before mounting: a signal from here on unmounts.
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    let registry = Registry::new(config.store.clone(), config.read_only, config.memory.bytes());
    let namespace = Namespace::new(registry, namespace_options(config));
    let device = mount::mount(
        &config.mountpoint,
        &MountOptions {
            source: config.source_name(),
            read_only: config.read_only,
            allow_other: config.allow_other,
        },
    )?;
    let mount =
        mountinfo::mount_at(&config.mountpoint)?.filter(Mount::is_ours).ok_or_else(|| {
            Error::Damaged(format!(
                "mount at {}: the kernel does not show the new mount",
                config.mountpoint.display()
            ))
        })?;
    let local_root = config.store.local_root().map(Path::to_owned);
    let server = Server::new(device, namespace, runtime.handle().clone(), local_root)
        .map_err(|error| Error::from_io("agree with the kernel on the protocol", &error));
    let served = server.and_then(|server| {
        let commits = server.commits();
        Ok((commits, serve(server)?))
    });
    let answered = served.and_then(|served| wait_for_answer(&mount.point).map(|()| served));
    let (commits, ended) = answered.inspect_err(|_| leave(&mount))?;
    raise_readahead(&mount);
    Ok(Daemon { runtime, mount, commits, ended, signals })
}

impl Daemon {
    /// Serves until a signal or an unmount, and cleans up.
    pub fn run(self) -> Result<()> {
        let Daemon { runtime, mount, commits, mut ended, mut signals } = self;
        tracing::info!("{} is mounted", mount.point.display());
        let session = runtime.block_on(async {
            tokio::select! {
                ended = &mut ended => Some(ended),
                () = signals.any() => None,
            }
        });
        let outcome = match session {
            // The session's thread can only go without a word by a panic of its own.
            Some(ended) => finish(&mount, &commits, ended.unwrap_or(Ok(()))),
            None => {
                stop(&mount, &commits);
                // Files that are still open end with the process.
                let _ = runtime.block_on(async { timeout(SESSION_LIMIT, ended).await });
                Ok(())
            }
        };
        runtime.shutdown_timeout(RUNTIME_LIMIT);
        outcome
    }
}

/// A signal came: no new commits, the running ones to their end, and away with the mount.
fn stop(mount: &Mount, commits: &Commits) {
    let point = mount.point.display();
    tracing::info!("{point}: stopping");
    commits.stop();
    if !commits.wait_idle(COMMIT_LIMIT) {
        tracing::warn!(
            "{point}: {} commits still run after {} s; what is staged is kept, and the next mount \
             settles what became of them",
            commits.running(),
            COMMIT_LIMIT.as_secs()
        );
    }
    leave(mount);
}

/// Unmounts, lazily if somebody still stands in it.
fn leave(mount: &Mount) {
    let outcome = match unmount(mount, Force::WhenUnused) {
        Err(Error::Busy(_)) => {
            tracing::warn!("{}: in use, taken away under its users", mount.point.display());
            unmount(mount, Force::Lazily)
        }
        outcome => outcome,
    };
    match outcome {
        Ok(true) => tracing::info!("{} is unmounted", mount.point.display()),
        Ok(false) => tracing::info!("{} was unmounted by somebody else", mount.point.display()),
        Err(error) => tracing::warn!("{error}"),
    }
}

/// The session ended by itself: unmounted from outside, which is fine, or broken off, which leaves
/// a dead mount.
fn finish(mount: &Mount, commits: &Commits, ended: std::io::Result<()>) -> Result<()> {
    let point = mount.point.display();
    commits.stop();
    commits.wait_idle(COMMIT_LIMIT);
    let still = mountinfo::mount_at(&mount.point)?.is_some_and(|now| same(&now, mount));
    if !still {
        tracing::info!("{point} was unmounted");
        return Ok(());
    }
    let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
    Err(Error::Damaged(format!(
        "{point}: the connection to the kernel was broken off{why}; the mount is left dead: \
         `deltafs unmount {point}` removes it"
    )))
}

/// What the namespace is told of this mount and its daemon.
fn namespace_options(config: &MountConfig) -> NamespaceOptions {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    NamespaceOptions {
        mounter: Mounter { uid: user.as_raw(), gid: group.as_raw() },
        // Whole seconds: some tools compare no more, and none of our directories is younger.
        mounted_ms: i64::try_from(now.as_secs()).unwrap_or(0) * 1000,
        about: format!(
            "pid {}\nversion {}\nsource {}\nmode {}\n",
            std::process::id(),
            env!("CARGO_PKG_VERSION"),
            config.source_name().display(),
            if config.read_only { "read-only" } else { "read-write" }
        ),
    }
}

/// Runs the session on a thread of its own, which says when it ends.
fn serve(server: Server) -> Result<oneshot::Receiver<std::io::Result<()>>> {
    let (sender, ended) = oneshot::channel();
    let run = move || {
        // Nobody listens any more once the daemon has decided to stop.
        let _ = sender.send(server.run());
    };
    std::thread::Builder::new()
        .name("session".into())
        .spawn(run)
        .map_err(|error| Error::from_io("start the session", &error))?;
    Ok(ended)
}

/// Asks the new mount something. From a thread, because a request to a mount that doesn't answer
/// can't be taken back.
fn wait_for_answer(point: &Path) -> Result<()> {
    let (sender, answer) = mpsc::channel();
    let asked = point.to_owned();
    let ask = move || {
        // Nobody listens any more after the limit.
        let _ = sender.send(std::fs::symlink_metadata(asked));
    };
    let doing = || format!("mount at {}: first request", point.display());
    std::thread::Builder::new().spawn(ask).map_err(|error| Error::from_io(doing(), &error))?;
    match answer.recv_timeout(ANSWER_LIMIT) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::from_io(doing(), &error)),
        Err(_) => Err(Error::TimedOut(format!(
            "{}: no answer within {} s",
            doing(),
            ANSWER_LIMIT.as_secs()
        ))),
    }
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::from_io("listen for signals", &error))
}

/// Whether this process ignores a signal just now.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, kind)
}

/// The same, as /proc/PID/status has it: a mask in hexadecimal, signal 1 in the lowest bit.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}

/// Threads of the runtime. More than two even on a small machine: a commit reads footers from disk
/// on one, and nobody else shall wait for it.
fn threads() -> usize {
    const THREADS_MIN: usize = 4;
    std::thread::available_parallelism().map_or(THREADS_MIN, |cores| cores.get().max(THREADS_MIN))
}

/// Lets the kernel read ahead as much as one request carries, which nearly doubles what files give
/// that are read through the daemon. The kernel offers a mount 128 KiB, and root may set more.
fn raise_readahead(mount: &Mount) {
    const READAHEAD_KIB: &str = "1024";
    let setting = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = std::fs::write(&setting, READAHEAD_KIB) {
        tracing::debug!("{setting} stays as it is: {error}");
    }
}

/// Every open file of the mount is one of ours: take as many as we may have.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if rustix::process::setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit of open files stays at {:?}", limit.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_told_by_the_mask() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t1\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000001001"), SignalKind::hangup()));
        assert!(!ignores(&status("0000000000001000"), SignalKind::hangup()));
        assert!(ignores(&status("0000000000004000"), SignalKind::terminate()));
        assert!(!ignores("", SignalKind::hangup()));
    }
}
