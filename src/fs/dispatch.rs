//! Every request of the kernel: which operation it is, and how its result is replied.
//!
//! What is missing here is left to fuser's default, ENOSYS, on purpose, because the kernel then
//! never asks again: access (the kernel checks permissions itself, `default_permissions`), locks
//! (the kernel keeps them), poll (files are always ready) and bmap.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::error::Result;
use crate::fs::access::Caller;
use crate::fs::attributes::{file_attr, set_time};
use crate::fs::directory::{OpenListing, fill_names};
use crate::fs::handle::Listing;
use crate::fs::reply::{reply_attr, reply_empty, reply_entry, reply_statfs};
use crate::fs::serve::{Call, Refuse, conclude, guard, on_disk, serve, serve_later, serve_now};
use crate::fs::staged::open_for;
use crate::fs::write::Side;
use crate::fs::{State, session};
use crate::namespace::Found;
use crate::table::staging::{Owner, SetAttributes};

/// What fuser calls, on several threads at once.
pub struct Dispatch(pub Arc<State>);

impl Dispatch {
    fn serve<T, R: Refuse, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        operation: &'static str,
        inode: INodeNo,
        reply: R,
        work: impl FnOnce(Arc<State>) -> F,
        finish: impl FnOnce(R, T) + Send + 'static,
    ) {
        let call = Call { operation, inode: inode.0 };
        serve(&self.0.runtime, call, reply, work(Arc::clone(&self.0)), finish);
    }

    fn serve_now<T, R: Refuse>(
        &self,
        operation: &'static str,
        inode: INodeNo,
        reply: R,
        work: impl FnOnce(&State) -> Result<T>,
        finish: impl FnOnce(R, T),
    ) {
        serve_now(Call { operation, inode: inode.0 }, reply, || work(&self.0), finish);
    }
}

fn owner(request: &Request) -> Owner {
    Owner { uid: request.uid(), gid: request.gid() }
}

impl Filesystem for Dispatch {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        session::negotiate(config, &self.0.backing);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        let work = |fs: Arc<State>| async move { fs.lookup(parent.0, &name).await };
        self.serve("lookup", parent, reply, work, reply_entry);
    }

    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        let call = Call { operation: "forget", inode: inode.0 };
        guard(call, || self.0.inodes.forget(inode.0, lookups));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let work = |fs: Arc<State>| async move { fs.attributes(inode.0).await };
        self.serve("getattr", inode, reply, work, reply_attr);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttributes { mode, uid, gid, size, atime, mtime };
        let handle = handle.map(|handle| handle.0);
        let work = |fs: Arc<State>| async move { fs.set_attributes(inode.0, handle, set).await };
        self.serve("setattr", inode, reply, work, reply_attr);
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        let work = |fs: Arc<State>| async move { fs.read_link(inode.0).await };
        self.serve("readlink", inode, reply, work, |reply, target| reply.data(target.as_bytes()));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let (name, owner) = (name.to_owned(), owner(request));
        let work = |fs: Arc<State>| async move { fs.make_node(parent.0, &name, mode, owner).await };
        self.serve("mknod", parent, reply, work, reply_entry);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (name, owner) = (name.to_owned(), owner(request));
        let work =
            |fs: Arc<State>| async move { fs.make_directory(parent.0, &name, mode, owner).await };
        self.serve("mkdir", parent, reply, work, reply_entry);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        let work = |fs: Arc<State>| async move { fs.unlink(parent.0, &name).await };
        self.serve("unlink", parent, reply, work, reply_empty);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        let work = |fs: Arc<State>| async move { fs.remove_directory(parent.0, &name).await };
        self.serve("rmdir", parent, reply, work, reply_empty);
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        let work = |fs: &State| fs.symlink(parent.0, name);
        self.serve_now("symlink", parent, reply, work, reply_entry);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let work = |fs: Arc<State>| async move {
            fs.rename(parent.0, &name, new_parent.0, &new_name, flags).await
        };
        self.serve("rename", parent, reply, work, reply_empty);
    }

    fn link(
        &self,
        request: &Request,
        inode: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (name, owner) = (new_name.to_owned(), owner(request));
        let work =
            |fs: Arc<State>| async move { fs.link(inode.0, new_parent.0, &name, owner).await };
        self.serve("link", inode, reply, work, reply_entry);
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (open, fs) = (open_for(flags.0), Arc::clone(&self.0));
        let work = |fs: Arc<State>| async move { fs.open(inode.0, open).await };
        let finish = move |reply, opened| fs.reply_open(reply, inode.0, open, opened);
        self.serve("open", inode, reply, work, finish);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, owner, open) = (name.to_owned(), owner(request), open_for(flags));
        let work =
            |fs: Arc<State>| async move { fs.create(parent.0, &name, mode, owner, open).await };
        let finish = |reply: ReplyCreate, (found, handle): (Found, u64)| {
            let lifetime = found.name_lifetime.min(found.attributes_lifetime);
            let (attr, handle) = (file_attr(&found.attributes), FileHandle(handle));
            reply.created(&lifetime, &attr, Generation(0), handle, FopenFlags::empty());
        };
        self.serve("create", parent, reply, work, finish);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = Call { operation: "read", inode: inode.0 };
        let send = |reply: ReplyData, bytes: &[u8]| reply.data(bytes);
        let answer = |outcome: Result<&[u8]>| conclude(call, reply, outcome, send);
        guard(call, || self.0.read(handle.0, offset, size, answer));
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // A request has at most 1 MiB.
        let finish = |reply: ReplyWrite, written| reply.written(written as u32);
        if self.0.write_waits(handle.0) {
            let data = data.to_vec();
            let write = move |fs: &State| fs.write(handle.0, offset, &data, write_flags);
            let work = |fs: Arc<State>| on_disk(move || write(&fs));
            return self.serve("write", inode, reply, work, finish);
        }
        let work = |fs: &State| fs.write(handle.0, offset, data, write_flags);
        self.serve_now("write", inode, reply, work, finish);
    }

    fn flush(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let work = |fs: Arc<State>| async move { fs.flush(handle.0).await };
        self.serve("flush", inode, reply, work, reply_empty);
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let work = |fs: &State| {
            fs.release(handle.0);
            Ok(())
        };
        self.serve_now("release", inode, reply, work, reply_empty);
    }

    fn fsync(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let work = |fs: Arc<State>| async move { fs.sync(handle.0).await };
        self.serve("fsync", inode, reply, work, reply_empty);
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let work = |fs: Arc<State>| async move { fs.open_directory(inode.0).await };
        let finish = |reply: ReplyOpen, (handle, flags)| reply.opened(FileHandle(handle), flags);
        self.serve("opendir", inode, reply, work, finish);
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let work = |fs: Arc<State>| async move { fs.open_listing(handle.0).await };
        let finish = move |mut reply: ReplyDirectory, listing: Arc<Listing>| {
            fill_names(inode.0, &listing, offset, &mut reply);
            reply.ok();
        };
        self.serve("readdir", inode, reply, work, finish);
    }

    fn readdirplus(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (fs, call) = (Arc::clone(&self.0), Call { operation: "readdirplus", inode: inode.0 });
        let work = |fs: Arc<State>| async move { fs.open_listing_plus(handle.0).await };
        let finish = move |mut reply: ReplyDirectoryPlus, open: OpenListing| {
            let filled = fs.fill_entries(&open, offset, &mut reply);
            conclude(call, reply, filled, |reply, ()| reply.ok());
        };
        self.serve("readdirplus", inode, reply, work, finish);
    }

    fn releasedir(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let work = |fs: &State| {
            fs.handles.release(handle.0);
            Ok(())
        };
        self.serve_now("releasedir", inode, reply, work, reply_empty);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call { operation: "fsyncdir", inode: inode.0 };
        let running = match self.0.commits.begin() {
            Ok(running) => running,
            Err(error) => return serve_now(call, reply, || Err(error), reply_empty),
        };
        let fs = Arc::clone(&self.0);
        let caller = Caller::of(request);
        let work = async move { fs.sync_directory(inode.0, caller).await };
        // `running` goes with the reply: it ends after it, whatever the outcome.
        let finish = move |reply: ReplyEmpty, ()| {
            reply.ok();
            drop(running);
        };
        serve_later(&self.0.runtime, call, reply, work, finish);
    }

    fn statfs(&self, _: &Request, inode: INodeNo, reply: ReplyStatfs) {
        self.serve_now("statfs", inode, reply, |fs| fs.space(inode.0), reply_statfs);
    }

    fn setxattr(
        &self,
        _: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _size: u32, reply: ReplyXattr) {
        // Asked before each write and by each `ls -l`, unless it is ENOSYS once.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn ioctl(
        &self,
        _: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let work =
            |fs: Arc<State>| async move { fs.allocate(handle.0, offset, length, mode).await };
        self.serve("fallocate", inode, reply, work, reply_empty);
    }

    fn lseek(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let work = |fs: Arc<State>| async move { fs.seek(inode.0, handle.0, offset, whence).await };
        self.serve("lseek", inode, reply, work, |reply: ReplyLseek, at| reply.offset(at));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        inode_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        inode_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = Side { inode: inode_in.0, handle: handle_in.0, offset: offset_in };
        let to = Side { inode: inode_out.0, handle: handle_out.0, offset: offset_out };
        let work = |fs: Arc<State>| async move { fs.copy(from, to, length).await };
        // `copy` never copies more than fits.
        let finish = |reply: ReplyWrite, copied| reply.written(copied as u32);
        self.serve("copy_file_range", inode_out, reply, work, finish);
    }
}
