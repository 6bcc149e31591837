#!/usr/bin/env bash
# kill -9 of the daemon at random moments of a commit loop. After each kill and remount: the table
# reads, each acknowledged commit is there once, and each fsynced staged file is either still staged
# or committed, and a repeated sync commits it once.
TEST_SECONDS=600
. "$(dirname "$0")/lib.sh"

kills=${DELTAFS_TEST_KILLS:-20}
oracle make plain "$LAKE/t" --versions 1 --rows 1
oracle parquet "$SCRATCH/rows/%d.parquet" 1000 1 --files 3000
: >"$SCRATCH/staged"
: >"$SCRATCH/acknowledged"
echo 1000 >"$SCRATCH/next"

# Stages one row after the other with fsync, and commits each. Ends at the first failure. What
# `staged` names was fsynced; what `acknowledged` names was committed, says sync.
commit_loop() {
  local S=$MNT/t/staging/w id
  mkdir -p "$S" || return 0
  while :; do
    id=$(cat "$SCRATCH/next")
    if ! grep -qx "$id" "$SCRATCH/staged"; then
      dd if="$SCRATCH/rows/$id.parquet" of="$S/$id.parquet" conv=fsync status=none || return 0
      echo "$id" >>"$SCRATCH/staged"
    fi
    sync "$S" || return 0
    echo "$id" >>"$SCRATCH/acknowledged"
    echo $((id + 1)) >"$SCRATCH/next"
  done
}

mount_lake
for kill in $(seq "$kills"); do
  commit_loop 2>"$SCRATCH/loop.err" &
  loop=$!
  # The random moment: between 20 and 420 ms into the loop, by the microsecond.
  sleep "0.$(printf '%06d' $((20000 + (RANDOM * 32768 + RANDOM) % 400000)))"
  pid=$(daemon_pid)
  kill -KILL "$pid"
  wait "$loop"
  wait_until 10 daemon_is_gone "$pid"
  detach "$MNT"

  count=$(oracle count "$LAKE/t") || flunk "kill $kill: the oracle reads the table" "$count"
  if ! mount_lake; then
    flunk "kill $kill: mounts again"
    done_testing
  fi

  # The last id was fsynced and not acknowledged: it is staged with its bytes, or committed.
  last=$(tail -n 1 "$SCRATCH/staged")
  if [[ -n $last ]] && ! grep -qx "$last" "$SCRATCH/acknowledged"; then
    staged=$MNT/t/staging/w/$last.parquet
    if [[ -e $staged ]]; then
      cmp -s "$staged" "$SCRATCH/rows/$last.parquet" ||
        flunk "kill $kill: the fsynced file $last is there after the remount with its bytes" \
          "$(ls -l "$staged")"
    else
      oracle rows "$LAKE/t" | grep -qE "\"id\": $last\b" ||
        flunk "kill $kill: the fsynced file $last is staged or committed" "it is neither" \
          "$(ls -lA "$MNT/t/staging/w")"
    fi
  fi
  pass "kill $kill of $kills after $(wc -l <"$SCRATCH/acknowledged") commits"
done

# --- what was staged is committed by a repeated sync

if [[ -d $MNT/t/staging/w ]]; then
  # A file that dd could not finish was never promised; it goes, as its user would take it away.
  next=$(cat "$SCRATCH/next")
  grep -qx "$next" "$SCRATCH/staged" || rm -f "$MNT/t/staging/w/$next.parquet"
  ok "a last sync" sync "$MNT/t/staging/w"
  is "leaves staging empty" "$(ls -A "$MNT/t/staging/w")" ""
fi
staged=$(sort -u "$SCRATCH/staged" | wc -l)
ok "at least one commit for each kill was acknowledged ($staged)" test "$staged" -ge "$kills"
ok "each fsynced row is in the table, once" oracle ids "$LAKE/t" 0:1 "1000:$staged"
is "each acknowledged commit was acknowledged once" "$(sort "$SCRATCH/acknowledged" | uniq -d)" ""
is "versions are whole: each is one more row" "$(oracle count "$LAKE/t")" "$(($(oracle version "$LAKE/t") + 1))"
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'

done_testing
