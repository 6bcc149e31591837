#!/usr/bin/env bash
# What `sync DIR` does: each one reaches the daemon (a daemon that once answered ENOSYS would never
# be asked again), with nothing new it makes no version, a refused one exits 1 with a sentence in
# `result` and loses nothing. What is unfinished is EBUSY. `rm -r` abandons.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
oracle parquet "$SCRATCH/part-%d.parquet" 1000 1 --files 30
mount_lake

# --- the first one is refused, and each one after it still arrives

S=$(stage t/x)
echo "no parquet" >"$S/bad.parquet"
before=$(fingerprint t)
for try in 1 2 3; do
  refuses "refused sync $try exits 1" 1 "Invalid argument" sync "$S"
done
like "the sentence is in result, with the file's name" "$(result "$S")" "bad.parquet"
like "and says what is wrong with it" "$(result "$S")" "parquet"
is "nothing was committed" "$(newest t)" 0
is "the table is as it was" "$(fingerprint t)" "$before"
is "nothing is lost" "$(cat "$S/bad.parquet")" "no parquet"
rm "$S/bad.parquet"

for n in $(seq 0 19); do
  cp "$SCRATCH/part-$((1000 + n)).parquet" "$S/"
  sync "$S" || flunk "sync $n" "$(result "$S")"
done
is "20 syncs are 20 versions" "$(newest t)" 20
ok "with each row once" oracle ids "$LAKE/t" 0:10 1000:20

# sync -d is fdatasync, Python's fsync is what programs do.
cp "$SCRATCH/part-1020.parquet" "$S/"
ok "sync -d commits" sync -d "$S"
is "too" "$(newest t)" 21
cp "$SCRATCH/part-1021.parquet" "$S/"
is "fsync of the directory commits" "$(call fsync "$S")" OK
is "too" "$(newest t)" 22

# --- nothing new

ok "sync with nothing new exits 0" sync "$S"
ok "twice" sync "$S"
is "and makes no version" "$(newest t)" 22
mkdir "$S/empty" "$S/empty/deeper"
ok "empty folders are nothing new" sync "$S"
is "and make no version" "$(newest t)" 22

# --- only the staging directory's own root commits

mkdir -p "$S/sub"
cp "$SCRATCH/part-1022.parquet" "$S/sub/"
ok "sync of a subdirectory exits 0" sync "$S/sub"
ok "sync of a file exits 0" sync "$S/sub/part-1022.parquet"
ok "sync of staging/ itself exits 0" sync "$MNT/t/staging"
ok "sync of the table exits 0" sync "$MNT/t"
is "none of them commits" "$(newest t)" 22
ok "sync of the root does" sync "$S"
is "so" "$(newest t)" 23

# --- unfinished work is EBUSY

exec 9>"$S/open.parquet"
cat "$SCRATCH/part-1023.parquet" >&9
refuses "a file that is open for writing" 1 "busy" sync "$S"
like "is named in result" "$(result "$S")" "open.parquet"
is "nothing was committed" "$(newest t)" 23
exec 9>&-
ok "it commits when it is closed" sync "$S"
is "so" "$(newest t)" 24

cp "$SCRATCH/part-1024.parquet" "$S/"
exec 9<"$S/part-1024.parquet"
ok "a file that is open for reading is no hindrance" sync "$S"
exec 9<&-

for name in .part-1025.parquet.Ab3dEf part-1025.parquet.1a2b3c4d.partial .part-0.inprogress.1; do
  cp "$SCRATCH/part-1025.parquet" "$S/$name"
  refuses "an interrupted tool's temporary file ($name)" 1 "busy" sync "$S"
  like "is named in result" "$(result "$S")" "${name//./\\.}"
  rm "$S/$name"
done
is "nothing was committed" "$(newest t)" 25
ok "without them sync exits 0" sync "$S"

# --- several names for one directory

cp "$SCRATCH/part-1026.parquet" "$S/"
mv "$MNT/t/staging/x" "$MNT/t/staging/renamed" 2>/dev/null && S=$MNT/t/staging/renamed
ok "sync after a rename of the directory (or its refusal)" sync "$S"
is "commits" "$(newest t)" 26

# --- abandon

T=$(stage t/abandoned)
cp "$SCRATCH"/part-10{27,28}.parquet "$T/"
mkdir "$T/sub"
cp "$SCRATCH/part-1029.parquet" "$T/sub/"
ok "rm -r abandons" rm -r "$T"
is "the directory is gone" "$(call stat "$T")" ENOENT
is "no version" "$(newest t)" 26
ok "the name can be used again" mkdir "$T"
is "and begins empty" "$(ls -A "$T")" ""
ok "an empty one is removed by rmdir" rmdir "$T"
is "mkdir of a name that is there is EEXIST" "$(call mkdir "$S")" EEXIST
is "staging/ itself takes folders only" "$(call create "$MNT/t/staging/file")" "$(call create "$MNT/t/staging/file2")"
isnt "and no files" "$(call create "$MNT/t/staging/file")" OK

ok "in the end each row is there once" oracle ids "$LAKE/t" 0:10 1000:25 1026:1

# --- staged files survive a remount

cp "$SCRATCH/part-1027.parquet" "$S/"
sync "$S/part-1027.parquet"
echo mode=append >"$S/.deltafs/options"
remount
is "staged files are there after a remount" "$(cmp "$SCRATCH/part-1027.parquet" "$S/part-1027.parquet" && echo same)" same
like "and options" "$(cat "$S/.deltafs/options")" "mode=append"
ok "and sync commits them" sync "$S"
ok "once" oracle ids "$LAKE/t" 0:10 1000:25 1026:2

# --- who may

if [[ $EUID == 0 ]] && command -v setpriv >/dev/null; then
  unmount_lake
  chmod 711 "$SCRATCH"
  mount_lake --allow-other
  other() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
  S=$(stage t/others)
  oracle parquet "$S/half.parquet" 900000 5
  before=$(newest t)
  refuses "one who may only read a staging directory doesn't commit it" 1 "Permission denied" other sync "$S"
  is "and nothing is" "$(newest t)" "$before"
  chgrp 65533 "$S" && chmod 775 "$S"
  ok "one of the group that may write does" setpriv --reuid=65534 --regid=65534 --groups=65533 sync "$S"
  is "so" "$(newest t)" $((before + 1))
fi

done_testing
