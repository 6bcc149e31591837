#!/usr/bin/env bash
# `cp -a versions/N /elsewhere` is a deep clone: for each N of golden tables of other writers
# (partitions, checkpoints, deletion vectors, column mapping, special characters in partition
# values) the copy opens in deltalake at version N, with the rows that deltalake read from the
# original, after the original was deleted.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

[[ -n ${DELTAFS_GOLDEN:-} ]] || skip_all "DELTAFS_GOLDEN is not set: no golden tables"

tables=(
  basic_partitioned
  basic-with-inserts-deletes-checkpoint
  multi-part-checkpoint
  dv-partitioned-with-checkpoint
  dv-with-columnmapping
  table-with-columnmapping-mode-name
  table-with-columnmapping-mode-id
  data-reader-partition-values
  data-reader-escaped-chars
)

mkdir "$SCRATCH/expected" "$SCRATCH/copies" "$SCRATCH/expected-logs"
for table in "${tables[@]}"; do
  oracle golden "$table" "$LAKE/$table"
  oracle describe-each "$LAKE/$table" >"$SCRATCH/expected/$table"
  cp -a "$LAKE/$table/_delta_log" "$SCRATCH/expected-logs/$table"
done
oracle make special "$LAKE/special"
oracle describe-each "$LAKE/special" >"$SCRATCH/expected/special"
cp -a "$LAKE/special/_delta_log" "$SCRATCH/expected-logs/special"
tables+=(special)

mount_lake
for table in "${tables[@]}"; do
  is "$table lists a directory for each version" \
    "$(find "$MNT/$table/versions" -mindepth 1 -maxdepth 1 | wc -l)" \
    "$(wc -l <"$SCRATCH/expected/$table")"
  mkdir "$SCRATCH/copies/$table"
  status=0
  for version in "$MNT/$table/versions"/*; do
    cp -a "$version" "$SCRATCH/copies/$table/" || status=$?
  done
  is "$table: cp -a of each version exits 0" "$status" 0
done

unmount_lake
rm -rf "$LAKE"

for table in "${tables[@]}"; do
  got=$(oracle describe-versions "$SCRATCH/copies/$table" 2>&1 || true)
  if [[ $got == "$(cat "$SCRATCH/expected/$table")" ]]; then
    pass "$table: each copy opens at its version with the original's rows, schema and partitions"
  else
    flunk "$table: each copy opens at its version with the original's rows, schema and partitions" \
      "$(diff "$SCRATCH/expected/$table" - <<<"$got" || true)"
  fi
  different=0
  while read -r log; do
    cmp -s "$log" "$SCRATCH/expected-logs/$table/${log##*_delta_log/}" || different=$((different + 1))
  done < <(find "$SCRATCH/copies/$table" -path '*/_delta_log/*' -type f)
  is "$table: each log file of each copy is byte for byte the original's" "$different" 0
done

done_testing
