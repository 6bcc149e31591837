#!/usr/bin/env bash
# The options of a staging directory: mode=overwrite, merge_schema=true, txn=APP:VERSION; a bad
# option is an error where it is written, and in `status`.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 2
oracle make plain "$LAKE/p" --versions 1
mount_lake

# --- mode

S=$(stage t/x)
echo mode=overwrite >"$S/.deltafs/options"
like "options read back" "$(cat "$S/.deltafs/options")" '^mode=overwrite$'
oracle tree "$S" 100 20
ok "mode=overwrite commits" sync "$S"
ok "and the table has the new rows alone" oracle ids "$LAKE/t" 100:20
is "the old version keeps its own" "$(oracle count "$MNT/t/versions/1")" 20
is "the commit removes what was there" "$(oracle actions "$LAKE/t" 2)" "add 2
commitInfo 1
remove 2"

S=$(stage t/append)
echo mode=append >"$S/.deltafs/options"
oracle tree "$S" 200 10
ok "mode=append commits" sync "$S"
ok "and adds" oracle ids "$LAKE/t" 100:20 200:10

# --- bad options

S=$(stage t/bad)
for text in 'mode=sideways' 'merge_schema=perhaps' 'txn=nocolon' 'txn=app:minus' 'nonsense=1' 'no equals sign'; do
  is "'$text' is an error at close" "$(call write-file "$S/.deltafs/options" "$text\n")" "close EINVAL"
  like "and a sentence in status" "$(cat "$S/.deltafs/status")" "$(cut -d= -f2 <<<"$text")|${text%%=*}"
done
oracle tree "$S" 300 10
refuses "sync refuses while an option is bad" 1 "Invalid argument" sync "$S"
is "no version" "$(newest t)" 3
is "a good option heals it" "$(call write-file "$S/.deltafs/options" "mode=append\n")" OK
ok "and sync commits" sync "$S"
ok "what was staged" oracle ids "$LAKE/t" 100:20 200:10 300:10

# --- merge_schema

S=$(stage p/x)
oracle parquet "$S/extra.parquet" 100 5 --variant extra
refuses "a column that the table lacks is refused" 1 "Invalid argument" sync "$S"
like "by its name" "$(result "$S")" extra
like "with what to do" "$(result "$S")" merge_schema
is "and nothing is lost" "$(ls "$S")" extra.parquet
echo merge_schema=true >"$S/.deltafs/options"
ok "merge_schema=true lets it in" sync "$S"
like "the schema has it" "$(oracle schema "$LAKE/p")" '"extra"'
is "one commit with the new schema" "$(oracle actions "$LAKE/p" 1)" "add 1
commitInfo 1
metaData 1"
ok "all rows are there" oracle ids "$LAKE/p" 0:10 100:5
is "older rows have null there" "$(oracle rows "$LAKE/p" | grep -c '"extra": null')" 10
is "older versions have the older schema" "$(oracle schema "$MNT/p/versions/0" | grep -c extra || true)" 0

S=$(stage p/lacks)
oracle parquet "$S/lacks.parquet" 200 5 --variant lacks-note
ok "a nullable column that the file lacks reads as null" sync "$S"
is "in its rows" "$(oracle rows "$LAKE/p" | grep -c '"note": null')" 5

# --- txn

S=$(stage p/txn)
printf 'txn=loader:7\n' >"$S/.deltafs/options"
oracle parquet "$S/once.parquet" 300 5
ok "a commit with a txn" sync "$S"
is "writes it" "$(oracle actions "$LAKE/p" 3 | grep txn)" "txn 1"
like "with its application and version" "$(grep '"txn"' "$LAKE/p/_delta_log/00000000000000000003.json")" \
  '"appId":"loader".*"version":7'
S=$(stage p/txn-again)
printf 'txn=loader:7\n' >"$S/.deltafs/options"
oracle parquet "$S/twice.parquet" 300 5
like "changes tells that it is there" "$(cat "$S/.deltafs/changes")" '^! txn loader:7 is in the table'
ok "the same txn from another directory: sync exits 0" sync "$S"
is "and makes no version" "$(newest p)" 3
is "the files are taken away" "$(ls "$S")" ""
is "and the txn with them, for the next batch is another" "$(cat "$S/.deltafs/options")" ""
S=$(stage p/txn-older)
printf 'txn=loader:6\n' >"$S/.deltafs/options"
oracle parquet "$S/older.parquet" 310 5
ok "an older txn: sync exits 0" sync "$S"
is "and makes no version" "$(newest p)" 3
S=$(stage p/txn-next)
printf 'txn=loader:8\nmode=append\n' >"$S/.deltafs/options"
oracle parquet "$S/next.parquet" 320 5
ok "the next txn" sync "$S"
is "is a version" "$(newest p)" 4
ok "each row is there once" oracle ids "$LAKE/p" 0:10 100:5 200:5 300:5 320:5
is "the txn is spent and the rest of the options stays" "$(cat "$S/.deltafs/options")" "mode=append"
oracle parquet "$S/unsaid.parquet" 330 5
ok "what is brought next is no part of it" sync "$S"
ok "and is committed" oracle ids "$LAKE/p" 0:10 100:5 200:5 300:5 320:5 330:5

done_testing
