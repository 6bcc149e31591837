"""Rows that readings by different engines can be compared by: a list of sorted lines of text.

Engines give one value in different clothes: a timestamp in seconds, microseconds or with a zone of
its own; a map as pairs in any order; a string as a view or a dictionary. Here each value has one
form, and a row is JSON of its columns by name.
"""

import collections
import datetime
import decimal
import glob
import json
import math
import os

import pyarrow as pa
import pyarrow.parquet

UTC = datetime.timezone.utc

# Beyond so many rows a table is compared by columns first.
MANY_ROWS = 10_000


def plain(value):
    """The one form of a value: JSON that is equal exactly where the values are."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat(timespec="microseconds")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, (bytes, bytearray)):
        return f"x'{value.hex()}'"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        # Pairs are a map's, and a map has no order.
        is_map = bool(value) and isinstance(value[0], tuple)
        return sorted(items, key=json.dumps) if is_map else items
    return value


def values(column):
    """The values of a column; Python's times end at microseconds."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return [plain(value) for value in column.to_pylist()]


def lines(table, without=()):
    """The rows of an arrow table, sorted; columns are told by their names, whatever the order."""
    names = sorted(set(table.schema.names) - set(without))
    columns = [values(table.column(name)) for name in names]
    if not columns:
        return ["{}"] * table.num_rows
    return sorted(
        json.dumps(dict(zip(names, row)), ensure_ascii=False) for row in zip(*columns)
    )


def of_folder(folder):
    """The rows of a folder of plain Parquet files, such as a golden table's `expected/`."""
    paths = sorted(glob.glob(os.path.join(folder, "**", "*.parquet"), recursive=True))
    return pa.concat_tables([pa.parquet.ParquetFile(path).read() for path in paths])


def difference(left, right, without=()):
    """The difference of two arrow tables' rows in a sentence; empty where they are equal."""
    if left.num_rows > MANY_ROWS and is_same(left, right, without):
        return ""
    return difference_of_lines(lines(left, without), lines(right, without))


def is_same(left, right, without):
    """Whether columns of plain types are equal in some order: quick; where it says no, unsure."""
    names = sorted(set(left.schema.names) - set(without))
    try:
        left = left.select(names)
        right = right.select(names).cast(left.schema)
        order = [(name, "ascending") for name in names]
        return left.sort_by(order).equals(right.sort_by(order))
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False


def difference_of_lines(left, right):
    if left == right:
        return ""
    left_count, right_count = collections.Counter(left), collections.Counter(right)
    gone = list((left_count - right_count).elements())[:2]
    new = list((right_count - left_count).elements())[:2]
    return f"{len(left)} and {len(right)} rows; only left: {gone}; only right: {new}"
