"""Measures deltafs against the native file system, and its commits against deltalake's, in one run.

Called by scripts/bench. Each figure is the median of several rounds. In each round native and
mount take turns, and the rounds take turns in which goes first, so that both see the same machine. Prints a Markdown table to standard output, progress to
standard error. Works in one folder that it makes and removes; needs about 4 GiB there.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.parquet
from deltalake import write_deltalake

MIB = 1 << 20
ROUNDS = 9
COMMITS = 30
READ_BYTES = 1024 * MIB  # One data file, read whole.
COPY_FILES = 8  # And the table of cp -a: 8 files of 128 MiB.
LISTED_FILES = int(os.environ.get("DELTAFS_BENCH_FILES", "100000"))
LINKS_A_FILE = 30_000  # ext4 takes 65,000 hard links of one inode.
SMALL_ROWS = 1_000

DELTAFS = os.environ["DELTAFS_BIN"]


def tell(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- the lake -----------------------------------------------------------------------------------


def write_log(table, files):
    """Writes version 0 of a table by hand: `files` are (path, size) that lie there already."""
    schema = {
        "type": "struct",
        "fields": [{"name": "id", "type": "long", "nullable": True, "metadata": {}}],
    }
    actions = [
        {"commitInfo": {"timestamp": 1795341600000, "operation": "WRITE"}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "6f3c3f0e-0d3d-4a86-9d35-5a8c5d6f2b11",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": [],
                "configuration": {},
                "createdTime": 1795341600000,
            }
        },
    ]
    for path, size in files:
        actions.append(
            {
                "add": {
                    "path": path,
                    "partitionValues": {},
                    "size": size,
                    "modificationTime": 1795341600000,
                    "dataChange": True,
                    "stats": '{"numRecords":1}',
                }
            }
        )
    log = table / "_delta_log"
    log.mkdir(parents=True)
    with open(log / f"{0:020}.json", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(action) + "\n" for action in actions)


def random_file(path, size):
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    return path.name, size


def make_lake(lake):
    tell("makes a table of one file of 1 GiB, one of eight of 128 MiB")
    read = lake / "read"
    read.mkdir(parents=True)
    write_log(read, [random_file(read / "one.parquet", READ_BYTES)])
    copy = lake / "copy"
    copy.mkdir()
    size = READ_BYTES // COPY_FILES
    write_log(copy, [random_file(copy / f"{n}.parquet", size) for n in range(COPY_FILES)])

    tell(f"makes a table of {LISTED_FILES:,} files, by hard links to a few tiny ones")
    listed = lake / "listed"
    listed.mkdir()
    files = []
    for number in range(LISTED_FILES):
        name = f"part-{number:06}.parquet"
        if number % LINKS_A_FILE == 0:
            seed = listed / name
            pa.parquet.write_table(pa.table({"id": [number]}), seed)
            size = seed.stat().st_size
        else:
            os.link(seed, listed / name)
        files.append((name, size))
    write_log(listed, files)


# --- the mount ----------------------------------------------------------------------------------


def mount(lake, mountpoint):
    subprocess.run([DELTAFS, "mount", lake, mountpoint], check=True, timeout=60)


def unmount(mountpoint):
    for _ in range(50):
        done = subprocess.run([DELTAFS, "unmount", mountpoint], capture_output=True, timeout=60)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    sys.exit(f"bench: can't unmount {mountpoint}: {done.stderr.decode()}")


# --- clocks -------------------------------------------------------------------------------------


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def forget_pages(path):
    """Drops a file's pages from the page cache; needs no root."""
    file = os.open(path, os.O_RDONLY)
    os.fdatasync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def read_whole(path):
    buffer = bytearray(MIB)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def random_reads(path):
    """4 KiB reads at random offsets of a cached file, two jobs, in reads a second."""
    read_whole(path)
    report = subprocess.run(
        [
            "fio", "--name=random", f"--filename={path}", "--readonly", "--rw=randread", "--bs=4k",
            "--ioengine=psync", "--numjobs=2", "--thread", "--group_reporting", "--invalidate=0",
            "--time_based", "--runtime=3", "--allow_file_create=0", "--output-format=json",
        ],
        check=True,
        capture_output=True,
    )
    return json.loads(report.stdout)["jobs"][0]["read"]["iops"]


def turns(native, ours):
    """Each round's (path, column), native first in every other round."""
    pair = [(native, 0), (ours, 1)]
    for number in range(ROUNDS):
        yield pair if number % 2 == 0 else pair[::-1]


# --- figures ------------------------------------------------------------------------------------


class Table:
    """The rows of the report."""

    def __init__(self, against):
        self.rows = []
        self.against = against

    def add(self, work, native, ours, show, larger_is_better):
        native, ours = statistics.median(native), statistics.median(ours)
        speed = ours / native if larger_is_better else native / ours
        times = f"{speed:.2f}" if larger_is_better else f"{ours / native:.2f}x the time"
        self.rows.append(f"| {work} | {show(native)} | {show(ours)} | {times} |")
        tell(self.rows[-1])

    def print(self):
        print(f"| work | {self.against} | deltafs | ratio |")
        print("|---|---|---|---|")
        print("\n".join(self.rows))


def gigabytes(value):
    return f"{value:.2f} GB/s"


def duration(value):
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def iops(value):
    return f"{value / 1000:.0f}k/s"


def measure(work, lake, mountpoint):
    table = Table("native")
    version = pathlib.Path("versions/0")

    def pair(name):
        return lake / name, mountpoint / name / version

    native, ours = (path / "one.parquet" for path in pair("read"))
    figures = {"cold": ([], []), "warm": ([], [])}
    for order in turns(native, ours):
        for path, column in order:
            forget_pages(native)
            forget_pages(ours)
            figures["cold"][column].append(READ_BYTES / 1e9 / seconds(lambda: read_whole(path)))
            figures["warm"][column].append(READ_BYTES / 1e9 / seconds(lambda: read_whole(path)))
    table.add("sequential read of 1 GiB, cold cache", *figures["cold"], gigabytes, True)
    table.add("sequential read of 1 GiB, warm cache", *figures["warm"], gigabytes, True)

    figures = ([], [])
    for order in turns(native, ours):
        for path, column in order:
            figures[column].append(random_reads(path))
    table.add("random reads of 4 KiB, warm cache", *figures, iops, True)

    native, ours = pair("listed")
    for command, arguments in (("ls -l", ("ls", "-l")), ("find", ("find",))):
        first, again = ([], []), ([], [])
        for order in turns(native, ours):
            unmount(mountpoint)
            mount(lake, mountpoint)
            os.stat(ours)
            for path, column in order:
                first[column].append(seconds(lambda: run(*arguments, str(path))))
                again[column].append(seconds(lambda: run(*arguments, str(path))))
        text = f"`{command}` of a version with {LISTED_FILES:,} files"
        table.add(f"{text}, first time after mounting", *first, duration, False)
        table.add(f"{text}, again", *again, duration, False)

    native, ours = pair("copy")
    figures = ([], [])
    for order in turns(native, ours):
        for path, column in order:
            target = work / "copied"
            os.sync()
            figures[column].append(seconds(lambda: run("cp", "-a", str(path), str(target))))
            shutil.rmtree(target)
    table.add("`cp -a` of 1 GiB in eight files", *figures, duration, False)
    table.print()


def measure_commits(work, lake, mountpoint):
    """One file a commit: copied into staging and synced, against deltalake's append of its rows."""
    table = Table("deltalake")
    rows = pa.table({"id": list(range(SMALL_ROWS)), "text": [f"row {n}" for n in range(SMALL_ROWS)]})
    source = work / "small.parquet"
    pa.parquet.write_table(rows, source)
    for name in ("appended", "synced"):
        write_deltalake(str(lake / name), rows)
    staging = mountpoint / "synced" / "staging" / "bench"
    staging.mkdir()
    directory = os.open(staging, os.O_RDONLY)

    def sync():
        shutil.copyfile(source, staging / "small.parquet")
        os.fsync(directory)

    figures = ([], [])
    for _ in range(COMMITS):
        figures[0].append(seconds(lambda: write_deltalake(str(lake / "appended"), rows, mode="append")))
        figures[1].append(seconds(sync))
    os.close(directory)
    print()
    table.add(f"commit of one file of {SMALL_ROWS:,} rows", *figures, duration, False)
    table.print()


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="deltafs-bench.", dir=os.environ.get("TMPDIR")))
    lake, mountpoint = work / "lake", work / "mnt"
    mountpoint.mkdir()
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        os.environ[variable] = str(work / variable)
        (work / variable).mkdir(mode=0o700)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        make_lake(lake)
        mount(lake, mountpoint)
        measure(work, lake, mountpoint)
        measure_commits(work, lake, mountpoint)
    finally:
        if os.path.ismount(mountpoint):
            unmount(mountpoint)
        with contextlib.suppress(OSError):
            shutil.rmtree(work)


main()
