"""A table's log as its files say it: what is live, and the newest metadata and protocol.

Written apart from deltafs, as plainly as the protocol's text; for small tables.
"""

import json
import os
import re
import shutil
import urllib.parse

import pyarrow as pa
import pyarrow.parquet

MAPS = ("partitionValues", "configuration", "tags", "options")


def folder(table):
    return os.path.join(table, "_delta_log")


def names(table):
    return sorted(os.listdir(folder(table)), reverse=True)


def newest(table):
    """The newest version that has a commit."""
    return max(int(name[:20]) for name in names(table) if re.fullmatch(r"\d{20}\.json", name))


def of_parquet(path):
    for row in pa.parquet.ParquetFile(path).read().to_pylist():
        for kind, action in row.items():
            if action is not None:
                yield kind, with_maps(action)


def with_maps(value):
    """Parquet's maps are lists of pairs; what is a map is told by its name."""
    if not isinstance(value, dict):
        return value
    return {
        name: dict(item) if name in MAPS and isinstance(item, list) else with_maps(item)
        for name, item in value.items()
    }


def of_json(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield from json.loads(line).items()


def checkpoints(table):
    """The checkpoint files of the table, newest first: (version, name)."""
    # The whole name, for a writer's unfinished file begins alike.
    whole = r"\d{20}\.checkpoint\.([^#]+\.)?(parquet|json)"
    found = [name for name in names(table) if re.fullmatch(whole, name)]
    return [(int(name[:20]), name) for name in found]


def top_level(table):
    """The actions in the newest checkpoint's own files."""
    base = checkpoints(table)
    for version, name in base:
        if version == base[0][0]:
            path = os.path.join(folder(table), name)
            yield from of_json(path) if name.endswith(".json") else of_parquet(path)


def actions(table):
    """The actions, newest first, each kind as often as it was written."""
    base = checkpoints(table)
    version = base[0][0] if base else -1
    for name in names(table):
        if re.fullmatch(r"\d{20}\.json", name) and int(name[:20]) > version:
            yield from of_json(os.path.join(folder(table), name))
    for kind, action in top_level(table):
        if kind == "sidecar":
            sidecar = os.path.join(folder(table), "_sidecars", os.path.basename(action["path"]))
            yield from of_parquet(sidecar)
        else:
            yield kind, action


class State:
    """The newest metadata and protocol of a table and its live files."""

    def __init__(self, table):
        self.metadata = self.protocol = None
        self.adds, seen = [], set()
        for kind, action in actions(table):
            if kind == "metaData" and self.metadata is None:
                self.metadata = action
            elif kind == "protocol" and self.protocol is None:
                self.protocol = action
            elif kind in ("add", "remove"):
                vector = action.get("deletionVector") or {}
                key = (action["path"], vector.get("pathOrInlineDv"), vector.get("offset"))
                if kind == "add" and key not in seen:
                    self.adds.append(action)
                seen.add(key)

    def columns(self):
        """The columns as the schema has them."""
        return json.loads(self.metadata["schemaString"])["fields"]

    def logical_names(self):
        """The columns' names by their physical ones, at the top level."""
        key = "delta.columnMapping.physicalName"
        columns = self.columns()
        return {column["metadata"].get(key, column["name"]): column["name"] for column in columns}


def file_of(add):
    """An add's path below the table."""
    return urllib.parse.unquote(add["path"])


def without_nulls(action):
    return {name: value for name, value in action.items() if value is not None}


def table_of_one_file(target, state, add, source):
    """Makes a table at `target` that holds one file's rows, all of them: a log of one commit."""
    os.makedirs(folder(target))
    shutil.copyfile(source, os.path.join(target, "rows.parquet"))
    one = {
        "path": "rows.parquet",
        "partitionValues": add["partitionValues"],
        "size": os.path.getsize(source),
        "modificationTime": 0,
        "dataChange": True,
    }
    commit = {
        "protocol": without_nulls(state.protocol),
        "metaData": without_nulls(state.metadata),
        "add": one,
    }
    with open(os.path.join(folder(target), f"{0:020}.json"), "w", encoding="utf-8") as log:
        for kind, action in commit.items():
            log.write(json.dumps({kind: action}) + "\n")


def copy(table, target):
    shutil.copytree(table, target, ignore=shutil.ignore_patterns(".deltafs*"))


def drop_checkpoints(table):
    """Takes away all checkpoints of a table whose commits are whole."""
    for _, name in checkpoints(table):
        os.remove(os.path.join(folder(table), name))


def drop_before(table, version):
    """Leaves a log what is at a version and after it: one checkpoint that others go by."""
    for name in names(table):
        is_numbered = name[:20].isdigit()
        if is_numbered and (int(name[:20]) < version or ".compacted." in name):
            os.remove(os.path.join(folder(table), name))
