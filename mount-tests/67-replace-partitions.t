#!/usr/bin/env bash
# mode=replace_partitions: what was staged takes the place of the partitions that it brings files of,
# and of nothing else; deletion vectors, null, column mapping and a change data feed among them.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 3
oracle make plain "$LAKE/p" --versions 1
mount_lake
replacing() { # TABLE/NAME — a staging directory that replaces partitions
  local directory
  directory=$(stage "$1")
  echo mode=replace_partitions >"$directory/.deltafs/options"
  echo "$directory"
}
kernel_count() { # TABLE — its rows, says delta_kernel
  printf '%s\t-\t%s\n' "$1" "$SCRATCH/kernel.arrow" | "$DELTAFS_KERNEL_ROWS" |
    grep -o '"rows":[0-9]*' | cut -d: -f2
}

# --- one partition of three

S=$(replacing t/x)
oracle parquet "$S/date=2026-11-02/new.parquet" 10 3
gone=$(oracle adds "$LAKE/t" 1)
is "changes tell what comes and what goes" "$(cat "$S/.deltafs/changes")" "+ date=2026-11-02/new.parquet
- $gone"
ok "sync replaces it" sync "$S"
ok "the other partitions are as they were" oracle ids "$LAKE/t" 0:10 10:3 20:10
is "delta_kernel counts the same" "$(kernel_count "$LAKE/t")" 23
is "one commit removes and adds" "$(oracle actions "$LAKE/t" 3)" "add 1
commitInfo 1
remove 1"
like "it says what Spark's dynamic overwrite says" "$(grep commitInfo "$LAKE/t/_delta_log/00000000000000000003.json")" \
  '"operation":"WRITE".*"operationParameters":\{"mode":"Overwrite",.*"isDynamicPartitionOverwrite":true\}'
like "the history shows it" "$(head -1 "$MNT/t/history")" '^3.*WRITE.\+1 -1 files'
is "deltalake reads the history" "$("$PYTHON" -c '
import sys, deltalake
print(deltalake.DeltaTable(sys.argv[1]).history(1)[0]["operation"])' "$LAKE/t")" WRITE
is "the result names the kind" "$(oracle json "$S/.deltafs/result" kind)" replace_partitions
is "the option stays" "$(cat "$S/.deltafs/options")" mode=replace_partitions
is "version 2 keeps its own" "$(oracle count "$MNT/t/versions/2")" 30

# --- the same again, and more than one

cp -r "$MNT/t/latest/date=2026-11-02" "$S/"
ok "what is there already" sync "$S"
is "makes no version" "$(newest t)" 3
cp -r "$MNT/t/latest/date=2026-11-02" "$S/"
oracle tree "$S" 20 20
ok "two partitions, one of them new, one as it was" sync "$S"
ok "each has what was brought" oracle ids "$LAKE/t" 0:10 10:3 20:20
is "nothing was said of the one that stayed" "$(oracle actions "$LAKE/t" 4)" "add 2
commitInfo 1
remove 1"
is "with nothing staged nothing is replaced" "$(sync "$S" && newest t)" 4
oracle parquet "$S/date=2026-11-01/empty.parquet" 0 0
ok "a file without rows empties its partition" sync "$S"
ok "so" oracle ids "$LAKE/t" 10:3 20:20

# --- refused

P=$(replacing p/x)
oracle parquet "$P/a.parquet" 100 5
refuses "a table without partitions" 1 "Invalid argument" sync "$P"
like "with what to do" "$(result "$P")" "no partitions.*mode=overwrite"
is "nothing is lost" "$(ls "$P")" a.parquet
oracle set-property "$LAKE/t" --property delta.appendOnly=true
oracle parquet "$S/date=2026-11-02/again.parquet" 10 3
refuses "an append-only table" 1 "not permitted" sync "$S"
like "in a sentence" "$(result "$S")" "delta.appendOnly"
rm -r "$S/date=2026-11-02"
oracle parquet "$S/date=2026-12-24/eve.parquet" 530 3
ok "but for a partition that is new" sync "$S"

# --- null, and names that are escaped

oracle make special "$LAKE/s" --versions 1
is "(a table of nulls and special values)" "$(kernel_count "$LAKE/s")" "$(oracle count "$LAKE/s")"
N=$(replacing s/x)
oracle parquet "$N/value=__HIVE_DEFAULT_PARTITION__/n.parquet" 500 2
oracle parquet "$N/value=a%2Fb/s.parquet" 600 2
before=$(oracle rows "$LAKE/s" | grep -vE '"value": (null|""|"a/b")' | sort)
ok "null and an escaped value" sync "$N"
is "are replaced, and no other" "$(oracle rows "$LAKE/s" | grep -vE '"value": (null|""|"a/b")' | sort)" "$before"
is "null has its new rows alone" "$(oracle rows "$LAKE/s" | grep -c '"value": null')" 2
is "so has the escaped one" "$(oracle rows "$LAKE/s" | grep -c '"value": "a/b"')" 2

# --- others' writes to the same partition between cp and sync go too; elsewhere they stay

oracle make sales "$LAKE/r" --versions 3
wait_until 5 test -d "$MNT/r/versions/2"
R=$(replacing r/x)
oracle parquet "$R/date=2026-11-01/mine.parquet" 0 2
oracle append "$LAKE/r" 0 10
oracle append "$LAKE/r" 30 10
ok "sync after others" sync "$R"
ok "what slipped into the partition went, what came elsewhere stayed" oracle ids "$LAKE/r" 0:2 10:30

# --- in a race with an appender each of its rows is there, or was replaced

oracle append "$LAKE/r" 40 1 --commits 15 &
appender=$!
for turn in $(seq 8); do
  oracle parquet "$R/date=2026-11-01/turn.parquet" 0 "$turn"
  sync "$R" || flunk "turn $turn" "$(result "$R")"
done
wait "$appender"
ok "eight replacements beside fifteen appends: nobody lost a row" oracle ids "$LAKE/r" 0:8 10:45

# --- deletion vectors, column mapping

if [[ -z ${DELTAFS_GOLDEN:-} ]]; then
  skip "tables with deletion vectors and column mapping" "DELTAFS_GOLDEN is not set"
else
  oracle golden dv-partitioned-with-checkpoint "$LAKE/dv"
  wait_until 5 test -d "$MNT/dv/versions/15"
  live=$(tail -n +2 "$MNT/dv/latest/.deltafs/files" | wc -l)
  file=$(grep -h '"add".*deletionVector' "$LAKE/dv/_delta_log"/*.json | tail -1 | grep -o '"path":"[^"]*' | cut -d'"' -f4)
  part=${file%/*}
  of_part=$(tail -n +2 "$MNT/dv/latest/.deltafs/files" | grep -c "^$part/")
  D=$(replacing dv/x)
  mkdir -p "$D/$part" && cp "$MNT/dv/latest/$file" "$D/$part/whole.parquet"
  ok "a partition whose files have deletion vectors" sync "$D"
  is "has one file, the others are as they were" \
    "$(tail -n +2 "$MNT/dv/latest/.deltafs/files" | wc -l)" $((live - of_part + 1))
  removed=$(grep -c '"remove".*deletionVector' "$LAKE/dv/_delta_log/00000000000000000016.json" || true)
  isnt "removes carry their vectors" "$removed" 0
  is "delta_kernel and deltalake count the same" "$(kernel_count "$LAKE/dv")" "$(oracle count "$LAKE/dv")"
fi

done_testing
