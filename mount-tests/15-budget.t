#!/usr/bin/env bash
# Within a budget of memory that holds next to nothing, a table of a few hundred versions shows what
# it shows with plenty: every version, every name, every inode, every byte of the log; while others
# commit, too. What is forgotten and loaded again is in the trace.
TEST_SECONDS=240
. "$(dirname "$0")/lib.sh"

versions=240
"$PYTHON" - "$LAKE/t" "$versions" <<'PYTHON'
# Each version adds a file and, from the 31st on, removes the one of 30 versions before; a checkpoint
# at every fortieth.
import json, os, sys
from pathlib import Path
import deltalake, pyarrow

table, versions = Path(sys.argv[1]), int(sys.argv[2])
rows = pyarrow.table({"n": pyarrow.array([1], pyarrow.int64())})
deltalake.write_deltalake(str(table), rows)
data = next(table.glob("*.parquet"))
first = json.loads(next(line for line in (table / "_delta_log/00000000000000000000.json").open()
                        if '"add"' in line))["add"]
for version in range(1, versions):
    name = f"d{version % 7}/f{version}.parquet"
    (table / name).parent.mkdir(exist_ok=True)
    os.link(data, table / name)
    lines = [{"add": {**first, "path": name}}]
    if version > 30:
        gone = version - 30
        lines.append({"remove": {"path": f"d{gone % 7}/f{gone}.parquet", "dataChange": True,
                                 "deletionTimestamp": 1, "partitionValues": {}, "size": 1,
                                 "extendedFileMetadata": True}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (table / f"_delta_log/{version:020}.json").write_text(text)
    if version % 40 == 0:
        deltalake.DeltaTable(str(table)).create_checkpoint()
PYTHON
is "there are several checkpoints" "$(find "$LAKE/t/_delta_log" -name '*.checkpoint.parquet' | wc -l)" 5

shown() { # MOUNTPOINT VERSION… — everything but the log's own files, which find tells by name
  local mountpoint=$1 version
  shift
  for version in "$@"; do
    (cd "$mountpoint/t/versions/$version" && find . -printf '%P %y %i %s %b %n %m %T@ %C@\n' | sort)
  done | md5sum
}
shuffled() { seq 0 "$1" | shuf --random-source=<(yes); }

mount_lake --memory 0
mkdir "$SCRATCH/plenty"
TRACE=$SCRATCH/plenty.log mount_at "$LAKE" "$SCRATCH/plenty"

is "the list of versions is the same" \
  "$(ls "$MNT/t/versions" | md5sum)" "$(ls "$SCRATCH/plenty/t/versions" | md5sum)"
is "and the history" "$(md5sum <"$MNT/t/history")" "$(md5sum <"$SCRATCH/plenty/t/history")"
mapfile -t order < <(shuffled $((versions - 1)))
differ=""
for version in "${order[@]}"; do
  [[ $(shown "$MNT" "$version") == "$(shown "$SCRATCH/plenty" "$version")" ]] || differ+=" $version"
done
is "every version shows the same names, inodes, sizes and times, in any order" "$differ" ""
is "a version has as many files as the log says" \
  "$(find "$MNT/t/versions/100" -name 'f*.parquet' | wc -l)" 30
is "another reader finds the rows of an old version" "$(oracle count "$MNT/t/versions/100")" 31

like "the trace tells what is loaded" "$(grep -c 'loaded table t: the files of versions' "$TRACE")" '^[1-9][0-9]'
like "and what is forgotten" "$(grep -c 'forgot table t: the files of versions' "$TRACE")" '^[1-9][0-9]'
like "and that a version alone is over the budget" "$(grep -m 1 'over the' "$TRACE")" \
  'the files of versions .* take [0-9]+ bytes, which is over the budget of 0'
is "with plenty nothing is" "$(grep -c 'forgot' "$SCRATCH/plenty.log")" 0

# --- listers of several versions while commits arrive

find "$MNT/t/versions/17" "$MNT/t/versions/170" | sort >"$SCRATCH/before"
list_all() { # SEED
  local version
  for version in $(shuf -i 0-239 -n 60 --random-source=<(yes "$1")); do
    [[ $(find "$MNT/t/versions/$version" -name 'f*.parquet' | wc -l) == $((version < 30 ? version : 30)) ]] ||
      echo "version $version"
  done
}
for seed in 1 2 3 4; do list_all "$seed" >"$SCRATCH/lister.$seed" 2>&1 & listers+=($!); done
"$PYTHON" - "$LAKE/t" <<'PYTHON'
import sys
import deltalake, pyarrow

rows = pyarrow.table({"n": pyarrow.array([2], pyarrow.int64())})
for _ in range(5):
    deltalake.write_deltalake(sys.argv[1], rows, mode="append")
PYTHON
wait "${listers[@]}"
is "every listing was whole" "$(cat "$SCRATCH"/lister.?)" ""
latest_is() { [[ $(readlink "$MNT/t/latest") == "versions/$1" ]]; }
ok "the newest commit is there" wait_until 5 latest_is $((versions + 4))
is "with its files" \
  "$(find "$MNT/t/versions/$((versions + 4))" -name _delta_log -prune -o -name '*.parquet' -print |
    wc -l)" 36
find "$MNT/t/versions/17" "$MNT/t/versions/170" | sort >"$SCRATCH/after"
ok "what was shown is what it was" cmp "$SCRATCH/before" "$SCRATCH/after"

# --- a commit of ours, whose file has the name of one that is long gone

rm "$LAKE/t/d1/f1.parquet"
staging=$(stage t/again)
mkdir "$staging/d1"
cp "$LAKE/t/d2/f2.parquet" "$staging/d1/f1.parquet"
ok "sync" sync "$staging"
isnt "it gets another name, as an old version still has that one" \
  "$(find "$MNT/t/versions/$(newest t)/d1" -name 'f1*')" "$MNT/t/versions/$(newest t)/d1/f1.parquet"
is "and is there" "$(find "$MNT/t/versions/$(newest t)/d1" -name 'f1-*.parquet' | wc -l)" 1

# --- a table whose log was cleaned up

rm "$LAKE/t/_delta_log/"0000000000000000000{0..9}.json "$LAKE/t/_delta_log/"000000000000000000{10..39}.json
# A name that the kernel hasn't cached yet.
is "a version that can't be told any more is EIO" "$(call stat "$MNT/t/versions/5/new")" EIO
like "with a sentence" "$(grep -m 1 'version 5 were' "$TRACE")" 'forgotten to save memory'
is "one from a checkpoint on is there" "$(find "$MNT/t/versions/40" -name 'f*.parquet' | wc -l)" 30

deltafs unmount "$SCRATCH/plenty"
refuses "what is no amount of memory is refused" 2 'no amount of memory' \
  deltafs mount --memory lots "$LAKE" "$SCRATCH/plenty"

done_testing
