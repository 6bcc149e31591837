#!/usr/bin/env bash
# Spark makes tables with row ids, deletion vectors, an identity column, constraints and in-commit
# times, moves them on, and they are restored and have partitions replaced between its commits:
# Spark reads what must be there, and its next append works.
TEST_SECONDS=900
. "$(dirname "$0")/lib.sh"

[[ -d $DELTAFS_SPARK_JARS ]] || skip_all "no $DELTAFS_SPARK_JARS: scripts/setup test fetches it"

mount_lake
verdicts "$PYTHON" "$HERE/spark_between.py" "$LAKE" "$MNT" "$SCRATCH"
done_testing
