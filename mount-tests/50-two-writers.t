#!/usr/bin/env bash
# Several writers at once: deltalake appends 100 times while sync commits 100 times through each of
# two staging directories. All 300 are there, once, and every version between is a whole table.
TEST_SECONDS=600
. "$(dirname "$0")/lib.sh"

commits=${DELTAFS_TEST_COMMITS:-100}
oracle make plain "$LAKE/t" --versions 1 --rows 1
oracle parquet "$SCRATCH/a/%d.parquet" 10000 1 --files "$commits"
oracle parquet "$SCRATCH/b/%d.parquet" 20000 1 --files "$commits"
mount_lake

# Commits one file after the other; a refused sync ends the loop with what the daemon said.
commit_all() { # WRITER
  local S file
  S=$(stage "t/$1")
  for file in "$SCRATCH/$1"/*.parquet; do
    cp "$file" "$S/"
    sync "$S" || { result "$S"; return 1; }
  done
}

oracle append "$LAKE/t" 1000 1 --commits "$commits" >"$SCRATCH/native.out" 2>&1 &
native=$!
commit_all a >"$SCRATCH/a.out" 2>&1 &
a=$!
commit_all b >"$SCRATCH/b.out" 2>&1 &
b=$!
for writer in native a b; do
  status=0
  wait "${!writer}" || status=$?
  is "writer $writer: every commit was accepted" "$status $(cat "$SCRATCH/$writer.out")" "0 "
done

is "each commit is a version" "$(oracle version "$LAKE/t")" $((3 * commits))
ok "all rows are there, once" oracle ids "$LAKE/t" 0:1 1000:"$commits" \
  10000:"$commits" 20000:"$commits"
is "each staged commit has one add" \
  "$(grep -hc '"add"' "$LAKE"/t/_delta_log/*.json | sort -u)" 1
current() { [[ $(newest t) == $((3 * commits)) ]]; }
ok "the mount has followed" wait_until 5 current
middle=$((3 * commits / 2))
is "a version in the middle reads the same by mount and by deltalake" \
  "$(oracle describe "$MNT/t/versions/$middle")" "$(oracle describe "$LAKE/t" --version "$middle")"
is "its rows are as many as its commits" "$(oracle count "$MNT/t/versions/$middle")" $((middle + 1))
is "both staging directories are empty" "$(find "$MNT"/t/staging/[ab] -mindepth 1)" ""

done_testing
