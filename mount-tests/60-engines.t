#!/usr/bin/env bash
# Our commits and Spark's, in turn, on golden tables and on tables that Spark made: after each of
# ours delta_kernel, deltalake and Spark read the rows that must be there, the mount shows each of
# Spark's, and a checkpoint of ours alone holds the same state. Without ENGINES it takes a share of
# the tables that has every feature; ENGINES=all takes all, ENGINES=PATTERN those of such names.
TEST_SECONDS=900
[[ ${ENGINES:-some} == some ]] || TEST_SECONDS=7200
. "$(dirname "$0")/lib.sh"

[[ -n ${DELTAFS_GOLDEN:-} ]] || skip_all "DELTAFS_GOLDEN is not set: no golden tables"
[[ -x $DELTAFS_KERNEL_ROWS ]] || skip_all "no $DELTAFS_KERNEL_ROWS: scripts/setup test builds it"
[[ -d $DELTAFS_SPARK_JARS ]] || skip_all "no $DELTAFS_SPARK_JARS: scripts/setup test fetches it"

"$PYTHON" "$HERE/golden.py" unpack "$LAKE"
mount_lake
verdicts "$PYTHON" "$HERE/engines.py" "$LAKE" "$MNT" "${ENGINES:-some}"
done_testing
