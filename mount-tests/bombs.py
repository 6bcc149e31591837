"""Makes tables whose log asks for more memory than any honest one: bombs.py KIND TABLE.

The table is there, with some versions, and gets one more log file. Prints that file's name.
"""

import json
import os
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
GIB = 1 << 30

METADATA = {
    "id": "t",
    "format": {"provider": "parquet", "options": []},
    "schemaString": json.dumps({"type": "struct", "fields": []}),
    "partitionColumns": [],
    "configuration": [],
}
TEXTS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        ("protocol", pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])),
        (
            "metaData",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("format", pa.struct([("provider", pa.string()), ("options", TEXTS)])),
                    ("schemaString", pa.string()),
                    ("partitionColumns", pa.list_(pa.string())),
                    ("configuration", TEXTS),
                ]
            ),
        ),
        (
            "add",
            pa.struct([("path", pa.string()), ("partitionValues", TEXTS), ("size", pa.int64())]),
        ),
    ]
)


def rows(*actions):
    columns = [pa.array([action.get(name) for action in actions], SCHEMA.field(name).type) for name in SCHEMA.names]
    return pa.table(columns, schema=SCHEMA)


def add(path="a.parquet", values=(), size=1):
    return {"add": {"path": path, "partitionValues": list(values), "size": size}}


def head():
    return rows({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": METADATA})


def newest(log):
    return max(int(path.name[:20]) for path in log.glob("*.json"))


def checkpoint(log, parts, **options):
    """A checkpoint two versions ahead, so that only it leads there; a row group a part."""
    path = log / f"{newest(log) + 2:020}.checkpoint.parquet"
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", **options) as writer:
        for part in parts:
            writer.write_table(part, row_group_size=max(part.num_rows, 1))
    return path


def line(log):
    path = log / f"{newest(log) + 1:020}.json"
    with open(path, "wb") as file:
        file.write(b'{"add":{"path":"')
        file.truncate(GIB)
    return path


def checkpoint_line(log):
    path = log / f"{newest(log) + 2:020}.checkpoint.956ea395-e95c-4292-a67e-37b8b282af28.json"
    with open(path, "wb") as file:
        file.write(b'{"checkpointMetadata":{"version":3}}\n{"sidecar":{"path":"')
        file.truncate(GIB)
    return path


def sparse(log):
    """A commit of a GiB that isn't there: lines of nothing."""
    path = log / f"{newest(log) + 1:020}.json"
    with open(path, "wb") as file:
        file.write(b"\0\n" * MIB)
        file.truncate(GIB)
    return path


def pages(log):
    """A GiB of text in a page each of 256 MiB."""
    bomb = rows(add("x" * (256 * MIB)))
    return checkpoint(log, [head(), *[bomb] * 4], use_dictionary=False, write_statistics=False)


def dictionary(log):
    """One text of 32 MiB, in 4,000 rows."""
    path = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), ["x" * (32 * MIB)])
    values = pa.array([[]] * 4000, TEXTS)
    added = pa.StructArray.from_arrays([path, values, pa.array([1] * 4000)], ["path", "partitionValues", "size"])
    table = pa.table({"add": added})
    path = log / f"{newest(log) + 2:020}.checkpoint.parquet"
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=GIB)
    return path


def nulls(log):
    """Rows without an action, which take nothing."""
    count = 4_000_000
    columns = [pa.nulls(count, SCHEMA.field(name).type) for name in SCHEMA.names]
    return checkpoint(log, [head(), pa.table(columns, schema=SCHEMA)])


def entries(log):
    """One file with 16 million partition values."""
    count = 16_000_000
    keys = pa.repeat("k", count)
    values = pa.MapArray.from_arrays(pa.array([0, count], pa.int32()), keys, pa.nulls(count, pa.string()))
    fields = list(SCHEMA.field("add").type)
    added = pa.StructArray.from_arrays([pa.array(["a.parquet"]), values, pa.array([1])], fields=fields)
    columns = [added if name == "add" else pa.nulls(1, SCHEMA.field(name).type) for name in SCHEMA.names]
    return checkpoint(log, [head(), pa.table(columns, schema=SCHEMA)])


def negative(log):
    return checkpoint(log, [head(), rows(add(size=-1))])


def huge(log):
    path = log / f"{newest(log) + 1:020}.json"
    path.write_text('{"add":{"path":"a","partitionValues":{},"size":9223372036854775808,"modificationTime":0,"dataChange":true}}\n')
    return path


def footer(log):
    """A footer that says it has 4 GiB, in a file that is large enough by its name."""
    path = checkpoint(log, [head()])
    bytes_ = path.read_bytes()
    with open(path, "wb") as file:
        file.truncate(5 * GIB)
        file.seek(5 * GIB - 8)
        file.write(b"\xff\xff\xff\xff" + bytes_[-4:])
    return path


def partitions(log):
    """A million files, each in a partition of its own: much, and all right."""
    path = log / f"{newest(log) + 1:020}.json"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(int(os.environ.get("BOMB_PARTITIONS", "1000000"))):
            file.write(
                '{"add":{"path":"key=value-%d/part-00000-%016x.c000.snappy.parquet","partitionValues":'
                '{"key":"value-%d"},"size":1,"modificationTime":0,"dataChange":true}}\n' % (number, number * 7919, number)
            )
    return path


KINDS = [line, checkpoint_line, sparse, pages, dictionary, nulls, entries, negative, huge, footer, partitions]

if __name__ == "__main__":
    kind, table = sys.argv[1:]
    make = {kind.__name__: kind for kind in KINDS}[kind]
    print(make(pathlib.Path(table) / "_delta_log").name)
