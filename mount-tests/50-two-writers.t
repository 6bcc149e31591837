#!/usr/bin/env bash
# Several writers at once: deltalake appends 100 times while sync commits 100 times through each of
# two staging directories. All 300 are there, once, and every version between is a whole table. Then
# two shells sync one directory while a third copies files into it: each file is committed once.
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

# --- two shells sync one directory, a third copies into it

files=${DELTAFS_TEST_FILES:-60}
oracle make plain "$LAKE/u" --versions 1 --rows 1
oracle parquet "$SCRATCH/c/%d.parquet" 30000 1 --files "$files"
wait_until 5 test -d "$MNT/u/staging"
S=$(stage u/shared)

# Files go to the root and to a folder, which a commit takes away when it leaves it empty.
copy_all() {
  local file
  for file in "$SCRATCH"/c/*[02468].parquet; do
    cp "$file" "$S/" || return 1
    file=$SCRATCH/c/$((10#$(basename "$file" .parquet) + 1)).parquet
    until mkdir -p "$S/deep" && cp "$file" "$S/deep/" 2>/dev/null; do
      echo again >>"$SCRATCH/copy.again"
    done
  done
}

# A sync that meets a file half-copied, or the other's commit, is refused as busy and loses nothing.
sync_all() { # SHELL
  until [[ -e $SCRATCH/copied ]]; do
    if sync "$S"; then echo committed; else echo refused; fi
  done
}

for shell in one two; do
  sync_all $shell >"$SCRATCH/$shell.out" 2>"$SCRATCH/$shell.err" &
done
ok "a third shell copies into a directory that two others sync" copy_all
touch "$SCRATCH/copied"
wait
for shell in one two; do
  like "shell $shell has committed" "$(cat "$SCRATCH/$shell.out")" committed
  is "shell $shell was refused for nothing but being busy" "$(grep -v busy "$SCRATCH/$shell.err")" ""
done
ok "a last sync takes what is left" sync "$S"
is "nothing is left" "$(ls -A "$S")" ""
ok "each file was committed, once" oracle ids "$LAKE/u" 0:1 30000:"$files"

done_testing
