#!/usr/bin/env python3
"""Every tool twice: into a folder of the plain file system, and into a staging directory.

`tools.py LAKE MOUNT FOLDER [UID GID]`, with FOLDER for all that is neither, and a user where the
mount is an ordinary user's. For each tool of `toolbox.py`, in each of four ways (into nothing, over
an older state, deleting, from a version or its backup), the exit code and the tree that is left
must be the same in both places: nothing of it is written down here. Then the staging directory is
synced, and the table must hold the rows of the plain folder's Parquet files, or be the version
again.

Prints `ok`, `not ok` and remarks by lines, for `verdicts` of lib.sh.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import time

import toolbox
import trees
from worker import Worker, python, shell

# Data files are named after their first row.
ROWS_A_CASE = 1000
OLD_TIME_NS = 1_600_000_000_123_456_789
NEW_TIME_NS = 1_700_000_000_987_654_321
NOTES = "a note that is no data\n"
REPOSITORIES = {"RESTIC_PASSWORD": "x", "RESTIC_PROGRESS_FPS": "0.01", "BORG_PASSPHRASE": ""}


class Places:
    """Where everything is, and as whom."""

    def __init__(self, lake, mount, folder, user):
        self.lake, self.mount, self.folder = map(pathlib.Path, (lake, mount, folder))
        self.user = user
        self.native = self.folder / "native"
        self.environment = REPOSITORIES | {
            "RESTIC_REPOSITORY": str(self.folder / "restic"),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "BORG_REPO": str(self.folder / "borg"),
            "BORG_BASE_DIR": str(self.folder / "borg-home"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"),
            "TMPDIR": str(self.folder),
        }
        self.worker = Worker(user and (*user, str(folder)))
        self.cases = 0

    def run(self, script, **environment):
        """A script that must succeed; what it printed."""
        text = {name: str(value) for name, value in environment.items()}
        status, output = self.worker.run(shell, script, self.environment | text)
        if status != 0:
            raise RuntimeError(f"exit {status} of {script}: {output}")
        return output.strip()

    def give(self, path):
        """Makes a tree the user's."""
        if self.user is not None:
            for found in [path, *path.rglob("*")]:
                os.chown(found, *self.user)


# --- sources --------------------------------------------------------------------------------------


def rows(folder, start, count):
    import oracle
    import pyarrow.parquet

    path = folder / f"date={oracle.day(start).isoformat()}" / f"rows-{start}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(oracle.rows(start, count), path)
    return path


def source(folder, start):
    """Two days, one file short, and what no table takes: each with modes and times of its own."""
    one, two = rows(folder, start, 10), rows(folder, start + 10, 7)
    (folder / "empty").mkdir()
    notes = folder / "_notes.txt"
    notes.write_text(NOTES)
    os.link(notes, folder / "_linked.txt")
    one.chmod(0o600)
    two.chmod(0o755)
    notes.chmod(0o444)
    one.parent.chmod(0o2755)
    two.parent.chmod(0o750)
    (folder / "empty").chmod(0o711)


def older(folder, start):
    """What was brought before: one day shorter, one the same, one that is no more."""
    source(folder, start)
    for path in folder.glob("date=*/*"):
        path.chmod(0o644)
    rows(folder, start, 4)
    rows(folder, start + 20, 10)
    notes = folder / "_notes.txt"
    notes.unlink()
    notes.write_text(NOTES.upper())
    (folder / "_linked.txt").unlink()


def larger(folder, start):
    """The sources, and more that a tool will take away."""
    source(folder, start)
    kept = rows(folder, start + 20, 10)
    kept.rename(kept.parent / "extra.parquet")
    extra = folder / "extra" / "deep" / "er"
    extra.mkdir(parents=True)
    (folder / "extra" / "text").write_text("text")


def dated(folder, time_ns):
    """Times that differ in their nanoseconds, children first."""
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, ns=(time_ns + number, time_ns + number * 1001))
    os.utime(folder, ns=(time_ns, time_ns))


def owned(places, folder):
    """Root's sources have several owners; a user's have one file that is root's."""
    if places.user is not None:
        places.give(folder)
        os.chown(folder / "_notes.txt", 0, 0)
        return
    for number, path in enumerate(sorted(folder.rglob("*"))):
        mode = path.stat().st_mode
        os.chown(path, 1200 + number % 2, 3400 + number % 3)
        path.chmod(mode & 0o7777)


def made(places, name, make, start, time_ns):
    folder = places.folder / "sources" / f"{name}-{start}"
    folder.mkdir(parents=True)
    make(folder, start)
    owned(places, folder)
    dated(folder, time_ns)
    return folder


# --- one case -------------------------------------------------------------------------------------


class Side:
    """One of the two destinations, and what is the same tool's on the other side."""

    def __init__(self, places, dest, versions):
        self.places, self.dest, self.versions = places, dest, versions

    def begin(self, work):
        self.work = work
        self.places.run('mkdir -p "$WORK" "$DEST"', WORK=work, DEST=self.dest)

    def apply(self, tool, environment):
        """The tool's outcome, its last words, and the tree that it left."""
        worker = self.places.worker
        start = time.time_ns()
        if callable(tool):
            given = worker.run(python, tool, environment["SRC"], str(self.dest))
        else:
            own = {"DEST": str(self.dest), "WORK": str(self.work)}
            given = worker.run(shell, tool, self.places.environment | environment | own)
        with_owners = self.places.user is None
        return *given, worker.run(trees.snapshot, str(self.dest), start, with_owners)


def sides(places, table):
    places.cases += 1
    name = f"case-{places.cases}"
    native = Side(places, places.native / name, places.native / "versions")
    staging = places.mount / table / "staging" / name
    ours = Side(places, staging, places.mount / table / "versions")
    for side, kind in ((native, "native"), (ours, "ours")):
        side.begin(places.folder / "work" / f"{name}-{kind}")
    return native, ours


def told(description, problems):
    if problems:
        print("\t".join(["not ok", description, *problems]).replace("\n", " / "))
    else:
        print(f"ok\t{description}")
    sys.stdout.flush()
    return not problems


def compared(native, ours):
    """What differs between the two outcomes."""
    problems = []
    if native[0] != ours[0]:
        problems.append(f"natively {native[0]}: {native[1]}")
        problems.append(f"in staging {ours[0]}: {ours[1]}")
    difference = trees.difference(native[2], ours[2])
    if difference:
        problems.append(f"natively | in staging: {difference}")
    return problems


def newest(places, table):
    log = places.lake / table / "_delta_log"
    return max(int(path.stem) for path in log.glob("*.json") if path.stem.isdigit())


def synced(places, table, staging, has_news):
    """Commits; what is wrong with it."""
    before = newest(places, table)
    status, output = places.worker.run(shell, 'sync "$DEST"', {"DEST": str(staging)})
    if status != 0:
        sentence = places.worker.run(read, f"{staging}/.deltafs/result")
        return [f"sync exits {status}: {output} {sentence}"]
    problems = []
    if newest(places, table) - before != has_news:
        problems.append(f"sync made {newest(places, table) - before} versions, not {has_news}")
    left = places.worker.run(os.listdir, str(staging))
    if left:
        problems.append(f"after the commit staging has {left}")
    return problems


def read(path):
    return pathlib.Path(path).read_text()


def ids(folder):
    """The rows of a folder's data files, as `sync` must understand them."""
    import pyarrow.parquet

    found = []
    for path in folder.rglob("*.parquet"):
        if not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts):
            # Alone, for the folder's name is a partition's.
            found += pyarrow.parquet.ParquetFile(path).read(["id"]).column("id").to_pylist()
    return found


# --- the ways -------------------------------------------------------------------------------------


def bring(places, way, wanted):
    """Tools that bring sources, and tools that take away what is too much."""
    tools = toolbox.DELETE if way == "delete" else toolbox.BRING
    for name, tool in chosen(way, tools):
        start = (places.cases + 1) * ROWS_A_CASE
        native, ours = sides(places, "t")
        made_now = made(places, "new", source, start, NEW_TIME_NS)
        if way != "fresh":
            make = older if way == "update" else larger
            before = made(places, "old", make, start, OLD_TIME_NS)
            for side in (native, ours):
                places.run('cp -a "$OLD/." "$DEST/"', OLD=before, DEST=side.dest)
        environment = {"SRC": str(made_now)}
        results = [side.apply(tool, environment) for side in (native, ours)]
        problems = compared(*results)
        rows_brought = ids(native.dest)
        # The data of a tool that failed half way can be anything, and is not for the table.
        if not problems and is_valid(native.dest):
            problems = synced(places, "t", ours.dest, bool(rows_brought))
            wanted.update(rows_brought if not problems else [])
        elif not problems:
            places.run('rm -r "$DEST"', DEST=ours.dest)
        told(f"{way}: {name}: {short(results[0][0])}", problems)


def chosen(way, tools):
    """The tools that TOOLS, a pattern for `way: name`, picks."""
    pattern = re.compile(os.environ.get("TOOLS", ""))
    return [(name, tool) for name, tool in tools.items() if pattern.search(f"{way}: {name}")]


def short(outcome):
    return f"exit {outcome}" if isinstance(outcome, int) else "the same answers"


def is_valid(folder):
    """Whether all that a table would take is Parquet."""
    import pyarrow

    try:
        ids(folder)
    except (pyarrow.ArrowException, OSError):
        return False
    plain = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [path for path in plain if not any(p.startswith(("_", ".")) for p in path.parts)]
    return all(path.suffix == ".parquet" for path in visible)


def backups(places):
    """Makes backups of each version through the mount, with the tools that bring them back."""
    places.run('mkdir -p "$D" && cp -a "$V" "$D"', D=places.native, V=places.mount / "r/versions")
    places.run("restic init; borg init -e none; touch $RCLONE_CONFIG")
    for version in range(3):
        where = {"V": places.mount / "r/versions" / str(version)}
        where["B"] = places.folder / f"backup-{version}"
        places.run('rsync -a "$V/" "$B/"; tar -C "$V" -cf "$B.tar" .', **where)
        script = 'cd "$V"; restic backup --json . | tail -n 1'
        identity = places.run(script, **where).split('"snapshot_id":"')[1].split('"')[0]
        script = 'cd "$V"; borg create "::${B##*/}" .; echo "${B##*/}" >"$B.borg"'
        places.run(f'{script}; echo {identity} >"$B.restic"', **where)


def restore(places):
    import oracle

    of_version = [oracle.read(str(places.lake / "r"), version) for version in range(3)]
    for number, (name, tool) in enumerate(chosen("restore", toolbox.RESTORE)):
        version = number % 3
        native, ours = sides(places, "r")
        results = []
        for side in (native, ours):
            place = str(side.versions / str(version))
            backup = str(places.folder / f"backup-{version}")
            environment = {"SRC": place, "VERSION": place, "BACKUP": backup}
            results.append(side.apply(tool, environment))
        problems = compared(*results) or synced(places, "r", ours.dest, True)
        if not problems:
            table, now = oracle.read(str(places.lake / "r"))
            was_table, was = of_version[version]
            if now != was or oracle.schema(table) != oracle.schema(was_table):
                problems.append(f"{len(now)} rows, not the {len(was)} of version {version}")
        told(f"restore: {name}: {short(results[0][0])}", problems)


def by_design(places, wanted):
    """What staging does otherwise, and how each tool takes it."""
    refused = {name: (*cell, "refused") for name, cell in toolbox.REFUSED.items()}
    without = {name: (*cell, "kept") for name, cell in toolbox.WITHOUT_ATTRIBUTES.items()}
    for name, (tool, status, kind) in chosen("by design", refused | without):
        start = (places.cases + 1) * ROWS_A_CASE
        native, ours = sides(places, "t")
        results = []
        for number, side in enumerate((native, ours)):
            brought = made(places, f"new{number}", source, start, NEW_TIME_NS)
            if places.user is not None:
                os.chown(brought / "_notes.txt", *places.user)
            results.append(side.apply(tool, {"SRC": str(brought)}))
        plain, staged = results
        problems = []
        if (plain[0], staged[0]) != (0, status):
            problems.append(f"natively {plain[0]}, in staging {staged[0]}: {staged[1]}")
        # All else must be there: names, sizes and bytes.
        special = {path for path in plain[2] if path in ("_symlink", "_pipe")}
        if kind == "refused" and not special:
            problems.append("the tool made neither link nor pipe")
        if plain[2].keys() - special != staged[2].keys():
            problems.append(f"names: {sorted(plain[2].keys() ^ staged[2].keys())}")
        if not problems:
            problems = synced(places, "t", ours.dest, True)
            wanted.update(ids(native.dest))
        told(f"by design: {name}: exit {status}, and all else is there", problems)


def check_rows(places, wanted):
    import oracle

    found = [json.loads(line) for line in oracle.read(str(places.lake / "t"))[1]]
    problems = []
    seen = [row["id"] for row in found]
    if len(seen) != len(set(seen)) or set(seen) != wanted:
        wrong = sorted(set(seen) ^ wanted)
        problems.append(f"{len(seen)} rows, {len(wanted)} brought; of one alone: {wrong[:20]}")
    for row in found:
        right = (1.5 * row["id"], f"note {row['id']}")
        if (row["amount"], row["note"]) != right:
            problems.append(f"a row is not as it was brought: {row}")
    told(f"{len(wanted)} rows of all these cases are in the table, each once", problems[:3])


def main(lake, mount, folder, *user):
    places = Places(lake, mount, folder, tuple(map(int, user)) or None)
    places.give(places.folder)
    backups(places)
    restore(places)
    wanted = set(range(10))
    for way in ("fresh", "update", "delete"):
        began = time.monotonic()
        bring(places, way, wanted)
        print(f"{way}: {time.monotonic() - began:.1f} s")
    by_design(places, wanted)
    check_rows(places, wanted)
    shutil.rmtree(places.folder / "sources")
    print(f"{places.cases} cases")


if __name__ == "__main__":
    main(*sys.argv[1:])
