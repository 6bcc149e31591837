//! How a request is carried out: on the FUSE thread if the answer is in memory, else on the
//! runtime.
//!
//! Every operation is a future with a reply. It is polled once where the request was read; what
//! isn't ready then waits for a store or a disk, and is moved to the runtime together with its
//! reply, so that no FUSE thread ever waits. A panic is our own bug: it is traced, the request is
//! answered EIO (a reply that is dropped answers by itself), and the thread lives.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fuser::Errno;
use futures::FutureExt;
use tokio::runtime::Handle as Runtime;
use tracing::Level;

use crate::error::{Error, Result};
use crate::fs::errno::{errno, level};

/// What a trace says about a request.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The kernel's name of the operation.
    pub operation: &'static str,
    /// The inode it is about.
    pub inode: u64,
}

/// A reply that can say no.
pub trait Refuse: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ident),*) => {
        $(impl Refuse for fuser::$reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite
);

/// Carries out `work`; `finish` sends what it returns, an error is traced and refused.
pub fn serve<T, R: Refuse>(
    runtime: &Runtime,
    call: Call,
    reply: R,
    work: impl Future<Output = Result<T>> + Send + 'static,
    finish: impl FnOnce(R, T) + Send + 'static,
) {
    let mut task = task(call, reply, work, finish);
    let _inside = runtime.enter();
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(()) => {}
        Poll::Pending => drop(runtime.spawn(task)),
    }
}

/// The same, for work that is known to be long: it never runs on the FUSE thread.
pub fn serve_later<T, R: Refuse>(
    runtime: &Runtime,
    call: Call,
    reply: R,
    work: impl Future<Output = Result<T>> + Send + 'static,
    finish: impl FnOnce(R, T) + Send + 'static,
) {
    drop(runtime.spawn(task(call, reply, work, finish)));
}

/// The same, for work that borrows from the request and never waits.
pub fn serve_now<T, R: Refuse>(
    call: Call,
    reply: R,
    work: impl FnOnce() -> Result<T>,
    finish: impl FnOnce(R, T),
) {
    guard(call, || conclude(call, reply, work(), finish));
}

/// Runs what has no reply, or answers by itself, and lives through its panic.
pub fn guard(call: Call, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        trace_panic(call, panic.as_ref());
    }
}

/// Runs work that keeps a disk busy for long (fsync, copies) on a thread that may wait for it.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::Damaged(format!("the daemon is stopping: {error}"))),
        },
    }
}

fn task<T, R: Refuse>(
    call: Call,
    reply: R,
    work: impl Future<Output = Result<T>> + Send + 'static,
    finish: impl FnOnce(R, T) + Send + 'static,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let answered = async move { conclude(call, reply, work.await, finish) };
    Box::pin(AssertUnwindSafe(answered).catch_unwind().map(move |outcome| {
        if let Err(panic) = outcome {
            trace_panic(call, panic.as_ref());
        }
    }))
}

/// Answers with an outcome, which is traced here and nowhere else if it is an error.
pub fn conclude<T, R: Refuse>(call: Call, reply: R, outcome: Result<T>, finish: impl FnOnce(R, T)) {
    match outcome {
        Ok(value) => finish(reply, value),
        Err(error) => {
            trace(call, &error);
            reply.refuse(errno(&error));
        }
    }
}

/// Says once what went wrong. The error names the path, the call the kernel's view of it.
fn trace(call: Call, error: &Error) {
    let Call { operation, inode } = call;
    let level = level(error);
    if level == Level::WARN {
        tracing::warn!("{operation} of inode {inode:#x}: {error}");
    } else if level == Level::INFO {
        tracing::info!("{operation} of inode {inode:#x}: {error}");
    } else {
        tracing::debug!("{operation} of inode {inode:#x}: {error}");
    }
}

fn trace_panic(call: Call, panic: &(dyn Any + Send)) {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let Call { operation, inode } = call;
    tracing::error!("{operation} of inode {inode:#x}: panicked: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    const CALL: Call = Call { operation: "test", inode: 7 };

    /// A reply that says EIO when it is dropped, as fuser's do.
    struct Told(Option<Sender<std::result::Result<u32, i32>>>);

    impl Told {
        fn tell(mut self, value: u32) {
            self.0.take().expect("once").send(Ok(value)).expect("the test listens");
        }
    }

    impl Refuse for Told {
        fn refuse(mut self, errno: Errno) {
            self.0.take().expect("once").send(Err(errno.code())).expect("the test listens");
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                sender.send(Err(Errno::EIO.code())).expect("the test listens");
            }
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    }

    #[test]
    fn what_is_in_memory_is_answered_before_serve_returns() {
        let (runtime, (sender, told)) = (runtime(), channel());
        serve(runtime.handle(), CALL, Told(Some(sender)), async { Ok(5) }, Told::tell);
        assert_eq!(told.try_recv(), Ok(Ok(5)));
    }

    #[test]
    fn what_waits_is_answered_by_the_runtime() {
        let (runtime, (sender, told)) = (runtime(), channel());
        let thread = std::thread::current().id();
        let work = async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_ne!(std::thread::current().id(), thread);
            Ok(6)
        };
        serve(runtime.handle(), CALL, Told(Some(sender)), work, Told::tell);
        assert!(told.try_recv().is_err());
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Ok(6)));
    }

    #[test]
    fn an_error_is_refused_with_its_errno() {
        let (runtime, (sender, told)) = (runtime(), channel());
        let work = async { Err(Error::Refused("not Parquet".into())) };
        serve(runtime.handle(), CALL, Told(Some(sender)), work, Told::tell);
        assert_eq!(told.try_recv(), Ok(Err(Errno::EINVAL.code())));
    }

    #[test]
    fn a_panic_is_eio_and_the_thread_lives() {
        let (runtime, (sender, told)) = (runtime(), channel());
        let work = async { panic!("BUG: on purpose") };
        serve(runtime.handle(), CALL, Told(Some(sender.clone())), work, Told::tell);
        assert_eq!(told.try_recv(), Ok(Err(Errno::EIO.code())));

        let late = async {
            tokio::task::yield_now().await;
            panic!("BUG: on purpose, later")
        };
        serve(runtime.handle(), CALL, Told(Some(sender.clone())), late, Told::tell);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Err(Errno::EIO.code())));

        serve_now(CALL, Told(Some(sender)), || panic!("BUG: at once"), Told::tell);
        assert_eq!(told.try_recv(), Ok(Err(Errno::EIO.code())));
    }
}
