#!/usr/bin/env python3
"""Our commits and Spark's, in turn, on copies of golden tables and on tables that Spark made.

`engines.py LAKE MOUNT SHARE`. On each table:

1. we append a file, one of the table's own under a new name;
2. Spark checks our `.crc`, turns deletion vectors and a checkpoint at each commit on, inserts,
   optimizes and deletes; the mount must show each of these versions;
3. we overwrite the table with that one file, and the checkpoint that follows must alone, without
   the commits before it, hold the same state;
4. we restore the version of step 1; from one table each form of checkpoint that we can write is
   read alone.

After each of our commits delta_kernel, deltalake and Spark must read the rows that must be there,
computed from the table before and the file alone. What an engine or we refuse has its reason in
`refusals.py`. SHARE is `all`; or `some`, a part that has every feature; or a pattern of names.

Prints `ok`, `not ok` and remarks by lines, for `verdicts` of lib.sh.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import time

import deltalog
import golden
import kernel
import made
import refusals
import rows
import spark

SCRATCH = os.environ["DELTAFS_TEST_SCRATCH"]

# Tables of more rows are too slow for what they add.
ROWS_MAX = 5_000

# Where a checkpoint of each form is written, by examples/write_checkpoint.rs.
WITH_EVERY_FORM = "made/v2-checkpoints"
FORMS = ["classic", "v2-parquet", "v2-json", "sidecars-parquet", "sidecars-json"]
WRITER = "write_checkpoint"

# Types whose values Spark shows otherwise.
HIDDEN = re.compile('"(variant|void)"')


def wait_until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Wrong(Exception):
    """A table isn't what it must be; the text says how."""


class Turns:
    """One table under test: who did what, and what must be in it."""

    def __init__(self, check, table):
        self.check, self.table, self.wrong = check, table, []
        self.is_spared = check.refusals.spared(table)
        self.lake = os.path.join(check.lake, table)
        self.mount = os.path.join(check.mount, table)
        if not wait_until(lambda: os.path.isdir(os.path.join(self.mount, "latest")), 10):
            raise Wrong("the mount doesn't show the table")
        self.state = deltalog.State(self.lake)
        columns = self.state.columns()
        # Spark gives variants as their JSON, and hides columns of no type.
        self.hidden = [c["name"] for c in columns if HIDDEN.search(json.dumps(c["type"]))]
        # What a predicate can be made of.
        is_plain = lambda c: isinstance(c["type"], str) and c["name"] not in self.hidden
        self.plain = [c["name"] for c in columns if is_plain(c)]
        self.rows = rows.lines(check.kernel.read(self.lake))

    # --- what is there

    def see(self, step, wanted, path=None, version=None):
        """All three engines must read the wanted rows from the table, or from a copy of it."""
        path = path or self.lake
        readers = {
            "delta_kernel": self.check.kernel.read,
            "deltalake": kernel.deltalake,
            "Spark": self.check.spark.read,
        }
        if self.is_spared:
            del readers["Spark"]
        for name, read in readers.items():
            without = self.hidden if name == "Spark" else []
            table, failure = self.timed(f"read by {name}", read, path, version)
            if table is None:
                self.refused(name, "read", failure)
                continue
            found = rows.lines(table, without)
            difference = rows.difference_of_lines(dropped(wanted, without), found)
            if difference:
                self.wrong.append(f"{step}: {name} reads other rows: {difference}")
            self.check.counts[f"reads by {name}"] += 1
        self.see_row_ids(step, path, len(wanted))

    def see_row_ids(self, step, path, count):
        """Where rows are tracked, Spark must find an id of its own in each."""
        configuration = deltalog.State(path).metadata["configuration"]
        if configuration.get("delta.enableRowTracking") == "true" and not self.is_spared:
            ids = "COUNT(DISTINCT _metadata.row_id)"
            found = self.check.spark.sql(f"SELECT {ids} FROM delta.`{path}`")[0][0]
            if found != count:
                self.wrong.append(f"{step}: {count} rows have {found} row ids")
            self.check.counts["readings with row ids"] += 1

    def timed(self, what, function, *arguments):
        start = time.monotonic()
        done = golden.attempt(function, *arguments)
        self.check.seconds[what] += time.monotonic() - start
        return done

    def refused(self, who, what, why):
        """Nobody refuses anything without an entry."""
        if not self.check.refusals.met(self.table, f"{who} {what}", why):
            self.wrong.append(f"{who} refuses to {what}: {why}")

    def shown(self, since):
        """The mount must show the versions since, each as it is read from the table itself."""
        newest = deltalog.newest(self.lake)
        latest = os.path.join(self.mount, "latest")
        if not wait_until(lambda: os.readlink(latest) == f"versions/{newest}", 10):
            raise Wrong(f"the mount's latest is {os.readlink(latest)}, the table's {newest}")
        for version in range(since, newest + 1):
            copy = os.path.join(self.mount, "versions", str(version))
            wanted, failure = golden.attempt(self.check.kernel.read, self.lake, version)
            found, _ = golden.attempt(self.check.kernel.read, copy, version)
            if (wanted is None) != (found is None):
                self.wrong.append(f"the mount is otherwise about {version}: {failure}")
            elif wanted is None:  # Spark cleans up logs that are old enough.
                self.check.counts["versions that Spark cleaned up"] += 1
            elif rows.difference(wanted, found):
                difference = rows.difference(wanted, found)
                self.wrong.append(f"the mount shows version {version} otherwise: {difference}")
            else:
                self.check.counts["versions seen through the mount"] += 1

    # --- our turns

    def stage(self):
        directory = os.path.join(self.mount, "staging", "turn")
        os.mkdir(directory)
        return directory

    def commit(self, what, directory):
        """Syncs what is staged: the new version, or None where it is refused by an entry."""
        before = deltalog.newest(self.lake)
        done = subprocess.run(["sync", directory], capture_output=True, text=True)
        with open(os.path.join(directory, ".deltafs", "result"), encoding="utf-8") as file:
            result = json.load(file)
        if done.returncode != 0:
            shutil.rmtree(directory)
            self.refused("deltafs", what, result.get("error", done.stderr))
            return None
        os.rmdir(directory)
        if result["version"] != before + 1:
            raise Wrong(f"{what} made version {result['version']} after {before}")
        self.check.counts[f"{what}s"] += 1
        return before + 1

    def put(self, directory, name):
        """Brings the chosen file under a new name, in the directories of its partition."""
        names = self.state.logical_names()
        for column in self.state.metadata["partitionColumns"]:
            physical = next(key for key, value in names.items() if value == column)
            value = self.add["partitionValues"].get(physical)
            text = "__HIVE_DEFAULT_PARTITION__" if value in (None, "") else escaped(value)
            directory = os.path.join(directory, f"{escaped(column)}={text}")
            os.makedirs(directory, exist_ok=True)
        shutil.copyfile(self.file, os.path.join(directory, name))

    def append(self):
        directory = self.stage()
        self.put(directory, "ours.parquet")
        return self.commit("append", directory)

    def overwrite(self):
        directory = self.stage()
        with open(os.path.join(directory, ".deltafs", "options"), "w", encoding="utf-8") as file:
            file.write("mode=overwrite\n")
        self.put(directory, "alone.parquet")
        return self.commit("overwrite", directory)

    def restore(self, version):
        directory = self.stage()
        version = os.path.join(self.mount, "versions", str(version))
        subprocess.run(["cp", "-al", f"{version}/.", directory], check=True)
        return self.commit("restore", directory)

    # --- Spark's turn

    def spark_turn(self):
        """What Spark does between our commits."""
        engine, name = self.check.spark, f"delta.`{self.lake}`"
        # Golden tables are old: Spark would clean their logs up, and what we restore is gone.
        properties = "'delta.enableDeletionVectors'='true', 'delta.checkpointInterval'='1'"
        properties += ", 'delta.enableExpiredLogCleanup'='false'"
        chosen = ", ".join(spark.quoted(name) for name in self.plain) or "1"
        steps = {
            "alter": f"ALTER TABLE {name} SET TBLPROPERTIES ({properties})",
            "insert": f"INSERT INTO {name} SELECT * FROM {name} LIMIT 5",
            "optimize": f"OPTIMIZE {name}",
            "delete": f"DELETE FROM {name} WHERE pmod(hash({chosen}), 3) = 0",
        }
        before = deltalog.newest(self.lake)
        for step, statement in steps.items():
            # The first commit that follows ours checks what our .crc says.
            engine.verifying(step == "alter")
            answer, failure = self.timed(step, engine.sql, statement)
            if answer is None:
                self.refused("Spark", step, failure)
            else:
                self.check.counts[f"{step}s by Spark"] += 1
        found = {version for version, _ in deltalog.checkpoints(self.lake) if version > before}
        self.check.counts["checkpoints by Spark"] += len(found)
        vectors = [add for add in deltalog.State(self.lake).adds if add.get("deletionVector")]
        self.check.counts["tables with deletion vectors of Spark's"] += bool(vectors)

    def checkpoint(self, version, wanted):
        """The checkpoint of our commit holds the table's state, alone."""
        has = lambda: [name for at, name in deltalog.checkpoints(self.lake) if at == version]
        if not wait_until(has, 20):
            raise Wrong(f"no checkpoint follows our version {version}")
        copy = os.path.join(SCRATCH, "copies", self.table)
        # It is written under another name first: what is seen is whole, its pointer comes last.
        pointer = os.path.join(deltalog.folder(self.lake), "_last_checkpoint")
        points = lambda: json.load(open(pointer, encoding="utf-8"))["version"] == version
        if not wait_until(points, 20):
            raise Wrong(f"_last_checkpoint doesn't name version {version}")
        deltalog.copy(self.lake, copy)
        deltalog.drop_before(copy, version)
        self.see("from our checkpoint alone", wanted, copy)
        self.check.counts["checkpoints"] += 1
        shutil.rmtree(copy)

    def forms(self, wanted):
        """A checkpoint of each form that we can write holds the state, alone."""
        program = os.path.join(os.path.dirname(os.environ["DELTAFS_KERNEL_ROWS"]), WRITER)
        for form in FORMS:
            copy = os.path.join(SCRATCH, "forms", form)
            deltalog.copy(self.lake, copy)
            deltalog.drop_checkpoints(copy)
            subprocess.run([program, copy, form], check=True, stdout=subprocess.DEVNULL)
            deltalog.drop_before(copy, deltalog.newest(copy))
            has_sidecars = any(kind == "sidecar" for kind, _ in deltalog.top_level(copy))
            if has_sidecars != form.startswith("sidecars"):
                self.wrong.append(f"{form}: sidecars: {has_sidecars}")
            self.see(f"from a checkpoint as {form} alone", wanted, copy)
            self.check.counts["checkpoints of a given form"] += 1

    # --- all of it

    def choose(self):
        """The file that we bring, and its rows, told by a table of its own."""
        plain = [add for add in self.state.adds if not add.get("deletionVector")]
        self.add = (plain or self.state.adds)[0]
        one = os.path.join(SCRATCH, "one", self.table)
        source = os.path.join(self.lake, deltalog.file_of(self.add))
        deltalog.table_of_one_file(one, self.state, self.add, source)
        self.file = os.path.join(one, "rows.parquet")
        self.file_rows = rows.lines(self.check.kernel.read(one))

    def run(self):
        first = deltalog.newest(self.lake)
        self.choose()
        appended = self.rows
        if self.append() is not None:
            appended = sorted(self.rows + self.file_rows)
        ours = deltalog.newest(self.lake)
        self.see("after our append", appended)
        if not self.is_spared:
            self.spark_turn()
        self.shown(first)
        overwritten = self.overwrite()
        if overwritten is not None:
            if deltalog.State(self.lake).metadata["configuration"].get("delta.checkpointInterval"):
                self.checkpoint(overwritten, self.file_rows)
            else:
                self.see("after our overwrite", self.file_rows)
        is_there = os.path.isdir(os.path.join(self.mount, "versions", str(ours)))
        self.check.counts["restores without their version"] += not is_there  # Cleaned up by Spark.
        if is_there and self.restore(ours) is not None:
            self.see("after our restore", appended)
            if self.table == WITH_EVERY_FORM:
                self.forms(appended)
        self.shown(deltalog.newest(self.lake))


def dropped(lines, names):
    """The same rows without some columns."""
    if not names:
        return lines
    parsed = [json.loads(line) for line in lines]
    kept = [{name: row[name] for name in row if name not in names} for row in parsed]
    return sorted(json.dumps(row, ensure_ascii=False) for row in kept)


def escaped(text):
    """A part of a Hive-style directory name."""
    special = '"#%\'*/:=?\\{}[]^\x7f'
    return "".join(f"%{ord(c):02X}" if c in special or ord(c) < 32 else c for c in text)


class Check:
    """One run over all tables of the lake."""

    def __init__(self, lake, mount, engine):
        self.lake, self.mount, self.spark = lake, mount, engine
        self.kernel = kernel.Kernel(SCRATCH)
        self.counts, self.seconds = collections.Counter(), collections.Counter()
        self.refusals = refusals.Refusals()

    def table(self, table):
        start = time.monotonic()
        wrong = []
        try:
            turns = Turns(self, table)
            wrong = turns.wrong
            turns.run()
        except (Wrong, kernel.Refused, OSError, subprocess.CalledProcessError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        took = time.monotonic() - start
        golden.verdict(not wrong, f"{table}: our turns and Spark's ({took:.1f} s)", *wrong)
        self.counts["tables"] += 1

    def report(self, share):
        self.kernel.close()
        self.spark.close()
        if share == "all":
            unneeded = self.refusals.unneeded()
            golden.verdict(not unneeded, "every entry of refusals.py is needed", *unneeded)
        print(f"share of tables: {share}; " + "; ".join(f"{n} {c}" for c, n in self.counts.items()))
        print("seconds: " + ", ".join(f"{s:.0f} {what}" for what, s in self.seconds.items()))
        for line in self.refusals.report():
            print(f"  {line}")


def is_in(table, share):
    if share in ("all", "some"):
        return share == "all" or table in refusals.SOME
    return re.fullmatch(share, table) is not None


def writable(check, share):
    """The golden tables that can be read by the kernel, are not too big, and are in the share."""
    for table in golden.tables(check.lake):
        is_asked = not table.startswith("made/") and is_in(table, share)
        if is_asked and not check.refusals.left_out(table):
            found, _ = golden.attempt(check.kernel.read, os.path.join(check.lake, table))
            if found is not None and 0 < found.num_rows <= ROWS_MAX:
                yield table


def main(lake, mount, share):
    check = Check(lake, mount, spark.Spark(SCRATCH))
    for table in made.MADE:
        if is_in(f"made/{table}", share):
            made.make(check.spark, lake, table)
            check.table(f"made/{table}")
    for table in reversed(list(writable(check, share))):
        check.table(table)
    check.report(share)


if __name__ == "__main__":
    main(*sys.argv[1:])
