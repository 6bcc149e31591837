#!/usr/bin/env bash
# A full disk under the lake: ENOSPC reaches the tool or the sync, the table stays as it was,
# the mount goes on, and with space again the commit goes through.
. "$(dirname "$0")/lib.sh"

if [[ $EUID != 0 ]]; then
  skip "a full disk" "only root can mount a small tmpfs"
  done_testing
fi
mount -t tmpfs -o size=8m,mode=755 tmpfs "$LAKE"
oracle make plain "$LAKE/t" --versions 2
mount_lake
before=$(fingerprint t)

# --- too much is brought

S=$(stage t/x)
not_ok "cp of more than the disk holds fails" cp /dev/stdin "$S/big.parquet" < <(head -c 20M /dev/urandom)
not_ok "and sync does not call it whole" sync "$S"
is "no version" "$(newest t)" 1
is "the table is as it was" "$(fingerprint t)" "$before"
is "versions can still be read" "$(oracle count "$MNT/t/versions/1")" 20
rm -r "$S"

# --- the disk is full when the commit comes

S=$(stage t/x)
oracle parquet "$S/f.parquet" 100 5
dd if=/dev/zero of="$LAKE/filler" bs=64k status=none 2>/dev/null || true
status=0
output=$(sync "$S" 2>&1) || status=$?
if ((status == 0)); then
  # Staging is on the same disk and publishing needs a few bytes alone: they may have fitted.
  pass "sync on a full disk: commits"
  is "and then it is committed" "$(newest t)" 2
else
  like "sync on a full disk: says so" "$output" "No space left"
  is "and no version is made" "$(newest t)" 1
  is "the table is as it was" "$(fingerprint t)" "$before"
  is "what was staged is still there" "$(ls "$S")" f.parquet
  rm "$LAKE/filler"
  ok "with space again sync commits" sync "$S"
fi
rm -f "$LAKE/filler"
ok "each row once" oracle ids "$LAKE/t" 0:20 100:5
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
ok "and unmounts cleanly" unmount_lake
umount "$LAKE"

done_testing
