#!/usr/bin/env bash
# kill -9 of a tool (cp, mv, rsync, tar, dd, restic, writers in Python) in the middle of a file at
# random moments, then `sync`: refused with a reason, or whole files alone; killed_tools.py says it
# exactly. Then kill -9 of `sync` itself. DELTAFS_TEST_TOOL_KILLS: how often each;
# DELTAFS_TEST_SEED: the same dice again.
times=${DELTAFS_TEST_TOOL_KILLS:-3}
TEST_SECONDS=$((120 + 40 * times))
. "$(dirname "$0")/lib.sh"

for tool in rsync tar restic; do
  command -v $tool >/dev/null || skip_all "no $tool on this machine"
done
mount_lake

verdicts "$PYTHON" "$HERE/killed_tools.py" "$MNT" "$LAKE" "$SCRATCH" "$times" \
  "${DELTAFS_TEST_SEED:-}"

# --- sync itself, and deltafs commit: the commit may go on, end, or not have begun

kills=$((5 * times))
oracle make plain "$LAKE/s" --versions 1 --rows 1
oracle parquet "$SCRATCH/s/%d.parquet" 5000 1 --files "$kills"
wait_until 5 test -d "$MNT/s/staging"
S=$(stage s/x)
for ((n = 5000; n < 5000 + kills; n++)); do
  cp "$SCRATCH/s/$n.parquet" "$S/"
  if ((n % 2)); then sync "$S" & else "$DELTAFS" commit "$S" >"$SCRATCH/commit.out" 2>&1 & fi
  victim=$!
  sleep "0.$(printf '%03d' $((RANDOM % 40)))"
  kill -KILL "$victim" 2>/dev/null || true
  { wait "$victim" || true; } 2>/dev/null
  wait_until 10 sync "$S" || flunk "death $n of sync: a repeated sync commits" "$(result "$S")"
done
is "a repeated sync leaves nothing" "$(ls -A "$S")" ""
ok "$kills files whose sync was killed are committed, once" oracle ids "$LAKE/s" 0:1 5000:"$kills"
is "with a version each" "$(newest s)" "$kills"

unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'

done_testing
