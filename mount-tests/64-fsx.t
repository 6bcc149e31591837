#!/usr/bin/env bash
# fsx, random operations on one file (fsx.toml): read, write, mapped reads and writes, truncate,
# fallocate, holes, copy_file_range, sendfile, close and open; a read must find the bytes, and each
# operation the size, that the ones before it made.
#
# From the environment: DELTAFS_TEST_FSX_OPS, how many operations (50,000), in runs of 100,000 at most,
# for fsx keeps mappings until it ends; DELTAFS_TEST_FSX_SEED, which ones in the first run (1).
OPERATIONS=${DELTAFS_TEST_FSX_OPS:-50000}
SEED=${DELTAFS_TEST_FSX_SEED:-1}
TEST_SECONDS=$((60 + OPERATIONS / 100))
. "$(dirname "$0")/lib.sh"

FSX=$ROOT/.cache/cargo/bin/fsx
[[ -x $FSX ]] || skip_all "no fsx at $FSX: scripts/setup test installs it"

oracle make plain "$LAKE/t" --versions 1
mount_lake
S=$(stage t/x)

while ((OPERATIONS > 0)); do
  count=$((OPERATIONS < 100000 ? OPERATIONS : 100000)) status=0
  start=$(milliseconds)
  "$FSX" -f "$HERE/fsx.toml" -N "$count" -S "$SEED" -P "$SCRATCH" "$S/f" >"$SCRATCH/fsx.out" 2>&1 ||
    status=$?
  echo "# $count operations, seed $SEED, in $(($(milliseconds) - start)) ms"
  is "fsx on a staged file" "$status $(tail -n 1 "$SCRATCH/fsx.out")" "0 All operations completed A-OK!"
  ((status == 0)) || diag "$(tail -n 35 "$SCRATCH/fsx.out")"
  # What fsx believes is what it read back by the same mount: the bytes on disk are these, too.
  cp "$S/f" "$SCRATCH/f"
  remount
  ok "has its bytes after a remount" cmp "$SCRATCH/f" "$S/f"
  rm "$S/f"
  OPERATIONS=$((OPERATIONS - count)) SEED=$((SEED + 1))
done
ok "the directory is left empty" rmdir "$S"

done_testing
