#!/usr/bin/env bash
# A SHA256SUMS that was brought along is checked in every form that sha256sum writes; what it lists
# and is not there is refused; names that Delta hides are left out and told of; nothing that the
# table has is written again, and a name that is taken gets another.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
mount_lake
S=$(stage t/x)
n=1000
bring() { # NAME… — each with five rows of its own
  local name
  for name in "$@"; do
    mkdir -p "$(dirname "$S/$name")"
    oracle parquet "$S/$name" $n 5
    n=$((n + 10))
  done
}
sums() { (cd "$S" && sha256sum "$@") >"$S/SHA256SUMS"; }
rows_now() { oracle count "$LAKE/t"; }

# --- the forms of its lines

rows=10
accepted() { # DESCRIPTION — what is staged and listed is committed
  rows=$((rows + $2))
  ok "$1" sync "$S"
  is "$1: its rows are there" "$(rows_now)" $rows
  is "$1: the list is gone with it" "$(ls -A "$S")" ""
}
bring a.parquet && sums a.parquet && accepted "sha256sum NAME" 5
bring b.parquet && sums ./b.parquet && accepted "sha256sum ./NAME" 5
bring c.parquet && sums --binary c.parquet && accepted "sha256sum --binary" 5
bring d.parquet && sums --tag d.parquet && accepted "sha256sum --tag" 5
bring 'back\slash.parquet' $'new\nline.parquet' && sums -- *sl* *line* 2>/dev/null || (cd "$S" && sha256sum -- *sl* *line* >SHA256SUMS)
like "(names that sha256sum escapes)" "$(cat "$S/SHA256SUMS")" '^\\[0-9a-f]{64}  '
accepted "escaped names" 10
bring e.parquet && sums e.parquet && sed -i 's/^[0-9a-f]*/\U&/' "$S/SHA256SUMS" && accepted "uppercase" 5
bring f.parquet && sums f.parquet && sed -i 's/$/\r/' "$S/SHA256SUMS" && accepted "lines that end as on Windows" 5
bring g.parquet && sums g.parquet && printf '\n%064d  /backup/other.parquet\n%064d  ../sibling/x.parquet\n' 0 0 >>"$S/SHA256SUMS"
accepted "other folders' lines say nothing" 5
bring h.parquet && touch "$S/SHA256SUMS" && (cd "$S" && sha256sum ./* >SHA256SUMS)
like "(a list that lists itself)" "$(cat "$S/SHA256SUMS")" ' ./SHA256SUMS'
accepted "the list's own line" 5
bring sub/i.parquet && (cd "$S" && find . -name '*.parquet' -exec sha256sum {} + >SHA256SUMS)
accepted "find -exec sha256sum" 5

# --- what is refused

version=$(newest t)
bring j.parquet && sums j.parquet
cp "$S/j.parquet" "$SCRATCH/j" && oracle parquet "$S/j.parquet" 5000 5
refuses "other bytes" 1 "Invalid argument" sync "$S"
like "are named" "$(result "$S")" 'j.parquet: its bytes are not those'
like "by changes too" "$(cat "$S/.deltafs/changes")" '^! j.parquet: its bytes'
cp "$SCRATCH/j" "$S/j.parquet"
ok "brought again they are right" sync "$S"
rows=$((rows + 5))
bring k.parquet l.parquet && sums k.parquet l.parquet && rm "$S/l.parquet"
refuses "a digest of a file that is not there" 1 "Invalid argument" sync "$S"
like "is named, with what to do" "$(result "$S")" 'l.parquet.*neither here nor in the table; bring it'
is "nothing is lost" "$(ls "$S")" "SHA256SUMS
k.parquet"
sed -i '/l.parquet/d' "$S/SHA256SUMS"
accepted "without its line" 5
bring m.parquet && echo "not a digest  m.parquet" >"$S/SHA256SUMS"
refuses "a line that is no digest" 1 "Invalid argument" sync "$S"
like "is named by its number" "$(result "$S")" 'line 1 is not sha256sum'
rm "$S/SHA256SUMS" && ok "without a list" sync "$S"
rows=$((rows + 5))
is "in the end" "$(newest t) $(rows_now)" "$((version + 3)) $rows"

# --- a backup with its list, restored where the table has most of its files

oracle make sales "$LAKE/s" --versions 3
wait_until 5 test -d "$MNT/s/versions/2"
cp -a "$MNT/s/versions/2" "$SCRATCH/backup"
(cd "$SCRATCH/backup" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS)
oracle overwrite "$LAKE/s" 5000 10
R=$(stage s/r)
cp -a "$SCRATCH/backup/_delta_log" "$SCRATCH/backup/SHA256SUMS" "$R/"
ok "the log and the list alone: the table's own files are checked" sync "$R"
ok "and the table is what it was" oracle same "$LAKE/s" 4 "$SCRATCH/backup" 2
oracle overwrite "$LAKE/s" 5000 10
damaged=$(oracle adds "$MNT/s/versions/2" 0)
cp "$LAKE/s/$damaged" "$SCRATCH/whole"
printf X | dd of="$LAKE/s/$damaged" bs=1 seek=100 conv=notrunc status=none
cp -a "$SCRATCH/backup/_delta_log" "$SCRATCH/backup/SHA256SUMS" "$R/"
refuses "a table's file that was damaged is noticed by it" 1 "Invalid argument" sync "$R"
like "by name" "$(result "$R")" "$(basename "$damaged"): its bytes"
cp -a "$SCRATCH/backup/$damaged" "$R/" 2>/dev/null
mkdir -p "$R/$(dirname "$damaged")" && mv "$R/$(basename "$damaged")" "$R/$damaged"
ok "with the right one brought" sync "$R"
ok "the table is whole" oracle same "$LAKE/s" 6 "$SCRATCH/backup" 2
cp -a "$SCRATCH/backup/." "$R/"
flip=$(cd "$R" && find . -name '*.json' | sort | head -1)
sed -i 's/"mode"/"mood"/' "$R/$flip"
refuses "a log file that was changed is noticed" 1 "Invalid argument" sync "$R"
like "by name" "$(result "$R")" "$(basename "$flip"): its bytes"
rm -r "$R"

# --- a list of another folder's files

bring y.parquet && (cd / && sha256sum "$S/y.parquet") >"$S/SHA256SUMS"
refuses "a list with no line of this folder" 1 "Invalid argument" sync "$S"
like "by what it says" "$(result "$S")" "none of its lines names a file of this directory"
sums y.parquet && (cd / && sha256sum "$S/y.parquet") >>"$S/SHA256SUMS"
accepted "other lines say nothing" 5

# --- what Delta hides is left out, and told of

bring n.parquet part-0.parquet
touch "$S/_SUCCESS" "$S/._SUCCESS.crc" "$S/.part-0.parquet.crc" "$S/.DS_Store"
mkdir -p "$S/_metadata_of_a_tool" && echo x >"$S/_metadata_of_a_tool/x"
like "changes tells of them before" "$(cat "$S/.deltafs/changes")" '^! _SUCCESS is left out'
ok "markers are no hindrance" sync "$S"
rows=$((rows + 10))
is "the result names them" "$(oracle json "$S/.deltafs/result" left_out | tr -d " '[]\"\n")" \
  ".DS_Store,._SUCCESS.crc,.part-0.parquet.crc,_SUCCESS,_metadata_of_a_tool/x"
is "none of them is in the table" "$(find "$LAKE/t" -name '_SUCCESS' -o -name '.DS_Store' -o -name '_metadata*' | wc -l)" 0
is "nor stays behind" "$(ls -A "$S")" ""

# Rows are nobody's marker: they would be gone with the staging directory.
for name in _b.parquet .b.parquet _dir/b.parquet p/.x/b; do
  bring "$name"
  refuses "rows in $name are refused" 1 "Invalid argument" sync "$S"
  like "by name" "$(result "$S")" "$name: is Parquet, and Delta hides"
  rm -r "${S:?}/${name%%/*}"
done

# --- names that are taken, and bytes that are there

oracle parquet "$S/a.parquet" 6000 5
ok "another file under a name that the table has" sync "$S"
rows=$((rows + 5))
is "is in it beside the first" "$(rows_now)" $rows
like "by a name of its own" "$(oracle adds "$LAKE/t" "$(newest t)")" '^a-[0-9a-f]{8}\.parquet$'
oracle parquet "$S/A.parquet" 6010 5
ok "a name that differs by case alone" sync "$S"
rows=$((rows + 5))
is "is another name here" "$(rows_now) $(oracle adds "$LAKE/t" "$(newest t)")" "$rows A.parquet"
before=$(newest t)
cp "$MNT/t/latest/a.parquet" "$S/a.parquet"
ok "the same bytes under the same name" sync "$S"
is "make no version" "$(newest t)" "$before"
is "and are not written" "$(oracle json "$S/.deltafs/result" bytes_written) $(oracle json "$S/.deltafs/result" files_reused)" "0 1"
inode=$(stat -c %i "$LAKE/t/a.parquet")
cp "$LAKE/t/a.parquet" "$SCRATCH/a.parquet"
echo mode=overwrite >"$S/.deltafs/options"
bring o.parquet && ok "an overwrite takes them away" sync "$S"
echo mode=append >"$S/.deltafs/options"
cp "$SCRATCH/a.parquet" "$S/a.parquet"
ok "brought back" sync "$S"
is "they are a version without a byte" "$(oracle json "$S/.deltafs/result" bytes_written) $(stat -c %i "$LAKE/t/a.parquet")" "0 $inode"
is "with their rows" "$(rows_now)" 10

done_testing
