#!/usr/bin/env bash
# merge_schema=true changes a table's schema: new columns, also where the table maps columns by name
# or by id, and wider types where the table allows them. deltalake reads every row back, and
# delta_kernel those of widened columns, which deltalake doesn't know.
. "$(dirname "$0")/lib.sh"
[[ -x $DELTAFS_KERNEL_ROWS ]] || skip_all "no program at $DELTAFS_KERNEL_ROWS: scripts/setup test builds it"

kernel_ids() { # TABLE — ids and their types, as delta_kernel reads them
  (cd "$HERE" && "$PYTHON" -c '
import sys
from kernel import Kernel

kernel = Kernel(sys.argv[2])
ids = kernel.read(sys.argv[1]).column("id")
kernel.close()
print(ids.type, *sorted(ids.to_pylist()))' "$1" "$SCRATCH")
}

oracle make plain "$LAKE/wide" --versions 1
mapped=()
if [[ -n ${DELTAFS_GOLDEN:-} ]]; then
  for mode in name id; do
    oracle golden "table-with-columnmapping-mode-$mode" "$LAKE/$mode"
    mapped+=("$mode")
  done
else
  skip "columns of mapped tables" "DELTAFS_GOLDEN is not set"
fi
mount_lake

merge() { # STAGING
  echo merge_schema=true >"$1/.deltafs/options"
}

# --- wider types

S=$(stage wide/x)
oracle parquet "$SCRATCH/plain.parquet" 100 5
oracle evolve "$SCRATCH/plain.parquet" "$S/narrow.parquet" --cast id:int32
refuses "another type is refused" 1 "Invalid argument" sync "$S"
like "with both, the column and the property that would help" "$(result "$S")" \
  'id.*long in the table and integer in the file.*delta.enableTypeWidening'
oracle bad-commit "$LAKE/wide" --line '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["typeWidening"],"writerFeatures":["typeWidening","appendOnly","invariants"]}}' >/dev/null
oracle set-property "$LAKE/wide" --property delta.enableTypeWidening=true
refuses "widening alone changes no schema unasked" 1 "Invalid argument" sync "$S"
like "and says what to ask" "$(result "$S")" merge_schema=true
merge "$S"
ok "merge_schema=true lets the narrower type in" sync "$S"
is "by a record in the schema" "$(oracle actions "$LAKE/wide" 3)" "add 1
commitInfo 1
metaData 1"
like "from one type to the other" "$(grep metaData "$LAKE/wide/_delta_log/00000000000000000003.json")" \
  'fromType.*integer.*toType.*long'
is "and all rows are there" "$(kernel_ids "$LAKE/wide")" \
  "int64 0 1 2 3 4 5 6 7 8 9 100 101 102 103 104"

S=$(stage wide/float)
oracle parquet "$SCRATCH/floats.parquet" 200 5
oracle evolve "$SCRATCH/floats.parquet" "$S/text.parquet" --cast amount:string
merge "$S"
refuses "no type becomes a string" 1 "Invalid argument" sync "$S"
like "by its name" "$(result "$S")" 'text.parquet.*amount.*double.*string'

# --- mapped columns

for table in "${mapped[@]}"; do
  before=$(oracle count "$LAKE/$table")
  version=$(newest "$table")
  file=$(find "$LAKE/$table" -name 'part-00001*.parquet' -print -quit)
  mark=$(grep -o 'maxColumnId":"[0-9]*' "$LAKE/$table/_delta_log/00000000000000000000.json" | grep -o '[0-9]*$')
  S=$(stage "$table/x")
  oracle evolve "$file" "$S/new.parquet" --add "mail:$((mark + 1))"
  refuses "$table: a new column is refused" 1 "Invalid argument" sync "$S"
  like "$table: with what to do" "$(result "$S")" 'mail.*merge_schema=true'
  merge "$S"
  ok "$table: merge_schema=true adds it" sync "$S"
  is "$table: one version" "$(newest "$table")" $((version + 1))
  is "$table: the mark of ids goes up" \
    "$(grep -o 'maxColumnId":"[0-9]*' "$LAKE/$table/_delta_log/$(printf %020d $((version + 1))).json")" \
    "maxColumnId\":\"$((mark + 1))"
  rows=$(oracle rows "$LAKE/$table")
  is "$table: older rows have null in it" "$(grep -c '"mail": null' <<<"$rows")" "$before"
  is "$table: new rows have their own" "$(grep -c '"mail": "mail [0-9]' <<<"$rows")" 4
  is "$table: and all the values that its rows were copied from" \
    "$(sed -E 's/"mail": ("[^"]*"|null)(, )?//' <<<"$rows" | sort -u)" \
    "$(oracle rows "$LAKE/$table" --version "$version" | sort -u)"
  is "$table: older versions have the older schema" \
    "$(oracle schema "$MNT/$table/versions/$version" | grep -c mail || true)" 0
  S=$(stage "$table/again")
  oracle evolve "$file" "$S/again.parquet" --add "mail:$((mark + 1))"
  ok "$table: the next file of that shape needs no option" sync "$S"
  S=$(stage "$table/taken")
  oracle evolve "$file" "$S/taken.parquet" --add "phone:1"
  merge "$S"
  refuses "$table: an id that was given out is refused" 1 "Invalid argument" sync "$S"
  like "$table: by its id" "$(result "$S")" 'Parquet field id'
done

done_testing
