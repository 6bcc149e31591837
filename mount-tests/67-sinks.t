#!/usr/bin/env bash
# What plain Parquet sinks of engines leave: names without a suffix, the same names in every run,
# shards without rows, markers, checksums, empty temporary folders; and what they leave while they
# are still at work, which is refused by the engine's name.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
mount_lake
S=$(stage t/x)
rows=10
n=1000
part() { # PATH [COUNT] — a Parquet file with rows of its own
  mkdir -p "$(dirname "$S/$1")"
  oracle parquet "$S/$1" $n "${2:-5}"
  n=$((n + 10))
}
commits() { # DESCRIPTION ROWS-MORE
  rows=$((rows + $2))
  ok "$1: sync" sync "$S"
  is "$1: the rows" "$(oracle count "$LAKE/t")" $rows
  is "$1: nothing stays behind" "$(find "$S" -mindepth 1)" ""
}

# --- Flink: no suffix at the end

part part-51f1-0-0
part part-51f1-0-1
touch "$S/_SUCCESS"
mkdir -p "$S/.staging_1700000000000/task-0_attempt-0"
commits "Flink, batch" 10
part part-51f1-0-0
commits "Flink, the same name in a later run" 5
is "has another one in the table, and the suffix that readers like" \
  "$(oracle adds "$LAKE/t" "$(newest t)" | grep -cE '^part-51f1-0-0-[0-9a-f]{8}\.parquet$')" 1
part .part-51f1-0-2.inprogress.9f3c
part part-51f1-0-1
refuses "Flink, streaming: a part in progress" 1 "busy" sync "$S"
like "is named, with whose it is" "$(result "$S")" 'part-51f1-0-2.inprogress.9f3c: Flink is still writing'
mv "$S/.part-51f1-0-2.inprogress.9f3c" "$S/part-51f1-0-2"
commits "Flink, when the part is done" 10
part .staging_1700000000001/task-0/part-0
refuses "Flink, batch: a task at work" 1 "busy" sync "$S"
like "is named" "$(result "$S")" 'task-0/part-0: Flink is still'
rm -r "$S/.staging_1700000000001"

# --- Beam: the same names in every run, and shards without rows

for run in 1 2; do
  part part-00000-of-00003.parquet
  part part-00001-of-00003.parquet 0
  part part-00002-of-00003.parquet
  mkdir -p "$S/beam-temp-part-$run/deep" "$S/.temp-beam"
  commits "Beam, run $run" 10
done
part beam-temp-part-3/shard
refuses "Beam: a shard on its way" 1 "busy" sync "$S"
like "is named" "$(result "$S")" 'beam-temp-part-3/shard: Beam is still'
mv "$S/beam-temp-part-3/shard" "$S/part-00000-of-00001.parquet"
commits "Beam, when the shard is in its place" 5
part only-empty.parquet 0
ok "a run of nothing but a shard without rows" sync "$S"
is "adds no row" "$(oracle count "$LAKE/t")" $rows

# --- Spark: its temporary folder, its markers, its checksums

part _temporary/0/_temporary/attempt_1/part-0.parquet
refuses "Spark: an attempt at work" 1 "busy" sync "$S"
like "is named" "$(result "$S")" 'attempt_1/part-0.parquet: Spark is still'
mkdir -p "$S/p" && mv "$S/_temporary/0/_temporary/attempt_1/part-0.parquet" "$S/" && rmdir "$S/p"
touch "$S/_SUCCESS"
printf 'crc\0' >"$S/._SUCCESS.crc"
printf 'crc\0' >"$S/.part-0.parquet.crc"
commits "Spark, when the job is committed" 5
like "what was left out is told" "$(result "$S")" '"left_out": \[ *"._SUCCESS.crc", *".part-0.parquet.crc", *"_SUCCESS"'

# --- others

part data.parquet._COPYING_
refuses "hdfs dfs -put at work" 1 "busy" sync "$S"
like "is named" "$(result "$S")" '_COPYING_: hdfs is still'
mv "$S/data.parquet._COPYING_" "$S/data.parquet"
commits "hdfs dfs -put, done" 5
part file.orc
commits "content counts, not the suffix" 5
printf 'ORC and more of it' >"$S/file.orc"
refuses "what is not Parquet" 1 "Invalid argument" sync "$S"
like "is named" "$(result "$S")" 'file.orc: is not Parquet'

done_testing
