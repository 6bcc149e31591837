#!/usr/bin/env bash
# Restore: a copy of a version, brought back into staging, makes the table exactly that state again
# in one commit, on top of whatever happened since: rows, schema, properties, deletion vectors; and
# the newer history stays. Files that the store lost come back under their names.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 3
mount_lake
cp -a "$MNT/t/versions/2" "$SCRATCH/backup"

# --- the table is broken in every way we know

oracle overwrite "$LAKE/t" 5000 10
oracle add-column "$LAKE/t" extra
oracle delete "$LAKE/t" "id = 5003"
rm "$LAKE/t/$(oracle adds "$LAKE/t" 0)"
wait_until 5 test -d "$MNT/t/versions/5"
for version in 3 4 5; do
  oracle describe "$LAKE/t" --version $version
done >"$SCRATCH/newer"

S=$(stage t/r)
ok "cp -a of a backup into staging" cp -a "$SCRATCH/backup/." "$S/"
ok "sync restores" sync "$S"
is "in one commit" "$(newest t)" 6
ok "rows, schema and partition values are those of version 2" \
  oracle same "$LAKE/t" 6 "$SCRATCH/backup" 2
is "the newer history stays" \
  "$(for version in 3 4 5; do oracle describe "$MNT/t/versions/$version"; done)" "$(cat "$SCRATCH/newer")"
is "staging is empty after it" "$(ls -A "$S")" ""
is "version 2 reads through the mount as before: its lost file is back" \
  "$(oracle count "$MNT/t/versions/2")" 30
is "the files have kept their names" \
  "$(find "$MNT/t/versions/6" -name '*.parquet' -printf '%P\n' | sort)" \
  "$(cd "$SCRATCH/backup" && find . -name '*.parquet' -printf '%P\n' | sort)"
is "the result says the version" "$(oracle json "$S/.deltafs/result" version)" 6
is "and which one the backup is" "$(oracle json "$S/.deltafs/result" restored_version)" 2

# --- again: nothing to do

cp -a "$SCRATCH/backup/." "$S/"
ok "the same restore again: sync exits 0" sync "$S"
is "and makes no version" "$(newest t)" 6
is "staging is empty after it, too" "$(ls -A "$S")" ""

# --- restore is absolute: what others committed between cp and sync goes, too

cp -a "$SCRATCH/backup/." "$S/"
oracle append "$LAKE/t" 9000 10
ok "sync after another writer's commit" sync "$S"
is "is one commit on top of it" "$(newest t)" 8
ok "and the rows are the backup's" oracle same "$LAKE/t" 8 "$SCRATCH/backup" 2
is "the other's commit can still be read" "$(oracle count "$MNT/t/versions/7")" 40

# --- other tools

oracle overwrite "$LAKE/t" 6000 10
rsync -a "$SCRATCH/backup/" "$S/"
ok "restore by rsync" sync "$S"
ok "is the backup" oracle same "$LAKE/t" 10 "$SCRATCH/backup" 2
oracle overwrite "$LAKE/t" 6000 10
tar -C "$SCRATCH/backup" -c . | tar -C "$S" -xpf -
ok "restore by tar" sync "$S"
ok "is the backup" oracle same "$LAKE/t" 12 "$SCRATCH/backup" 2
oracle overwrite "$LAKE/t" 6000 10
wait_until 5 test -d "$MNT/t/versions/13"
cp -r "$MNT/t/versions/2/." "$S/"
ok "restore by cp -r straight from a version" sync "$S"
ok "is version 2" oracle same "$LAKE/t" 14 "$SCRATCH/backup" 2

# --- restore forward: to a newer state than the newest

cp -a "$MNT/t/versions/13" "$SCRATCH/forward"
cp -a "$SCRATCH/forward/." "$S/"
ok "restore of a version in between" sync "$S"
ok "is that version" oracle same "$LAKE/t" 15 "$SCRATCH/forward" 13

# --- a backup that lost a file is refused, and the table stays

rm "$(find "$SCRATCH/backup" -name '*.parquet' | sort | head -1)"
rm -f "$LAKE/t/$(oracle adds "$LAKE/t" 0)"
cp -a "$SCRATCH/backup/." "$S/"
not_ok "a backup that lacks a data file is refused" sync "$S"
like "with the file's name" "$(result "$S")" 'parquet'
is "no version is made" "$(newest t)" 15
rm -r "$S"

# --- tables with deletion vectors and column mapping

if [[ -z ${DELTAFS_GOLDEN:-} ]]; then
  skip "restore of tables with deletion vectors and column mapping" "DELTAFS_GOLDEN is not set"
else
  for table in dv-partitioned-with-checkpoint dv-with-columnmapping; do
    oracle golden "$table" "$LAKE/$table"
    wait_until 5 test -d "$MNT/$table/versions/15"
    cp -a "$MNT/$table/versions/4" "$SCRATCH/$table"
    S=$(stage "$table/r")
    cp -a "$SCRATCH/$table/." "$S/"
    ok "$table: restore to version 4" sync "$S"
    is "$table: one commit" "$(newest "$table")" 16
    ok "$table: rows, schema, partitions are version 4's" oracle same "$LAKE/$table" 16 "$SCRATCH/$table" 4
    cp -al "$MNT/$table/versions/15/." "$S/"
    ok "$table: and back" sync "$S"
    ok "$table: rows, schema, partitions are version 15's" oracle same "$LAKE/$table" 17 "$LAKE/$table" 15
  done
fi

done_testing
