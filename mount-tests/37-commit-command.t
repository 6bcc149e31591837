#!/usr/bin/env bash
# `deltafs commit DIR` does what `sync DIR` does and prints the result, where sync can print no more
# than strerror.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
mount_lake
S=$(stage t/x)

oracle parquet "$S/a.parquet" 100 5
output=$(deltafs commit "$S") || flunk "commit" "exit $?"
like "commit prints the result: the version" "$output" '\b1\b'
is "and has made it" "$(newest t)" 1
ok "with the rows" oracle ids "$LAKE/t" 0:10 100:5

ok "commit with nothing new exits 0" deltafs commit "$S"
is "and makes no version" "$(newest t)" 1

echo "no parquet" >"$S/bad.parquet"
refuses "a refused commit exits 1 and prints the sentence" 1 'bad\.parquet' deltafs commit "$S"
is "no version" "$(newest t)" 1
refuses "the same again may be an earlier reason" 1 "trace has the reason, or .*bad\.parquet" \
  deltafs commit "$S"
is "nothing is lost" "$(cat "$S/bad.parquet")" "no parquet"
rm "$S/bad.parquet"

oracle parquet "$S/b.parquet" 200 5
(cd "$S" && deltafs commit .) >/dev/null || flunk "commit ." "exit $?"
is "a relative path is taken from where the command runs" "$(newest t)" 2

refuses "a folder that is no staging directory" 1 "$SCRATCH/run" deltafs commit "$SCRATCH/run"
refuses "a version" 1 "versions/0" deltafs commit "$MNT/t/versions/0"
refuses "a folder that is missing" 1 "nowhere" deltafs commit "$MNT/t/staging/nowhere"
refuses "no argument: usage" 2 "usage" deltafs commit
ok "each row is there once" oracle ids "$LAKE/t" 0:10 100:5 200:5

done_testing
