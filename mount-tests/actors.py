"""The actors of a storm: tools that bring one batch after the other into a staging directory of
their own, and sync it, until the daemon dies under them.

What an actor was told is in its batch: which files were fsynced, that `sync` was called, that it
exited with 0. In the next life it goes on as its user would: where `sync` had not been called it
brings the batch again, where it had it calls `sync` again, and where the batch has a transaction
it may bring all again first, which the transaction makes harmless.
"""

import json
import os
import shutil
import subprocess

import batches


class Failed(Exception):
    """A tool, or a call, that failed; the daemon's death is the usual reason."""


def run(*command, **more):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, close_fds=False, **more
    )
    if done.returncode != 0:
        raise Failed(f"{command[0]} exits {done.returncode}: {done.stderr.strip()[-300:]}")


class Actor:
    """One tool with its staging directory; `bring` is the tool's own."""

    name = None

    def __init__(self, storm, table, dice, is_partitioned=False):
        self.storm, self.table, self.dice = storm, table, dice
        self.is_partitioned = is_partitioned
        self.count = 0
        self.batch = None
        self.done = []  # Acknowledged batches.
        self.staged = os.path.join(storm.mountpoint, table, "staging", self.name)
        self.source = os.path.join(storm.scratch, "source", self.name)
        self.failure = None

    def live(self, stop):
        """Brings and syncs until a call fails. Runs in a thread."""
        self.failure = None
        try:
            while not stop.is_set():
                self.step()
        except (OSError, Failed) as error:
            self.failure = error

    def step(self):
        """From wherever the batch stands to its acknowledgement."""
        if self.batch is None:
            self.begin()
        batch = self.batch
        if batch.phase == batches.STAGING:
            self.prepare()
            self.bring()
            self.storm.syncs(self)
            batch.phase = batches.SYNCING
        else:
            batch.is_repeated = True
            self.go_on()
        run("sync", self.staged)
        batch.phase = batches.DONE
        self.done.append(batch)
        self.batch = None
        batch.version = self.told_version()

    def go_on(self):
        """With a transaction all may be brought again, whether the commit is there or not. Of a
        directory that is unsettled only `sync` finds out: until then nobody may write to it."""
        batch = self.batch
        if batch.txn is None or batch.restores is not None:
            return
        # What was begun must be ended, for it may have cut a file short.
        wants = batch.is_brought_again or self.dice.random() < 0.5
        if wants and "state=open\n" in self.control("status"):
            batch.is_brought_again = True
            self.tidy()
            self.set_options()
            self.bring()

    def begin(self):
        self.count += 1
        batch = batches.Batch(self, self.count, self.dice, self.is_partitioned)
        shutil.rmtree(self.source, ignore_errors=True)
        os.makedirs(self.source)
        self.choose(batch)
        batch.write_source(self.source)
        self.batch = batch

    def choose(self, batch):
        """What is special about this actor's batches."""

    def prepare(self):
        """An empty staging directory, sometimes a new one, and its options."""
        batch = self.batch
        if not batch.begun and os.path.isdir(self.staged) and self.dice.random() < 0.2:
            os.rmdir(self.staged)
        os.makedirs(self.staged, exist_ok=True)
        batch.begun = True
        self.tidy()
        self.set_options()

    def tidy(self):
        """Takes away what a killed life of this batch left under other names than the files'."""
        for folder, _, names in os.walk(self.staged):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self.staged)
                if path not in self.batch.files:
                    self.batch.fsynced.difference_update(
                        path_of for path_of, at in self.batch.at.items() if path in at
                    )
                    os.unlink(os.path.join(folder, name))

    def set_options(self):
        with open(os.path.join(self.staged, ".deltafs", "options"), "w", encoding="utf-8") as file:
            file.write(self.batch.options())

    def control(self, name):
        with open(os.path.join(self.staged, ".deltafs", name), encoding="utf-8") as file:
            return file.read()

    def told_version(self):
        result = json.loads(self.control("result"))
        if result["state"] not in ("committed", "nothing"):
            raise Failed(f"{self.name}: sync exits 0, and result says {result}")
        return result["version"]

    def bring(self):
        raise NotImplementedError

    # What `bring` is made of.

    def pairs(self):
        """Each file with its source and where it goes, its folder made."""
        for path in self.batch.files:
            to = os.path.join(self.staged, path)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            yield path, os.path.join(self.source, path), to

    def fsync_all(self):
        for path in self.batch.files:
            run("sync", os.path.join(self.staged, path))
            self.batch.fsynced.add(path)


class Copy(Actor):
    name = "cp"

    def bring(self):
        # It cuts short what is there.
        self.batch.fsynced.clear()
        run("cp", "-rp", f"{self.source}/.", self.staged)
        self.fsync_all()


class Rsync(Actor):
    name = "rsync"

    def bring(self):
        run("rsync", "-a", "--fsync", f"{self.source}/", f"{self.staged}/")
        self.batch.fsynced.update(self.batch.files)


class Tar(Actor):
    name = "tar"

    def bring(self):
        archive = f"{self.source}.tar"
        run("tar", "-C", self.source, "-cf", archive, ".")
        # Of a file that is there it makes a new one, and what was fsynced goes.
        self.batch.fsynced.clear()
        run("tar", "-C", self.staged, "-xpf", archive)
        self.fsync_all()


class Dd(Actor):
    name = "dd"

    def bring(self):
        for path, source, to in self.pairs():
            self.batch.fsynced.discard(path)
            run("dd", f"if={source}", f"of={to}", "bs=64K", "conv=fsync", "status=none")
            self.batch.fsynced.add(path)


class Python(Actor):
    """Writes in pieces in any order, the last byte first, and calls fsync."""

    name = "python"

    def bring(self):
        for path, source, to in self.pairs():
            with open(source, "rb") as file:
                data = file.read()
            self.batch.fsynced.discard(path)
            out = os.open(to, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                starts = list(range(0, len(data), 7001))
                self.dice.shuffle(starts)
                for start in [len(data) - 1, *starts]:
                    os.pwrite(out, data[start : start + 7001], start)
                os.fsync(out)
            finally:
                os.close(out)
            self.batch.fsynced.add(path)


class Move(Actor):
    """Writes under a hidden name, fsyncs, and renames into place."""

    name = "mv"

    def bring(self):
        hidden = os.path.join(self.staged, "_new")
        for path, source, to in self.pairs():
            os.makedirs(hidden, exist_ok=True)
            new = os.path.join(hidden, os.path.basename(path))
            if path in self.batch.fsynced and os.path.exists(to):
                continue
            self.batch.fsynced.discard(path)
            run("dd", f"if={source}", f"of={new}", "bs=1M", "conv=fsync", "status=none")
            # A rename is whole or not at all: from here on one of both names has the bytes.
            self.batch.at[path] = (os.path.relpath(new, self.staged), path)
            self.batch.fsynced.add(path)
            run("mv", new, to)
            self.batch.at[path] = (path,)


class Link(Actor):
    """Restores: `cp -al versions/N/.` and sync."""

    name = "ln"

    def choose(self, batch):
        batch.files = []
        newest = len(self.storm.histories[self.table].versions) - 1
        batch.restores = self.dice.randint(max(0, newest - 20), newest)

    def tidy(self):
        run("find", self.staged, "-mindepth", "1", "-delete")

    def bring(self):
        version = os.path.join(self.storm.mountpoint, self.table, "versions")
        run("cp", "-al", f"{version}/{self.batch.restores}/.", self.staged)
