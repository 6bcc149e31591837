#!/usr/bin/env bash
# Tables that don't exist yet: `mkdir LAKE/NAME` and files in its staging make version 0; a backup
# brought there makes the whole table come back, with its history and version numbers.
. "$(dirname "$0")/lib.sh"

mkdir -p "$LAKE/finance"
oracle make sales "$LAKE/t" --versions 12 --checkpoint 10
oracle delete "$LAKE/t" "id < 10"
mount_lake

# --- created

begin() { # TABLE — prints the staging directory of a table that doesn't exist
  mkdir -p "$MNT/$1/staging/x"
  echo "$MNT/$1/staging/x"
}

S=$(begin new)
is "nothing is a table before the first commit" "$(find "$LAKE" -path '*new*' -name _delta_log)" ""
oracle parquet "$S/part.parquet" 0 10
ok "sync creates the table" sync "$S"
is "at version 0" "$(newest new)" 0
ok "with its rows" oracle ids "$LAKE/new" 0:10
ok "and their values" oracle rows-right "$LAKE/new"
like "and the file's schema" "$(oracle schema "$LAKE/new")" '"id".*"long".*"amount".*"double".*"note".*"string"'
is "every column can be null, as Spark makes tables" \
  "$(oracle schema "$LAKE/new" | grep -c '"nullable": false')" 0
oracle append "$LAKE/new" 100 10
ok "another writer goes on from there" oracle ids "$LAKE/new" 0:10 100:10
oracle parquet "$S/part.parquet" 200 10
ok "and so does the next sync" sync "$S"
is "in versions of their own" "$(newest new)" 2

S=$(begin finance/parted)
oracle tree "$S" 0 30
ok "a partitioned table is created from name=value folders" sync "$S"
is "with that partition column" "$(oracle describe "$LAKE/finance/parted" | grep -o '"columns": \[[^]]*\]')" \
  '"columns": ["date"]'
ok "and every row" oracle ids "$LAKE/finance/parted" 0:30
is "and its three values" "$(oracle partitions "$LAKE/finance/parted" | sort -u | wc -l)" 3

# --- not created

S=$(begin bad)
echo "no parquet" >"$S/part.parquet"
refuses "files that don't fit create nothing" 1 "Invalid argument" sync "$S"
is "no log" "$(find "$LAKE" -path '*bad*' -name '*.json' -path '*_delta_log*')" ""
rm -r "$S"
ok "an empty new table can be removed again" rmdir "$MNT/bad"
is "and is gone" "$(call stat "$MNT/bad")" ENOENT
isnt "a table can't be removed so" "$(call rmdir "$MNT/new")" OK

# --- the whole table comes back

wait_until 5 test -d "$MNT/t/versions/12"
cp -a "$MNT/t/versions/12" "$SCRATCH/backup"
oracle describe-each "$LAKE/t" >"$SCRATCH/expected"
history=$(cat "$MNT/t/history")
rm -rf "$LAKE/t"
gone() { [[ $(call stat "$MNT/t/versions/12") == ENOENT ]]; }
ok "a table that was deleted goes away" wait_until 5 gone

for table in t elsewhere; do
  S=$(begin "$table")
  cp -a "$SCRATCH/backup/." "$S/"
  ok "$table: sync brings the table back" sync "$S"
  is "$table: at the version it had" "$(newest "$table")" 12
  ok "$table: the log is byte for byte the backup's" diff -r "$SCRATCH/backup/_delta_log" "$LAKE/$table/_delta_log"
  is "$table: the history is what it was" "$(cat "$MNT/$table/history")" "$history"
  is "$table: version 12 reads as before" "$(oracle describe "$LAKE/$table")" "$(tail -1 "$SCRATCH/expected")"
  is "$table: all versions are listed" "$(ls "$MNT/$table/versions" | wc -l)" 13
  is "$table: staging is empty" "$(ls -A "$S")" ""
done
oracle append "$LAKE/t" 1000 10
is "and another writer goes on from there" "$(oracle version "$LAKE/t")" 13

done_testing
