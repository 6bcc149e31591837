"""What Python programs do to a destination, call by call: tools of `toolbox.py` without a command.

Each takes the folder of sources and the destination, and answers a list of what the calls gave,
which must be the same in a staging directory as in any folder.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import shutil

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
PUNCH_HOLE_KEEP_SIZE = 3

libc = ctypes.CDLL(None, use_errno=True)


def files_of(source):
    """Relative paths of the files, with their folders made at the destination by the caller."""
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), source)


def pairs(source, dest):
    """Each file's path and that of its copy to be; makes the folders."""
    for path in files_of(source):
        os.makedirs(os.path.dirname(os.path.join(dest, path)), exist_ok=True)
        yield os.path.join(source, path), os.path.join(dest, path)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def outcome(call, *arguments):
    """What a call gives, or the errno's name."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)


def rename2(old, new, flags):
    if libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- the tools ----------------------------------------------------------------------------------


def copytree(source, dest):
    shutil.copytree(source, dest, dirs_exist_ok=True)
    return []


def copyfile(source, dest):
    return [bool(shutil.copyfile(one, other)) for one, other in pairs(source, dest)]


def replace(source, dest):
    """A temporary file, then `os.replace`, as careful programs write."""
    for one, other in pairs(source, dest):
        with open(other + ".new", "wb") as file:
            file.write(content(one))
            file.flush()
            os.fsync(file.fileno())
        os.replace(other + ".new", other)
    return []


def mapped(source, dest):
    for one, other in pairs(source, dest):
        wanted = content(one)
        with open(other, "w+b") as file:
            file.truncate(len(wanted))
            if wanted:
                with mmap.mmap(file.fileno(), len(wanted)) as pages:
                    pages[:] = wanted
    return []


def mapped_and_flushed(source, dest):
    """The second half of each file is mapped over what is there, and told to be written."""
    given = []
    for one, other in pairs(source, dest):
        wanted = content(one)
        half = len(wanted) // 2
        with open(other, "w+b") as file:
            file.write(wanted[:half] + b"?" * (len(wanted) - half))
            file.flush()
            if wanted:
                with mmap.mmap(file.fileno(), 0) as pages:
                    pages[half:] = wanted[half:]
                    pages.flush()
                    given.append(content(other) == wanted)
    return given


def sendfile(source, dest):
    given = []
    for one, other in pairs(source, dest):
        with open(one, "rb") as reader, open(other, "wb") as writer:
            given.append(os.sendfile(writer.fileno(), reader.fileno(), 0, 1 << 20))
    return given


def copy_range(source, dest):
    given = []
    for one, other in pairs(source, dest):
        with open(one, "rb") as reader, open(other, "wb") as writer:
            copied = outcome(os.copy_file_range, reader.fileno(), writer.fileno(), 1 << 20)
            # Across file systems a kernel may say so or copy; both are its right.
            if copied != os.path.getsize(one):
                os.sendfile(writer.fileno(), reader.fileno(), 0, 1 << 20)
            given.append(writer.seek(0, os.SEEK_END))
    return given


def append(source, dest):
    """Small pieces by two descriptors, each at the end that the other made."""
    for one, other in pairs(source, dest):
        wanted = content(one)
        open(other, "wb").close()
        flags = os.O_WRONLY | os.O_APPEND
        left, right = os.open(other, flags), os.open(other, flags)
        for start in range(0, len(wanted), 100):
            os.write(left if start % 200 else right, wanted[start : start + 100])
        os.close(left)
        os.close(right)
    return []


def backwards(source, dest):
    """Blocks in reverse, so that the file has holes until the end."""
    for one, other in pairs(source, dest):
        wanted = content(one)
        file = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        for start in reversed(range(0, len(wanted), 256)):
            os.pwrite(file, wanted[start : start + 256], start)
        os.close(file)
    return []


def truncated(source, dest):
    """Too long at first, then cut; one cut by its name, one by its descriptor."""
    for number, (one, other) in enumerate(pairs(source, dest)):
        wanted = content(one)
        with open(other, "wb") as file:
            file.write(wanted + b"too long" * 1000)
            file.flush()
            if number % 2:
                os.ftruncate(file.fileno(), len(wanted))
        if number % 2 == 0:
            os.truncate(other, len(wanted))
    return []


def allocated(source, dest):
    given = []
    for one, other in pairs(source, dest):
        wanted = content(one)
        with open(other, "wb") as file:
            if wanted:
                given.append(outcome(os.posix_fallocate, file.fileno(), 0, len(wanted) + 9000))
            given.append(os.path.getsize(other))
            file.write(wanted)
            file.truncate(len(wanted))
    return given


def holes(source, dest):
    """A hole is punched over junk, seen as a hole, then filled."""
    given = []
    for one, other in pairs(source, dest):
        wanted = content(one)
        with open(other, "w+b") as file:
            file.write(b"?" * 16384 + wanted)
            file.flush()
            number = file.fileno()
            whole = ctypes.c_long(0), ctypes.c_long(16384)
            given.append(libc.fallocate(number, PUNCH_HOLE_KEEP_SIZE, *whole))
            given.append(os.pread(number, 16384, 0) == bytes(16384))
            given.append(outcome(os.lseek, number, 0, os.SEEK_DATA))
            given.append(outcome(os.lseek, number, 0, os.SEEK_HOLE))
            os.pwrite(number, wanted, 0)
            os.ftruncate(number, len(wanted))
    return given


def link(source, dest):
    """A file comes under another name, is linked to its own, and loses the first."""
    given = []
    for one, other in pairs(source, dest):
        with open(other + ".new", "wb") as file:
            file.write(content(one))
        given.append(outcome(os.link, other + ".new", other))
        given.append(os.stat(other + ".new").st_nlink)
        # Where the name was taken the old file stays, as it must.
        given.append(os.path.samefile(other + ".new", other))
        os.unlink(other + ".new")
        given.append(os.stat(other).st_nlink)
    return given


def unlink_open(source, dest):
    """Unlinked while open: it is read and written on, and is in no listing."""
    given = []
    for one, other in pairs(source, dest):
        wanted = content(one)
        with open(other + ".gone", "w+b") as gone:
            gone.write(wanted)
            gone.flush()
            os.unlink(other + ".gone")
            given.append(os.path.exists(other + ".gone"))
            gone.write(b"more")
            gone.seek(0)
            given.append(gone.read() == wanted + b"more")
            status = os.fstat(gone.fileno())
            given.append((status.st_nlink, status.st_size == len(wanted) + 4))
            os.fchmod(gone.fileno(), 0o600)
            with open(other, "wb") as file:
                gone.seek(0)
                file.write(gone.read(len(wanted)))
    return given


def replace_open(source, dest):
    """Renamed over while open: the old descriptor keeps the old bytes."""
    given = []
    for one, other in pairs(source, dest):
        with open(other, "w+b") as old:
            old.write(b"old")
            old.flush()
            shutil.copyfile(one, other + ".new")
            os.rename(other + ".new", other)
            old.seek(0)
            given += [old.read(), os.fstat(old.fileno()).st_nlink, content(other) == content(one)]
    return given


def no_replace(source, dest):
    """As mv moves: a name that is taken is refused, a free one is not."""
    given = []
    for one, other in pairs(source, dest):
        shutil.copyfile(one, other + ".new")
        given.append(outcome(rename2, other + ".new", other, RENAME_NOREPLACE))
        if os.path.exists(other + ".new"):
            given.append(outcome(rename2, other + ".new", other, 0))
        given.append(outcome(rename2, other + ".new", other, RENAME_NOREPLACE))
    return given


def exchange(source, dest):
    """Two files change their names, and so do a file and a folder; then back."""
    given = []
    for one, other in pairs(source, dest):
        given.append(outcome(rename2, other + ".none", other, RENAME_EXCHANGE))
        shutil.copyfile(one, other + ".new")
        if not os.path.exists(other):
            given.append(outcome(rename2, other + ".new", other, RENAME_EXCHANGE))
            open(other, "wb").close()
        given.append(outcome(rename2, other + ".new", other, RENAME_EXCHANGE))
        os.unlink(other + ".new")
        os.mkdir(other + ".dir")
        given.append(outcome(rename2, other + ".dir", other, RENAME_EXCHANGE))
        given.append((os.path.isdir(other), os.path.isfile(other + ".dir")))
        given.append(outcome(rename2, other + ".dir", other, RENAME_EXCHANGE))
        os.rmdir(other + ".dir")
    return given


def folders(source, dest):
    """A whole tree is brought aside, then moved in folder by folder."""
    aside = os.path.join(dest, "aside")
    shutil.copytree(source, aside)
    given = []
    for name in sorted(os.listdir(aside)):
        one, other = os.path.join(aside, name), os.path.join(dest, name)
        # Onto a folder that holds something it is refused, then that one goes.
        given.append(outcome(os.rename, one, other))
        if os.path.lexists(one):
            shutil.rmtree(other) if os.path.isdir(other) else os.unlink(other)
            given.append(outcome(os.rename, one, other))
    given.append(outcome(os.rename, dest + "/aside", dest + "/aside/inner"))
    os.rmdir(aside)
    return given


def space(source, dest):
    """The room that the destination has, as far as nobody else uses it up meanwhile."""
    shutil.copytree(source, dest, dirs_exist_ok=True)
    space = os.statvfs(dest)
    return [space.f_frsize, space.f_blocks, space.f_namemax, space.f_bavail > 0]


def locks(source, dest):
    """Both kinds of lock, beside what is written under them."""
    given = []
    for one, other in pairs(source, dest):
        with open(other, "wb") as file, open(other, "rb") as second:
            fcntl.flock(file, fcntl.LOCK_EX)
            given.append(outcome(fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB))
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content(one))
    return given


def refusals(source, dest):
    """What any file system refuses, with the same errno; then a plain copy."""
    shutil.copytree(source, dest, dirs_exist_ok=True)
    path = os.path.join(dest, next(files_of(source)))
    folder = os.path.join(dest, "folder")
    os.makedirs(os.path.join(folder, "inner"))
    calls = [
        (os.rmdir, folder),
        (os.rmdir, path),
        (os.unlink, folder),
        (os.mkdir, folder),
        (os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        (os.open, folder, os.O_WRONLY),
        (os.open, path + "/below", os.O_RDONLY),
        (os.open, path, os.O_RDONLY | os.O_DIRECTORY),
        (os.rename, folder, os.path.join(folder, "inner", "again")),
        (os.rename, path, folder),
        (os.rename, folder, path),
        (os.rename, os.path.join(dest, "none"), path),
        (os.link, folder, folder + "2"),
        (os.link, path, path),
        (os.truncate, folder, 0),
        (os.truncate, path, -1),
        (os.mkdir, os.path.join(dest, "n" * 255)),
        (os.rmdir, os.path.join(dest, "n" * 255)),
        (os.mkdir, os.path.join(dest, "n" * 256)),
        (os.readlink, path),
        (os.mkdir, os.path.join(dest, "none", "below")),
    ]
    given = [outcome(*call) for call in calls]
    if os.geteuid() != 0:
        os.chmod(folder, 0o500)
        given += [
            outcome(os.chown, path, 0, -1),
            outcome(os.mkdir, folder + "/new"),
            outcome(os.rmdir, folder + "/inner"),
        ]
        os.chmod(folder, 0o700)
    shutil.rmtree(folder)
    return given


def rmtree(source, dest):
    """Deletes all that the sources don't have, by descriptors."""
    for name in os.listdir(dest):
        if not os.path.lexists(os.path.join(source, name)):
            path = os.path.join(dest, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    return [shutil.rmtree.avoids_symlink_attacks]
