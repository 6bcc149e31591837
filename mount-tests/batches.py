"""What one actor of a storm brings at a time, and what it was promised of it.

A batch is a few Parquet files whose names say whose they are and whose rows follow from their ids,
so that a log and a table can be held against it. A restore's batch has no files: it is a version
that the table shall be again.
"""

import datetime
import filecmp
import os
import random
import re

import pyarrow as pa
import pyarrow.parquet

# What deltafs adds to a name that the table had before.
NAME = re.compile(r"([a-z]+)-(\d{6})-(\d)(?:-[0-9a-z]+)?\.parquet")
IDS_A_FILE = 8
IDS_A_BATCH = 10 * IDS_A_FILE
IDS_AN_ACTOR = 1_000_000 * IDS_A_BATCH
FIRST_DAY = datetime.date(2026, 11, 1)
DAYS = 4
BULK_BYTES = 120_000

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("amount", pa.float64()), ("note", pa.string())]
)

STAGING, SYNCING, DONE = "staging", "syncing", "done"
UNTOLD = -1


class Batch:
    """The files of one commit, and how far it has come."""

    def __init__(self, actor, number, dice, is_partitioned):
        self.actor, self.number = actor, number
        self.mode = "overwrite" if dice.random() < 0.15 else "append"
        self.txn = (f"storm-{actor.name}", number) if dice.random() < 0.4 else None
        self.phase = STAGING
        self.begun = False  # Whether the staging directory is empty and there for it.
        self.is_repeated = False  # Whether `sync` was called again after the daemon's death.
        self.is_brought_again = False  # Whether its tool was run again after that.
        self.fsynced = set()
        self.at = {}  # Where a file lies that has another name on its way.
        self.restores = None  # The version that a restore brings back.
        self.version = UNTOLD  # What `result` said: a number, or `None` for no version.
        self.found = None  # The version that the log has it as.
        self.files = []
        day = f"date={day_of(number)}/" if is_partitioned else ""
        for index in range(dice.choice((1, 1, 2, 3))):
            self.files.append(f"{day}{actor.name}-{number:06}-{index}.parquet")

    @property
    def key(self):
        return (self.actor.name, self.number)

    def options(self):
        lines = [] if self.restores is not None else [f"mode={self.mode}"]
        if self.txn is not None:
            lines.append(f"txn={self.txn[0]}:{self.txn[1]}")
        return "".join(f"{line}\n" for line in lines)

    def write_source(self, folder):
        """Writes the files where the tools bring them from."""
        for path in self.files:
            whole = os.path.join(folder, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            pyarrow.parquet.write_table(rows(first_id(path)), whole)

    def is_whole(self, path, source, staged):
        """Whether a file that was fsynced lies in the staging directory with its bytes."""
        for name in self.at.get(path, (path,)):
            found = os.path.join(staged, name)
            if os.path.exists(found):
                return filecmp.cmp(os.path.join(source, path), found, shallow=False)
        return False


def day_of(number):
    return (FIRST_DAY + datetime.timedelta(days=number % DAYS)).isoformat()


def first_id(path):
    """The first row's id in a file, by its name: no two files share one."""
    name, number, index = NAME.fullmatch(os.path.basename(path)).groups()
    actor = int.from_bytes(name.encode()[:2], "big")
    return actor * IDS_AN_ACTOR + int(number) * IDS_A_BATCH + int(index) * IDS_A_FILE


def key_of(path):
    """Whose batch a data file is of: actor and number; `None` for a file of nobody's."""
    found = NAME.fullmatch(os.path.basename(path))
    return (found[1], int(found[2])) if found else None


def ids_of(first):
    return range(first, first + 1 + first // IDS_A_FILE % IDS_A_FILE)


def note(row_id):
    """One row in some files is bulky, so that a tool can be killed in the middle of it."""
    if row_id % (3 * IDS_A_FILE):
        return f"note {row_id}"
    return random.Random(row_id).randbytes(BULK_BYTES).hex()


def rows(first):
    """The rows of a file that begins with that id."""
    ids = list(ids_of(first))
    columns = [ids, [1.5 * row for row in ids], [note(row) for row in ids]]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA)], schema=SCHEMA)
