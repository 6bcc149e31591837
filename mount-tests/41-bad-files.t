#!/usr/bin/env bash
# What doesn't fit a table is refused before anything is published: errno to sync, a sentence with
# the file's name in `result`, the table as it was, the staged files still there. With the bad file
# taken away the rest commits.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/plain" --versions 2
oracle make sales "$LAKE/sales" --versions 2
oracle make plain "$LAKE/appendonly" --versions 2 --property delta.appendOnly=true
mount_lake

# Stages what the current directory's command makes, and expects the commit to be refused.
refused() { # DESCRIPTION TABLE STRERROR RESULT FILE COMMAND…
  local description=$1 table=$2 strerror=$3 sentence=$4 file=$5 before version digest
  shift 5
  before=$(fingerprint "$table")
  version=$(newest "$table")
  S=$(stage "$table/x")
  (cd "$S" && "$@")
  digest=$(sha256sum <"$S/$file")
  refuses "$description: sync says $strerror" 1 "$strerror" sync "$S"
  like "$description: result names the file and what is wrong" "$(result "$S")" "$sentence"
  is "$description: the table is as it was" "$(fingerprint "$table")" "$before"
  is "$description: no version" "$(newest "$table")" "$version"
  is "$description: nothing is lost" "$(sha256sum <"$S/$file")" "$digest"
  refuses "$description: the same when asked again" 1 "$strerror" sync "$S"
  rm -r "$S"
}

cut_parquet() { # FILE SIZE — the first bytes of a Parquet file, as a killed cp leaves them
  oracle parquet "$SCRATCH/whole.parquet" 100 100
  head -c "$2" "$SCRATCH/whole.parquet" >"$1"
}
in_folder() { mkdir -p "$1" && oracle parquet "$1/f.parquet" 100 5; }
two_files() { oracle parquet good.parquet 100 5 && echo rubbish >bad.parquet; }

invalid="Invalid argument"
refused "a Parquet file cut in the middle" plain "$invalid" 'cut\.parquet' cut.parquet cut_parquet cut.parquet 700
refused "a Parquet file cut in its footer" plain "$invalid" 'cut\.parquet' cut.parquet \
  cut_parquet cut.parquet "$(oracle parquet "$SCRATCH/w.parquet" 100 100 && echo $(($(stat -c %s "$SCRATCH/w.parquet") - 1)))"
refused "a file of four bytes" plain "$invalid" 'cut\.parquet' cut.parquet cut_parquet cut.parquet 4
refused "a file without bytes" plain "$invalid" 'cut\.parquet' cut.parquet cut_parquet cut.parquet 0
refused "a CSV file" plain "$invalid" 'rows\.csv' rows.csv bash -c 'printf "id,amount\n1,2\n" >rows.csv'
refused "a column of another type" plain "$invalid" 'f\.parquet.*\bid\b|\bid\b.*f\.parquet' f.parquet \
  oracle parquet f.parquet 100 5 --variant wrong-type
refused "null in a column that is NOT NULL" plain "$invalid" 'f\.parquet.*\bid\b|\bid\b.*f\.parquet' f.parquet \
  oracle parquet f.parquet 100 5 --variant nulls
refused "a column too many" plain "$invalid" 'extra' f.parquet oracle parquet f.parquet 100 5 --variant extra
refused "one bad file among good ones" plain "$invalid" 'bad\.parquet' good.parquet two_files
refused "a missing partition folder" sales "$invalid" 'date' f.parquet oracle parquet f.parquet 100 5
refused "another partition column" sales "$invalid" 'date|color' color=red/f.parquet in_folder color=red
refused "a partition column too many" sales "$invalid" 'color' date=2026-11-01/color=red/f.parquet \
  in_folder date=2026-11-01/color=red
refused "a partition value of another type" sales "$invalid" 'date.*tomorrow|tomorrow' date=tomorrow/f.parquet \
  in_folder date=tomorrow

overwriting() { echo mode=overwrite >.deltafs/options && oracle parquet f.parquet 100 5; }
refused "an append-only table is not overwritten" appendonly "Operation not permitted" \
  'append' f.parquet overwriting
linked_version() { cp -al "$MNT/appendonly/versions/0/." .; }
refused "nor taken back" appendonly "Operation not permitted" 'append' \
  _delta_log/00000000000000000000.json linked_version

# --- a staged log that is cut short

cut_backup() {
  cp -a "$MNT/plain/versions/1/." .
  truncate -s -30 _delta_log/00000000000000000001.json
}
refused "a backup whose log is cut short" plain "Invalid argument|Input/output error" \
  '00000000000000000001\.json' _delta_log/00000000000000000001.json cut_backup

# --- the rest commits

S=$(stage plain/y)
(cd "$S" && two_files)
not_ok "sync is refused" sync "$S"
rm "$S/bad.parquet"
ok "without the bad file it commits" sync "$S"
ok "the good one, once" oracle ids "$LAKE/plain" 0:20 100:5
S=$(stage appendonly/y)
oracle parquet "$S/f.parquet" 100 5
ok "an append-only table takes appends" sync "$S"

unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'

done_testing
