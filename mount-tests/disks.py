"""Disks that get full or fail when they are told to, and recover when they are told to.

Each is a real file system: the kernel itself gives the error, nothing is put in between.

    Small   ENOSPC   ext4 on a small loop device, filled up
    Thin    ENOSPC   ext4 with space left, on a device without: the error comes at fsync
    Quota   EDQUOT   a btrfs subvolume with a limit (this kernel's ext4 and XFS have no quotas)
    Broken  EIO      ext4 on compressed memory that takes no more pages: every write of the device
                     fails, reads go on; mounted `sync` the error comes at write, else at fsync

The journal of Broken is on a device of its own that always works, so that it is the files' bytes
that can't be written. A file system whose own blocks are lost is read-only, or worse, until it is
checked and mounted again. There is no ENOSPC at fsync: it takes a device that is full under a file
system that is not, and this kernel's loop device takes a short write for a whole one.
"""

import os
import pathlib
import re
import subprocess
import time

BLOCK = 4096
MKFS = ["mkfs.ext4", "-q", "-m", "0", "-b", str(BLOCK), "-E", "lazy_itable_init=0"]


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Disk:
    """What all have in common: where it is mounted, and that it can be mounted again."""

    journal = None

    def __init__(self, scratch):
        self.scratch = pathlib.Path(scratch) / f"{type(self).__name__.lower()}-{time.time_ns()}"
        self.scratch.mkdir()
        self.make()

    def mount(self, place):
        self.place = pathlib.Path(place)
        self.place.mkdir(exist_ok=True)
        self.attach()

    def remount(self):
        """Through the device: what was only in memory is gone then."""
        self.unmount()
        self.repair()
        self.attach()

    def unmount(self):
        for _ in range(100):
            if subprocess.run(["umount", self.place], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        run("umount", self.place)

    def repair(self):
        """A file system that saw errors is checked, as its user would."""

    def settle(self):
        """Writes out what is dirty; the errors of earlier times that this may tell are known."""
        subprocess.run(["sync", "-f", self.place], capture_output=True)

    def slow(self, is_on):
        """Whether an error comes with the write, where that can be chosen."""

    def make_journal(self):
        """The arguments of mkfs for a journal elsewhere."""
        image = self.scratch / "journal"
        image.touch()
        os.truncate(image, 16 << 20)
        self.journal = run("losetup", "-f", "--show", image).strip()
        run("mkfs.ext4", "-q", "-F", "-b", BLOCK, "-O", "journal_dev", self.journal)
        return ["-J", f"device={self.journal}"]

    def destroy(self):
        if self.journal:
            run("losetup", "-d", self.journal)


class Small(Disk):
    name = "ENOSPC"

    def make(self):
        self.image = self.scratch / "image"
        self.image.touch()
        os.truncate(self.image, 96 << 20)
        run(*MKFS, self.image)

    def attach(self):
        run("mount", "-o", "loop", self.image, self.place)

    def fill(self, slack=0):
        """Leaves `slack` bytes."""
        self.settle()
        filler = os.open(self.place / ".filler", os.O_WRONLY | os.O_CREAT, 0o600)
        size = 0
        while (free := self.free_bytes() - slack) >= BLOCK:
            try:
                os.posix_fallocate(filler, size, free)
                size += free
            except OSError:
                # Its own map of blocks takes some of them.
                try:
                    os.posix_fallocate(filler, size, BLOCK)
                    size += BLOCK
                except OSError:
                    break
        os.close(filler)

    def free_bytes(self):
        space = os.statvfs(self.place)
        return space.f_bavail * space.f_frsize

    def free(self):
        (self.place / ".filler").unlink()


class Quota(Disk):
    name = "EDQUOT"

    def make(self):
        self.image = self.scratch / "image"
        self.image.touch()
        os.truncate(self.image, 256 << 20)
        run("mkfs.btrfs", "-q", self.image)
        # The limit is set on the whole, for who is over it can't change it from within.
        self.whole = self.scratch / "whole"
        self.whole.mkdir()
        run("mount", "-o", "loop", self.image, self.whole)
        run("btrfs", "quota", "enable", self.whole)
        run("btrfs", "subvolume", "create", self.whole / "disk")
        shown = run("btrfs", "subvolume", "show", self.whole / "disk")
        self.group = "0/" + re.search(r"Subvolume ID:\s+(\d+)", shown)[1]

    def attach(self):
        run("mount", "--bind", self.whole / "disk", self.place)

    def fill(self, slack=0):
        run("btrfs", "filesystem", "sync", self.whole)
        shown = run("btrfs", "qgroup", "show", "-r", "--raw", self.whole)
        used = int(re.search(rf"^{self.group}\s+(\d+)", shown, re.MULTILINE)[1])
        run("btrfs", "qgroup", "limit", used + slack, self.group, self.whole)

    def free(self):
        run("btrfs", "qgroup", "limit", "none", self.group, self.whole)

    def repair(self):
        run("umount", self.whole)
        run("mount", "-o", "loop", self.image, self.whole)

    def destroy(self):
        run("umount", self.whole)


class Broken(Disk):
    name = "EIO"

    def make(self):
        number = pathlib.Path("/sys/class/zram-control/hot_add").read_text().strip()
        self.device = pathlib.Path(f"/dev/zram{number}")
        self.control = pathlib.Path(f"/sys/block/zram{number}")
        (self.control / "disksize").write_text("128M")
        run(*MKFS, *self.make_journal(), self.device)
        self.is_slow = False

    def attach(self):
        run("mount", self.device, self.place)

    def slow(self, is_on):
        if is_on != self.is_slow:
            run("mount", "-o", "remount,sync" if is_on else "remount,async", self.place)
            self.is_slow = is_on

    def fill(self, slack=0):
        self.settle()
        used = int((self.control / "mm_stat").read_text().split()[2])
        # Small pages find place between others; at the lowest limit nothing does.
        (self.control / "mem_limit").write_text(str(used + slack if slack else 1))

    def free(self):
        (self.control / "mem_limit").write_text("0")

    def repair(self):
        subprocess.run(["e2fsck", "-fy", self.device], capture_output=True)

    def destroy(self):
        (self.control / "reset").write_text("1")
        number = self.device.name.removeprefix("zram")
        pathlib.Path("/sys/class/zram-control/hot_remove").write_text(number)
        super().destroy()
