"""A process of another user that runs what it is given, one after the other.

Root does not see into an ordinary user's mount, so all that is done or looked at there is done by
such a process. It is started before anything large is loaded, and ends with its parent.
"""

import multiprocessing
import os
import subprocess
import sys


class Worker:
    """Runs functions as a user; as whoever we are, where there is no user."""

    def __init__(self, user=None):
        """A user is its number, group and home."""
        self.user = user
        self.pipe, theirs = multiprocessing.Pipe()
        if os.fork() == 0:
            self.pipe.close()
            os._exit(serve(theirs, user))
        theirs.close()

    def run(self, function, *arguments):
        """What the function gives; raises what it raises."""
        self.pipe.send((function, arguments))
        is_good, value = self.pipe.recv()
        if not is_good:
            raise value
        return value


def serve(pipe, user):
    if user is not None:
        number, group, home = user
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(number, number, number)
        os.environ["HOME"] = home
    os.umask(0o022)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return 0
        try:
            pipe.send((True, function(*arguments)))
        except Exception as error:
            pipe.send((False, error))


def shell(script, environment):
    """A script's exit code and its last words."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    return done.returncode, done.stdout.decode(errors="replace")[-300:]


def python(function, source, dest):
    """As `shell`, for a function of `writers.py`: its answer is its exit code."""
    try:
        return function(source, dest), ""
    except OSError as error:
        return f"{type(error).__name__} {error.errno}", f"{error}, line {line_of(error)}"


def line_of(error):
    trace = error.__traceback__
    while trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_filename.endswith(
        "writers.py"
    ):
        trace = trace.tb_next
    return trace.tb_lineno


