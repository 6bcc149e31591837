#!/usr/bin/env bash
# Restore where the table moved on in more than rows: protocol, schema, column mapping, constraints,
# row ids; and of tables that were dropped, from every tool's copy, from logs that begin with a
# checkpoint or have sidecars, visible at once. Other writers go on from each.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

kernel_count() { # TABLE — its rows, says delta_kernel
  printf '%s\t-\t%s\n' "$1" "$SCRATCH/kernel.arrow" | "$DELTAFS_KERNEL_ROWS" |
    grep -o '"rows":[0-9]*' | cut -d: -f2
}
protocol() { # TABLE — versions and features as deltalake has them
  "$PYTHON" -c '
import sys, deltalake
p = deltalake.DeltaTable(sys.argv[1]).protocol()
print(p.min_reader_version, p.min_writer_version, sorted(p.reader_features or []), sorted(p.writer_features or []))' "$1"
}
metadata() { # TABLE VERSION FIELD — of the metaData of that commit, or nothing
  "$PYTHON" -c '
import json, sys
for line in open("%s/_delta_log/%020d.json" % (sys.argv[1], int(sys.argv[2]))):
    found = json.loads(line).get("metaData")
    if found:
        print(json.dumps(found[sys.argv[3]], sort_keys=True))' "$@"
}
constraint() { # TABLE add|drop
  "$PYTHON" -c '
import sys, deltalake
alter = deltalake.DeltaTable(sys.argv[1]).alter
alter.add_constraint({"small": "id < 1000"}) if sys.argv[2] == "add" else alter.drop_constraint("small")' "$@"
}
set_properties() { # TABLE LINE… — a commit of its own
  local table=$1 directory
  shift
  directory=$(stage "$table/properties")
  printf '%s\n' "$@" >"$directory/.deltafs/properties"
  sync "$directory" || flunk "set $*" "$(result "$directory")"
  rmdir "$directory"
}
appends_next() { # DESCRIPTION TABLE START
  local before
  before=$(oracle count "$LAKE/$2")
  ok "$1: deltalake appends next" oracle append "$LAKE/$2" "$3" 10
  is "$1: and delta_kernel reads all of it" "$(kernel_count "$LAKE/$2")" $((before + 10))
}

# --- a newer protocol and schema

oracle make sales "$LAKE/t" --versions 3
mount_lake
cp -a "$MNT/t/versions/2" "$SCRATCH/old"
set_properties t delta.enableDeletionVectors=true 'mine=new'
oracle add-column "$LAKE/t" extra
set_properties t delta.minWriterVersion=7 other=new
upgraded=$(protocol "$LAKE/t")
wait_until 5 test -d "$MNT/t/versions/5"
cp -a "$MNT/t/versions/5" "$SCRATCH/new"
S=$(stage t/r)
cp -a "$SCRATCH/old/." "$S/"
ok "a backup from before sync" sync "$S"
ok "its rows and schema are back" oracle same "$LAKE/t" 6 "$SCRATCH/old" 2
is "the protocol is the newer one" "$(protocol "$LAKE/t")" "$upgraded"
like "(that has what was added)" "$upgraded" "^3 7 .*deletionVectors"
unlike "properties went back" "$(cat "$MNT/t/latest/.deltafs/properties")" "mine=|other=|enableDeletionVectors"
is "delta_kernel reads it" "$(kernel_count "$LAKE/t")" 30
appends_next "protocol" t 900
cp -a "$SCRATCH/new/." "$S/"
ok "forward again" sync "$S"
ok "rows and schema are version 5's" oracle same "$LAKE/t" 8 "$SCRATCH/new" 5
like "properties too" "$(cat "$MNT/t/latest/.deltafs/properties")" "other=new"
cp -al "$MNT/t/versions/2/." "$S/"
ok "and back by links, without a byte" sync "$S"
is "so" "$(oracle json "$S/.deltafs/result" bytes_written) $(oracle json "$S/.deltafs/result" version)" "0 9"
ok "to version 2" oracle same "$LAKE/t" 9 "$LAKE/t" 2

# --- column mapping came in between

oracle make plain "$LAKE/m" --versions 2
cp -a "$MNT/m/versions/1" "$SCRATCH/unmapped"
set_properties m delta.columnMapping.mode=name
wait_until 5 test -d "$MNT/m/versions/2"
cp -a "$MNT/m/versions/2" "$SCRATCH/mapped"
M=$(stage m/r)
cp -a "$SCRATCH/unmapped/." "$M/"
ok "a backup without column mapping over a table with it" sync "$M"
is "delta_kernel reads it" "$(kernel_count "$LAKE/m")" 20
is "no mode is left" "$(grep -c columnMapping.mode "$MNT/m/latest/.deltafs/properties" || true)" 0
like "and the highest column id" "$(cat "$MNT/m/latest/.deltafs/properties")" "columnMapping.maxColumnId"
cp -a "$SCRATCH/mapped/." "$M/"
ok "and with it again" sync "$M"
ok "is what it was" oracle same "$LAKE/m" 4 "$SCRATCH/mapped" 2

# --- a constraint came or went

oracle make plain "$LAKE/c" --versions 2
cp -a "$MNT/c/versions/1" "$SCRATCH/free"
constraint "$LAKE/c" add
oracle append "$LAKE/c" 100 10
wait_until 5 test -d "$MNT/c/versions/3"
cp -a "$MNT/c/versions/3" "$SCRATCH/bound"
C=$(stage c/r)
oracle parquet "$C/a.parquet" 200 5
refuses "an append under a CHECK constraint" 1 "not supported" sync "$C"
like "is refused by its name" "$(result "$C")" "small"
rm "$C/a.parquet"
cp -a "$SCRATCH/free/." "$C/"
ok "a backup from before the constraint" sync "$C"
ok "is back" oracle same "$LAKE/c" 4 "$SCRATCH/free" 1
unlike "without the constraint" "$(metadata "$LAKE/c" 4 configuration)" "small"
oracle append "$LAKE/c" 5000 10
is "so others may write what it forbade" "$(oracle count "$LAKE/c")" 30
oracle parquet "$C/a.parquet" 200 5
ok "and so may we" sync "$C"
cp -a "$SCRATCH/bound/." "$C/"
ok "files that were there under the constraint come back with it" sync "$C"
like "in one commit" "$(metadata "$LAKE/c" 7 configuration)" '"delta.constraints.small": "id < 1000"'
ok "with their rows" oracle same "$LAKE/c" 7 "$SCRATCH/bound" 3
not_ok "others are bound by it again" oracle append "$LAKE/c" 5000 10
appends_next "constraint" c 110

# --- a table that was dropped, while its staging directory waits elsewhere

oracle make sales "$LAKE/d" --versions 12 --checkpoint 10
wait_until 5 test -d "$MNT/d/versions/11"
cp -a "$MNT/d/versions/11" "$SCRATCH/whole"
(cd "$SCRATCH/whole" && find . -type f -exec sha256sum {} +) >"$SCRATCH/sums"
oracle describe-each "$LAKE/d" >"$SCRATCH/expected"
D=$(stage d/r)
cp -a "$SCRATCH/whole/." "$D/"
rm -rf "$LAKE/d"
is "its folder is gone, and what is staged is not" "$(call stat "$LAKE/d") $(find "$D" -name '*.parquet' | wc -l)" \
  "ENOENT $(find "$SCRATCH/whole" -name '*.parquet' | wc -l)"
# Whoever looks sees no log, or all of it.
while [[ ! -e $SCRATCH/stop ]]; do
  { ls "$LAKE/d/_delta_log" 2>/dev/null || true; } | wc -l
done | sort -n | uniq -c >"$SCRATCH/seen" &
ok "sync brings it back" sync "$D"
touch "$SCRATCH/stop"
wait
is "with its log at once" "$(awk '{ print $2 }' "$SCRATCH/seen" | tr '\n' ' ')" "0 $(ls "$SCRATCH/whole/_delta_log" | wc -l) "
ok "every file is the backup's, byte for byte" sh -c "cd '$LAKE/d' && sha256sum --quiet -c '$SCRATCH/sums'"
is "every version is what it was" "$(oracle describe-each "$LAKE/d")" "$(cat "$SCRATCH/expected")"
is "at its number" "$(newest d)" 11
is "the result says so" "$(oracle json "$D/.deltafs/result" kind) $(oracle json "$D/.deltafs/result" version)" "create 11"
appends_next "dropped" d 500

# --- from each tool's copy

drop() { rm -rf "${LAKE:?}/d" && wait_until 10 gone; }
gone() { [[ $(call stat "$MNT/d/versions") == ENOENT ]]; }
begin() { mkdir -p "$MNT/d/staging/r" && echo "$MNT/d/staging/r"; }
back() { # DESCRIPTION — what is staged in $D brings the table back
  ok "$1: sync" sync "$D" || true
  ok "$1: every file is there" sh -c "cd '$LAKE/d' && sha256sum --quiet -c '$SCRATCH/sums'"
  is "$1: version and rows" "$(newest d) $(kernel_count "$LAKE/d")" "11 120"
  rmdir "$D" 2>/dev/null || true
}
drop && D=$(begin) && rsync -a "$SCRATCH/whole/" "$D/" && back rsync
drop && D=$(begin) && tar -C "$SCRATCH/whole" -cf - . | tar -C "$D" -xpf - && back tar
if command -v restic >/dev/null; then
  export RESTIC_PASSWORD=x RESTIC_REPOSITORY=$SCRATCH/restic
  restic -q init
  (cd "$SCRATCH/whole" && restic -q backup .)
  drop && D=$(begin) && restic -q restore latest --target "$D" && back restic
else
  skip "restic" "restic is not installed"
fi
if command -v borg >/dev/null; then
  export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
  borg init -e none "$SCRATCH/borg"
  (cd "$SCRATCH/whole" && borg create "$SCRATCH/borg::one" .)
  drop && D=$(begin) && (cd "$D" && borg extract "$SCRATCH/borg::one") && back borg
else
  skip "borg" "borg is not installed"
fi
drop && D=$(begin) && cp -a "$SCRATCH/whole/." "$D/"
lost=$(find "$D" -name '*.parquet' -not -path '*_delta_log*' | sort | head -1)
rm "$lost"
refuses "a copy that lacks a file makes no table" 1 "Input/output" sync "$D"
like "and says which" "$(result "$D")" "$(basename "$lost")"
is "nothing is a table" "$(call stat "$LAKE/d/_delta_log")" ENOENT
rm -r "$D"

# --- logs that don't begin at 0

cp -a "$SCRATCH/whole" "$SCRATCH/cleaned"
find "$SCRATCH/cleaned/_delta_log" -name '0000000000000000000[0-9].json' -delete
drop && D=$(begin) && cp -a "$SCRATCH/cleaned/." "$D/"
ok "a log that begins with a checkpoint" sync "$D"
is "is the table from there on" "$(newest d) $(ls "$MNT/d/versions" | tr '\n' ' ') $(kernel_count "$LAKE/d")" "11 10 11  120"
appends_next "checkpoint" d 500
rmdir "$D"
cp -a "$SCRATCH/cleaned" "$SCRATCH/alone"
rm "$SCRATCH/alone/_delta_log"/*.json "$SCRATCH/alone/_delta_log/_last_checkpoint"
drop && D=$(begin) && cp -a "$SCRATCH/alone/." "$D/"
refuses "a checkpoint alone, beside a file of a later version" 1 "Invalid argument" sync "$D"
like "names that file" "$(result "$D")" "doesn't name this file; remove it"
rm "$D/$(oracle adds "$SCRATCH/whole" 11)"
ok "a checkpoint alone" sync "$D"
is "is that one version" "$(newest d) $(kernel_count "$LAKE/d")" "10 110"
# deltalake opens no table whose newest version has no commit file; the next commit mends that.
oracle parquet "$D/next/date=2026-12-24/a.parquet" 530 10
mv "$D/next/"* "$D/" && rmdir "$D/next"
ok "and our next commit" sync "$D"
appends_next "checkpoint alone" d 500

# --- sidecars

if [[ -z ${DELTAFS_GOLDEN:-} ]]; then
  skip "a table with sidecars" "DELTAFS_GOLDEN is not set"
else
  for table in v2-checkpoint-parquet v2-checkpoint-json multi-part-checkpoint only-checkpoint-files; do
    oracle golden "$table" "$LAKE/$table"
    wait_until 5 test -e "$MNT/$table/latest"
    count=$(kernel_count "$LAKE/$table")
    at=$(newest "$table")
    cp -a "$MNT/$table/versions/$at" "$SCRATCH/$table"
    rm -rf "${LAKE:?}/$table"
    wait_until 10 sh -c "! test -e '$MNT/$table/latest'"
    G=$(mkdir -p "$MNT/$table/staging/r" && echo "$MNT/$table/staging/r")
    cp -a "$SCRATCH/$table/." "$G/"
    ok "$table comes back" sync "$G"
    is "$table: at its version, with its rows" "$(newest "$table") $(kernel_count "$LAKE/$table")" "$at $count"
    ok "$table: log and sidecars byte for byte" diff -r "$SCRATCH/$table/_delta_log" "$LAKE/$table/_delta_log"
  done
  G=$MNT/v2-checkpoint-parquet/staging/r
  at=$(newest v2-checkpoint-parquet)
  cp -al "$MNT/v2-checkpoint-parquet/versions/0/." "$G/" 2>/dev/null || true
  rm -rf "${G:?}"/* 
  cp -a "$SCRATCH/v2-checkpoint-parquet/." "$G/"
  ok "and restored over itself it makes no version" sync "$G"
  is "so" "$(newest v2-checkpoint-parquet)" "$at"
fi

# --- a log that was lost, and its data not: by hand, or by a removal that was cut short

oracle make sales "$LAKE/logless" --versions 3
wait_until 5 test -e "$MNT/logless/latest"
count=$(kernel_count "$LAKE/logless")
cp -a "$MNT/logless/versions/2" "$SCRATCH/logless"
for lost in folder files; do
  case $lost in
    folder) rm -r "$LAKE/logless/_delta_log" ;;
    files) rm "$LAKE/logless/_delta_log/"* ;;
  esac
  wait_until 10 sh -c "! test -e '$MNT/logless/latest'"
  isnt "(partitions are left: $lost)" "$(find "$LAKE/logless" -maxdepth 1 -name '*=*')" ""
  ok "there is a staging for what is left of it ($lost)" mkdir "$MNT/logless/staging/$lost"
  cp -a "$SCRATCH/logless/." "$MNT/logless/staging/$lost/"
  ok "the table comes back ($lost)" sync "$MNT/logless/staging/$lost"
  is "at its version, with its rows ($lost)" "$(newest logless) $(kernel_count "$LAKE/logless")" "2 $count"
done

# --- names that begin with a dot or an underscore, where the log says that they are data

"$PYTHON" - "$LAKE/dot" <<'EOF'
import json, os, sys
import deltalake, pyarrow as pa
table = sys.argv[1]
deltalake.write_deltalake(table, pa.table({"id": [1, 2], ".dot": ["a", "b"]}), partition_by=[".dot"])
commit = f"{table}/_delta_log/{0:020}.json"
lines = [json.loads(line) for line in open(commit)]
for line, name in zip((line for line in lines if "add" in line), (".u.parquet", "_x/v.parquet")):
    os.makedirs(os.path.dirname(f"{table}/{name}"), exist_ok=True)
    os.link(f"{table}/{line['add']['path']}", f"{table}/{name}")
    lines.append({"add": line["add"] | {"path": name}})
open(commit, "w").writelines(json.dumps(line) + "\n" for line in lines)
EOF
is "(four rows)" "$(kernel_count "$LAKE/dot")" 4
cp -a "$MNT/dot/versions/0" "$SCRATCH/dot"
rm "$LAKE/dot/.u.parquet" "$LAKE/dot/_x/v.parquet"
S=$(stage dot/r)
cp -a "$SCRATCH/dot/." "$S/"
ok "lost files under such names come back" sync "$S"
is "all rows" "$(kernel_count "$LAKE/dot")" 4
is "nothing stays behind" "$(ls -A "$S")" ""
rm -r "$LAKE/dot"
mkdir -p "$MNT/dot/staging/r"
cp -a "$SCRATCH/dot/." "$S/"
ok "the whole table comes back" sync "$S"
is "all its rows" "$(kernel_count "$LAKE/dot")" 4
mkdir "$S/.dot=c"
oracle parquet "$SCRATCH/ids.parquet" 700 3
"$PYTHON" -c '
import sys, pyarrow.parquet as pq
pq.write_table(pq.read_table(sys.argv[1], columns=["id"]), sys.argv[2])' "$SCRATCH/ids.parquet" "$S/.dot=c/c.parquet"
ok "rows of such a partition are appended" sync "$S"
is "and read" "$(kernel_count "$LAKE/dot")" 7

done_testing
