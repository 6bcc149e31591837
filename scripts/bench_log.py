"""Measures the log engine against delta_kernel and deltalake, in one run, as ratios.

Called by scripts/bench with `log`. Makes the tables, then runs each case in a process of its own
(benches/log.rs, or a Python that imports deltalake), so that peak memory means something. Each
figure is the median of several rounds in which the subjects take turns. delta_kernel is asked in
two forms: lean, without statistics and row transforms, which is all that a listing needs; and by
default, as a user of it writes it. Prints a Markdown table to
standard output, progress to standard error. Works in one folder that it makes and removes; needs
about 2 GiB there.

From the environment: DELTAFS_BENCH_LOG, the bench program; DELTAFS_BENCH_ROUNDS (default 5);
DELTAFS_BENCH_ADDS, the files of the large tables (default 1000000).
"""

import datetime
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

BENCH = os.environ["DELTAFS_BENCH_LOG"]
ROUNDS = int(os.environ.get("DELTAFS_BENCH_ROUNDS", "5"))
ADDS = int(os.environ.get("DELTAFS_BENCH_ADDS", "1000000"))
SMALL_COMMITS = 3001
SAMPLES = 12  # Versions that stand for all 3,001 where a subject opens each anew.
LARGE_COMMITS = 10
NEXT_COMMITS = 9
ROW_GROUP = 380_000  # What 128 MiB of such rows are, which is Spark's row group.
TIME = 1795341600000
MIB = 1 << 20

SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in [("id", "long"), ("name", "string"), ("amount", "double"), ("date", "date")]
    ],
}
PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}
METADATA = {
    "id": "6f3c3f0e-0d3d-4a86-9d35-5a8c5d6f2b11",
    "format": {"provider": "parquet", "options": {}},
    "schemaString": json.dumps(SCHEMA),
    "partitionColumns": ["date"],
    "configuration": {},
    "createdTime": TIME,
}
NUMBERS = random.Random(7)
# As the daemon is started with: src/daemon/background.rs.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "2097152",
    "MALLOC_TRIM_THRESHOLD_": "4194304",
}
OTHERS = ["kernel", "kernel-default", "deltalake"]


def tell(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- the tables ---------------------------------------------------------------------------------


def add(number):
    """A file action as Spark writes it, with statistics; files are in no order."""
    date = str(datetime.date(2026, 1, 1) + datetime.timedelta(days=NUMBERS.randrange(365)))
    name = uuid.UUID(int=NUMBERS.getrandbits(128), version=4)
    low = NUMBERS.randrange(1 << 40)
    stats = {
        "numRecords": 1000,
        "minValues": {"id": low, "name": f"customer-{low:013}", "amount": low / 7},
        "maxValues": {"id": low + 999, "name": f"customer-{low + 999:013}", "amount": low / 3},
        "nullCount": {"id": 0, "name": 3, "amount": 11},
    }
    return {
        "path": f"date={date}/part-{number % 1000:05}-{name}.c000.snappy.parquet",
        "partitionValues": {"date": date},
        "size": NUMBERS.randrange(1 << 28),
        "modificationTime": TIME + number,
        "dataChange": True,
        "stats": json.dumps(stats, separators=(",", ":")),
    }


def write_commit(log, version, actions):
    with open(log / f"{version:020}.json", "w", encoding="utf-8") as file:
        for action in actions:
            file.write(json.dumps(action, separators=(",", ":")) + "\n")


def info(operation="WRITE"):
    return {"commitInfo": {"timestamp": TIME, "operation": operation, "txnId": str(uuid.uuid4())}}


def make_small(table):
    log = table / "_delta_log"
    log.mkdir(parents=True)
    for version in range(SMALL_COMMITS):
        first = [{"protocol": PROTOCOL}, {"metaData": METADATA}] if version == 0 else []
        write_commit(log, version, [info(), *first, {"add": add(version)}])


def make_large(json_table, checkpoint_table):
    """The same files as commits, and as a checkpoint whose commits were cleaned up."""
    log = json_table / "_delta_log"
    log.mkdir(parents=True)
    rows = []
    for version in range(LARGE_COMMITS):
        adds = [add(number) for number in range(ADDS // LARGE_COMMITS)]
        first = [{"protocol": PROTOCOL}, {"metaData": METADATA}] if version == 0 else []
        write_commit(log, version, [info(), *first, *({"add": it} for it in adds)])
        rows.extend(adds)
    # A checkpoint's rows are spread by the hash of their paths.
    NUMBERS.shuffle(rows)
    log = checkpoint_table / "_delta_log"
    log.mkdir(parents=True)
    version = LARGE_COMMITS
    write_commit(log, version, [info("OPTIMIZE")])
    name = f"{version:020}.checkpoint.parquet"
    size = write_checkpoint(log / name, rows)
    last = {"version": version, "size": len(rows) + 2, "sizeInBytes": size, "numOfAddFiles": len(rows)}
    (log / "_last_checkpoint").write_text(json.dumps(last))


def write_checkpoint(path, rows):
    texts = pa.map_(pa.string(), pa.string())
    protocol = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])
    metadata = pa.struct(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("description", pa.string()),
            ("format", pa.struct([("provider", pa.string()), ("options", texts)])),
            ("schemaString", pa.string()),
            ("partitionColumns", pa.list_(pa.string())),
            ("configuration", texts),
            ("createdTime", pa.int64()),
        ]
    )
    vector = pa.struct(
        [
            ("storageType", pa.string()),
            ("pathOrInlineDv", pa.string()),
            ("offset", pa.int32()),
            ("sizeInBytes", pa.int32()),
            ("cardinality", pa.int64()),
        ]
    )
    added = pa.struct(
        [
            ("path", pa.string()),
            ("partitionValues", texts),
            ("size", pa.int64()),
            ("modificationTime", pa.int64()),
            ("dataChange", pa.bool_()),
            ("tags", texts),
            ("deletionVector", vector),
            ("stats", pa.string()),
        ]
    )
    removed = pa.struct(
        [("path", pa.string()), ("deletionTimestamp", pa.int64()), ("dataChange", pa.bool_())]
    )
    txn = pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])
    schema = pa.schema(
        [
            ("txn", txn),
            ("add", added),
            ("remove", removed),
            ("metaData", metadata),
            ("protocol", protocol),
        ]
    )

    def batch(rows):
        columns = [pa.array([row.get(name) for row in rows], schema.field(name).type) for name in schema.names]
        return pa.record_batch(columns, schema=schema)

    def as_row(action):
        return {"add": {**action, "partitionValues": list(action["partitionValues"].items()), "dataChange": False}}

    described = {**METADATA, "format": {"provider": "parquet", "options": []}, "configuration": []}
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        head = [{"protocol": PROTOCOL}, {"metaData": described}]
        for start in range(0, len(rows), ROW_GROUP):
            group = head + [as_row(action) for action in rows[start : start + ROW_GROUP]]
            head = []
            parts = [batch(group[at : at + 50_000]) for at in range(0, len(group), 50_000)]
            writer.write_table(pa.Table.from_batches(parts), row_group_size=len(group))
    return path.stat().st_size


# --- the subjects -------------------------------------------------------------------------------

DELTALAKE = """
import json, resource, sys, time
from deltalake import DeltaTable
case, path, *rest = sys.argv[1:]
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = resident()
began = time.perf_counter()
told = {}
if case == "newest":
    table = DeltaTable(path)
    files = len(table.file_uris())
    told["seconds"] = time.perf_counter() - began
elif case == "every-version":
    versions, samples = map(int, rest)
    files = 0
    for sample in range(samples):
        files += len(DeltaTable(path, version=(2 * sample + 1) * versions // (2 * samples)).file_uris())
    told["seconds"] = (time.perf_counter() - began) / samples * versions
elif case == "next":
    import shutil, statistics
    table = DeltaTable(path)
    table.file_uris()
    times = []
    for commit in rest:
        shutil.copyfile(commit, f"{path}/_delta_log/{table.version() + 1:020}.json")
        began = time.perf_counter()
        table.update_incremental()
        files = len(table.file_uris())
        times.append(time.perf_counter() - began)
    told["seconds"] = statistics.median(times)
with open("/proc/self/status") as file:
    peak = next(line for line in file if line.startswith("VmHWM:"))
told.update(files=files, before_bytes=before, peak_bytes=int(peak.split()[1]) * 1024)
print(json.dumps(told))
"""


def run(subject, case, table, *rest):
    command = [BENCH, subject, case, str(table), *map(str, rest)]
    if subject == "deltalake":
        command = [sys.executable, "-c", DELTALAKE, case, str(table), *map(str, rest)]
    environment = {**os.environ, **(ALLOCATOR if subject == "deltafs" else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        tell(f"{subject} {case}: {done.stderr.strip().splitlines()[-1:]}")
        return None
    told = json.loads(done.stdout.strip().splitlines()[-1])
    tell(f"{subject} {case}: {told}")
    return told


def restored(table, commits):
    """Takes away what an earlier `next` added."""
    newest = max(int(path.name[:20]) for path in (table / "_delta_log").glob("*.json"))
    for version in range(commits, newest + 1):
        (table / "_delta_log" / f"{version:020}.json").unlink(missing_ok=True)


def measure(case, table, subjects, rest=(), commits=None, rounds=ROUNDS):
    """Rounds of a case; `rest` are further arguments of each subject."""
    found = {subject: [] for subject in subjects}
    for number in range(rounds):
        turn = subjects if number % 2 == 0 else subjects[::-1]
        for subject in turn:
            told = run(subject, case, table, *rest)
            if commits is not None:
                restored(table, commits)
            if told is not None:
                found[subject].append(told)
    for what in ("files", "sums"):
        seen = {str(told[what]) for rows in found.values() for told in rows if what in told}
        if case == "newest" and len(seen) != 1:
            sys.exit(f"bench: {case} of {table.name}: they don't see the same {what}: {seen}")
    return {subject: rows for subject, rows in found.items() if rows}


# --- the table ----------------------------------------------------------------------------------


def duration(seconds):
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def times(ratio):
    return f"{ratio:.2f}x" if ratio >= 0.01 else f"1/{1 / ratio:,.0f}x"


def row(name, found):
    middle = {s: statistics.median(told["seconds"] for told in rows) for s, rows in found.items()}
    peak = {s: statistics.median(told["peak_bytes"] for told in rows) for s, rows in found.items()}
    ours = middle["deltafs"]
    cells = [f"{duration(ours)}, {peak['deltafs'] / MIB:.0f} MiB"]
    for other in OTHERS:
        if other in middle:
            cells.append(f"{duration(middle[other])}, {peak[other] / MIB:.0f} MiB")
            cells.append(times(ours / middle[other]))
        else:
            cells += ["–", "–"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def resident_bytes(found):
    """What a file takes in deltafs after loading."""
    return statistics.median(
        (told["resident_bytes"] - told["before_bytes"]) / told["files"] for told in found["deltafs"]
    )


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="deltafs-bench-", dir=os.environ.get("TMPDIR", "/tmp")))
    try:
        tell(f"makes tables in {folder}")
        small, as_json, as_checkpoint = (folder / name for name in ("small", "json", "checkpoint"))
        make_small(small)
        make_large(as_json, as_checkpoint)
        sizes = [sum(file.stat().st_size for file in (table / "_delta_log").iterdir()) for table in (as_json, as_checkpoint)]
        tell(f"JSON {sizes[0] / MIB:.0f} MiB, checkpoint {sizes[1] / MIB:.0f} MiB")
        next_commits = []
        for number in range(NEXT_COMMITS):
            write_commit(folder, number, [info(), {"add": add(number)}])
            next_commits.append(folder / f"{number:020}.json")
        report(small, as_json, as_checkpoint, next_commits)
    finally:
        shutil.rmtree(folder)


def report(small, as_json, as_checkpoint, next_commits):
    everyone = ["deltafs", *OTHERS]
    print(
        "| time, peak memory | deltafs | delta_kernel 0.30, lean | ratio | by default | ratio "
        "| deltalake | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    found = measure("every-version", small, everyone, (SMALL_COMMITS, SAMPLES), rounds=1)
    row(f"{SMALL_COMMITS:,} small commits: open and list every version", found)
    found = measure("newest", as_checkpoint, everyone)
    row(f"newest version of {ADDS:,} files, from a checkpoint", found)
    resident = [resident_bytes(found)]
    found = measure("newest", as_json, everyone)
    row(f"newest version of {ADDS:,} files, from {LARGE_COMMITS} JSON commits", found)
    resident.append(resident_bytes(found))
    found = measure("next", as_checkpoint, everyone, next_commits, commits=LARGE_COMMITS + 1, rounds=1)
    row(f"v → v+1 of {ADDS:,} files, files listed by the others", found)
    found = measure("next", small, everyone, next_commits, commits=SMALL_COMMITS, rounds=1)
    row(f"v → v+1 of {SMALL_COMMITS:,} files, files listed by the others", found)
    print(
        f"\nResident after loading, its path among them: {resident[0]:.0f} bytes a file from the checkpoint, "
        f"{resident[1]:.0f} from the commits."
    )


if __name__ == "__main__":
    main()
