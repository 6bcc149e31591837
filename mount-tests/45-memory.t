#!/usr/bin/env bash
# Logs that ask for more memory than there is: a line of a GiB, pages that unpack to GiBs, counts and
# sizes that can't be. Each is EIO with the file's name in the trace, the tables beside it are fine,
# and the daemon never takes more than 512 MiB by them.
TEST_SECONDS=600
. "$(dirname "$0")/lib.sh"

LIMIT_MIB=512
bomb() { "$PYTHON" "$HERE/bombs.py" "$@"; } # KIND TABLE — prints the file that it made

oracle make plain "$LAKE/good" --versions 2
kinds=(line checkpoint_line sparse pages dictionary nulls entries negative huge footer)
declare -A file
for kind in "${kinds[@]}" partitions; do
  cp -a "$LAKE/good" "$LAKE/$kind"
  file[$kind]=$(bomb "$kind" "$LAKE/$kind")
done

mount_lake
DAEMON=$(daemon_pid)
peak_mib() { awk '/^VmHWM:/ { print int($2 / 1024) }' "/proc/$DAEMON/status"; }
trace_says() { grep -qE "$1" "$TRACE"; }

before=$(peak_mib)
for kind in "${kinds[@]}"; do
  version=$((10#${file[$kind]:0:20}))
  is "$kind: version $version is EIO" "$(call listdir "$MNT/$kind/versions/$version")" EIO
  is "$kind: so is the newest" "$(call listdir "$MNT/$kind/latest/")" EIO
  ok "$kind: the trace names ${file[$kind]}" trace_says "$kind.*${file[$kind]}"
  is "$kind: what came before reads as it should" "$(oracle count "$MNT/$kind/versions/1")" 20
  peak=$(peak_mib)
  ok "$kind: the daemon took $peak MiB at most, $before before" test "$peak" -le "$LIMIT_MIB"
  before=$peak
done

V=$MNT/partitions/versions/2
is "a million partitions are listed" "$(ls "$V" | grep -c '^key=')" 1000000
is "and each has its file" "$(ls "$V/key=value-777777")" \
  "$(printf 'part-00000-%016x.c000.snappy.parquet' $((777777 * 7919)))"
peak=$(peak_mib)
ok "partitions: the daemon took $peak MiB at most, $before before" \
  test "$peak" -le "$LIMIT_MIB"

is "the good table beside them reads" "$(oracle count "$MNT/good/versions/1")" 20
is "the daemon never panicked" "$(grep -m1 -oE 'panicked|BUG:' "$TRACE" || true)" ""
is "and is the same process" "$(daemon_pid)" "$DAEMON"
ok "it unmounts cleanly" unmount_lake

done_testing
