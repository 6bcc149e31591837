#!/usr/bin/env bash
# kill -9 of the daemon at random moments while six tools (cp, rsync, tar, dd, Python, mv) and a
# restore (cp -al) write and sync at once, into three tables; kills.py says what is promised and
# checks it after each kill. DELTAFS_TEST_KILLS: how many; DELTAFS_TEST_SEED: the same dice again.
kills=${DELTAFS_TEST_KILLS:-20}
TEST_SECONDS=$((120 + 4 * kills))
. "$(dirname "$0")/lib.sh"

for tool in rsync tar; do
  command -v $tool >/dev/null || skip_all "no $tool on this machine"
done

verdicts "$PYTHON" "$HERE/kills.py" "$DELTAFS" "$SCRATCH" "$kills" "${DELTAFS_TEST_SEED:-}"
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
is "no spool is left behind" "$(find "$LAKE" -name .deltafs)" ""

done_testing
