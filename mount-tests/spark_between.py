"""Restores and replaced partitions between Spark's commits. Prints verdicts for lib.sh."""

import json
import os
import subprocess
import sys
import time

import spark
from kernel import Kernel, Refused

LAKE, MNT, SCRATCH = sys.argv[1:4]


def told(is_right, what, why=""):
    print("\t".join(["ok", what] if is_right else ["not ok", what, str(why)]), flush=True)


def same(what, got, expected):
    told(got == expected, what, f"expected {expected}, got {got}")


def shell(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def newest(table):
    return int(os.path.basename(os.readlink(f"{MNT}/{table}/latest")))


def wait_for(table, version):
    for _ in range(500):
        if os.path.isdir(f"{MNT}/{table}/versions/{version}"):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{table}: version {version} doesn't appear")


class Table:
    """One table, by Spark, through the mount, and by delta_kernel."""

    def __init__(self, engine, kernel, name):
        self.spark, self.kernel, self.name = engine, kernel, name
        self.path = f"{LAKE}/{name}"

    def sql(self, statement):
        return self.spark.sql(statement.replace("TABLE_", f"delta.`{self.path}`"))

    def ids(self, column="id"):
        rows = self.sql(f"select {column} from TABLE_ order by 1")
        return [row[0] for row in rows]

    def stage(self, fill, options=""):
        """Fills a staging directory, syncs it; `None`, or why it was refused."""
        staging = f"{MNT}/{self.name}/staging/x"
        os.mkdir(staging)
        if options:
            with open(f"{staging}/.deltafs/options", "w", encoding="utf-8") as file:
                file.write(options)
        fill(staging)
        synced = shell("sync", staging)
        with open(f"{staging}/.deltafs/result", encoding="utf-8") as file:
            result = json.load(file)
        shell("rm", "-r", staging)
        return result["error"] if synced.returncode else None

    def restore(self, version):
        wait_for(self.name, version)
        copy = f"{MNT}/{self.name}/versions/{version}/."
        refused = self.stage(lambda staging: shell("cp", "-a", copy, staging))
        told(refused is None, f"{self.name}: version {version} restored by cp", refused)

    def agrees(self, what, expected):
        """Spark, anew, and delta_kernel read these ids."""
        try:
            same(f"{self.name}: {what}: Spark's rows", self.ids(), expected)
            found = self.kernel.read(self.path).column("id").to_pylist()
            same(f"{self.name}: {what}: delta_kernel's rows", sorted(found), expected)
        except Refused as error:
            told(False, f"{self.name}: {what}: is read", error)


def features(table):
    """Row ids, deletion vectors and in-commit times came after the version that is restored."""
    table.sql("create table TABLE_ (id long, p string) using delta partitioned by (p)"
              " tblproperties ('delta.enableDeletionVectors'='false')")
    table.sql("insert into TABLE_ select id, cast(id % 3 as string) from range(9)")
    table.sql("alter table TABLE_ set tblproperties ('delta.enableDeletionVectors'='true',"
              " 'delta.enableInCommitTimestamps'='true', 'delta.enableRowTracking'='true')")
    table.sql("insert into TABLE_ select id, cast(id % 3 as string) from range(9, 18)")
    table.sql("delete from TABLE_ where id in (1, 10)")
    kept = [i for i in range(18) if i not in (1, 10)]
    last = int(table.sql("describe history TABLE_ limit 1")[0]["version"])
    table.restore(1)
    table.agrees("before the features", list(range(9)))
    table.sql("insert into TABLE_ values (100, '0')")
    table.agrees("and Spark's next append", [*range(9), 100])
    wait_for(table.name, last)
    before = row_ids(table, last)
    table.restore(last)
    table.agrees("with the features and the deleted rows", kept)
    after = row_ids(table, newest(table.name))
    told(all(after.get(path) == held for path, held in before.items()),
         f"{table.name}: row ids are the files' own", f"{before} {after}")
    table.sql("insert into TABLE_ values (101, '0')")
    table.agrees("and Spark's next append", [*kept, 101])
    table.sql("delete from TABLE_ where id = 2")
    kept.remove(2)
    source = f"{SCRATCH}/{table.name}-source"
    table.spark.session.range(200, 203).toDF("id").coalesce(1).write.parquet(source)

    def fill(staging):
        os.mkdir(f"{staging}/p=1")
        part = next(name for name in os.listdir(source) if name.endswith(".parquet"))
        shell("cp", f"{source}/{part}", f"{staging}/p=1/")

    refused = table.stage(fill, "mode=replace_partitions\n")
    told(refused is None, f"{table.name}: p=1 replaced, deletion vectors in it", refused)
    kept = [*(i for i in kept if i % 3 != 1), 101, 200, 201, 202]
    table.agrees("p=1 replaced", kept)
    said = table.sql("describe history TABLE_ limit 1")[0]
    same(f"{table.name}: Spark's history", (said["operation"],
         said["operationParameters"].get("isDynamicPartitionOverwrite")), ("WRITE", "true"))
    table.sql("insert into TABLE_ values (102, '1')")
    table.agrees("and Spark's next append", sorted([*kept, 102]))
    ids = [row[0] for row in table.sql("select _metadata.row_id from TABLE_")]
    same(f"{table.name}: every row has an id of its own", len(set(ids) - {None}), len(ids))


def row_ids(table, version):
    """Row ids of the files of a version, as its log says them; Spark reads none of old versions."""
    held = {}
    for number in range(version + 1):
        with open(f"{table.path}/_delta_log/{number:020}.json", encoding="utf-8") as log:
            for line in map(json.loads, log):
                if "remove" in line:
                    held.pop(line["remove"]["path"], None)
                if "add" in line:
                    held[line["add"]["path"]] = line["add"].get("baseRowId")
    return held


def identity(table):
    """No number of an identity column is given twice, though its mark went back with the schema."""
    # By hand: Delta's SQL has no words for it.
    rule = {"start": 1, "step": 1, "allowExplicitInsert": False}
    rule = {f"delta.identity.{name}": value for name, value in rule.items()}
    fields = [
        {"name": "id", "type": "long", "nullable": True, "metadata": rule},
        {"name": "note", "type": "string", "nullable": True, "metadata": {}},
    ]
    schema = json.dumps({"type": "struct", "fields": fields})
    metadata = {"id": "identity", "format": {"provider": "parquet", "options": {}},
                "schemaString": schema, "partitionColumns": [], "configuration": {}}
    os.makedirs(f"{table.path}/_delta_log")
    with open(f"{table.path}/_delta_log/{0:020}.json", "w", encoding="utf-8") as log:
        for action in ({"protocol": {"minReaderVersion": 1, "minWriterVersion": 6}},
                       {"metaData": metadata}):
            log.write(json.dumps(action) + "\n")
    for note in "ab":
        table.sql(f"insert into TABLE_ (note) values ('{note}'), ('{note}')")
    first = table.ids()
    table.restore(1)
    same(f"{table.name}: two rows are back", len(table.ids()), 2)
    table.sql("insert into TABLE_ (note) values ('c'), ('c')")
    ids = table.ids()
    new = [row[0] for row in table.sql("select id from TABLE_ where note = 'c'")]
    told(len(set(ids)) == 4 and min(new) > max(first), f"{table.name}: new numbers are new",
         f"{first} {ids} {new}")


def constraints(table):
    """A constraint that came after, and goes with a restore; and comes back with its files."""
    table.sql("create table TABLE_ (id long) using delta")
    table.sql("insert into TABLE_ select id from range(5)")
    table.sql("alter table TABLE_ add constraint small check (id < 1000)")
    table.sql("insert into TABLE_ values (10)")
    table.restore(1)
    table.sql("insert into TABLE_ values (5000)")
    table.agrees("without the constraint", [*range(5), 5000])
    table.restore(3)
    table.agrees("with the constraint", [*range(5), 10])
    try:
        table.sql("insert into TABLE_ values (5000)")
        told(False, f"{table.name}: Spark is bound by the constraint again", "it wrote 5000")
    except Refused as error:
        told("small" in str(error), f"{table.name}: Spark is bound by it again", error)
    table.sql("insert into TABLE_ values (11)")
    table.agrees("and Spark's next append", [*range(5), 10, 11])


def dropped(table):
    """The whole table back; Spark goes on where it stood."""
    table.sql("create table TABLE_ (id long) using delta"
              " tblproperties ('delta.checkpointPolicy'='v2', 'delta.checkpointInterval'='3')")
    for number in range(5):
        table.sql(f"insert into TABLE_ values ({number})")
    wait_for(table.name, 5)
    backup = f"{SCRATCH}/{table.name}-backup"
    shell("cp", "-a", f"{MNT}/{table.name}/versions/5", backup)
    shell("rm", "-rf", table.path)
    while os.path.exists(f"{MNT}/{table.name}"):
        time.sleep(0.02)
    os.mkdir(f"{MNT}/{table.name}")
    refused = table.stage(lambda staging: shell("cp", "-a", f"{backup}/.", staging))
    told(refused is None, f"{table.name}: a dropped table with V2 checkpoints", refused)
    table.agrees("comes back", list(range(5)))
    table.sql("insert into TABLE_ values (5)")
    table.agrees("and Spark's next append", list(range(6)))
    same(f"{table.name}: is its next version",
         table.sql("describe history TABLE_ limit 1")[0]["version"], 6)


PLAYS = (features, identity, constraints, dropped)


def main():
    engine, kernel = spark.Spark(SCRATCH), Kernel(SCRATCH)
    for play in PLAYS:
        try:
            play(Table(engine, kernel, play.__name__))
        except Refused as error:
            told(False, f"{play.__name__}: runs to its end", error)
    kernel.close()
    engine.close()


main()
