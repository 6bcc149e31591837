#!/usr/bin/env bash
# Eight processes commit to one table at once: seven through the staging directories of two daemons
# (appends, appends with a transaction, read-modify-write by overwrite, with and without one), and
# deltalake. linearity.py says what is promised, and checks the log, each version's rows, the real
# time of all commits and reads. DELTAFS_TEST_COMMITS: how many each.
commits=${DELTAFS_TEST_COMMITS:-40}
TEST_SECONDS=$((120 + 3 * commits))
. "$(dirname "$0")/lib.sh"

"$PYTHON" "$HERE/linearity.py" MAKE "$LAKE/t"
OTHER=$SCRATCH/other
mkdir "$OTHER"
mount_lake
mount_at "$LAKE" "$OTHER"

verdicts "$PYTHON" "$HERE/linearity.py" RUN "$LAKE" "$MNT" "$OTHER" "$commits" "$SCRATCH"
unlike "no daemon panicked" "$(cat "$TRACE")" 'panicked|BUG:'
is "all staging directories are empty" "$(find {"$MNT","$OTHER"}/t/staging/* -mindepth 1)" ""

done_testing
