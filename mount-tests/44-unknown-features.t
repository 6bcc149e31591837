#!/usr/bin/env bash
# Tables that ask for features nobody here knows: an unknown reader feature refuses that version's
# data by name (EOPNOTSUPP), an unknown writer feature makes the table read-only by name.
. "$(dirname "$0")/lib.sh"

protocol() { # TABLE PROTOCOL
  oracle bad-commit "$LAKE/$1" --line "{\"protocol\":$2}" >/dev/null
}
for table in reader writer legacy; do
  oracle make plain "$LAKE/$table" --versions 2
done
protocol reader '{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["timeTravelling"],"writerFeatures":["timeTravelling"]}'
protocol writer '{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["quantumWrites"]}'
protocol legacy '{"minReaderVersion":9,"minWriterVersion":99}'
mount_lake

says() { grep -qiE "$1" "$TRACE"; }

# --- unknown to readers

for table in reader legacy; do
  for version in 0 1; do
    is "$table: version $version, before the feature, reads" \
      "$(oracle count "$MNT/$table/versions/$version")" $(((version + 1) * 10))
  done
  is "$table: version 2 is EOPNOTSUPP" "$(call listdir "$MNT/$table/versions/2")" EOPNOTSUPP
  not_ok "$table: cp of it fails" cp -a "$MNT/$table/versions/2" "$SCRATCH/$table"
done
ok "reader: the trace names the feature" says timeTravelling
ok "legacy: the trace names the version of the protocol" says '\b(9|99)\b'

# --- unknown to writers alone

is "writer: version 2 reads" "$(find "$MNT/writer/versions/2" -name "*.parquet" | wc -l)" 2
ok "writer: cp of it" cp -a "$MNT/writer/versions/2" "$SCRATCH/writer"

# --- neither takes a commit

for table in reader writer legacy; do
  before=$(fingerprint "$table")
  S=$MNT/$table/staging/x
  made=$(call mkdir "$S")
  if [[ $made == OK ]]; then
    oracle parquet "$S/f.parquet" 500 1
    is "$table: sync is EOPNOTSUPP" "$(call fsync "$S")" EOPNOTSUPP
    like "$table: result says why" "$(result "$S")" 'timeTravelling|quantumWrites|\b(9|99)\b'
    is "$table: nothing is lost" "$(ls "$S")" f.parquet
    rm -r "$S"
  else
    like "$table: staging is refused" "$made" '^(EOPNOTSUPP|EROFS)$'
    ok "$table: the trace says why" says 'timeTravelling|quantumWrites|\b(9|99)\b'
  fi
  is "$table: the table is as it was" "$(fingerprint "$table")" "$before"
done

done_testing
