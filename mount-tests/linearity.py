"""Whether what eight writers did to one table, and saw of it, is a history that one could tell.

    linearity.py MAKE  TABLE                            an empty table
    linearity.py RUN   LAKE MOUNT MOUNT COUNT SCRATCH   runs the writers (writers.py), then checks
    linearity.py CHECK LAKE COUNT SCRATCH               checks what an earlier run wrote down

Promised, and checked here:

- Each commit that was acknowledged is one version, and no version is anything else.
- A version is what the version before it was, changed by its commit alone: an append adds its row;
  an overwrite is exactly the rows that its writer brought, whatever came before.
- Real time: a commit that was acknowledged before another began has the lower version.
- A commit under a transaction that the table has is none. So `txn=ticket:K` compares and swaps: of
  all that bring ticket K one commits, and what it read had the ticket before. The tickets in the
  log are 1, 2, 3, and no commit under a ticket is lost to another one.
- A read through a mount finds a version that was there, with its rows; versions never go back for
  one process; a process sees its own commits, and those acknowledged by the same daemon before;
  those of others within FRESH_SECONDS.

Not promised, and counted: an overwrite is absolute. What its writer had not seen, because it was
committed between the read and the overwrite, is gone in the new version (and still in the old one).
"""

import bisect
import collections
import glob
import itertools
import json
import os
import re
import subprocess
import sys
import time

import histories
import writers

# (role, mount): seven through staging directories of two daemons, and a foreign writer.
WRITERS = [
    ("append", 0),
    ("append", 1),
    ("exact", 0),
    ("ticket", 1),
    ("swap", 0),
    ("swap", 1),
    ("blind", 0),
    ("foreign", None),
]
FRESH_SECONDS = 5
FRESH_NS = FRESH_SECONDS * 10**9
NAME = re.compile(r"(.*)-(\d{6})(?:-[0-9a-z]+)?\.parquet")


def name_of(index):
    role, mount = WRITERS[index]
    return f"p{index}{role}" + ("" if mount is None else "ab"[mount])


def run(lake, mounts, count, scratch):
    """Starts all writers at once; the names of those that failed, with what they said."""
    started = []
    for index, (role, mount) in enumerate(WRITERS):
        name = name_of(index)
        table = os.path.join(lake if mount is None else mounts[mount], "t")
        record = os.path.join(scratch, f"{name}.jsonl")
        command = [sys.executable, writers.__file__, role, name, table, str(count), record]
        command += [] if mount is None else [name]
        started.append((name, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
    return [f"{name}: {error.strip()[-300:]}" for name, process in started
            for error in [process.communicate()[1]] if process.returncode != 0]


class Checked:
    """The history and the records, and all that is wrong with them."""

    def __init__(self, table, scratch):
        history = histories.History(table)
        history.follow()
        self.versions = history.versions
        self.table = table
        self.wrong = []
        self.counts = collections.Counter()
        self.commits, self.reads = [], []
        for path in sorted(glob.glob(os.path.join(scratch, "p*.jsonl"))):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    record = json.loads(line)
                    {"commit": self.commits, "read": self.reads}[record["kind"]].append(record)
        self.files, self.content, self.commit_of = {}, [], {}

    def fail(self, sentence):
        self.wrong.append(sentence)

    def check(self):
        self.replay()
        self.attribute()
        self.check_effects()
        self.check_real_time()
        self.check_tickets()
        self.check_reads()

    def rows_of(self, path):
        if path not in self.files:
            rows = writers.rows_of(os.path.join(self.table, path))
            self.files[path] = frozenset(rows)
            if len(rows) != len(self.files[path]):
                self.fail(f"{path} has a row twice")
        return self.files[path]

    def replay(self):
        """What each version holds."""
        for version in self.versions:
            rows = frozenset().union(*map(self.rows_of, version.live))
            if len(rows) != sum(len(self.rows_of(path)) for path in version.live):
                self.fail(f"version {version.number} has a row twice")
            self.content.append(rows)

    def attribute(self):
        """Finds each version's commit, and each acknowledged commit's version."""
        acknowledged = {}
        for commit in self.commits:
            if commit["code"] == 0 and commit["state"] == "committed":
                key = (commit["process"], commit["seq"])
                if key in acknowledged:
                    self.fail(f"{key} was acknowledged as new twice")
                acknowledged[key] = commit
        for version in self.versions[1:]:
            key = self.key_of(version)
            commit = acknowledged.pop(key, None)
            if commit is None:
                self.fail(f"version {version.number} is {key}, which nobody was told of, or twice")
                continue
            if commit["version"] not in (None, version.number):
                self.fail(f"{key} is version {version.number}, and was told {commit['version']}")
            self.commit_of[version.number] = commit
            self.counts[f"commits of {commit['process']}"] += 1
        for key in acknowledged:
            self.fail(f"{key} was acknowledged, and is no version")
        self.counts["commits"] = len(self.commit_of)
        self.counts["found committed already (txn)"] = sum(
            commit["state"] == "nothing" for commit in self.commits
        )
        self.counts["races lost by deltalake beyond its own retries"] = sum(
            commit.get("tries", 0) for commit in self.commits
        )

    def key_of(self, version):
        if len(version.adds) != 1:
            return f"not one file: {sorted(version.adds)}"
        path = next(iter(version.adds))
        found = NAME.fullmatch(path)
        if found and found[1] in map(name_of, range(len(WRITERS))):
            return found[1], int(found[2])
        # deltalake's own names say nothing; it writes one row a commit.
        return min(self.rows_of(path))[:2]

    def check_effects(self):
        """Each version follows from the one before by its commit alone."""
        for number, commit in self.commit_of.items():
            version = self.versions[number]
            path = next(iter(version.adds))
            own = {row for row in self.rows_of(path)
                   if row[:2] == (commit["process"], commit["seq"])}
            where = f"version {number} of {commit['process']}"
            if len(own) != 1:
                self.fail(f"{where} has its own row {len(own)} times")
            is_overwrite = "swap" in commit["process"] or "blind" in commit["process"]
            if not is_overwrite:
                if version.removes or self.content[number] != self.content[number - 1] | own:
                    self.fail(f"{where} is an append, and not the version before and its row")
                continue
            if version.live != {path}:
                self.fail(f"{where} is an overwrite, and {len(version.live)} files are live")
            base = self.content[commit["base"]]
            if self.content[number] != base | own:
                self.fail(f"{where} brought other rows than it read in {commit['base']}")
            self.count_lost(where, commit, self.content[number - 1] - self.content[number])

    def count_lost(self, where, commit, lost):
        """Rows that an overwrite's writer hadn't seen."""
        kind = "blind" if "blind" in commit["process"] else "swap"
        self.counts[f"rows that a {kind} had not seen and took away (not promised)"] += len(lost)
        under_ticket = [row for row in lost if row[2] is not None]
        if kind == "swap" and under_ticket:
            self.fail(f"{where} took away what was committed under a ticket: {under_ticket}")

    def check_real_time(self):
        latest, of = 0, None
        for number in sorted(self.commit_of):
            commit = self.commit_of[number]
            if commit["end"] < latest:
                self.fail(f"version {number} was acknowledged before version {of} began")
            if commit["begin"] > latest:
                latest, of = commit["begin"], number

    def check_tickets(self):
        held = 0
        for version in self.versions:
            ticket = version.txns.get("ticket")
            if ticket is None:
                continue
            if ticket != held + 1:
                self.fail(f"version {version.number} has ticket {ticket} after {held}")
            commit = self.commit_of.get(version.number)
            if commit and self.versions[commit["base"]].number < self.counts["version of ticket"]:
                self.fail(f"version {version.number} took ticket {ticket} and had read "
                          f"{commit['base']}, before ticket {held}")
            held = ticket
            self.counts["version of ticket"] = version.number
        del self.counts["version of ticket"]
        self.counts["tickets"] = held

    def check_reads(self):
        by_daemon = {"a": [], "b": [], None: []}
        for number, commit in self.commit_of.items():
            by_daemon[daemon_of(commit["process"])].append((commit["end"], number))
        acknowledged = {daemon: newest_by_time(ends) for daemon, ends in by_daemon.items()}
        own = collections.defaultdict(int)
        events = sorted(
            [(read["begin"], 1, read) for read in self.reads]
            + [(commit["end"], 0, number) for number, commit in self.commit_of.items()],
            key=lambda event: event[:2],
        )
        for time_ns, is_read, what in events:
            if not is_read:
                process = self.commit_of[what]["process"]
                own[process] = max(own[process], what)
                continue
            process, version = what["process"], what["version"]
            where = f"{process} reads version {version}"
            if version >= len(self.versions):
                self.fail(f"{where}, which never was")
                continue
            commit = self.commit_of.get(version)
            if commit and commit["begin"] > what["end"]:
                self.fail(f"{where} before it was begun")
            if version < own[process]:
                self.fail(f"{where} after it has seen {own[process]}")
            own[process] = version
            for daemon, known in acknowledged.items():
                is_own = daemon == daemon_of(process)
                due = known(time_ns if is_own else time_ns - FRESH_NS)
                if version < due:
                    whose = "its own daemon" if is_own else f"others {FRESH_SECONDS} s ago"
                    self.fail(f"{where} when {due} was acknowledged by {whose}")
            self.counts["reads"] += 1
            if what["rows"] is not None:
                self.counts["reads whose rows were compared"] += 1
                if frozenset(map(tuple, what["rows"])) != self.content[version]:
                    self.fail(f"{where}, and other rows than it has")


def daemon_of(process):
    """The mount that a process works in, by its name; `None` for the foreign writer."""
    return None if process.endswith("foreign") else process[-1]


def newest_by_time(ends):
    """A function: the newest version that was acknowledged before a time."""
    ends = sorted(ends)
    newest = list(itertools.accumulate((number for _, number in ends), max))

    def before(time_ns):
        at = bisect.bisect_left(ends, (time_ns,))
        return newest[at - 1] if at else 0

    return before


def verdict(what, wrong):
    if wrong:
        print(f"not ok\t{what}\t{len(wrong)} times\t" + "\t".join(wrong[:8]))
    else:
        print(f"ok\t{what}")


def main(action, lake, *rest):
    if action == "MAKE":
        from deltalake import write_deltalake

        write_deltalake(lake, writers.SCHEMA.empty_table())
        return
    count, scratch = int(rest[-2]), rest[-1]
    seconds = None
    if action == "RUN":
        begun = time.monotonic()
        verdict("every writer came to its end", run(lake, rest[:-2], count, scratch))
        seconds = time.monotonic() - begun
    checked = Checked(os.path.join(lake, "t"), scratch)
    checked.check()
    wanted = count * len(WRITERS)
    found = checked.counts["commits"]
    verdict(f"{wanted} commits were acknowledged", [] if found == wanted else [f"{found}"])
    verdict("the history is linear, each commit is there once, and reads are of it", checked.wrong)
    for name, number in sorted(checked.counts.items()):
        print(f"{name}: {number}")
    if seconds:
        print(f"{seconds:.1f} s, {found / seconds:.1f} commits a second")


if __name__ == "__main__":
    main(*sys.argv[1:])
