#!/usr/bin/env bash
# After a commit at the table's checkpoint interval a checkpoint appears, in the background; another
# reader can open the table by it alone.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 1 --property delta.checkpointInterval=5
mount_lake
S=$(stage t/x)
log=$LAKE/t/_delta_log
for n in 1 2 3 4 5 6 7; do
  oracle tree "$S" $((n * 100)) 10
  sync "$S"
done
checkpoints() { find "$log" -name '*.checkpoint*.parquet' -printf '%f\n' | sort; }
has_checkpoint() { [[ -n $(checkpoints) && -s $log/_last_checkpoint ]]; }
ok "a checkpoint appears" wait_until 10 has_checkpoint
is "one, at a multiple of the interval" "$(checkpoints | sed 's/^0*\([0-9]\)\..*/\1/')" 5
is "_last_checkpoint names it" "$(oracle json "$log/_last_checkpoint" version)" 5
expected=$(oracle describe "$LAKE/t")
is "the table reads as before through the mount" "$(oracle describe "$MNT/t/versions/7")" "$expected"
cp -a "$LAKE/t" "$SCRATCH/copy"
rm "$SCRATCH"/copy/_delta_log/0000000000000000000[0-4].json
is "deltalake reads the table by the checkpoint alone" "$(oracle describe "$SCRATCH/copy")" "$expected"
ok "with every row" oracle ids "$SCRATCH/copy" 0:10 100:10 200:10 300:10 400:10 500:10 600:10 700:10

# Versions below the first one that can be rebuilt are not listed, and the rest is as it was.
mkdir "$SCRATCH/second"
mount_at "$SCRATCH/copy" "$SCRATCH/second"
is "a log that begins with a checkpoint lists what it can rebuild" \
  "$(find "$SCRATCH/second/versions" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tr '\n' ' ')" "5 6 7 "
is "and reads the same" "$(oracle describe "$SCRATCH/second/versions/7")" "$expected"
deltafs unmount "$SCRATCH/second"

# Each form that a table can have, also those of large tables: deltalake reads the table by the
# checkpoint alone, and so do we.
WRITE_CHECKPOINT=$(dirname "$DELTAFS_KERNEL_ROWS")/write_checkpoint
if [[ -x $WRITE_CHECKPOINT ]]; then
  mkdir "$SCRATCH/forms" "$SCRATCH/third"
  FEATURES='{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["v2Checkpoint"],"writerFeatures":["v2Checkpoint","appendOnly","invariants"]}}'
  declare -A described known
  for form in classic v2-parquet v2-json sidecars-parquet sidecars-json; do
    table=$SCRATCH/forms/$form
    oracle make sales "$table" --versions 5
    oracle bad-commit "$table" --line "$FEATURES" >/dev/null
    oracle set-property "$table" --property delta.checkpoint.writeStatsAsStruct=true
    described[$form]=$(oracle describe "$table")
    known[$form]=$(oracle statistics "$table")
    "$WRITE_CHECKPOINT" "$table" "$form" >/dev/null
    rm "$table"/_delta_log/0000000000000000000[0-6].json
    is "deltalake reads the same by a checkpoint alone: $form" \
      "$(oracle describe "$table")" "${described[$form]}"
    is "and as many statistics: $form" "$(oracle statistics "$table")" "${known[$form]}"
  done
  like "which are there" "${known[classic]}" '"min.id": "10"'
  mount_at "$SCRATCH/forms" "$SCRATCH/third"
  for form in "${!described[@]}"; do
    is "it reads the same through the mount: $form" \
      "$(oracle describe "$SCRATCH/third/$form/versions/6")" "${described[$form]}"
  done
  deltafs unmount "$SCRATCH/third"
else
  skip "each form of checkpoint" "no program at $WRITE_CHECKPOINT: scripts/setup test builds it"
fi

done_testing
