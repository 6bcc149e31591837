#!/usr/bin/env bash
# What the table has already is never written again: `cp -al versions/N/. staging/u && sync
# staging/u` is a restore that writes the log alone; ln and cp from a version make references too,
# and writing to one of them never reaches the table's file.
. "$(dirname "$0")/lib.sh"

oracle make bulky "$LAKE/t" --versions 4 --rows 4000
oracle overwrite "$LAKE/t" 100000 10
mount_lake

small=65536 # Bytes: log entries, a checkpoint and a journal fit; a data file of 4 MiB doesn't.
first=$(oracle adds "$LAKE/t" 0)

files_before=$(data_files t)
bytes_before=$(bytes_in "$LAKE")
unchanged() { # DESCRIPTION
  is "$1: no data file was written to the table" "$(data_files t)" "$files_before"
  local grown=$(($(bytes_in "$LAKE") - bytes_before))
  ok "$1: the lake grew by the log alone ($grown bytes)" test "$grown" -lt "$small"
}

# --- restore

S=$(stage t/u)
ok "cp -al of a version into staging" cp -al "$MNT/t/versions/3/." "$S/"
unchanged "cp -al"
ok "sync restores" sync "$S"
is "in one commit" "$(newest t)" 5
ok "rows are version 3's, row by row" oracle same "$LAKE/t" 5 "$LAKE/t" 3
is "the commit adds the old files and removes the new one" "$(oracle actions "$LAKE/t" 5)" \
  "add 4
commitInfo 1
remove 1"
unchanged "restore"
cp -al "$MNT/t/versions/3/." "$S/"
ok "the same again: sync exits 0" sync "$S"
is "and makes no version" "$(newest t)" 5
cp -al "$MNT/t/versions/4/." "$S/"
sync "$S"
ok "and back to version 4" oracle same "$LAKE/t" 6 "$LAKE/t" 4
unchanged "and back"

# --- single files, by ln and by cp

ln "$MNT/t/versions/0/$first" "$S/$first"
is "a linked file reads as its source" "$(cmp "$MNT/t/versions/0/$first" "$S/$first" && echo same)" same
ok "ln of one file, then sync" sync "$S"
is "appends its rows" "$(oracle count "$LAKE/t")" 4010
is "under its own path" "$(oracle adds "$LAKE/t" 7)" "$first"
unchanged "ln"

second=$(oracle adds "$LAKE/t" 1)
cp "$MNT/t/versions/1/$second" "$S/$second"
ok "cp of one file, then sync" sync "$S"
is "appends its rows" "$(oracle count "$LAKE/t")" 8010
is "under its own path" "$(oracle adds "$LAKE/t" 8)" "$second"
unchanged "cp"

# --- a reference breaks away on the first write

third=$(oracle adds "$LAKE/t" 2)
digest=$(sha256sum <"$LAKE/t/$third")
ln "$MNT/t/versions/2/$third" "$S/mine.parquet"
oracle parquet "$SCRATCH/other.parquet" 200000 5
cat "$SCRATCH/other.parquet" >"$S/mine.parquet"
is "overwriting a linked file changes it in staging" \
  "$(cmp "$SCRATCH/other.parquet" "$S/mine.parquet" && echo same)" same
is "and not in the version" "$(sha256sum <"$MNT/t/versions/2/$third")" "$digest"
is "and not in the table" "$(sha256sum <"$LAKE/t/$third")" "$digest"
ln "$MNT/t/versions/2/$third" "$S/appended.parquet"
echo tail >>"$S/appended.parquet"
is "appending to a linked file breaks it away, too" "$(sha256sum <"$LAKE/t/$third")" "$digest"
is "with the old bytes before the new" \
  "$(head -c "$(stat -c %s "$LAKE/t/$third")" "$S/appended.parquet" | sha256sum)" "$digest"
rm "$S/appended.parquet"
ok "sync of the overwritten one" sync "$S"
is "its rows are there" "$(oracle count "$LAKE/t")" 8015
is "the version's file is what it was" "$(sha256sum <"$LAKE/t/$third")" "$digest"

# --- a link inside staging is one file

oracle parquet "$S/a.parquet" 300000 5
ln "$S/a.parquet" "$S/b.parquet"
is "two names, one inode" "$(stat -c %i "$S/a.parquet")" "$(stat -c %i "$S/b.parquet")"
is "and two links" "$(stat -c %h "$S/a.parquet")" 2
rm -r "$S"

done_testing
