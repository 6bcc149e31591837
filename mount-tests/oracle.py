#!/usr/bin/env python3
"""The second opinion of the mount tests: tables made and read by deltalake and pyarrow.

Nothing here knows deltafs. Each command prints plain text that a shell test compares, and
exits 1 with a sentence where what it was asked to prove is not so. `oracle.py --help` lists them.

Rows are functions of their id, so that a test can name rows by a range:
id, amount = 1.5 * id, note = "note <id>", and in partitioned tables date = 2026-11-01 + id // 10.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import shutil
import stat
import sys
import tarfile

# deltalake and pyarrow are imported where they are needed: the import costs more than looking into
# a log does, and tests do that often.

FIRST_DAY = datetime.date(2026, 11, 1)
ROWS_A_DAY = 10

# Values that Delta, Hive-style directory names or URLs treat in some special way.
SPECIAL_VALUES = [
    "plain",
    "a b",
    "a/b",
    "100%",
    "%41",
    "x=y",
    "c:d",
    "what?#",
    "q'uo\"te",
    "plus+and&",
    "Zürich",
    "雪",
    "..",
    "",
    None,
]


def fail(sentence):
    print(sentence, file=sys.stderr)
    sys.exit(1)


# --- rows ---------------------------------------------------------------------------------------


def day(row_id):
    return FIRST_DAY + datetime.timedelta(days=row_id // ROWS_A_DAY)


def rows(start, count, variant=None):
    """The rows of a range of ids as an arrow table; `variant` bends the schema (see `parquet`)."""
    import pyarrow as pa

    ids = range(start, start + count)
    id_type = pa.string() if variant == "wrong-type" else pa.int64()
    id_values = [str(i) for i in ids] if variant == "wrong-type" else list(ids)
    if variant == "nulls":
        id_values[0] = None
    fields = [pa.field("id", id_type, nullable=variant == "nulls")]
    columns = [pa.array(id_values, id_type)]
    fields.append(pa.field("amount", pa.float64()))
    columns.append(pa.array([1.5 * i for i in ids], pa.float64()))
    if variant != "lacks-note":
        fields.append(pa.field("note", pa.string()))
        columns.append(pa.array([f"note {i}" for i in ids], pa.string()))
    if variant == "extra":
        fields.append(pa.field("extra", pa.string()))
        columns.append(pa.array([f"extra {i}" for i in ids], pa.string()))
    if variant == "bulky":
        # Bytes that no codec makes smaller: a file of about 1 MiB for each 1,000 rows.
        fields[2] = pa.field("note", pa.string())
        columns[2] = pa.array([os.urandom(524).hex() for _ in ids], pa.string())
    return pa.table(columns, schema=pa.schema(fields))


def dated(table, partition_date=None):
    """The same rows with the partition column `date`."""
    import pyarrow as pa

    days = [partition_date or day(i) for i in table.column("id").to_pylist()]
    return table.append_column(pa.field("date", pa.date32()), pa.array(days, pa.date32()))


# --- tables -------------------------------------------------------------------------------------


def write(path, table, mode="append", partition_by=None, configuration=None):
    from deltalake import write_deltalake

    write_deltalake(
        path, table, mode=mode, partition_by=partition_by, configuration=configuration
    )


def make(args):
    """Makes a table: one commit a version, ROWS_A_DAY rows a commit."""
    from deltalake import DeltaTable
    import pyarrow as pa

    configuration = dict(item.split("=", 1) for item in args.property)
    if args.kind == "special":
        count = len(SPECIAL_VALUES)
        table = rows(0, count).append_column("value", pa.array(SPECIAL_VALUES, pa.string()))
        write(args.path, table, partition_by=["value"], configuration=configuration)
        return
    variant = "bulky" if args.kind == "bulky" else None
    count = args.rows
    for version in range(args.versions):
        table = rows(version * count, count, variant)
        if args.kind == "sales":
            table = dated(table)
        write(
            args.path,
            table,
            partition_by=["date"] if args.kind == "sales" else None,
            configuration=configuration if version == 0 else None,
        )
        if args.checkpoint is not None and version == args.checkpoint:
            DeltaTable(args.path).create_checkpoint()


def append(args):
    """Appends rows in `--commits` commits of `count` rows each; retries what loses a race."""
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    partitioned = bool(DeltaTable(args.path).metadata().partition_columns)
    for commit in range(args.commits):
        table = rows(args.start + commit * args.count, args.count)
        if partitioned:
            table = dated(table)
        for attempt in range(100):
            try:
                write(args.path, table)
                break
            except CommitFailedError as error:
                if attempt == 99:
                    fail(f"append of commit {commit} lost 100 races: {error}")


def overwrite(args):
    from deltalake import DeltaTable

    table = rows(args.start, args.count)
    if DeltaTable(args.path).metadata().partition_columns:
        table = dated(table)
    write(args.path, table, mode="overwrite")


def delete(args):
    from deltalake import DeltaTable

    DeltaTable(args.path).delete(args.predicate)


def add_column(args):
    from deltalake import DeltaTable, Field
    from deltalake.schema import PrimitiveType

    DeltaTable(args.path).alter.add_columns(Field(args.name, PrimitiveType("string")))


def parquet(args):
    """Writes Parquet files of `count` rows each, as another tool would: no partition columns."""
    import pyarrow.parquet

    for index in range(args.files):
        path = args.path if args.files == 1 else args.path % (args.start + index * args.count)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        table = rows(args.start + index * args.count, args.count, args.variant)
        pyarrow.parquet.write_table(table, path)


def evolve(args):
    """Copies a Parquet file with strings in a column more (`--add NAME` or `--add NAME:FIELD_ID`),
    or with another type (`--cast COLUMN:TYPE`). Field ids are kept."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(args.source)
    for wanted in args.add:
        name, _, field_id = wanted.partition(":")
        metadata = {"PARQUET:field_id": field_id} if field_id else None
        values = pa.array([f"{name} {row}" for row in range(table.num_rows)], pa.string())
        table = table.append_column(pa.field(name, pa.string(), metadata=metadata), values)
    for wanted in args.cast:
        name, _, to_type = wanted.partition(":")
        index = table.schema.get_field_index(name)
        to_type = pa.type_for_alias(to_type)
        field = table.schema.field(index).with_type(to_type)
        table = table.set_column(index, field, table.column(index).cast(to_type))
    os.makedirs(os.path.dirname(args.dest), exist_ok=True)
    # Spark's timestamps were INT96, which pyarrow reads as nanoseconds.
    pyarrow.parquet.write_table(table, args.dest, use_deprecated_int96_timestamps=True)


def tree(args):
    """Writes the rows of a range into FOLDER/date=…/NAME.parquet, a file a day, as Hive does."""
    import pyarrow.parquet

    start, end = args.start, args.start + args.count
    while start < end:
        stop = min(end, (start // ROWS_A_DAY + 1) * ROWS_A_DAY)
        folder = os.path.join(args.path, f"date={day(start).isoformat()}")
        os.makedirs(folder, exist_ok=True)
        pyarrow.parquet.write_table(
            rows(start, stop - start), os.path.join(folder, f"rows-{start}.parquet")
        )
        start = stop


def shutil_copy(args):
    """Fills a folder as Python programs do: copytree for folders, copy2 for files."""
    shutil.copytree(args.left, args.right, dirs_exist_ok=True)


def golden(args):
    """Unpacks a golden table (a folder, or a .tar.zst) to `dest`, without zstd on the machine."""
    import pyarrow

    root = pathlib.Path(os.environ["DELTAFS_GOLDEN"])
    for folder in ("features", "expected"):
        plain = root / folder / args.name
        packed = root / folder / f"{args.name}.tar.zst"
        if plain.is_dir():
            shutil.copytree(plain, args.dest)
            for path in [pathlib.Path(args.dest), *pathlib.Path(args.dest).rglob("*")]:
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
            return
        if packed.is_file():
            scratch = f"{args.dest}.unpacked"
            with pyarrow.input_stream(str(packed), compression="zstd") as stream:
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    # Older Pythons have no filter; the archives are the project's own.
                    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                    archive.extractall(scratch, **safe)
            inner = next(pathlib.Path(scratch).rglob("_delta_log")).parent
            shutil.move(inner, args.dest)
            shutil.rmtree(scratch)
            return
    fail(f"no golden table is named {args.name} in {root}")


# --- reading ------------------------------------------------------------------------------------


def read(path, version=None):
    """A table and its rows at a version, sorted, as text that two readings can be compared by."""
    from deltalake import DeltaTable, QueryBuilder
    import pyarrow as pa

    table = DeltaTable(path, version=version)
    # QueryBuilder, because to_pyarrow_table refuses deletion vectors and column mapping.
    result = pa.table(QueryBuilder().register("t", table).execute("select * from t"))
    names = result.schema.names
    columns = [column.to_pylist() for column in result.columns]
    lines = [
        json.dumps(dict(zip(names, values)), default=repr, sort_keys=True, ensure_ascii=False)
        for values in zip(*columns)
    ]
    return table, sorted(lines)


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def partition_values(table):
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    partitioned = [
        {name: repr(value) for name, value in action.items() if name.startswith("partition.")}
        for action in actions
    ]
    return sorted(json.dumps(values, sort_keys=True) for values in partitioned)


def schema(table):
    return json.dumps(json.loads(table.schema().to_json()), sort_keys=True)


def describe(path, version=None):
    """One line that two copies of a version agree on exactly when nothing was lost."""
    table, lines = read(path, version)
    metadata = table.metadata()
    protocol = table.protocol()
    return json.dumps(
        {
            "version": table.version(),
            "rows": len(lines),
            "digest": digest(lines),
            "schema": digest([schema(table)]),
            "files": len(table.file_uris()),
            "partitions": digest(partition_values(table)),
            "columns": metadata.partition_columns,
            "properties": metadata.configuration,
            "id": metadata.id,
            "protocol": [protocol.min_reader_version, protocol.min_writer_version],
        },
        sort_keys=True,
    )


def print_describe(args):
    print(describe(args.path, args.version))


def print_describe_versions(args):
    """Describes the tables FOLDER/0, FOLDER/1, …: each must be at the version it is named after."""
    names = sorted(os.listdir(args.path), key=int)
    for name in names:
        print(describe(os.path.join(args.path, name)))


def print_describe_each(args):
    """Describes every version of one table that its log can still rebuild."""
    from deltalake import DeltaTable

    newest = DeltaTable(args.path).version()
    for version in range(newest + 1):
        print(describe(args.path, version))


def print_rows(args):
    print("\n".join(read(args.path, args.version)[1]))


def print_count(args):
    print(len(read(args.path, args.version)[1]))


def print_version(args):
    from deltalake import DeltaTable

    print(DeltaTable(args.path).version())


def print_schema(args):
    from deltalake import DeltaTable

    print(schema(DeltaTable(args.path, version=args.version)))


def print_partitions(args):
    print("\n".join(partition_values(read(args.path, args.version)[0])))


def same(args):
    """Proves that two versions hold the same rows, schema and partition values, row by row."""
    left_table, left = read(args.left, args.left_version)
    right_table, right = read(args.right, args.right_version)
    if left != right:
        gone = [line for line in left if line not in set(right)][:3]
        new = [line for line in right if line not in set(left)][:3]
        fail(f"{len(left)} and {len(right)} rows; only left: {gone}; only right: {new}")
    if schema(left_table) != schema(right_table):
        fail(f"schemas differ: {schema(left_table)} and {schema(right_table)}")
    if partition_values(left_table) != partition_values(right_table):
        fail("partition values differ")


def ids(args):
    """Proves that the ids of a table are exactly the given ranges START:COUNT, each id once."""
    found = [json.loads(line)["id"] for line in read(args.path, args.version)[1]]
    wanted = set()
    for part in args.range:
        start, count = part.split(":")
        wanted.update(range(int(start), int(start) + int(count)))
    twice = sorted({i for i in found if found.count(i) > 1}) if len(found) != len(set(found)) else []
    lost = sorted(wanted - set(found))
    extra = sorted(set(found) - wanted)
    if twice or lost or extra:
        fail(
            f"{len(found)} rows; {len(lost)} lost {lost[:9]}; {len(twice)} twice {twice[:9]}; "
            f"{len(extra)} not expected {extra[:9]}"
        )


def rows_right(args):
    """Proves that every row is the function of its id that `rows` says: no column was mixed up."""
    table, lines = read(args.path, args.version)
    partitioned = "date" in table.metadata().partition_columns
    for line in lines:
        row = json.loads(line)
        if row["amount"] != 1.5 * row["id"] or row["note"] != f"note {row['id']}":
            fail(f"a row is not as it was written: {line}")
        if partitioned and row["date"] != repr(day(row["id"])):
            fail(f"a row is in the wrong partition: {line}")


# --- the log ------------------------------------------------------------------------------------


def log_path(path, version):
    return os.path.join(path, "_delta_log", f"{version:020}.json")


def actions(path, version):
    with open(log_path(path, version), encoding="utf-8") as log:
        return [json.loads(line) for line in log if line.strip()]


def print_actions(args):
    """Counts the actions of one commit: `add 2`, `remove 1`, … one a line, sorted."""
    counts = {}
    for action in actions(args.path, args.version):
        name = next(iter(action))
        counts[name] = counts.get(name, 0) + 1
    print("\n".join(f"{name} {counts[name]}" for name in sorted(counts)))


def print_adds(args):
    """The paths of one commit's adds, or one field of each (`--field stats`)."""
    for action in actions(args.path, args.version):
        if "add" in action:
            print(action["add"].get(args.field))


def print_statistics(args):
    """What deltalake knows of each live file: rows, nulls and bounds, one file a line, sorted."""
    from deltalake import DeltaTable
    import pyarrow as pa

    actions = pa.table(DeltaTable(args.path).get_add_actions(flatten=True)).to_pylist()
    known = ("num_records", "null_count.", "min.", "max.")
    for action in sorted(actions, key=lambda action: action["path"]):
        values = {name: repr(action[name]) for name in sorted(action) if name.startswith(known)}
        print(json.dumps(values))


def bad_commit(args):
    """Writes the next commit by hand, from a JSON line or by bending the newest add's path."""
    newest = max(
        int(name[:20])
        for name in os.listdir(os.path.join(args.path, "_delta_log"))
        if name.endswith(".json") and name[:20].isdigit()
    )
    target = log_path(args.path, newest + 1)
    if args.line is not None:
        line = json.loads(args.line)
    else:
        line = next(a for a in reversed(actions(args.path, newest)) if "add" in a)
        line["add"]["path"] = args.add_path
    with open(target, "x", encoding="utf-8") as log:
        log.write(json.dumps({"commitInfo": {"timestamp": 1795341600000, "operation": "WRITE"}}))
        log.write("\n" + json.dumps(line) + "\n")
    print(newest + 1)


def set_property(args):
    """Writes the next commit by hand: the newest metaData with properties more."""
    newest = max(
        int(name[:20])
        for name in os.listdir(os.path.join(args.path, "_delta_log"))
        if name.endswith(".json") and name[:20].isdigit()
    )
    found = [a for v in range(newest + 1) for a in actions(args.path, v) if "metaData" in a]
    found[-1]["metaData"]["configuration"].update(item.split("=", 1) for item in args.property)
    with open(log_path(args.path, newest + 1), "x", encoding="utf-8") as log:
        log.write(json.dumps(found[-1]) + "\n")


def print_json(args):
    """A field of a JSON file (`a.b.0`), for the result of a sync; nothing where it is missing."""
    with open(args.path, encoding="utf-8") as file:
        value = json.load(file)
    for part in args.field.split("."):
        value = value[int(part)] if isinstance(value, list) else value.get(part)
        if value is None:
            return
    print(json.dumps(value) if isinstance(value, (dict, list)) else value)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name, function, *arguments):
        sub = commands.add_parser(name, help=function.__doc__)
        sub.set_defaults(function=function)
        for argument in arguments:
            sub.add_argument(argument, **OPTIONS.get(argument, {}))

    number = {"type": int}
    OPTIONS = {
        "kind": {"choices": ["plain", "sales", "special", "bulky"]},
        "start": number,
        "count": number,
        "version": number,
        "left_version": number,
        "right_version": number,
        "--version": {"type": int, "default": None},
        "--versions": {"type": int, "default": 1},
        "--rows": {"type": int, "default": ROWS_A_DAY},
        "--checkpoint": {"type": int, "default": None},
        "--property": {"action": "append", "default": []},
        "--commits": {"type": int, "default": 1},
        "--files": {"type": int, "default": 1},
        "--variant": {"choices": ["wrong-type", "nulls", "extra", "lacks-note", "bulky"]},
        "--add": {"action": "append", "default": []},
        "--cast": {"action": "append", "default": []},
        "--field": {"default": "path"},
        "--line": {"default": None},
        "--add-path": {"default": None},
        "range": {"nargs": "+"},
    }
    command("make", make, "kind", "path", "--versions", "--rows", "--checkpoint", "--property")
    command("append", append, "path", "start", "count", "--commits")
    command("overwrite", overwrite, "path", "start", "count")
    command("delete", delete, "path", "predicate")
    command("add-column", add_column, "path", "name")
    command("parquet", parquet, "path", "start", "count", "--files", "--variant")
    command("evolve", evolve, "source", "dest", "--add", "--cast")
    command("tree", tree, "path", "start", "count")
    command("shutil-copy", shutil_copy, "left", "right")
    command("golden", golden, "name", "dest")
    command("describe", print_describe, "path", "--version")
    command("describe-each", print_describe_each, "path")
    command("describe-versions", print_describe_versions, "path")
    command("rows", print_rows, "path", "--version")
    command("count", print_count, "path", "--version")
    command("version", print_version, "path")
    command("schema", print_schema, "path", "--version")
    command("partitions", print_partitions, "path", "--version")
    command("same", same, "left", "left_version", "right", "right_version")
    command("ids", ids, "path", "range", "--version")
    command("rows-right", rows_right, "path", "--version")
    command("actions", print_actions, "path", "version")
    command("adds", print_adds, "path", "version", "--field")
    command("statistics", print_statistics, "path")
    command("bad-commit", bad_commit, "path", "--line", "--add-path")
    command("set-property", set_property, "path", "--property")
    command("json", print_json, "path", "field")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    try:
        arguments.function(arguments)
    except Exception as error:  # A test reads one line, not a traceback.
        fail(f"{type(error).__name__}: {error}")
