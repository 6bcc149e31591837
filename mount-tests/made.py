"""Tables that Spark makes, with features that no golden table has.

Each is a list of statements; `{t}` is the table by its path. Rows are few, in several
files. Columns that Spark would compute can't be made at a path, and are not among them.
"""

import os

ROWS = "SELECT id, CAST(id % 3 AS INT) AS part, CONCAT('note ', id) AS note FROM RANGE({0}, {1})"
COLUMNS = "id BIGINT, part INT, note STRING"


def insert(first, last):
    return "INSERT INTO {t} " + ROWS.format(first, last)


def create(properties="", columns=COLUMNS, after=""):
    listed = f" TBLPROPERTIES ({properties})" if properties else ""
    return f"CREATE TABLE {{t}} ({columns}) USING delta{after}{listed}"


def alter(properties):
    return f"ALTER TABLE {{t}} SET TBLPROPERTIES ({properties})"


MAPPED = "'delta.columnMapping.mode'='{0}'"

MADE = {
    # Each row has an id that stays; Spark fills the ids of older rows when it is turned on later.
    "row-tracking": [create("'delta.enableRowTracking'='true'"), insert(0, 20), insert(20, 30)],
    "row-tracking-midway": [
        create(),
        insert(0, 20),
        alter("'delta.enableRowTracking'='true'"),
        insert(20, 30),
    ],
    "clustered": [create(after=" CLUSTER BY (part, id)"), insert(0, 20), insert(20, 30)],
    "v2-checkpoints": [
        create(
            "'delta.checkpointPolicy'='v2','delta.checkpointInterval'='2',"
            "'delta.enableDeletionVectors'='true'"
        ),
        insert(0, 20),
        insert(20, 30),
        "DELETE FROM {t} WHERE id % 4 = 1",
    ],
    "in-commit-times": [create("'delta.enableInCommitTimestamps'='true'"), insert(0, 20)],
    "in-commit-times-midway": [
        create(),
        insert(0, 20),
        alter("'delta.enableInCommitTimestamps'='true'"),
        insert(20, 30),
    ],
    "mapped-by-name": [
        create(MAPPED.format("name"), after=" PARTITIONED BY (part)"),
        insert(0, 20),
        "ALTER TABLE {t} RENAME COLUMN note TO remark",
        "ALTER TABLE {t} ADD COLUMN more STRUCT<a: INT, b: STRING>",
        "INSERT INTO {t} SELECT id, CAST(id AS INT), 'x', NAMED_STRUCT('a', 1, 'b', 'y')"
        " FROM RANGE(3)",
    ],
    "mapped-by-id": [create(MAPPED.format("id")), insert(0, 20), insert(20, 30)],
    "widened": [
        create("'delta.enableTypeWidening'='true'"),
        insert(0, 20),
        "ALTER TABLE {t} ALTER COLUMN part TYPE BIGINT",
        insert(20, 30),
    ],
    "variant": [
        create(columns="id BIGINT, v VARIANT"),
        "INSERT INTO {t} SELECT id, PARSE_JSON(CONCAT('{{\"a\":', id, '}}')) FROM RANGE(9)",
    ],
    "change-feed": [create("'delta.enableChangeDataFeed'='true'"), insert(0, 20), insert(20, 30)],
    "append-only": [create("'delta.appendOnly'='true'"), insert(0, 20), insert(20, 30)],
    "not-null": [create(columns="id BIGINT NOT NULL, part INT, note STRING"), insert(0, 20)],
    "defaults": [
        create("'delta.feature.allowColumnDefaults'='supported'"),
        insert(0, 20),
        "ALTER TABLE {t} ALTER COLUMN note SET DEFAULT 'none'",
    ],
    "constraint": [
        create(),
        "ALTER TABLE {t} ADD CONSTRAINT positive CHECK (id >= 0)",
        insert(0, 20),
        insert(20, 30),
    ],
    "times": [
        create(columns="id BIGINT, at TIMESTAMP, local TIMESTAMP_NTZ, amount DECIMAL(20, 5)"),
        "INSERT INTO {t} SELECT id, TIMESTAMP '2026-11-01 10:00:00.123456' + MAKE_INTERVAL(0, 0,"
        " 0, 0, 0, 0, id), TIMESTAMP_NTZ '1500-02-03 04:05:06', id / 7 FROM RANGE(9)",
    ],
    "dropped-vectors": [
        create("'delta.enableDeletionVectors'='true'"),
        insert(0, 30),
        "DELETE FROM {t} WHERE id % 4 = 1",
        "DELETE FROM {t} WHERE id % 4 = 2",
    ],
}


def make(engine, lake, name):
    """Makes one of them at LAKE/made/NAME."""
    path = os.path.join(lake, "made", name)
    for statement in MADE[name]:
        engine.sql(statement.format(t=f"delta.`{path}`"))
