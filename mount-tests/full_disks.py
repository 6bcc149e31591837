#!/usr/bin/env python3
"""Disks that get full, go over quota or fail under a lake, at every moment of a commit.

`full_disks.py SCRATCH DELTAFS TRACE`. A disk of `disks.py` is under the whole lake, under the spool
alone, under the table alone, or under the table's log alone. It fails while a tool writes, when all
is written and nothing closed, at fsync, when `sync` begins, or a few blocks later. Each case is one
tool, its own staging directory and rows of its own:

1. where nothing was committed, the tool or `sync` said so, and the log is as it was;
2. what was staged whole is still there, byte for byte;
3. with space again `sync` commits; the tool need only run again where it had failed, or where the
   disk lost its bytes after it took them, which `sync` then has to say;
4. when all is mounted again from the disk, each row is there once.

Prints `ok`, `not ok` and remarks by lines, for `verdicts` of lib.sh.
"""

import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import disks
import oracle
import pyarrow.parquet

ROWS = 200
PLAIN = "rows.parquet"

COPYTREE = "import shutil, sys; shutil.copytree(*sys.argv[1:], dirs_exist_ok=True)"

# Files from a folder: SRC/rows.parquet to DEST.
TOOLS = {
    "cp -a": 'cp -a "$SRC/." "$DEST/"',
    "rsync -a": 'rsync -a "$SRC/" "$DEST/"',
    "tar -xp": 'tar -C "$SRC" -c . | tar -C "$DEST" -xpf -',
    "dd": 'dd if="$SRC/$F" of="$DEST/$F" bs=16k status=none',
    "install": 'install -m 640 "$SRC/$F" "$DEST/$F"',
    "rclone copy": 'rclone copy --retries 1 "$SRC" "$DEST"',
    "mv": 'rm -rf "$WORK"; cp -a "$SRC" "$WORK"; mv -f "$WORK"/* "$DEST/"',
    "Python": '"$PYTHON" -c "$COPYTREE" "$SRC" "$DEST"',
}

# The same, each with an fsync of what it wrote.
FSYNC = TOOLS | {
    "rsync -a": 'rsync -a --fsync "$SRC/" "$DEST/"',
    "dd": 'dd if="$SRC/$F" of="$DEST/$F" bs=16k status=none conv=fsync',
}
FSYNC = {
    name: tool if "fsync" in tool else f'{tool}; sync "$DEST/$F"' for name, tool in FSYNC.items()
}

MAPPED = """
import mmap, sys
wanted = sys.stdin.buffer.read(int(sys.argv[2]))
with open(sys.argv[1], "w+b") as file:
    file.truncate(len(wanted))
    pages = mmap.mmap(file.fileno(), len(wanted))
    # The size is known, and so the disk gets full; then the pages are written.
    sys.stdin.buffer.read()
    pages[:] = wanted
    pages.close()
"""

# What can be stopped between its last write and its close: it reads a pipe.
PIPED = {
    "redirection": 'cat >"$DEST/$F"',
    "dd": 'dd of="$DEST/$F" bs=4k status=none',
    "tee": 'tee "$DEST/$F" >/dev/null',
    "cp": 'cp /dev/stdin "$DEST/$F"',
    "install": 'install -m 640 /dev/stdin "$DEST/$F"',
    "tar -xp": 'tar -C "$DEST" -xpf -',
    "rclone rcat": 'rclone rcat --retries 1 --streaming-upload-cutoff 0 "$DEST/$F"',
    "Python mmap": '"$PYTHON" -c "$MAPPED" "$DEST/$F" "$SIZE"',
}

# Moments: the tools, how many bytes the disk still takes, and when it begins to fail.
MOMENTS = {
    "while it writes": (TOOLS, 60_000, "tool"),
    "at its close": (PIPED, 0, "close"),
    "at fsync": (FSYNC, 0, "fsync"),
    "before it is on the disk": (TOOLS, 4 * disks.BLOCK, "cached"),
    "at sync": (TOOLS, 0, "sync"),
    "1 block into sync": (TOOLS, 1 * disks.BLOCK, "sync"),
    "2 blocks into sync": (TOOLS, 2 * disks.BLOCK, "sync"),
    "3 blocks into sync": (TOOLS, 3 * disks.BLOCK, "sync"),
}
ALL = list(MOMENTS)
# What only a disk that takes bytes and then loses them knows; others refuse them at once.
LATE = ["at fsync", "before it is on the disk"]
# Only where space runs out is there less and less of it.
STEPS = [moment for moment in ALL if "into sync" in moment]
# Without a pattern these are left out: they are like their neighbours.
LEFT_OUT = ["1 block into sync", "3 blocks into sync"]

# Where the disk is, and which moments mean something there.
LAYOUTS = {
    "the lake": ALL,
    "the spool": ALL,
    "the table": ["at sync", "3 blocks into sync"],
    "the log": ["at sync"],
}


class Lake:
    """A lake with one table `t`, a disk somewhere in it, and the daemon."""

    def __init__(self, scratch, deltafs, trace, disk, layout):
        self.folder, self.mnt = scratch / "lake", scratch / "mnt"
        self.deltafs, self.trace, self.disk = deltafs, trace, disk
        self.folder.mkdir(exist_ok=True)
        self.mnt.mkdir(exist_ok=True)
        self.table = self.folder / "t"
        self.spool = None
        rows = oracle.rows(0, 10)
        if layout == "the lake":
            disk.mount(self.folder)
        elif layout == "the spool":
            disk.mount(self.folder / ".deltafs")
            (self.folder / ".deltafs").chmod(0o700)
        elif layout == "the table":
            disk.mount(self.table)
        oracle.write(str(self.table), rows)
        if layout == "the log":
            log = self.table / "_delta_log"
            log.rename(scratch / "log")
            disk.mount(log)
            shutil.copytree(scratch / "log", log, dirs_exist_ok=True)
            shutil.rmtree(scratch / "log")
        if layout == "the table":
            # A table that is a file system of its own has its spool inside: give it another one.
            self.spool = self.table / ".deltafs"
            self.spool.mkdir(mode=0o700)
            (scratch / "spool").mkdir(mode=0o700, exist_ok=True)
            disks.run("mount", "--bind", scratch / "spool", self.spool)
        self.begin()

    def begin(self):
        flags = ["--log-file", self.trace, "--log-level", "debug"]
        disks.run(self.deltafs, "mount", *flags, self.folder, self.mnt)

    def end(self):
        disks.run(self.deltafs, "unmount", self.mnt)

    def again(self):
        """All from the disk."""
        self.end()
        if self.spool:
            disks.run("umount", self.spool)
        self.disk.remount()

    def destroy(self):
        """Takes the disk away, whatever state all is in: devices are not of the scratch folder."""
        subprocess.run([self.deltafs, "unmount", self.mnt], capture_output=True)
        if self.spool:
            subprocess.run(["umount", self.spool], capture_output=True)
        self.disk.unmount()
        self.disk.destroy()
        shutil.rmtree(self.folder)

    def log(self):
        """What commits there are, by their bytes."""
        folder = self.table / "_delta_log"
        return {path.name: path.read_bytes() for path in folder.glob("*.json")}


class Case:
    def __init__(self, lake, scratch, name, tool, start):
        self.lake, self.tool, self.start = lake, tool, start
        self.source = scratch / "source"
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.rmtree(scratch / "moved", ignore_errors=True)
        self.source.mkdir()
        pyarrow.parquet.write_table(oracle.rows(start, ROWS, "bulky"), self.source / PLAIN)
        self.bytes = (self.source / PLAIN).read_bytes()
        self.staging = lake.mnt / "t" / "staging" / name
        self.staging.mkdir()
        self.environment = os.environ | {
            "SRC": str(self.source),
            "DEST": str(self.staging),
            "WORK": str(scratch / "moved"),
            "F": PLAIN,
            "SIZE": str(len(self.bytes)),
            "COPYTREE": COPYTREE,
            "MAPPED": MAPPED,
            "PYTHON": sys.executable,
            "RCLONE_CONFIG": str(scratch / "rclone.conf"),
        }

    def start_tool(self, stdin):
        command = ["bash", "-euo", "pipefail", "-c", self.tool]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def bring(self, before_close=None):
        """Runs the tool; its exit code and last words."""
        is_piped = self.tool in PIPED.values()
        process = self.start_tool(subprocess.PIPE if is_piped else subprocess.DEVNULL)
        if is_piped:
            try:
                process.stdin.write(self.piped())
                process.stdin.flush()
                # A tool that buffers closes without having written; then it does so later.
                self.wait_until_written(process)
            except BrokenPipeError:
                pass
            if before_close:
                before_close()
        output, _ = process.communicate(timeout=60)
        return process.returncode, output.decode(errors="replace").strip()[-200:]

    def piped(self):
        if not self.tool.startswith("tar"):
            return self.bytes
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo(PLAIN)
            member.size = len(self.bytes)
            tar.addfile(member, io.BytesIO(self.bytes))
        return archive.getvalue()

    def wait_until_written(self, process):
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if os.stat(self.staging / PLAIN).st_size == len(self.bytes):
                    return
            except FileNotFoundError:
                pass
            time.sleep(0.005)

    def sync(self):
        done = subprocess.run(["sync", self.staging], capture_output=True, text=True, timeout=90)
        return done.returncode, done.stderr.strip()

    def sentence(self):
        result = json.loads((self.staging / ".deltafs" / "result").read_text() or "{}")
        return result.get("error", "")

    def is_whole(self):
        try:
            return (self.staging / PLAIN).read_bytes() == self.bytes
        except OSError:
            return False


def run(case, disk, slack, when):
    """One case; what happened in a word, and what is wrong."""
    problems, lake = [], case.lake
    disk.slow(when == "tool")
    before = lake.log()
    if when == "tool" and type(disk) is disks.Broken:
        slack = 0
    if when in ("tool", "fsync", "cached"):
        disk.fill(slack)
    brought = case.bring(before_close=(lambda: disk.fill(slack)) if when == "close" else None)
    if when == "sync":
        disk.fill(slack)
    staged = case.is_whole() if brought[0] == 0 else None
    first = case.sync()
    is_committed = len(lake.log()) > len(before)
    # Tools take away what they could not finish, and then there is nothing to commit.
    is_empty = brought[0] != 0 and not os.listdir(case.staging)
    if is_committed != (first[0] == 0) and not (is_empty and not is_committed):
        problems.append(f"sync exits {first[0]} ({first[1]}), and committed is {is_committed}")
    if not is_committed and lake.log() != before:
        problems.append("nothing was committed, and the log is not as it was")
    if brought[0] == 0 and not staged:
        problems.append("the tool exits 0 and its file is not there")
    if brought[0] == 0 and not is_committed and not case.is_whole():
        problems.append(f"a staged file is no longer what it was after {first[1]}")
    if brought[0] != 0 and is_committed:
        problems.append(f"the tool failed ({brought[1]}), and sync committed")
    disk.free()
    disk.slow(False)
    outcome = f"tool {brought[0]}, sync {first[0]}"
    again = 0
    if not is_committed:
        second = case.sync() if brought[0] == 0 else (1, "")
        lost = "is not whole" in case.sentence() if second[0] else False
        if brought[0] == 0 and second[0] != 0 and not lost:
            problems.append(f"with space again sync exits {second[0]}: {case.sentence()}")
        if second[0] != 0:
            again = 1
            # A file that was not written whole looks as it should: tools would leave it out.
            if lost or "is not whole" in case.sentence():
                (case.staging / PLAIN).unlink()
            tool = case.bring()
            second = case.sync()
            if tool[0] != 0 or second[0] != 0:
                problems.append(f"with space again: tool {tool}, sync {second}")
                problems.append(case.sentence())
        outcome += ", then both again" if again else ", then sync"
    try:
        case.staging.rmdir()
    except OSError as error:
        problems.append(f"after all the staging directory stays: {error}")
    return outcome, problems


def told(description, problems):
    if problems:
        print("\t".join(["not ok", description, *problems]).replace("\n", " / "), flush=True)
    else:
        print(f"ok\t{description}", flush=True)


def all_rows(lake, wanted):
    """What is wrong with the table's rows."""
    try:
        found = [json.loads(line) for line in oracle.read(str(lake.table))[1]]
    except Exception as error:
        return [f"the table can't be read: {error}", *broken_files(lake)]
    ids = sorted(row["id"] for row in found)
    problems = []
    if ids != sorted(wanted):
        alone = sorted({i // 1000 for i in set(ids) ^ wanted})
        twice = sorted({one // 1000 for one, other in zip(ids, ids[1:]) if one == other})
        problems.append(f"{len(ids)} rows, not {len(wanted)}; cases: {alone} lost, {twice} twice")
    if any(row["amount"] != 1.5 * row["id"] for row in found):
        problems.append("a row is not as it was brought")
    return problems


def broken_files(lake):
    """Data files that can't be read, by the time of their commit in the trace."""
    for path in sorted(lake.table.glob("*.parquet")):
        try:
            pyarrow.parquet.read_table(path)
        except Exception as error:
            yield f"{path.name}: {path.stat().st_size} bytes: {error}"


def layout_of(scratch, deltafs, trace, kind, layout, chosen, counts):
    disk = kind(scratch)
    lake = Lake(scratch, deltafs, trace, disk, layout)
    try:
        cases_of(lake, scratch, chosen, counts, f"{kind.name} of {layout}")
    finally:
        lake.destroy()


def cases_of(lake, scratch, chosen, counts, title):
    wanted, number = set(range(10)), 0
    for moment in chosen:
        tools, slack, when = MOMENTS[moment]
        for name, tool in tools.items():
            number += 1
            start = 1000 * number
            case = Case(lake, scratch, f"case-{number}", tool, start)
            outcome, problems = run(case, lake.disk, slack, when)
            wanted.update(range(start, start + ROWS))
            told(f"{title}, {moment}: {name}: {outcome}", problems)
            counts[outcome] = counts.get(outcome, 0) + 1
    told(f"{title}: {len(wanted)} rows, each once", all_rows(lake, wanted))
    lake.again()
    told(f"{title}: and so from the disk", all_rows(lake, wanted))


def main(scratch, deltafs, trace, pattern=""):
    scratch = pathlib.Path(scratch)
    # So that a test that is ended takes its devices away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = {}
    for kind in (disks.Small, disks.Quota, disks.Broken):
        for layout, moments in LAYOUTS.items():
            not_here = STEPS if kind is disks.Broken else LATE
            not_now = [] if pattern else LEFT_OUT
            chosen = [
                moment
                for moment in moments
                if moment not in not_here + not_now
                and re.search(pattern, f"{kind.name} of {layout}, {moment}")
            ]
            if chosen:
                began = time.monotonic()
                layout_of(scratch, deltafs, trace, kind, layout, chosen, counts)
                print(f"{kind.name} of {layout}: {time.monotonic() - began:.1f} s")
    for outcome, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{count:5} {outcome}")


if __name__ == "__main__":
    main(*sys.argv[1:])
