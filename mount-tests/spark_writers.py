#!/usr/bin/env python3
"""Spark writes plain Parquet straight into staging directories: `df.write.parquet`.

`spark_writers.py LAKE MOUNT FOLDER`. Each case is written into a folder of the plain file system
and into a staging directory: the tree must be the same but for what Spark draws by lot, and `sync`
makes it one commit with the rows that Spark reads in the plain folder. Both committers, append,
overwrite (which removes the directory itself and makes it again), partitions, and the dynamic
overwrite of partitions.

Prints `ok`, `not ok` and remarks by lines, for `verdicts` of lib.sh.
"""

import json
import os
import re
import subprocess
import sys

import kernel
import oracle
import spark

COMMITTER = "mapreduce.fileoutputcommitter.algorithm.version"
COMMITTERS = {"committer 1": {COMMITTER: "1"}, "committer 2": {COMMITTER: "2"}}
MARKERS = "mapreduce.fileoutputcommitter.marksuccessfuljobs"
LOT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Case:
    """One staging directory: what is written, step by step, and whether it goes into `sales`."""

    def __init__(self, name, steps, is_sales=False, options=()):
        self.name, self.steps, self.is_sales = name, steps, is_sales
        self.options = dict(options)


def write(mode, first, count, files=2, empty=False, **options):
    """A step: rows `first` to `first + count` of the case, in so many files."""
    return {
        "mode": mode,
        "first": first,
        "count": count,
        "files": files,
        "empty": empty,
        "options": options,
    }


def cases():
    dynamic = {"partitionOverwriteMode": "dynamic"}
    for committer, options in COMMITTERS.items():
        for is_sales in (False, True):
            kind = f"{committer}, {'partitionBy' if is_sales else 'no partitions'}"
            append, again = write("append", 0, 20), write("append", 20, 15, files=1)
            yield Case(f"append, {kind}", [append], is_sales, options)
            yield Case(f"append twice, {kind}", [append, again], is_sales, options)
            over = write("overwrite", 5, 10)
            yield Case(f"overwrite of nothing, {kind}", [over], is_sales, options)
            several = [append, over, write("append", 30, 5), write("overwrite", 40, 5)]
            yield Case(f"append, overwrite, twice, {kind}", several, is_sales, options)
            refused = [append, write("error", 0, 5), write("ignore", 0, 5)]
            yield Case(f"modes error and ignore, {kind}", refused, is_sales, options)
        swap = [write("append", 0, 30), write("overwrite", 10, 4, **dynamic)]
        yield Case(f"dynamic overwrite, {committer}", swap, True, options)
        fresh = [write("overwrite", 0, 30, **dynamic)]
        yield Case(f"dynamic overwrite of nothing, {committer}", fresh, True, options)
    for codec in ("none", "gzip", "zstd"):
        yield Case(f"compression {codec}", [write("append", 0, 10, compression=codec)])
    unmarked = [write("append", 0, 10), write("overwrite", 5, 10)]
    yield Case("without markers", unmarked, True, {MARKERS: "false"})
    yield Case("many small files", [write("append", 0, 40, maxRecordsPerFile="3")])
    yield Case("no rows", [write("append", 0, 5, empty=True), write("append", 5, 5)])


# --- Spark ----------------------------------------------------------------------------------------


def frame(session, start, step, is_sales):
    first, count = start + step["first"], step["count"]
    columns = ["id", "1.5 * id as amount", "concat('note ', id) as note"]
    if is_sales:
        columns.append("date_add(date'2026-11-01', cast(floor(id / 10) as int)) as date")
    rows = session.range(first, first + count, 1, step["files"]).selectExpr(*columns)
    rows = rows.selectExpr("id", "cast(amount as double) as amount", *columns[2:])
    if is_sales:
        rows = rows.selectExpr("id", "amount", "note", "date")
    return rows.where("id < 0") if step["empty"] else rows


def written(engine, case, start, dest):
    """What each step came to."""
    outcomes = []
    for step in case.steps:
        writer = frame(engine.session, start, step, case.is_sales).write.mode(step["mode"])
        for name, value in (case.options | step["options"]).items():
            writer = writer.option(name, value)
        if case.is_sales:
            writer = writer.partitionBy("date")
        try:
            engine.attempt(lambda: writer.parquet(f"file://{dest}"))
            outcomes.append("written")
        except kernel.Refused as error:
            outcomes.append(str(error).replace(dest, "DEST"))
    return outcomes


def tree(folder):
    """Names without what is drawn by lot, with types and modes."""
    found = []
    for path, folders, files in os.walk(folder):
        for name in folders + files:
            whole = os.path.join(path, name)
            plain = LOT.sub("LOT", os.path.relpath(whole, folder))
            found.append(f"{plain} {os.lstat(whole).st_mode:o}")
    return sorted(found)


def ids(engine, folder):
    """The rows as Spark itself reads them."""
    found = engine.attempt(lambda: engine.session.read.parquet(f"file://{folder}").collect())
    return sorted(row["id"] for row in found)


def newest(table):
    return max(int(name[:20]) for name in os.listdir(f"{table}/_delta_log") if name[:20].isdigit())


# --- cases ----------------------------------------------------------------------------------------


def run(engine, lake, mount, folder, number, case):
    """One case; the rows that it brought, and what is wrong."""
    name, start = f"case-{number}", 1000 * (number + 1)
    table = "sales" if case.is_sales else "plain"
    native, staging = f"{folder}/{name}", f"{mount}/{table}/staging/{name}"
    outcomes = []
    for dest in (native, staging):
        os.mkdir(dest)
        outcomes.append(written(engine, case, start, dest))
    problems = []
    if outcomes[0] != outcomes[1]:
        problems += [f"natively {outcomes[0]}", f"in staging {outcomes[1]}"]
    trees = tree(native), tree(staging)
    if trees[0] != trees[1]:
        alone = set(trees[0]) ^ set(trees[1])
        problems.append(f"of one tree alone: {sorted(alone)[:6]}")
    rows = ids(engine, native)
    before = newest(f"{lake}/{table}")
    done = subprocess.run(["sync", staging], capture_output=True, text=True)
    if done.returncode != 0:
        with open(f"{staging}/.deltafs/result") as result:
            problems.append(f"sync: {done.stderr} {result.read()}")
    elif newest(f"{lake}/{table}") != before + 1:
        problems.append("sync made no version")
    elif os.listdir(staging):
        problems.append(f"staging has {os.listdir(staging)} after the commit")
    return table, rows, problems


def told(description, problems):
    if problems:
        print("\t".join(["not ok", description, *problems]).replace("\n", " / "), flush=True)
    else:
        print(f"ok\t{description}", flush=True)


def main(lake, mount, folder):
    engine = spark.Spark(folder)
    wanted = {"plain": set(range(10)), "sales": set(range(10))}
    for number, case in enumerate(cases()):
        table, rows, problems = run(engine, lake, mount, folder, number, case)
        wanted[table].update(rows)
        told(f"{case.name}: {len(rows)} rows", problems)
    for table, rows in wanted.items():
        lines = [json.loads(line) for line in oracle.read(f"{lake}/{table}")[1]]
        problems = []
        if sorted(line["id"] for line in lines) != sorted(rows):
            problems.append(f"{len(lines)} rows, not {len(rows)}")
        for line in lines:
            right = {"amount": 1.5 * line["id"], "note": f"note {line['id']}"}
            if table == "sales":
                right["date"] = repr(oracle.day(line["id"]))
            if any(line[column] != value for column, value in right.items()):
                problems.append(f"a row is not as it was written: {line}")
        told(f"{table} has the {len(rows)} rows of all cases, each once", problems[:3])
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
