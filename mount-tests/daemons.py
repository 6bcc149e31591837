"""Daemons that a Python driver mounts, kills with SIGKILL and mounts again.

The trace and the environment are those of the shell test that runs the driver (lib.sh).
"""

import os
import signal
import subprocess
import time

SECONDS_MAX = 30


class Daemon:
    """A lake mounted at a mountpoint, and the process that serves it."""

    def __init__(self, program, lake, mountpoint, trace):
        self.program, self.lake, self.mountpoint = program, lake, mountpoint
        self.trace = trace
        self.pid = None

    def mount(self):
        flags = ["--log-file", self.trace, "--log-level", "debug"]
        command = [self.program, "mount", *flags, self.lake, self.mountpoint]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"mount: exit {done.returncode}: {done.stderr}")
        self.pid = self.find()

    def unmount(self):
        subprocess.run(
            [self.program, "unmount", self.mountpoint], check=True, timeout=2 * SECONDS_MAX
        )
        self.pid = None

    def find(self):
        """The one process that runs the program and names the mountpoint."""
        program = os.path.realpath(self.program)
        wanted = self.mountpoint.encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/exe").startswith(program):
                    with open(f"/proc/{name}/cmdline", "rb") as arguments:
                        if wanted in arguments.read().split(b"\0"):
                            return int(name)
            except OSError:
                pass  # It ended meanwhile, or it is another user's.
        raise RuntimeError("the daemon is not running")

    def kill(self):
        """kill -9. Returns when the process is gone; the dead mount stays."""
        os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS_MAX
        while is_alive(self.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the daemon {self.pid} survives kill -9")
            time.sleep(0.001)
        self.pid = None

    def detach(self):
        """Takes the dead mount away, as root or as an ordinary user."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        if subprocess.run(["umount", "-l", self.mountpoint], **quiet).returncode != 0:
            subprocess.run(["fusermount3", "-uz", self.mountpoint], **quiet)


def is_alive(pid):
    """Whether it runs; a zombie that nobody reaped doesn't."""
    try:
        os.readlink(f"/proc/{pid}/exe")
        return True
    except OSError:
        return False
