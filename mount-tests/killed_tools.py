"""kill -9 of a tool in the middle of what it brings, then `sync`.

    killed_tools.py MOUNT LAKE SCRATCH TIMES [SEED]

Each tool brings a small file, a big one and a small one, and is killed at a random moment between
the appearance of its first file and its usual end. Then `sync` may do one of two things:

- refuse, with a reason in `result` that names a file, the table as it was and what was staged still
  there; the tool run again, after what it left under temporary names is removed, and `sync` again
  commit all;
- commit whole files under their own names, and nothing else, and leave no whole one behind.

What nothing tells from whole files, and so is not here: `rsync --inplace` over an older file of the
same name. Killed, it leaves new bytes and old ones, and a footer. `SHA256SUMS` finds it.
"""

import collections
import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import histories
import oracle

SMALL_ROWS, BIG_ROWS = 10, 12_000
POLL_SECONDS = 0.0005
SECONDS_MAX = 60
TEMPORARY = re.compile(r"\..*\.\w{6}|_.*")


class Wrong(Exception):
    """What must not happen after a tool's death."""


# --- the tools: commands that bring the folder `source` to `staged` -------------------------------

WRITER = """
import os, random, sys, time
source, staged = sys.argv[1:]
for name in sorted(os.listdir(source)):
    with open(os.path.join(source, name), "rb") as file:
        data = file.read()
    out = os.open(os.path.join(staged, name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    starts = list(range(0, len(data), 131072))
    # The worst order: first both ends, which say that the file is whole.
    starts.insert(0, starts.pop())
    for start in starts[:2] + random.Random(len(data)).sample(starts[2:], len(starts[2:])):
        os.pwrite(out, data[start:start + 131072], start)
        time.sleep(0.003)
    os.close(out)
"""

PARQUET_WRITER = """
import os, sys
import pyarrow.parquet
source, staged = sys.argv[1:]
for name in sorted(os.listdir(source)):
    table = pyarrow.parquet.read_table(os.path.join(source, name))
    with pyarrow.parquet.ParquetWriter(os.path.join(staged, name), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=500):
            writer.write_batch(batch)
"""


def shell(line):
    return lambda source, staged: ["bash", "-c", line, "bash", source, staged]


TOOLS = {
    "cp": lambda source, staged: ["cp", "-a", f"{source}/.", staged],
    "cp over older files": lambda source, staged: ["cp", "-a", f"{source}/.", staged],
    "mv": shell('rm -rf "$1.moved"; cp -a "$1" "$1.moved" && mv -f "$1.moved"/* "$2"/'),
    "rsync": lambda source, staged: ["rsync", "-a", f"{source}/", staged],
    "rsync --partial": lambda source, staged: ["rsync", "-a", "--partial", f"{source}/", staged],
    "rsync --partial, SIGTERM": lambda source, staged: [
        "rsync", "-a", "--partial", f"{source}/", staged
    ],
    "rsync --inplace": lambda source, staged: ["rsync", "-a", "--inplace", f"{source}/", staged],
    "rsync --preallocate": lambda source, staged: [
        "rsync", "-a", "--preallocate", "--inplace", f"{source}/", staged
    ],
    "tar": shell('tar -C "$1" -cf - . | tar -C "$2" -xpf -'),
    "dd": shell('for f in "$1"/*; do dd if="$f" of="$2/${f##*/}" bs=64K status=none; done'),
    "dd into files of their whole size": shell(
        'for f in "$1"/*; do truncate -s "$(stat -c %s "$f")" "$2/${f##*/}"; '
        'dd if="$f" of="$2/${f##*/}" bs=64K conv=notrunc status=none; done'
    ),
    "a writer in any order": lambda source, staged: [
        sys.executable, "-c", WRITER, source, staged
    ],
    "pyarrow": lambda source, staged: [sys.executable, "-c", PARQUET_WRITER, source, staged],
}


def with_restic(scratch, source):
    """Adds restic, which needs a backup to restore from."""
    repository = os.path.join(scratch, "restic")
    os.environ.update(RESTIC_PASSWORD="x", RESTIC_REPOSITORY=repository)
    for command in (["init"], ["backup", "."]):
        subprocess.run(["restic", "-q", *command], cwd=source, check=True)
    TOOLS["restic restore"] = lambda _, staged: [
        "restic", "-q", "restore", "latest", "--target", staged
    ]


# --- a case ---------------------------------------------------------------------------------------


class Case:
    def __init__(self, place, tool, number, dice):
        self.mount, self.lake, self.source, self.older = place
        self.tool, self.dice = tool, dice
        self.table = f"{re.sub('[^a-z]+', '-', tool.lower())}-{number}"
        self.staged = os.path.join(self.mount, self.table, "staging", "x")

    def begin(self):
        shutil.copytree(os.path.join(self.lake, "model"), os.path.join(self.lake, self.table))
        deadline = time.monotonic() + SECONDS_MAX
        while not os.path.isdir(os.path.join(self.mount, self.table, "staging")):
            if time.monotonic() > deadline:
                raise Wrong("the new table is not seen")
            time.sleep(0.02)
        os.mkdir(self.staged)
        if self.tool == "cp over older files":
            for name in os.listdir(self.older):
                shutil.copyfile(os.path.join(self.older, name), os.path.join(self.staged, name))

    def start(self):
        command = TOOLS[self.tool](self.source, self.staged)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, start_new_session=True, **quiet)

    def wait_for_first(self, process):
        """Until something is there that wasn't, or was made smaller."""
        before = self.sizes()
        while process.poll() is None and self.sizes() == before:
            time.sleep(POLL_SECONDS)

    def sizes(self):
        sizes = {}
        for top, _, names in os.walk(self.staged):
            for name in names:
                path = os.path.join(top, name)
                try:
                    sizes[os.path.relpath(path, self.staged)] = os.stat(path).st_size
                except FileNotFoundError:
                    pass  # Renamed in between.
        return sizes

    def measure(self):
        """How long the tool takes from its first file to its end."""
        self.begin()
        process = self.start()
        self.wait_for_first(process)
        begun = time.monotonic()
        if process.wait(SECONDS_MAX) != 0:
            raise Wrong(f"{self.tool} fails where nobody kills it")
        self.seconds = time.monotonic() - begun
        self.sync_all()
        return self.seconds

    def kill(self, seconds):
        """Kills the tool and all its processes; whether it was still at work."""
        self.begin()
        process = self.start()
        self.wait_for_first(process)
        time.sleep(self.dice.uniform(0, seconds))
        was_running = process.poll() is None
        with_what = signal.SIGTERM if self.tool.endswith("SIGTERM") else signal.SIGKILL
        try:
            os.killpg(process.pid, with_what)
        except ProcessLookupError:
            pass
        process.wait(SECONDS_MAX)
        return was_running

    def sync(self):
        done = subprocess.run(["sync", self.staged], capture_output=True, check=False)
        with open(os.path.join(self.staged, ".deltafs", "result"), encoding="utf-8") as file:
            return done.returncode, json.load(file)

    def check(self):
        """What `sync` does now. Returns what it did, in a word."""
        code, result = self.sync()
        if code == 0:
            return self.check_committed(result)
        after = self.sizes()
        if result["state"] != "refused" or not any(
            os.path.basename(name) in result["error"] for name in after
        ):
            raise Wrong(f"sync exits {code} without naming a file: {result}; staged are {after}")
        if self.adds():
            raise Wrong(f"sync exits {code}, and the table has {self.adds()}")
        self.repair(result["error"])
        return "refused: " + re.sub(r"\S*parquet\S*|\d+", "…", result["error"])

    def check_committed(self, result):
        adds = self.adds()
        for path in adds:
            if not self.is_source(path, os.path.join(self.lake, self.table, path)):
                raise Wrong(f"sync exits 0, and {path} is not what the tool was to bring")
        left = self.sizes()
        if any(self.is_source(name, os.path.join(self.staged, name)) for name in left):
            raise Wrong(f"sync exits 0, and leaves whole files behind: {left}")
        unknown = set(left) - set(result["left_out"])
        if unknown:
            raise Wrong(f"sync exits 0 and says nothing of {unknown}: {result}")
        return f"committed {len(adds)} of {len(os.listdir(self.source))} files"

    def repair(self, reason):
        """As a user does it: temporary files go, the tool runs again."""
        for name in self.sizes():
            if TEMPORARY.fullmatch(os.path.basename(name)):
                os.unlink(os.path.join(self.staged, name))
        process = self.start()
        if process.wait(SECONDS_MAX) != 0:
            raise Wrong(f"{self.tool} fails after {reason}")
        self.sync_all()

    def sync_all(self):
        code, result = self.sync()
        wanted = sorted(os.listdir(self.source))
        if code != 0 or sorted(self.adds()) != wanted:
            raise Wrong(f"all was brought, and sync exits {code}: {result}, {self.adds()}")
        for path in wanted:
            if not self.is_source(path, os.path.join(self.lake, self.table, path)):
                raise Wrong(f"{path} was brought again and is not what it was")

    def is_source(self, path, found):
        source = os.path.join(self.source, os.path.basename(path))
        if not os.path.exists(source):
            return False
        if self.tool == "pyarrow":  # It writes its own bytes of the same rows.
            import pyarrow as pa
            import pyarrow.parquet

            try:
                tables = [pyarrow.parquet.read_table(file) for file in (source, found)]
            except pa.ArrowInvalid:
                return False
            return tables[0].equals(tables[1])
        older = os.path.join(self.older, os.path.basename(path))
        same = [source, older] if self.tool == "cp over older files" else [source]
        return any(filecmp.cmp(one, found, shallow=False) for one in same)

    def adds(self):
        history = histories.History(os.path.join(self.lake, self.table))
        history.follow()
        return [path for version in history.versions[1:] for path in version.adds]

    def end(self):
        """Takes the case away; its table is small, but its files aren't."""
        for name in self.sizes():
            os.unlink(os.path.join(self.staged, name))
        shutil.rmtree(self.staged, ignore_errors=True)
        shutil.rmtree(os.path.join(self.lake, self.table))


def write_sources(folder, first):
    import pyarrow.parquet

    os.makedirs(folder)
    for name, count in (("a-0", SMALL_ROWS), ("b-1", BIG_ROWS), ("c-2", SMALL_ROWS)):
        rows = oracle.rows(first, count, "bulky")
        pyarrow.parquet.write_table(rows, os.path.join(folder, f"{name}.parquet"))
        first += count


def main(mount, lake, scratch, times, seed):
    dice = random.Random(seed)
    print(f"seed {seed}: again with DELTAFS_TEST_SEED={seed}", flush=True)
    place = (mount, lake, os.path.join(scratch, "new"), os.path.join(scratch, "old"))
    write_sources(place[2], 1000)
    write_sources(place[3], 5_000_000)
    oracle.write(os.path.join(lake, "model"), oracle.rows(0, 1, "bulky"))
    if shutil.which("restic"):
        with_restic(scratch, place[2])
    counts = collections.Counter()
    for tool in TOOLS:
        seconds = None
        for number in range(times + 1):
            case = Case(place, tool, number, dice)
            try:
                if number == 0:
                    seconds = case.measure()
                else:
                    counts["killed at work"] += case.kill(seconds)
                    outcome = case.check()
                    counts["cases"] += 1
                    counts[f"{tool}: {outcome}"] += 1
                case.end()
            except (Wrong, OSError, ValueError) as error:
                print(f"not ok\t{tool}, death {number} of {times}\t{error}", flush=True)
                break
        else:
            print(f"ok\t{tool} was killed {times} times: refused, or whole files", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")


if __name__ == "__main__":
    seed = int(sys.argv[5]) if len(sys.argv) > 5 and sys.argv[5] else random.randrange(10**6)
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), seed)
