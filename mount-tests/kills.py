"""kill -9 of the daemon at random moments while six tools, a restore, and a stream of files that
doesn't wait for its syncs, write and sync at once.

    kills.py DELTAFS SCRATCH KILLS [SEED]

After each kill the logs, the tables as deltalake reads them, and, after a remount, the staging
directories are held against what each tool had been promised:

- `fsync` of a file exited with 0: the file is there with its bytes. Of names no more is promised
  than the spool's file system does, whose kernel lives on: what a call made or renamed before the
  kill is there under that name. A test of a power cut would have to ask for less.
- `sync` of the staging directory exited with 0: its commit is in the log, once.
- `sync` was called and did not end: all of it is committed, once, or all of it is staged; a
  repeated `sync` commits what was staged once.
- `sync` was not called: nothing of it is in the table.
"""

import collections
import os
import random
import sys
import threading
import time

import actors
import batches
import daemons
import histories
import oracle
import streams

# After so many kills the storm goes on with new tables, so that a kill costs what the first did.
KILLS_A_ROUND = 25
# Whether each is partitioned; `d` is the stream's.
TABLES = {"a": False, "b": True, "c": False, "d": False}
ACTORS = [
    (actors.Copy, "a"),
    (actors.Rsync, "a"),
    (actors.Tar, "b"),
    (actors.Dd, "b"),
    (actors.Python, "c"),
    (actors.Move, "c"),
    (actors.Link, "c"),
]
# How long a life is at most, and how long after the beginning of a `sync` some end.
LIFE_SECONDS, YOUNG_SECONDS = 1.0, 0.05
SYNC_SECONDS = 0.04
VERSIONS_READ = 12


class Wrong(Exception):
    """A promise that was broken."""


class Storm:
    def __init__(self, program, scratch, seed):
        self.scratch, self.mountpoint = scratch, os.path.join(scratch, "mnt")
        self.lake = os.path.join(scratch, "lake")
        trace = os.path.join(scratch, "trace.log")
        self.daemon = daemons.Daemon(program, self.lake, self.mountpoint, trace)
        self.dice = random.Random(seed)
        self.counts = collections.Counter()
        self.histories, self.actors, self.stream = {}, [], None
        self.watched, self.seen = None, threading.Event()
        self.round = 0

    # --- lives and deaths

    def begin_round(self):
        """New tables, each with a version, and actors that have brought nothing yet."""
        self.round += 1
        names = {kind: f"{kind}{self.round}" for kind in TABLES}
        self.histories = {}
        for kind, is_partitioned in TABLES.items():
            table = oracle.rows(0, 1)
            partition_by = ["date"] if is_partitioned else None
            path = os.path.join(self.lake, names[kind])
            oracle.write(path, oracle.dated(table) if is_partitioned else table,
                         partition_by=partition_by)
            self.histories[names[kind]] = histories.History(path)
            self.histories[names[kind]].follow()
        self.stream = streams.Stream(self, names["d"])
        self.actors = [
            Kind(self, names[kind], random.Random(self.dice.random()), TABLES[kind])
            for Kind, kind in ACTORS
        ]

    def syncs(self, actor):
        """An actor is about to call `sync`."""
        if actor is self.watched:
            self.seen.set()

    def life(self):
        """Lets all actors work, and kills the daemon at a random moment."""
        stop = threading.Event()
        watched = self.dice.choice(self.actors)
        self.watched = self.dice.choice((None, watched, watched))
        self.seen.clear()
        alive = [*self.actors, self.stream]
        threads = [threading.Thread(target=actor.live, args=(stop,)) for actor in alive]
        for thread in threads:
            thread.start()
        if self.watched is None:
            # Some die young, when what the last life left is being settled.
            time.sleep(self.dice.uniform(0, self.dice.choice((YOUNG_SECONDS, LIFE_SECONDS))))
        elif self.seen.wait(2 * LIFE_SECONDS):
            time.sleep(self.dice.uniform(0, SYNC_SECONDS))
        early = [actor for actor in alive if actor.failure is not None]
        stop.set()
        self.daemon.kill()
        for thread in threads:
            thread.join()
        if early:
            raise Wrong(f"{early[0].name} failed while the daemon lived: {early[0].failure}")

    def one_kill(self):
        self.life()
        self.daemon.detach()
        self.counts["kills"] += 1
        self.follow()
        for table in self.histories:
            self.read_by_oracle(table)
        self.daemon.mount()
        self.follow()
        for table, history in self.histories.items():
            latest = os.readlink(os.path.join(self.mountpoint, table, "latest"))
            if latest != f"versions/{history.newest.number}":
                raise Wrong(f"{table}: latest is {latest}, the log's {history.newest.number}")
        for actor in self.actors:
            self.check_staged(actor)
            self.check_done(actor)
        self.hold(self.stream.check())

    def end_round(self):
        """Lets each actor end what it began, and looks at everything once more."""
        for actor in self.actors:
            if actor.batch is not None:
                actor.step()
            if os.path.isdir(actor.staged) and os.listdir(actor.staged):
                raise Wrong(f"{actor.name}: not empty after sync: {os.listdir(actor.staged)}")
        self.hold(self.stream.finish())
        self.follow()
        self.hold(self.stream.check())
        for actor in self.actors:
            self.check_done(actor)
        for actor in [*self.actors, self.stream]:
            if os.path.isdir(actor.staged):
                os.rmdir(actor.staged)
        for table, history in self.histories.items():
            wanted = self.dice.sample(history.versions, min(VERSIONS_READ, len(history.versions)))
            for version in wanted:
                self.read_by_oracle(table, version)
            self.counts["commits"] += len(history.versions) - 1
        self.counts["acknowledged"] += sum(len(actor.done) for actor in self.actors)
        self.counts["files of the stream"] += len(self.stream.fsynced)
        self.counts["syncs of the stream that met a file half-written"] += self.stream.busy

    def hold(self, wrong):
        if wrong is not None:
            raise Wrong(wrong)

    # --- what the log says

    def follow(self):
        for table, history in self.histories.items():
            for version in history.follow():
                if table == self.stream.table:
                    self.hold(self.stream.judge(version))
                else:
                    self.judge(table, version)

    def judge(self, table, version):
        """A commit must be all of one batch, whose `sync` was called and that wasn't there yet."""
        where = f"{table} version {version.number} ({version.operation})"
        if version.operation == "RESTORE":
            batch = self.pending_restore(table, version)
        else:
            keys = {batches.key_of(path) for path in version.adds}
            if len(keys) != 1 or None in keys:
                raise Wrong(f"{where} adds {sorted(version.adds)}, which are not one batch")
            batch = self.batch_of(keys.pop())
        if batch is None or batch.phase == batches.STAGING:
            raise Wrong(f"{where} is a batch whose sync was not called: {sorted(version.adds)}")
        if batch.found is not None:
            raise Wrong(f"{where} commits again what {batch.found} has: {batch.key}")
        batch.found = version.number
        txns = dict([batch.txn]) if batch.txn else {}
        if version.txns != txns:
            raise Wrong(f"{where} has txn {version.txns}, not {txns}")
        if batch.restores is None:
            self.judge_files(where, version, batch)

    def judge_files(self, where, version, batch):
        ids = sorted(batches.first_id(path) for path in version.adds)
        if ids != [batches.first_id(path) for path in batch.files]:
            raise Wrong(f"{where} adds {sorted(version.adds)} of {batch.files}")
        removes = version.before if batch.mode == "overwrite" else set()
        if version.removes != removes:
            raise Wrong(f"{where}: {batch.mode} removes {sorted(version.removes ^ removes)}")

    def pending_restore(self, table, version):
        """The restore that makes this version; there is one actor that restores."""
        versions = self.histories[table].versions
        for actor in self.actors:
            if isinstance(actor, actors.Link) and actor.table == table:
                for batch in [*actor.done, actor.batch]:
                    is_open = batch is not None and batch.found is None
                    if is_open and batch.version in (batches.UNTOLD, version.number):
                        if version.live == versions[batch.restores].live:
                            return batch
        return None

    def batch_of(self, key):
        for actor in self.actors:
            for batch in [actor.batch, *reversed(actor.done)]:
                if batch is not None and batch.key == key:
                    return batch
        return None

    # --- what was promised

    def check_done(self, actor):
        """Each acknowledged batch is in the log; that it is there once, `judge` sees."""
        for batch in actor.done:
            if batch.found is None and not self.is_same_anyway(actor, batch):
                raise Wrong(f"{batch.key} was acknowledged and is not in the log of {actor.table}")
            # A repeated sync finds nothing to do where the one before it had committed.
            if batch.version == batches.UNTOLD or (batch.version is None and batch.is_repeated):
                batch.version = batch.found
            if batch.version != batch.found:
                raise Wrong(f"{batch.key}: result says {batch.version}, the log {batch.found}")
        self.counts["checked acknowledgements"] += len(actor.done)

    def is_same_anyway(self, actor, batch):
        """A restore to what the table is makes no version."""
        versions = self.histories[actor.table].versions
        return batch.restores is not None and any(
            version.live == versions[batch.restores].live for version in versions[batch.restores:]
        )

    def check_staged(self, actor):
        batch = actor.batch
        if batch is None:
            self.counts["killed idle"] += 1
            return
        if batch.phase == batches.STAGING:
            self.counts["killed while bringing"] += 1
            self.check_fsynced(actor, batch, batch.fsynced)
        elif batch.found is None:
            self.counts["killed in sync: still staged"] += 1
            if "state=unsettled\n" in actor.control("status"):
                self.counts["killed in sync: still staged, sent or about to be"] += 1
            promised = batch.fsynced if batch.is_brought_again else batch.files
            self.check_fsynced(actor, batch, promised)
            if batch.restores is not None:
                self.check_links(actor, batch)
        else:
            self.counts["killed in sync: committed"] += 1
            names = [name for _, _, names in os.walk(actor.staged) for name in names]
            if batch.txn is None and names:
                raise Wrong(f"{batch.key} is version {batch.found}, and still staged: {names}")

    def check_fsynced(self, actor, batch, files):
        for path in files:
            self.counts["checked fsynced files"] += 1
            if not batch.is_whole(path, actor.source, actor.staged):
                found = [os.path.join(top, name)
                         for top, _, names in os.walk(actor.staged) for name in names]
                raise Wrong(f"{batch.key} in {batch.phase}: {path} was fsynced and is not there "
                            f"with its bytes; there are {found}")

    def check_links(self, actor, batch):
        """Data and commits; hints, checksums and checkpoints come and go with the table's."""
        version = os.path.join(self.mountpoint, actor.table, "versions", str(batch.restores))
        lists = [{os.path.relpath(os.path.join(top, name), root)
                  for top, _, names in os.walk(root) for name in names
                  if name.endswith(".json") or batches.key_of(name)}
                 for root in (version, actor.staged)]
        if lists[0] != lists[1]:
            raise Wrong(f"{batch.key}: not staged of version {batch.restores} of {actor.table} is "
                        f"{lists[0] - lists[1]}, and {lists[1] - lists[0]} too much")

    # --- what the oracle reads

    def read_by_oracle(self, table, version=None):
        """The rows that deltalake reads are those of the files that the log has."""
        from deltalake import DeltaTable, QueryBuilder
        import pyarrow as pa

        history = self.histories[table]
        number = history.newest.number if version is None else version.number
        live = history.versions[number].live
        delta = DeltaTable(os.path.join(self.lake, table), version=version and number)
        if delta.version() != number:
            raise Wrong(f"{table}: the oracle's version is {delta.version()}, the log's {number}")
        found = pa.table(QueryBuilder().register("t", delta).execute("select * from t"))
        days = found.column("date").to_pylist() if "date" in found.schema.names else None
        columns = [found.column(name).to_pylist() for name in ("id", "amount", "note")]
        wanted = set()
        for path in live:
            key = batches.key_of(path)
            wanted.update(batches.ids_of(batches.first_id(path)) if key else [0])
        if sorted(columns[0]) != sorted(wanted):
            raise Wrong(f"{table} version {number}: the oracle reads {len(columns[0])} rows of "
                        f"{len(wanted)}")
        for at, (row, amount, note) in enumerate(zip(*columns)):
            if row == 0:
                continue
            if amount != 1.5 * row or note != batches.note(row):
                raise Wrong(f"{table} version {number}: the row {row} has other bytes")
            if days is not None:
                number_of_batch = row % batches.IDS_AN_ACTOR // batches.IDS_A_BATCH
                if str(days[at]) != batches.day_of(number_of_batch):
                    raise Wrong(f"{table} version {number}: row {row} is in {days[at]}")
        self.counts["versions read by the oracle"] += 1


def main(program, scratch, kills, seed):
    storm = Storm(program, scratch, seed)
    print(f"seed {seed}: again with DELTAFS_TEST_SEED={seed}", flush=True)
    begun = time.monotonic()
    storm.begin_round()
    storm.daemon.mount()
    for kill in range(1, kills + 1):
        try:
            storm.one_kill()
            print(f"ok\tkill {kill} of {kills}", flush=True)
            if kill % KILLS_A_ROUND == 0 or kill == kills:
                storm.end_round()
                print(f"ok\tround {storm.round}: all that was begun is committed, once", flush=True)
                if kill < kills:
                    storm.begin_round()
        except (Wrong, RuntimeError, OSError, ValueError, actors.Failed) as error:
            print(f"not ok\tkill {kill} of {kills}\t{error}", flush=True)
            break
    seconds = time.monotonic() - begun
    for name, count in sorted(storm.counts.items()):
        print(f"{name}: {count}")
    print(f"{seconds:.0f} s, {seconds / max(1, storm.counts['kills']):.2f} s a kill", flush=True)
    if storm.daemon.pid is not None:
        storm.daemon.unmount()


if __name__ == "__main__":
    seed = int(sys.argv[4]) if len(sys.argv) > 4 and sys.argv[4] else random.randrange(10**6)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), seed)
