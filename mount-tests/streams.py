"""An actor that doesn't wait: one thread brings file after file into a staging directory, while
another syncs that directory again and again.

So a commit has whatever was there when it began, and each file is judged alone: once it was fsynced
it is staged with its bytes or in the table, never both after a `sync`, and never twice. A `sync` that
exits with 0 has committed all that was fsynced when it was called.
"""

import filecmp
import os
import subprocess
import threading

import pyarrow.parquet

import actors
import batches

BUSY = "Device or resource busy"
# Of a folder that the commit empties, and takes away, the tool is told that it isn't there.
TRIES_MAX = 50


class Stream:
    name = "stream"

    def __init__(self, storm, table):
        self.storm, self.table = storm, table
        self.staged = os.path.join(storm.mountpoint, table, "staging", self.name)
        self.source = os.path.join(storm.scratch, "source", self.name)
        self.count = 0
        self.open = None  # What is being brought: begun, and not yet fsynced.
        self.fsynced, self.acknowledged = [], set()
        self.found = {}  # The version of each file that the log has.
        self.busy = 0
        self.failure = None
        os.makedirs(self.source, exist_ok=True)

    # --- one life

    def live(self, stop):
        self.failure = None
        try:
            os.makedirs(self.staged, exist_ok=True)
            self.bring()  # What the last life left half-written.
        except (OSError, actors.Failed) as error:
            self.failure = error
            return
        syncing = threading.Thread(target=self.again, args=(self.sync, stop))
        syncing.start()
        self.again(self.bring, stop)
        syncing.join()

    def again(self, step, stop):
        try:
            while not stop.is_set():
                step()
        except (OSError, actors.Failed) as error:
            self.failure = self.failure or error
            stop.set()

    def bring(self):
        if self.open is None:
            self.count += 1
            folder = "deep/" if self.count % 2 else ""
            self.open = f"{folder}{self.name}-{self.count:06}-0.parquet"
            rows = batches.rows(batches.first_id(self.open))
            pyarrow.parquet.write_table(rows, self.source_of(self.open))
        to = os.path.join(self.staged, self.open)
        for tries in range(TRIES_MAX):
            try:
                os.makedirs(os.path.dirname(to), exist_ok=True)
                actors.run("dd", f"if={self.source_of(self.open)}", f"of={to}", "conv=fsync",
                           "bs=32K", "status=none")
                break
            except (FileNotFoundError, FileExistsError, actors.Failed) as error:
                # It was there for mkdir, and gone for who looked closer.
                is_pruned = "No such file" in str(error) or isinstance(error, FileExistsError)
                if not is_pruned or tries + 1 == TRIES_MAX:
                    raise
        self.fsynced.append(self.open)
        self.open = None

    def sync(self):
        there = list(self.fsynced)
        done = subprocess.run(["sync", self.staged], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self.acknowledged.update(there)
        elif BUSY in done.stderr:
            self.busy += 1
        else:
            raise actors.Failed(f"sync: {done.stderr}")

    def source_of(self, path):
        return os.path.join(self.source, os.path.basename(path))

    # --- what is checked; each returns what is wrong, or nothing

    def judge(self, version):
        if version.removes or version.operation == "RESTORE":
            return f"{self.table} version {version.number} is no append"
        for path in version.adds:
            key = batches.key_of(path)
            if key is None or key[0] != self.name or key[1] > self.count:
                return f"{self.table} version {version.number} has {path}, which nobody brought"
            if key[1] in self.found:
                return f"{path} is in version {version.number}, and in {self.found[key[1]]}"
            self.found[key[1]] = version.number
        return None

    def check(self):
        number = 0
        for path in self.fsynced:
            number = batches.key_of(path)[1]
            staged = os.path.join(self.staged, path)
            if number in self.found:
                continue
            if path in self.acknowledged:
                return f"{path} was acknowledged, and is in no version of {self.table}"
            if not os.path.exists(staged):
                return f"{path} was fsynced, and is neither staged nor in {self.table}"
            if not filecmp.cmp(self.source_of(path), staged, shallow=False):
                return f"{path} was fsynced, and is staged with other bytes"
        return None

    def finish(self):
        """Brings and commits what is left; what is wrong after that."""
        if self.open is not None:
            self.bring()
        self.sync()
        left = [name for _, _, names in os.walk(self.staged) for name in names]
        return f"stream: not empty after sync: {left}" if left else None
