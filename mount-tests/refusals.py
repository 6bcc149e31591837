"""What is refused on which table, by whom and why; and the tables that a short run takes."""

import collections
import re

# A table's pattern, who and what, what is said, why that is right.
REFUSALS = [
    ("made/widened", "deltalake read", "TypeWidening", "deltalake lacks the feature"),
    ("features/type-widening", "deltalake read", "TypeWidening", "deltalake lacks the feature"),
    ("expected/basic-with-vacuum-protocol-check-feature/delta", "deltalake read",
     "VacuumProtocolCheck", "deltalake lacks the feature"),
    ("made/append-only", "Spark delete", "APPEND_ONLY", "the table is append-only"),
    ("made/append-only", "deltafs overwrite", "append", "the table is append-only"),
    ("made/append-only", "deltafs restore", "append", "the table is append-only"),
    ("made/constraint", "deltafs append", "CHECK constraint", "we can't evaluate it"),
    ("made/constraint", "deltafs overwrite", "CHECK constraint", "we can't evaluate it"),
    ("features/cdf-table.*", "deltafs append", "_change_type",
     "its data files carry the feed's column, which we don't append as data"),
    ("features/cdf-table.*", "deltafs overwrite", "_change_type",
     "its data files carry the feed's column, which we don't append as data"),
    ("features/partitioned_with_materialize_feature", "deltafs append", "in the files too",
     "the file is older than the feature, which wants partition columns in files"),
    ("features/partitioned_with_materialize_feature", "deltafs overwrite", "in the files too",
     "the file is older than the feature, which wants partition columns in files"),
]

# Tables that nobody can be asked about: a pattern, why.
LEFT_OUT = [
    ("features/parquet_row_group_skipping",
     "its checkpoint has a column that its commits don't have: engines differ from the start"),
]

# Tables that Spark does not read as they are, before anything of ours: a pattern, why.
NOT_FOR_SPARK = [
    ("features/type-widening", "Spark lacks one of its changes: byte to decimal"),
    ("features/timestamp-partitioned-table", "Hadoop takes the colon in a path for a scheme's"),
    ("features/cdf-column-mapping-name-mode-3-7",
     "Hadoop's hidden checksums beside its log are of another log"),
    ("features/compacted-log-files-table",
     "Spark reads 23 rows by the compacted log; delta_kernel and deltalake 5, by the commits"),
]

# Partitions, special characters, legacy types, column mapping by name and id, deletion vectors,
# checkpoints V1 and V2 with sidecars, timestampNtz, variant; and what golden tables lack.
SOME = [
    "made/row-tracking-midway",
    "made/clustered",
    "made/v2-checkpoints",
    "made/in-commit-times-midway",
    "made/mapped-by-name",
    "made/widened",
    "made/variant",
    "made/change-feed",
    "made/append-only",
    "made/constraint",
    "expected/basic-decimal-table-legacy/delta",
    "expected/data-reader-escaped-chars/delta",
    "expected/data-reader-timestamp_ntz-id-mode/delta",
    "expected/dv-partitioned-with-checkpoint/delta",
    "features/basic_partitioned",
    "features/v2-checkpoints-parquet-with-sidecars",
]


class Refusals:
    def __init__(self):
        self.times = collections.Counter()

    def met(self, table, what, why):
        for entry in REFUSALS:
            if re.fullmatch(entry[0], table) and entry[1] == what and re.search(entry[2], why):
                self.times[entry] += 1
                return True
        return False

    def spared(self, table):
        """Whether Spark is spared a table, which must have an entry."""
        for entry in NOT_FOR_SPARK:
            if re.fullmatch(entry[0], table):
                self.times[entry] += 1
                return True
        return False

    def left_out(self, table):
        """Whether a table is left out, which must have an entry."""
        found = [entry for entry in LEFT_OUT if re.fullmatch(entry[0], table)]
        self.times.update(found)
        return bool(found)

    def unneeded(self):
        entries = [*REFUSALS, *LEFT_OUT, *NOT_FOR_SPARK]
        return [" ".join(entry[:2]) for entry in entries if entry not in self.times]

    def report(self):
        for entry, times in self.times.items():
            what = "left out" if entry in LEFT_OUT else "not for Spark"
            what = f"{entry[1]} refused, {times} times" if entry in REFUSALS else what
            yield f"{entry[0]}: {what}: {entry[-1]}"
