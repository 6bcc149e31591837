#!/usr/bin/env bash
# The control files in `.deltafs/`: what a version is made of, what a staging directory would do and
# what its last sync did. Their sizes are exact, so that any tool reads them whole.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 3 --property delta.logRetentionDuration='interval 60 days'
mount_lake
C=$MNT/t/versions/1/.deltafs

json_lines() { "$PYTHON" -c 'import json, sys; [json.loads(line) for line in open(sys.argv[1])]' "$1"; }
json_file() { "$PYTHON" -c 'import json, sys; json.load(open(sys.argv[1]))' "$1"; }
exact_sizes() { # FOLDER — prints the files whose size is not what reading gives
  local file
  for file in "$1"/*; do
    [[ -f $file ]] || continue
    [[ $(stat -c %s "$file") == "$(wc -c <"$file")" ]] || echo "$file"
  done
}

# --- of a version

for name in checksum commit.json schema.json properties files missing; do
  like ".deltafs of a version holds $name" " $(ls "$C" | tr '\n' ' ')" " $name "
done
is "their sizes are exact" "$(exact_sizes "$C")" ""
ok "commit.json is JSON" json_lines "$C/commit.json"
like "commit.json tells this version's commit" "$(cat "$C/commit.json")" '"operation"'
ok "schema.json is JSON" json_file "$C/schema.json"
is "schema.json is the table's schema" \
  "$("$PYTHON" -c 'import json,sys; print(json.dumps(json.load(open(sys.argv[1])), sort_keys=True))' "$C/schema.json")" \
  "$(oracle schema "$LAKE/t" --version 1)"
like "properties are key=value lines" "$(cat "$C/properties")" \
  '^delta.logRetentionDuration=interval 60 days$'

path=$(oracle adds "$LAKE/t" 0)
is "files has a line for each data file: path, size, rows, partition, tab-separated" \
  "$(grep -cE $'^date=[^\t]+\.parquet\t[0-9]+\t[0-9]+\t' "$C/files")" 2
like "with the file's own numbers" "$(grep -F "$path" "$C/files")" \
  "^$path"$'\t'"$(stat -c %s "$LAKE/t/$path")"$'\t10\t.*2026-11-01'
is "missing is empty where nothing is missing" "$(cat "$C/missing")" ""
mv "$LAKE/t/$path" "$SCRATCH/lost"
names_missing() { grep -qF "$path" "$C/missing"; }
ok "missing names what the store has lost" wait_until 5 names_missing
mv "$SCRATCH/lost" "$LAKE/t/$path"
is "and not what it has again" "$(cat "$C/missing")" ""

checksum=$LAKE/t/_delta_log/00000000000000000001.crc
is "checksum is absent where nobody wrote one" "$(cat "$C/checksum")" absent
echo '{"numFiles":' >"$checksum"
like "checksum tells of a torn one" "$(cat "$C/checksum")" torn
ok "and the version is shown all the same" test -f "$MNT/t/versions/1/$path"

# --- of a table

is "the table tells which commits run" "$(call read "$MNT/t/.deltafs/commits")" OK

# --- of a staging directory

S=$(stage t/x)
for name in status changes options properties result; do
  like ".deltafs of a staging directory holds $name" " $(ls "$S/.deltafs" | tr '\n' ' ')" " $name "
done
is "their sizes are exact" "$(exact_sizes "$S/.deltafs")" ""
is "changes is empty where nothing was brought" "$(cat "$S/.deltafs/changes")" ""
for name in status changes result; do
  is "$name is not written by users" "$(call write-file "$S/.deltafs/$name" x)" "open EROFS"
done
printf 'team=finance\ndelta.checkpointInterval=20\n' >"$S/.deltafs/properties"
is "properties read back as they were written" "$(cat "$S/.deltafs/properties")" "team=finance
delta.checkpointInterval=20"
is "with exact sizes" "$(exact_sizes "$S/.deltafs")" ""
is "and are appended to as a file is" \
  "$(echo '-team' >>"$S/.deltafs/properties"; tail -1 "$S/.deltafs/properties")" "-team"
: >"$S/.deltafs/properties"
is "and emptied" "$(cat "$S/.deltafs/properties")" ""

oracle tree "$S" 100 10
added=$(cd "$S" && find . -name '*.parquet' -printf '%P\n')
like "changes says what sync would add" "$(cat "$S/.deltafs/changes")" "^\+ $added"
echo "no parquet" >"$S/date=2026-11-11/broken.parquet"
like "and what it would refuse, and why" "$(cat "$S/.deltafs/changes")" \
  "^! date=2026-11-11/broken.parquet: .+"
isnt "status tells the state" "$(cat "$S/.deltafs/status")" ""
like "status tells the bytes" "$(cat "$S/.deltafs/status")" 'bytes.*[1-9]'
is "sizes are exact when there is much to say" "$(exact_sizes "$S/.deltafs")" ""
not_ok "sync refuses it" sync "$S"
ok "result is JSON" json_file "$S/.deltafs/result"
like "result has the sentence" "$(result "$S")" 'broken.parquet'
rm "$S/date=2026-11-11/broken.parquet"
ok "sync commits what is left" sync "$S"
ok "result is JSON" json_file "$S/.deltafs/result"
is "result has the version" "$(oracle json "$S/.deltafs/result" version)" 3
is "changes is empty again" "$(cat "$S/.deltafs/changes")" ""

cp -al "$MNT/t/versions/3/." "$S/"
oracle append "$LAKE/t" 200 10
like "changes of a restore says what it would remove" \
  "$(wait_until 5 grep -q '^- ' "$S/.deltafs/changes"; cat "$S/.deltafs/changes")" '^- date='
like "and what it reuses" "$(cat "$S/.deltafs/changes")" '^= date='

done_testing
