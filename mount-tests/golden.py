#!/usr/bin/env python3
"""Every golden table, at every version that its log names, read through a mount.

`unpack LAKE` brings all golden tables into one lake. `check LAKE MOUNT TRACE` reads each version
twice by delta_kernel, from the original and from the mount's `versions/N`: rows and schema must be
the same, and so must be what deltalake reads through the mount; the newest version's rows must be
those of the golden `expected/`. Where the kernel can't read the original, the mount must show the
very bytes that are there, or refuse with a sentence. Each exception has its reason in a table
below, and an entry that isn't needed any more fails.

Prints `ok`, `not ok` and remarks by lines, for `verdicts` of lib.sh.
"""

import collections
import errno
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import kernel
import rows

# Versions that the kernel can't read: "TABLE VERSION" as a pattern, what the mount does, what the
# trace must say of it, and why that is right. The mount may
# - refuse: the version is listed and can't be entered;
# - leave out: the version isn't listed;
# - be without: files that the log names and that are gone can't be opened;
# - be empty: no file is live;
# - show: all is there, byte for byte, and it is the data that no reader takes.
UNREADABLE = [
    ("expected/canonicalized-paths-.* 0", "refuse", "outside of the table.s folder",
     "a live file is outside of the table's folder"),
    ("expected/canonicalized-paths-.* 1", "be empty", "",
     "file:/a removes /a, as in Spark, and nothing is left; the kernel sees two files"),
    ("expected/checkpoint/.*", "be without", "missing in the store",
     "data files were never written"),
    ("expected/data-reader-absolute-paths-.*", "leave out", "path .* isn't below|path ",
     "a live file is outside of the table's folder"),
    ("expected/delete-re-add-same-file-.*", "be without", "missing in the store",
     "data files were never written"),
    ("expected/deltalog-commit-info/.*", "leave out", "schemaString", "metadata has no schema"),
    ("expected/deltalog-getChanges/.*", "be without", "missing in the store",
     "data files were never written"),
    ("expected/deltalog-invalid-protocol-version/.*", "refuse", "reader version 99",
     "nobody knows this protocol"),
    ("expected/deltalog-state-reconstruction-.*metadata/.*", "leave out", "no metaData",
     "nothing says what the columns are"),
    ("expected/deltalog-state-reconstruction-from-checkpoint-missing-protocol/.*", "leave out",
     "schemaString", "metadata has no schema"),
    ("expected/deltalog-state-reconstruction-without-protocol/.*", "leave out", "no protocol",
     "nothing says how to read it"),
    ("expected/log-replay-special-characters.* 0", "be without", "special p@#h: .*missing",
     "the files were never there"),
    ("expected/snapshot-vacuumed/.*", "be without", "missing in the store", "vacuumed"),
    ("expected/update-deleted-directory/.*", "leave out", "schemaString",
     "metadata has no schema"),
    ("expected/versions-not-contiguous/.*", "leave out", "schemaString",
     "version 1 is missing, and before it metadata has no schema"),
    ("features/300k-add-files-.*", "be without", "missing in the store",
     "only the log was kept"),
    ("features/app-txn-with-last-updated .*", "be without", "missing in the store", "vacuumed"),
    ("features/crc-malformed .*", "leave out", "no commit and no checkpoint", "a log of one .crc"),
    ("features/table-with-cdf .*", "be without", "missing in the store",
     "data files were never written"),
    ("features/table-with-geo .*", "refuse", "geospatial", "types that no reader here knows"),
    ("features/with_checkpoint_no_last_checkpoint .*", "be without", "missing in the store",
     "only the log was kept"),
]

# Versions that the kernel reads and deltalake doesn't: a pattern, its error, why.
NOT_BY_DELTALAKE = [
    ("expected/basic-with-vacuum-protocol-check-feature/.* 1", "VacuumProtocolCheck",
     "deltalake lacks the feature"),
    ("features/type-widening [12]", "TypeWideningPreview", "deltalake lacks the feature"),
]

# Columns that `expected/` has otherwise: a table's pattern, the column, why.
OTHER_COLUMNS = [
    ("expected/data-reader-partition-values/.*", "as_timestamp",
     "a partition's time has no zone: the writer meant Los Angeles, readers take UTC"),
]

# Tables whose golden archive has no `expected/`, and that have none of ours to compare with.
ROWS_BY_KERNEL_ALONE = [
    ("expected/hive/.*", "Hive's own cases come without rows"),
]

# Of tables with very many files this many are opened.
FILES_A_VERSION = 100


class Entries:
    """One of the tables above, and which of its entries were needed."""

    def __init__(self, name, entries):
        self.name, self.entries, self.met = name, entries, collections.Counter()

    def find(self, what):
        for entry in self.entries:
            if re.fullmatch(entry[0], what):
                self.met[entry] += 1
                return entry
        return None

    def unneeded(self):
        return [entry[0] for entry in self.entries if entry not in self.met]


def verdict(is_ok, what, *why):
    text = [re.sub(r"\s+", " ", part) for part in why]
    print("\t".join(["ok" if is_ok else "not ok", what, *text]), flush=True)


# --- the corpus -----------------------------------------------------------------------------------


def unpack(lake):
    """Brings every golden table below LAKE/expected and LAKE/features, writable."""
    root = pathlib.Path(os.environ["DELTAFS_GOLDEN"])
    for kind in ("expected", "features"):
        target = pathlib.Path(lake, kind)
        target.mkdir(parents=True)
        for source in sorted(root.joinpath(kind).iterdir()):
            if source.name.endswith(".tar.zst"):
                tar = ["tar", "--zstd", "-xf", source, "-C", target]
                subprocess.run(tar, check=True, stderr=subprocess.DEVNULL)
            elif source.is_dir():
                shutil.copytree(source, target / source.name)
    subprocess.run(["chmod", "-R", "u+w", lake], check=True)


def tables(lake):
    """The tables of a lake by their paths below it."""
    found = []
    for folder, folders, _ in os.walk(lake):
        if "_delta_log" in folders:
            found.append(os.path.relpath(folder, lake))
            folders.clear()
    return sorted(found)


def newest_named(table):
    """The highest version that any name in the log has."""
    names = os.listdir(os.path.join(table, "_delta_log"))
    return max((int(name[:20]) for name in names if name[:20].isdigit()), default=-1)


# --- what the mount shows of a version ------------------------------------------------------------


def data_files(folder):
    """The files of a version directory below it, without its log."""
    for here, folders, files in os.walk(folder):
        if here == folder:
            folders.remove("_delta_log")
        for name in files:
            yield os.path.relpath(os.path.join(here, name), folder)


def shown(table, directory):
    """What the mount does with a version that no reader takes; see UNREADABLE."""
    try:
        if os.path.basename(directory) not in os.listdir(os.path.dirname(directory)):
            return "leave out"
    except OSError:
        return "leave out"
    try:
        os.listdir(directory)
    except OSError:
        return "refuse"
    is_whole, is_empty = True, True
    for path in itertools.islice(data_files(directory), FILES_A_VERSION):
        is_empty = False
        original = os.path.join(table, path)
        try:
            with open(os.path.join(directory, path), "rb") as file:
                found = file.read()
        except OSError as error:
            if error.errno != errno.EIO or os.path.exists(original):
                return f"fail to open {path}: {error}"
            is_whole = False
            continue
        with open(original, "rb") as file:
            if file.read() != found:
                return f"show other bytes in {path}"
    if is_empty:
        return "be empty"
    return "show" if is_whole else "be without"


# --- rows that come with the tables ---------------------------------------------------------------


def as_text(value):
    """A value as the kernel's own expectations are printed (`*.expected.in`)."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return "{%s}" % ", ".join(f"{key}: {as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        if value and isinstance(value[0], tuple):
            return as_text(dict(value))
        return "[%s]" % ", ".join(as_text(item) for item in value)
    return str(value)


def printed(path):
    """The rows of a printed table: `"| a | b |",` a line, after three lines of heading."""
    text = [line.strip().strip('",') for line in open(path, encoding="utf-8")]
    lines = [line for line in text if line.startswith("|")][1:]
    return sorted("|".join(part.strip() for part in line.split("|")[1:-1]) for line in lines)


def expected(lake, table, read):
    """Compares with what came with the table: (has anything, the difference)."""
    folder = os.path.join(lake, os.path.dirname(table), "expected")
    if os.path.basename(table) == "delta" and os.path.isdir(folder):
        entry = OTHERS.find(table)
        without = [entry[1]] if entry else []
        return True, rows.difference(read, rows.of_folder(folder), without)
    text = os.path.join(os.environ["DELTAFS_GOLDEN"], f"{table}.expected.in")
    if os.path.isfile(text):
        columns = [[as_text(value) for value in column.to_pylist()] for column in read.columns]
        lines = sorted("|".join(row) for row in zip(*columns))
        return True, rows.difference_of_lines(lines, printed(text))
    return False, ""


# --- the check ------------------------------------------------------------------------------------

FAILS = Entries("UNREADABLE", UNREADABLE)
LACKS = Entries("NOT_BY_DELTALAKE", NOT_BY_DELTALAKE)
OTHERS = Entries("OTHER_COLUMNS", OTHER_COLUMNS)
ALONE = Entries("ROWS_BY_KERNEL_ALONE", ROWS_BY_KERNEL_ALONE)


def attempt(reader, *arguments):
    try:
        return reader(*arguments), ""
    except kernel.Refused as error:
        return None, str(error)


class Check:
    """One run over all tables: what was counted, and what was wrong with the table at hand."""

    def __init__(self, lake, mount, trace):
        self.lake, self.mount, self.trace = lake, mount, trace
        self.kernel = kernel.Kernel(os.environ["DELTAFS_TEST_SCRATCH"])
        self.counts = collections.Counter()
        self.wrong = []

    def says(self, table, sentence):
        """Whether a line of the trace names the table and says the sentence."""
        wanted = re.compile(f"table {re.escape(table)}( version \\d+)?: .*({sentence})")
        with open(self.trace, encoding="utf-8", errors="replace") as trace:
            return any(wanted.search(line) for line in trace)

    def version(self, table, version):
        """Checks one version; returns the mount's rows of it where they are readable."""
        name = f"{table} {version}"
        original = os.path.join(self.lake, table)
        directory = os.path.join(self.mount, table, "versions", str(version))
        self.counts["versions"] += 1
        wanted, why = attempt(self.kernel.read, original, version)
        found, failure = attempt(self.kernel.read, directory, version)
        if (wanted is None) != (found is None):
            reads = "the original" if found is None else "the mount's copy"
            self.wrong.append(f"{version}: the kernel reads {reads} alone: {why}{failure}")
            return None
        if wanted is None:
            self.unreadable(name, original, directory, why)
            return None
        difference = rows.difference(wanted, found)
        if wanted.schema != found.schema:
            difference = difference or f"schema {wanted.schema} became {found.schema}"
        if difference:
            self.wrong.append(f"{version}: {difference}")
            return None
        self.counts["equal"] += 1
        self.counts["rows"] += found.num_rows
        self.by_deltalake(name, directory, version, found)
        return found

    def by_deltalake(self, name, directory, version, wanted):
        found, failure = attempt(kernel.deltalake, directory, version)
        if found is not None:
            difference = rows.difference(wanted, found)
            if difference:
                self.wrong.append(f"{version} by deltalake: {difference}")
            self.counts["deltalake"] += 1
            return
        entry = LACKS.find(name)
        if entry is None or not re.search(entry[1], failure):
            self.wrong.append(f"{version}: deltalake refuses it: {failure}")

    def unreadable(self, name, original, directory, why):
        self.counts["unreadable"] += 1
        does = shown(original, directory)
        entry = FAILS.find(name)
        table = name.rsplit(" ", 1)[0]
        if entry is None:
            self.wrong.append(f"{name}: nobody reads it ({why}); the mount: {does}")
        elif does != entry[1]:
            self.wrong.append(f"{name}: the mount should {entry[1]} it: {does}")
        elif entry[2] and not self.says(table, entry[2]):
            self.wrong.append(f"{name}: the trace doesn't say {entry[2]} of it")

    def table(self, table):
        self.wrong = []
        newest = newest_named(os.path.join(self.lake, table))
        read = None
        for version in range(newest + 1):
            read = self.version(table, version)
        if read is not None:
            has_any, difference = expected(self.lake, table, read)
            self.counts["expected"] += has_any
            if difference:
                self.wrong.append(f"not what was expected: {difference}")
            if not has_any and table.startswith("expected/") and not ALONE.find(table):
                self.wrong.append("no rows came with the table")
        listed = self.listed(table)
        if listed and max(listed) != newest:
            self.wrong.append(f"the newest version is {newest}, the mount's {max(listed)}")
        self.counts["tables"] += 1
        verdict(not self.wrong, f"{table}: each of {newest + 1} versions", *self.wrong[:4])

    def listed(self, table):
        try:
            return [int(name) for name in os.listdir(f"{self.mount}/{table}/versions")]
        except OSError:
            return []

    def report(self):
        self.kernel.close()
        for entries in (FAILS, LACKS, OTHERS, ALONE):
            unneeded = entries.unneeded()
            verdict(not unneeded, f"every entry of {entries.name} is needed", *unneeded)
        count = self.counts
        print(
            f"{count['tables']} tables, {count['versions']} versions: {count['equal']} the same as "
            f"the original by delta_kernel ({count['rows']} rows), {count['deltalake']} of them by "
            f"deltalake too; {count['expected']} tables the same as expected/; "
            f"{count['unreadable']} versions that nobody reads:"
        )
        for entry, versions in FAILS.met.items():
            print(f"  {versions} of {entry[0]}: {entry[1]}: {entry[3]}")
        for entries in (LACKS, OTHERS, ALONE):
            for entry, times in entries.met.items():
                print(f"  {entries.name}: {times} of {entry[0]}: {entry[-1]}")
        verdict(count["equal"] >= 400, "so many versions were read that it can be true")


def check(lake, mount, trace):
    run = Check(lake, mount, trace)
    for table in tables(lake):
        run.table(table)
    run.report()


if __name__ == "__main__":
    {"unpack": unpack, "check": check}[sys.argv[1]](*sys.argv[2:])
