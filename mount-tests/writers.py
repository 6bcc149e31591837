"""One writer of the linearity test: commits to a table in its own way, and writes down what it did
and saw, one line of JSON an operation, with the times of the machine's one clock.

    writers.py ROLE NAME TABLE COUNT RECORD [STAGING]

TABLE is the table in a mount, or for `foreign` in the lake. A row is (process, seq, ticket); each
commit brings one new row of its own. What is promised of each role is in linearity.py.

append     brings a file with its row
exact      the same with a transaction of its own, and each commit is tried twice
ticket     an append with the transaction `ticket:K`, where K - 1 is the newest that it read
swap       reads the newest version, and overwrites it with that and its row, under `ticket:K`
blind      the same without a transaction
foreign    deltalake appends
"""

import json
import os
import random
import re
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet

SCHEMA = pa.schema([("process", pa.string()), ("seq", pa.int64()), ("ticket", pa.int64())])
TRIES_MAX = 1000
# Each so many reads, what was read is written down too.
READS_TOLD = 8


def table_of(rows):
    columns = zip(*rows) if rows else ((), (), ())
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA)], schema=SCHEMA)


def rows_of(path):
    table = pyarrow.parquet.ParquetFile(path).read()
    return list(zip(*(table.column(name).to_pylist() for name in SCHEMA.names)))


class Writer:
    def __init__(self, name, table, record, staging):
        self.name, self.table, self.record = name, table, record
        self.staged = os.path.join(table, "staging", staging) if staging else None
        self.dice = random.Random(name)
        self.reads = 0
        self.tickets_to, self.newest_ticket = 0, 0

    def tell(self, **what):
        self.record.write(json.dumps({"process": self.name, **what}) + "\n")
        self.record.flush()

    # --- reads

    def newest(self):
        return int(os.readlink(os.path.join(self.table, "latest")).rpartition("/")[2])

    def read(self, needs_rows):
        """The newest version and its rows, all through the mount."""
        begin = time.monotonic_ns()
        version = self.newest()
        self.reads += 1
        tells = self.reads % READS_TOLD == 0
        rows = self.rows(version) if needs_rows or tells else None
        told = sorted(rows, key=str) if tells else None
        self.tell(kind="read", begin=begin, end=time.monotonic_ns(), version=version, rows=told)
        return version, rows

    def rows(self, version):
        folder = os.path.join(self.table, "versions", str(version))
        names = [name for name in os.listdir(folder) if name.endswith(".parquet")]
        return [row for name in names for row in rows_of(os.path.join(folder, name))]

    def ticket(self, version):
        """The newest ticket that was taken as of a version, from the commits in its directory."""
        log = os.path.join(self.table, "versions", str(version), "_delta_log")
        while self.tickets_to < version:
            self.tickets_to += 1
            with open(os.path.join(log, f"{self.tickets_to:020}.json"), encoding="utf-8") as lines:
                found = re.search(r'"appId":"ticket","version":(\d+)', lines.read())
            if found:
                self.newest_ticket = int(found[1])
        return self.newest_ticket

    # --- commits

    def commit(self, seq, rows, options, base=None):
        """Stages one file and syncs it; whether there is a version of it."""
        begin = time.monotonic_ns()
        with open(os.path.join(self.staged, ".deltafs", "options"), "w", encoding="utf-8") as file:
            file.write(options)
        name = f"{self.name}-{seq:06}.parquet"
        pyarrow.parquet.write_table(table_of(rows), os.path.join(self.staged, name))
        code = subprocess.run(["sync", self.staged], capture_output=True, check=False).returncode
        end = time.monotonic_ns()
        with open(os.path.join(self.staged, ".deltafs", "result"), encoding="utf-8") as file:
            result = json.load(file)
        self.tell(kind="commit", seq=seq, begin=begin, end=end, code=code, state=result["state"],
                  version=result.get("version"), base=base, error=result.get("error"))
        if code != 0:
            raise SystemExit(f"{self.name}: sync exits {code}: {result}")
        return result["version"] is not None

    def append(self, seq):
        self.read(False)
        self.commit(seq, [(self.name, seq, None)], "mode=append\n")

    def exact(self, seq):
        self.read(False)
        rows, options = [(self.name, seq, None)], f"mode=append\ntxn={self.name}:{seq}\n"
        self.commit(seq, rows, options)
        if self.commit(seq, rows, options):
            raise SystemExit(f"{self.name}: the transaction {seq} was committed twice")

    def take(self, seq, mode):
        """Commits under the next ticket; when somebody has that one, from the beginning."""
        for _ in range(TRIES_MAX):
            base, seen = self.read(mode == "overwrite")
            ticket = self.ticket(base) + 1
            rows = [*(seen if mode == "overwrite" else []), (self.name, seq, ticket)]
            if self.commit(seq, rows, f"mode={mode}\ntxn=ticket:{ticket}\n", base):
                return
        raise SystemExit(f"{self.name}: no ticket was to be had in {TRIES_MAX} tries")

    def blind(self, seq):
        base, seen = self.read(True)
        self.commit(seq, [*seen, (self.name, seq, None)], "mode=overwrite\n", base)

    def foreign(self, seq):
        from deltalake import write_deltalake
        from deltalake.exceptions import CommitFailedError

        begin = time.monotonic_ns()
        for tries in range(TRIES_MAX):
            try:
                write_deltalake(self.table, table_of([(self.name, seq, None)]), mode="append")
                break
            except CommitFailedError:
                time.sleep(self.dice.uniform(0, 0.05))
        self.tell(kind="commit", seq=seq, begin=begin, end=time.monotonic_ns(), code=0,
                  state="committed", version=None, base=None, tries=tries)


def main(role, name, table, count, record, staging=None):
    with open(record, "w", encoding="utf-8") as file:
        writer = Writer(name, table, file, staging)
        if writer.staged:
            os.mkdir(writer.staged)
        step = {
            "append": writer.append,
            "exact": writer.exact,
            "ticket": lambda seq: writer.take(seq, "append"),
            "swap": lambda seq: writer.take(seq, "overwrite"),
            "blind": writer.blind,
            "foreign": writer.foreign,
        }[role]
        for seq in range(1, count + 1):
            step(seq)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:])
