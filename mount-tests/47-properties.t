#!/usr/bin/env bash
# Table properties through `.deltafs/properties` of a staging directory: `KEY=VALUE` sets, `-KEY`
# takes away, one commit with whatever else is staged. A property that can't be is an error at close
# and told in `status`; what was said survives a killed daemon and is spent by its commit.
TEST_SECONDS=240
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
oracle make sales "$LAKE/m" --versions 2
oracle make plain "$LAKE/r" --versions 3
mount_lake

properties() { cat "$MNT/$1/latest/.deltafs/properties"; }
operation() { # TABLE VERSION
  "$PYTHON" -c 'import json, sys; print(next(json.loads(l)["commitInfo"]["operation"] for l in open(sys.argv[1]) if "commitInfo" in l))' \
    "$LAKE/$1/_delta_log/$(printf %020d "$2").json"
}
says() { call write-file "$1/.deltafs/properties" "$2\n"; } # STAGING LINES

# --- alone

S=$(stage t/p)
is "properties of a new staging directory are empty" "$(cat "$S/.deltafs/properties")" ""
echo 'delta.appendOnly=true' >"$S/.deltafs/properties"
is "what was set reads back" "$(cat "$S/.deltafs/properties")" 'delta.appendOnly=true'
like "status tells it" "$(cat "$S/.deltafs/status")" '^property.delta.appendOnly=true$'
is "changes tells what it would change" "$(cat "$S/.deltafs/changes")" '~ delta.appendOnly=true'
ok "sync commits it" sync "$S"
is "as one version" "$(newest t)" 1
is "without a file" "$(oracle actions "$LAKE/t" 1)" "commitInfo 1
metaData 1"
is "as Spark calls it" "$(operation t 1)" "SET TBLPROPERTIES"
is "the version shows it" "$(properties t)" "delta.appendOnly=true"
is "it is spent" "$(cat "$S/.deltafs/properties")" ""
like "result tells the kind" "$(result "$S")" '"kind": "properties"'
ok "the rows are what they were" oracle ids "$LAKE/t" 0:10
echo mode=overwrite >"$S/.deltafs/options"
oracle parquet "$S/over.parquet" 500 5
refuses "and it holds" 1 "Operation not permitted" sync "$S"
rm "$S/over.parquet"
: >"$S/.deltafs/options"
printf '# no more\n-delta.appendOnly\nteam=finance = 7\n' >"$S/.deltafs/properties"
ok "a line -KEY takes it away" sync "$S"
is "and sets others in the same commit" "$(properties t)" "team=finance = 7"
echo -team >"$S/.deltafs/properties"
ok "one alone" sync "$S"
is "is Spark's other operation" "$(operation t 3)" "UNSET TBLPROPERTIES"
echo -team >"$S/.deltafs/properties"
ok "what is so already is no error" sync "$S"
is "and no version" "$(newest t)" 3
like "says result" "$(result "$S")" 'already'

# --- refused

for line in 'delta.apendOnly=true' 'delta.appendOnly=yes' 'delta.logRetentionDuration=1 month' \
  'delta.checkpointInterval=0' 'delta.constraints.c=id > 0' 'delta.enableIcebergCompatV2=true' \
  'delta.columnMapping.mode=id' 'delta.dataSkippingStatsColumns=idd' 'delta.minWriterVersion=1' \
  'delta.feature.teleport=supported' 'no equals sign' '-delta.nothing'; do
  is "'$line' is an error at close" "$(says "$S" "$line")" "close EINVAL"
  like "and a sentence in status" "$(grep '^refused=' "$S/.deltafs/status")" '^refused=.*(propert|columnMapping|protocol|feature)'
done
says "$S" 'delta.apendOnly=true' >/dev/null
like "with the nearest name" "$(cat "$S/.deltafs/status")" 'nearest is delta.appendOnly'
oracle parquet "$S/new.parquet" 100 10
refuses "sync refuses all of it" 1 "Invalid argument" sync "$S"
like "with the sentence in result" "$(result "$S")" 'nearest is delta.appendOnly'
like "and in changes" "$(cat "$S/.deltafs/changes")" '^! .*nearest is delta.appendOnly'
is "no version" "$(newest t)" 3

# --- with files, and each feature with both oracles

is "a good line heals it" "$(says "$S" 'delta.enableDeletionVectors=true')" OK
like "changes tells file, property and protocol" "$(tr '\n' ' ' <"$S/.deltafs/changes")" \
  '^\+ new.parquet ~ delta.enableDeletionVectors=true ~ protocol: reader 3, writer 7: .*deletionVectors'
ok "sync commits both" sync "$S"
is "in one version" "$(oracle actions "$LAKE/t" 4)" "add 1
commitInfo 1
metaData 1
protocol 1"
ok "the rows are there" oracle ids "$LAKE/t" 0:10 100:10
# The features that deltalake reads; the unit tests have the others, with delta_kernel.
version=4
for line in delta.enableChangeDataFeed=true delta.checkpointPolicy=v2 \
  delta.enableInCommitTimestamps=true delta.feature.domainMetadata=supported; do
  says "$S" "$line" >/dev/null
  version=$((version + 1))
  ok "$line" sync "$S"
  is "$line is a version" "$(newest t)" "$version"
  ok "$line: deltalake reads on" oracle ids "$LAKE/t" 0:10 100:10
done
like "the times begin with their commit" "$(head -1 "$LAKE/t/_delta_log/00000000000000000007.json")" \
  'inCommitTimestamp'
oracle parquet "$S/more.parquet" 200 10
ok "files go on being appended" sync "$S"
ok "and read" oracle ids "$LAKE/t" 0:10 100:10 200:10

# --- column mapping

S=$(stage m/p)
expected=$(oracle rows "$LAKE/m" | sort)
echo delta.columnMapping.mode=name >"$S/.deltafs/properties"
ok "columns are mapped by their names" sync "$S"
is "and every row reads as before" "$(oracle rows "$LAKE/m" | sort)" "$expected"
like "the mark is set" "$(properties m)" '^delta.columnMapping.maxColumnId=[1-9]'
is "a mode that was left can't come back" "$(says "$S" delta.columnMapping.mode=none)" "close EINVAL"
is "nor go by taking it away" "$(says "$S" -delta.columnMapping.mode)" "close EINVAL"
says "$S" "" >/dev/null
oracle tree "$S" 100 10
ok "files with the columns' names fit" sync "$S"
is "and are read" "$(oracle count "$LAKE/m")" 30

# --- row tracking on a table with rows

S=$(stage r/p)
echo delta.enableRowTracking=true >"$S/.deltafs/properties"
ok "row tracking is turned on" sync "$S"
is "and every file gets its ids in that commit" "$(oracle actions "$LAKE/r" 3)" "add 3
commitInfo 1
domainMetadata 1
metaData 1
protocol 1"
is "without a change of data" "$(grep -c '"dataChange":false' "$LAKE/r/_delta_log/00000000000000000003.json")" 3
ok "the rows are what they were" oracle ids "$LAKE/r" 0:30

# --- a new table

mkdir -p "$MNT/new/staging/x"
S=$MNT/new/staging/x
printf 'delta.columnMapping.mode=name\ndelta.enableDeletionVectors=true\ndelta.appendOnly=false\n' \
  >"$S/.deltafs/properties"
refuses "properties alone are no table" 1 "Invalid argument" sync "$S"
oracle tree "$S" 0 20
ok "files and properties are one" sync "$S"
is "at version 0" "$(newest new)" 0
like "with its properties" "$(properties new)" '^delta.enableDeletionVectors=true$'
ok "and its rows" oracle ids "$LAKE/new" 0:20
ok "which another writer deletes some of" oracle delete "$LAKE/new" "id < 5"
ok "to the same rows" oracle ids "$LAKE/new" 5:15

# --- beside a staged log

S=$(stage t/restore)
cp -al "$MNT/t/versions/4/." "$S/"
echo team=a >"$S/.deltafs/properties"
refuses "a restore takes no properties" 1 "Invalid argument" sync "$S"
like "and says what to do" "$(result "$S")" '.deltafs/properties'
: >"$S/.deltafs/properties"
ok "without them it goes" sync "$S"

# --- a killed daemon

S=$(stage t/kept)
printf 'team=kept\n' >"$S/.deltafs/properties"
pid=$(daemon_pid)
kill -KILL "$pid"
wait_until 10 daemon_is_gone "$pid"
detach "$MNT"
mount_lake
is "properties survive the daemon" "$(cat "$S/.deltafs/properties")" "team=kept"
ok "and are committed" sync "$S"
like "so" "$(properties t)" '^team=kept$'
remount
is "spent, they stay so" "$(cat "$S/.deltafs/properties")" ""

done_testing
