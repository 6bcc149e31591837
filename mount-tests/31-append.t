#!/usr/bin/env bash
# Appending: Parquet files that are brought into staging are one commit, with their rows,
# partition values and statistics; names are kept or made new, and never overwrite a file.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 2
oracle make special "$LAKE/special"
mount_lake

# --- one file

S=$(stage t/x)
is "a staging directory starts empty" "$(ls -A "$S")" ""
like "it is listed" " $(ls "$MNT/t/staging" | tr '\n' ' ')" " x "
before=$(date +%s%3N)
oracle parquet "$S/mine.parquet" 100 5
is "nothing is in the table before sync" "$(newest t) $(data_files t | wc -l)" "1 2"
ok "sync commits" sync "$S"
is "one version" "$(newest t)" 2
ok "its rows are in the table once" oracle ids "$LAKE/t" 0:20 100:5
ok "and right" oracle rows-right "$LAKE/t"
is "the commit has one add" "$(oracle actions "$LAKE/t" 2)" "add 1
commitInfo 1"
is "the user's name is kept" "$(oracle adds "$LAKE/t" 2)" mine.parquet
is "the log has the file's size" "$(oracle adds "$LAKE/t" 2 --field size)" \
  "$(stat -c %s "$LAKE/t/mine.parquet")"
is "the log says that data changed" "$(oracle adds "$LAKE/t" 2 --field dataChange)" True
modification=$(oracle adds "$LAKE/t" 2 --field modificationTime)
ok "the log has its time" test "$modification" -ge $((before - 60000)) -a "$modification" -le "$(date +%s%3N)"
is "staging is empty after the commit" "$(ls -A "$S")" ""
is "and still there" "$(stat -c %F "$S")" directory
is "the new version is on the mount" "$(oracle describe "$MNT/t/versions/2")" "$(oracle describe "$LAKE/t")"
is "version 1 is what it was" "$(oracle count "$MNT/t/versions/1")" 20

stats=$(oracle adds "$LAKE/t" 2 --field stats)
is "statistics: rows" "$("$PYTHON" -c 'import json,sys; print(json.loads(sys.argv[1])["numRecords"])' "$stats")" 5
# A footer doesn't tell whether a float column holds NaN, which Delta orders above all numbers: its
# upper bound is found in the values.
is "statistics: bounds and nulls of each column" \
  "$("$PYTHON" -c '
import json, sys
s = json.loads(sys.argv[1])
for c in ("id", "amount", "note"):
    low, high, nulls = s["minValues"][c], s["maxValues"].get(c, "none"), s["nullCount"][c]
    print(f"{c}:{low}..{high}:{nulls}", end=" ")
' "$stats")" "id:100..104:0 amount:150.0..156.0:0 note:note 100..note 104:0 "

# --- names

oracle parquet "$S/mine.parquet" 200 5
ok "a name that the table has can be used again" sync "$S"
like "and is made new: <stem>-<short id>.parquet" "$(oracle adds "$LAKE/t" 3)" '^mine-[0-9a-zA-Z-]+\.parquet$'
ok "both files' rows are there" oracle ids "$LAKE/t" 0:20 100:5 200:5
oracle parquet "$S/deep/er/a b%41ü.parquet" 300 1
oracle parquet "$S/part-0000" 301 1
oracle parquet "$S/empty.parquet" 0 0
touch "$S/_SUCCESS" "$S/.part-0000.crc" "$S/.DS_Store"
ok "folders, special characters, names without a suffix, files without rows, markers" sync "$S"
ok "their rows are there" oracle ids "$LAKE/t" 0:20 100:5 200:5 300:2
is "in one version" "$(newest t)" 4
unlike "markers are left out" "$(oracle adds "$LAKE/t" 4)" '_SUCCESS|crc|DS_Store'
like "and reported" "$(result "$S")" '_SUCCESS'
is "staging is empty, markers too" "$(ls -A "$S")" ""

# --- many files, two directories at once

oracle parquet "$S/%d.parquet" 1000 1 --files 300
S2=$(stage t/y)
oracle parquet "$S2/one.parquet" 5000 1
ok "a second directory commits on its own" sync "$S2"
is "and leaves the first as it is" "$(find "$S" -type f | wc -l)" 300
ok "300 files are one commit" sync "$S"
is "in one version each" "$(newest t)" 6
is "with 300 adds" "$(oracle actions "$LAKE/t" 6 | sed -n 1p)" "add 300"
ok "all rows once" oracle ids "$LAKE/t" 0:20 100:5 200:5 300:2 1000:300 5000:1

# --- partition values

S=$(stage special/x)
oracle parquet "$S/value=a b/f.parquet" 100 1
oracle parquet "$S/value=x%3Dy/f.parquet" 101 1
oracle parquet "$S/value=100%25/f.parquet" 102 1
oracle parquet "$S/value=雪/f.parquet" 103 1
oracle parquet "$S/value=__HIVE_DEFAULT_PARTITION__/f.parquet" 104 1
ok "partition values with special characters commit" sync "$S"
values() { oracle rows "$LAKE/special" | "$PYTHON" -c '
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    if row["id"] >= 100:
        print(row["id"], row["value"])' | sort; }
is "and are decoded once" "$(values)" "100 a b
101 x=y
102 100%
103 雪
104 None"

# --- while others commit

S=$(stage t/z)
oracle parquet "$S/mine.parquet" 7000 1
oracle append "$LAKE/t" 8000 1
ok "an append goes on top of what others committed since" sync "$S"
ok "both are there" oracle ids "$LAKE/t" 0:20 100:5 200:5 300:2 1000:300 5000:1 7000:1 8000:1

done_testing
