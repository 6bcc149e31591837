#!/usr/bin/env bash
# Spark's own writer of Parquet, straight into staging directories: append, overwrite (which removes
# the staging directory itself and makes it again), both committers, partitions and their dynamic
# overwrite. Each leaves what it leaves in any folder, and `sync` makes it one commit.
TEST_SECONDS=400
. "$(dirname "$0")/lib.sh"

[[ -d $DELTAFS_SPARK_JARS ]] || skip_all "no $DELTAFS_SPARK_JARS: scripts/setup test fetches it"

oracle make plain "$LAKE/plain" --versions 1
oracle make sales "$LAKE/sales" --versions 1
mkdir "$SCRATCH/native"
mount_lake
verdicts "$PYTHON" "$HERE/spark_writers.py" "$LAKE" "$MNT" "$SCRATCH/native"
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
ok "and unmounts cleanly" unmount_lake

done_testing
