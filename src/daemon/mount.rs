//! Mounting: how the kernel gets a file system of ours at a path, and we its device.
//!
//! We mount ourselves, because fuser forgets that its mount may have been replaced by another and
//! takes a comma in a source for an option. Root opens the device and calls mount(2); anybody else
//! asks `fusermount3`, which does that for them and passes the device back through a socket.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::daemon::mountinfo::{TYPE, source_name};
use crate::error::{Error, Result};

/// How a mount is made.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `mount` and `df` show as the source.
    pub source: OsString,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// Other users may come in, as file modes allow.
    pub allow_other: bool,
}

/// Mounts at an empty directory and returns the device, on which the kernel is waiting for us.
pub fn mount(point: &Path, options: &MountOptions) -> Result<OwnedFd> {
    if rustix::process::geteuid().is_root() {
        mount_as_root(point, options)
    } else {
        mount_as_user(point, options)
    }
}

fn mount_as_root(point: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let device = open_device()?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    let source = source_name(&options.source);
    let data = CString::new(root_data(&device, options))
        .map_err(|_| Error::Refused("mount: an option has a NUL byte".into()))?;
    rustix::mount::mount(&source, point, TYPE, flags, data.as_c_str()).map_err(|errno| {
        let doing = format!("mount at {}", point.display());
        if errno == rustix::io::Errno::PERM {
            return Error::NotPermitted(format!(
                "{doing}: not permitted: a container needs the capability SYS_ADMIN for it"
            ));
        }
        Error::from_io(doing, &errno.into())
    })?;
    Ok(device.into())
}

/// The kernel's own options (fs/fuse/inode.c). Permissions are always the kernel's to check:
/// without that, one user's cached answer would be another's.
fn root_data(device: &File, options: &MountOptions) -> String {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        user.as_raw(),
        group.as_raw()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    data
}

fn open_device() -> Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound(
                "open /dev/fuse: not found: load the kernel's module (`modprobe fuse`), or give \
                 the container the device"
                    .into(),
            ),
            io::ErrorKind::PermissionDenied => Error::NotPermitted(
                "open /dev/fuse: permission denied: the device must be readable and writable for \
                 you (`chmod 666 /dev/fuse` as root, which is what most systems have)"
                    .into(),
            ),
            _ => Error::from_io("open /dev/fuse", &error),
        }
    })
}

fn mount_as_user(point: &Path, options: &MountOptions) -> Result<OwnedFd> {
    // Said by us before fusermount3 says it less clearly.
    drop(open_device()?);
    let failed = |errno: rustix::io::Errno| Error::from_io("mount: socket", &errno.into());
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        // fusermount3 inherits its end.
        SocketFlags::empty(),
        None,
    )
    .map_err(failed)?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).map_err(failed)?;
    let mut command = Command::new("fusermount3");
    command
        .arg("-o")
        .arg(user_options(options))
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    let output = run(&mut command)?;
    drop(theirs);
    if !output.status.success() {
        return Err(refused_by_fusermount(point, &output));
    }
    receive_device(&ours).ok_or_else(|| {
        Error::NotPermitted(format!("mount at {}: fusermount3 gave no device", point.display()))
    })
}

/// The options for `fusermount3`, which splits at commas that no backslash precedes.
fn user_options(options: &MountOptions) -> OsString {
    let mut bytes = b"nosuid,nodev,default_permissions,subtype=deltafs,fsname=".to_vec();
    for byte in source_name(&options.source).as_bytes() {
        if matches!(byte, b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    if options.read_only {
        bytes.extend_from_slice(b",ro");
    }
    if options.allow_other {
        bytes.extend_from_slice(b",allow_other");
    }
    OsString::from_vec(bytes)
}

/// Runs `fusermount3`, and says what to install if it isn't there.
pub fn run(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotPermitted(
            "fusermount3: not found: users other than root need it to mount; install the package \
             fuse3"
                .into(),
        ),
        _ => Error::from_io("run fusermount3", &error),
    })
}

fn refused_by_fusermount(point: &Path, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("fusermount3: ");
    let advice = if said.contains("user_allow_other") {
        ": root must put the line `user_allow_other` into /etc/fuse.conf, or mount without --allow-other"
    } else if said.contains("no write access") || said.contains("not owned by") {
        ": you must own the mountpoint and be allowed to write to it"
    } else {
        ""
    };
    Error::NotPermitted(format!("mount at {}: {said}{advice}", point.display()))
}

/// Takes the device out of the one message that fusermount3 sends.
fn receive_device(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut byte)];
    loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut buffers, &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
            Ok(_) => break,
        }
    }
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(source: &str) -> MountOptions {
        MountOptions { source: source.into(), read_only: false, allow_other: false }
    }

    #[test]
    fn a_comma_in_a_source_is_no_option() {
        assert_eq!(
            user_options(&options("/a,allow_other\\b")),
            "nosuid,nodev,default_permissions,subtype=deltafs,fsname=/a\\,allow_other\\\\b"
        );
    }

    #[test]
    fn permissions_are_always_checked_by_the_kernel() {
        let all = MountOptions { read_only: true, allow_other: true, ..options("/a") };
        let user = user_options(&all).into_string().expect("UTF-8");
        assert!(user.ends_with("fsname=/a,ro,allow_other"), "{user}");
        for options in [all, options("/a")] {
            let device = File::open("/dev/null").expect("opened");
            let root = root_data(&device, &options);
            assert!(root.contains(",default_permissions"), "{root}");
            assert_eq!(root.contains(",allow_other"), options.allow_other, "{root}");
            let user = user_options(&options).into_string().expect("UTF-8");
            assert!(user.contains("nosuid,nodev,default_permissions,"), "{user}");
        }
    }
}
