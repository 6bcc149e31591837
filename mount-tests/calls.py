#!/usr/bin/env python3
"""One system call each, and its errno: a shell shows strerror at best, and most tools hide which
call failed.

    calls.py NAME PATH [PATH]        makes the call and prints the errno's name, or OK
    calls.py write-file PATH TEXT    prints which of open, write and close failed, and its errno
"""

import errno
import os
import pathlib
import stat
import sys


def fsync(path):
    """What `sync DIR` does."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(file)
    finally:
        os.close(file)


CALLS = {
    "create": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "open-write": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "open-truncate": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "append": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)),
    "read": lambda path: pathlib.Path(path).read_bytes() and None,
    "truncate": lambda path: os.truncate(path, 1),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": os.mkdir,
    "mknod": lambda path: os.mknod(path, stat.S_IFIFO | 0o600),
    "symlink": lambda path: os.symlink("target", path),
    "rename": lambda path, to: os.rename(path, to),
    "link": lambda path, to: os.link(path, to),
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, 12345, 12345),
    "utime": lambda path: os.utime(path, (1, 1)),
    "setxattr": lambda path: os.setxattr(path, "user.deltafs", b"x"),
    "getxattr": lambda path: os.getxattr(path, "user.deltafs"),
    "readlink": os.readlink,
    "listdir": os.listdir,
    "stat": os.stat,
    "fsync": fsync,
}


def write_file(path, text):
    """Writes text over a file; bash hides a failed close."""
    step = "open"
    try:
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            step = "write"
            os.write(file, text.replace("\\n", "\n").encode())
            step = "close"
        finally:
            os.close(file)
        return "OK"
    except OSError as error:
        return f"{step} {name_of(error)}"


def name_of(error):
    # One number has two names on Linux; the contract uses the second.
    name = errno.errorcode.get(error.errno, error.errno)
    return "EOPNOTSUPP" if name == "ENOTSUP" else name


def main(name, *arguments):
    if name == "write-file":
        print(write_file(*arguments))
        return
    try:
        CALLS[name](*arguments)
        print("OK")
    except OSError as error:
        print(name_of(error))


main(*sys.argv[1:])
