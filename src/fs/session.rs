//! A session with the kernel: what is agreed on at its start, and the threads that serve it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};
use tokio::runtime::Handle as Runtime;

use crate::fs::State;
use crate::fs::backing::Backing;
use crate::fs::commits::Commits;
use crate::fs::dispatch::Dispatch;
use crate::fs::handle::Handles;
use crate::fs::inode::Inodes;
use crate::namespace::Namespace;

/// Requests are answered from memory, so a few threads are enough for any number of readers.
const THREADS_MAX: usize = 4;

/// The largest read or write of one request: the kernel's own limit (256 pages).
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Reads that the kernel sends ahead at one time.
const BACKGROUND_MAX: u16 = 64;

/// What makes us faster where the kernel has it; each is asked for by itself, so that an older
/// kernel gives what it can. Not asked for: CACHE_SYMLINKS (`latest` moves), WRITEBACK_CACHE
/// (sizes and times of staged files are the spool's), SETXATTR_EXT (fuser 0.18 panics on it).
const WISHES: [InitFlags; 6] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Agrees with the kernel on what both can do.
pub fn negotiate(config: &mut KernelConfig, backing: &Backing) {
    for wish in WISHES {
        if config.add_capabilities(wish).is_err() {
            tracing::debug!("the kernel lacks {wish:?}");
        }
    }
    // Depth 1: a backing file may be on any file system but a stacked one.
    let passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
    if passthrough && config.set_max_stack_depth(1).is_ok() {
        backing.enable();
    }
    if let Err(nearest) = config.set_max_write(REQUEST_BYTES_MAX) {
        tracing::debug!("requests of {nearest} bytes instead of {REQUEST_BYTES_MAX}");
    }
    if config.set_max_background(BACKGROUND_MAX).is_err() {
        tracing::debug!("the kernel's own number of background requests is kept");
    }
}

/// A session that is agreed on and not yet served.
pub struct Server {
    session: Session<Dispatch>,
    commits: Arc<Commits>,
}

impl Server {
    /// Opens the session of a mount on its device. `local_root` is the source, if it is a folder.
    pub fn new(
        device: OwnedFd,
        namespace: Arc<Namespace>,
        runtime: Runtime,
        local_root: Option<PathBuf>,
    ) -> io::Result<Server> {
        let commits = Arc::new(Commits::default());
        let state = Arc::new(State {
            inodes: Inodes::new(namespace.root().node),
            handles: Handles::new(),
            backing: Backing::new(),
            commits: Arc::clone(&commits),
            runtime,
            namespace,
            local_root,
        });
        let session = Session::from_fd(Dispatch(state), device, ACL, config())?;
        Ok(Server { session, commits })
    }

    /// The commits that run through this session.
    pub fn commits(&self) -> Arc<Commits> {
        Arc::clone(&self.commits)
    }

    /// Answers the kernel until the file system is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}

/// Who may come in is the kernel's decision: without `allow_other` it lets nobody else in. Checked
/// here again, it would fail the close of a file that its opener handed to another user.
const ACL: SessionACL = SessionACL::All;

fn config() -> Config {
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    let mut config = Config::default();
    config.acl = ACL;
    // Two at least: one must be left to answer while another reads a file from disk.
    config.n_threads = Some(cores.clamp(2, THREADS_MAX));
    // A queue of its own for each thread needs the device once more.
    let options = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    config.clone_fd = options.is_ok();
    config
}
