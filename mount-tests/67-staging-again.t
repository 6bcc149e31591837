#!/usr/bin/env bash
# A staging directory that is removed and made again, as Spark's overwrite and careful scripts do: it
# begins with nothing of the old one, whoever lists meanwhile sees one of the two, and whoever stood
# in the old one stands nowhere. Its own name can't be moved.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
oracle parquet "$SCRATCH/part.parquet" 1000 5
mount_lake
AREA=$MNT/t/staging
S=$(stage t/x)

# --- nothing of the old one stays

printf 'mode=overwrite\ntxn=app:1\n' >"$S/.deltafs/options"
echo 'delta.appendOnly=false' >"$S/.deltafs/properties"
echo "no parquet" >"$S/bad.parquet"
sync "$S" 2>/dev/null || true
like "(it has a result)" "$(cat "$S/.deltafs/result")" refused
old=$(stat -c %i "$S")
rm "$S/bad.parquet"
ok "rmdir and mkdir" sh -c "rmdir '$S' && mkdir '$S'"
is "options are gone" "$(cat "$S/.deltafs/options")" ""
is "properties too" "$(cat "$S/.deltafs/properties")" ""
is "and the result" "$(cat "$S/.deltafs/result")" ""
unlike "and what was wrong" "$(cat "$S/.deltafs/status")" "refused|bad"
isnt "it is another inode" "$(stat -c %i "$S")" "$old"
mkdir -p "$S/sub/deep" && cp "$SCRATCH/part.parquet" "$S/sub/deep/"
ok "rm -r and mkdir of a full one" sh -c "rm -r '$S' && mkdir '$S'"
is "nothing is in it" "$(find "$S" -mindepth 1)" ""
is "and sync of it is nothing" "$(sync "$S" && newest t)" 0
remount
is "nor after a remount" "$(find "$S" -mindepth 1; cat "$S/.deltafs/options")" ""

# --- who stood in the old one

mkdir "$S/sub"
cp "$SCRATCH/part.parquet" "$S/kept.parquet"
exec 9<"$S/kept.parquet"
(
  cd "$S/sub"
  touch "$SCRATCH/in-sub"
  wait_until 10 test -e "$SCRATCH/again"
  ls . >"$SCRATCH/sub.ls" 2>"$SCRATCH/sub.err"
  echo $? >"$SCRATCH/sub.status"
) &
(
  cd "$S"
  touch "$SCRATCH/in-root"
  wait_until 10 test -e "$SCRATCH/again"
  {
    echo "read $(call read kept.parquet)"
    echo "create $(call create new.parquet)"
    echo "mkdir $(call mkdir sub)"
    echo "list $(ls -A . 2>&1 | tr '\n' ' ')"
    echo "options $(cat .deltafs/options 2>&1 | grep -o 'No such file' || true)"
    sync . 2>&1 | grep -oE 'No such file|Stale' | sed 's/^/sync /'
  } >"$SCRATCH/root.out" 2>/dev/null || true
) &
wait_until 10 test -e "$SCRATCH/in-sub" -a -e "$SCRATCH/in-root"
rm -r "$S"
mkdir "$S"
mkdir "$S/sub"
echo mode=overwrite >"$S/.deltafs/options"
echo theirs >"$S/kept.parquet"
echo theirs >"$S/sub/theirs"
touch "$SCRATCH/again"
wait
is "a shell in a folder of the old one sees nothing of the new one" "$(cat "$SCRATCH/sub.ls")" ""
like "a shell in the old one can't open the new one's file" "$(cat "$SCRATCH/root.out")" '^read (ENOENT|ESTALE)$'
like "nor make one there" "$(cat "$SCRATCH/root.out")" '^create (ENOENT|ESTALE)$'
like "nor a folder" "$(cat "$SCRATCH/root.out")" '^mkdir (ENOENT|ESTALE)$'
unlike "nor list it" "$(cat "$SCRATCH/root.out")" '^list .*(kept|sub)'
is "the new one is as it was made" "$(cd "$S" && find . -type f | sort | tr '\n' ' ')" "./kept.parquet ./sub/theirs "
is "and nothing was committed" "$(newest t)" 0
is "an open file of the old one reads to its end" "$(cmp "$SCRATCH/part.parquet" - <&9 && echo same)" same
exec 9<&-
rm -r "$S"

# --- in a loop, while others list

stop=$SCRATCH/stop
lister() { # NAME COMMAND…
  local name=$1
  shift
  while [[ ! -e $stop ]]; do
    "$@" >/dev/null 2>>"$SCRATCH/$name.err" || echo "$?" >>"$SCRATCH/$name.status"
  done
}
(lister ls ls "$AREA") &
(lister ls-l ls -l "$AREA") &
(lister find find "$AREA" -ignore_readdir_race) &
(lister status cat "$MNT/.deltafs/status") &
failed=0
for turn in $(seq 150); do
  mkdir "$S" || failed=$((failed + 1))
  [[ -z $(ls -A "$S") ]] || failed=$((failed + 1))
  mkdir "$S/p=1" && echo "$turn" >"$S/p=1/f" || failed=$((failed + 1))
  [[ $(cat "$S/p=1/f") == "$turn" ]] || failed=$((failed + 1))
  rm -r "$S" || failed=$((failed + 1))
  [[ ! -e $S ]] || failed=$((failed + 1))
done
touch "$stop"
wait
is "150 times mkdir, fill, rm -r: each step as on any file system" $failed 0
is "ls never failed" "$(cat "$SCRATCH/ls.err")" ""
is "ls -l said no more than that a name was gone" \
  "$(grep -v "staging/x.*: No such file" "$SCRATCH/ls-l.err" || true)" ""
is "find neither" "$(grep -vE "staging/x.*(No such|Stale) file" "$SCRATCH/find.err" || true)" ""
is "nor the mount's status" "$(cat "$SCRATCH/status.err")" ""
is "the spool is empty" "$(find "$LAKE/.deltafs" -type f 2>/dev/null | wc -l)" 0

# --- its own name

mkdir "$S" && touch "$S/f"
is "another name is refused" "$(call rename "$S" "$AREA/y")" EPERM
is "one in another table" "$(mkdir -p "$MNT/u/staging" 2>/dev/null; call rename "$S" "$MNT/u/staging/x")" "$(call rename "$S" "$AREA/y")"
is "so is moving it into another" "$(mkdir "$AREA/z"; call rename "$S" "$AREA/z/x")" EPERM
is "and a folder out of it to beside it" "$(mkdir "$S/sub"; call rename "$S/sub" "$AREA/sub")" EPERM
refuses "mv says so" 1 "cannot move|not permitted" mv "$S" "$AREA/y"
is "it stands as it was" "$(ls "$S")" "f
sub"

done_testing
