#!/usr/bin/env bash
# A lake that is moved away, or replaced by another, under a running mount: nothing is committed to what
# took its place, what is staged is kept, and after a new mount it is committed.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 2
mount_lake
S=$(stage t/before)
oracle parquet "$S/a.parquet" 1000 5
mv "$LAKE" "$LAKE.moved"
refuses "sync in a lake that was moved away" 1 "Stale file handle" sync "$S"
like "says what to do" "$(result "$S")" "moved or replaced since it was mounted; unmount, and mount it"
refuses "so does a new staging directory" 1 "Stale file handle" mkdir "$MNT/t/staging/after"
ok "nothing is made in its old place" test ! -e "$LAKE"
mkdir "$LAKE"
cp -a "$LAKE.moved/t" "$LAKE/t"
refuses "sync where another lake took its place" 1 "Stale file handle" sync "$S"
is "nothing is committed there" "$(oracle count "$LAKE/t")" 20
is "nor in the moved one" "$(oracle count "$LAKE.moved/t")" 20
ok "what is staged is kept" test -s "$S/a.parquet"
unmount_lake
rm -r "$LAKE"
mv "$LAKE.moved" "$LAKE"
mount_lake
ok "mounted where it is, it is committed" sync "$S"
is "once" "$(oracle count "$LAKE/t")" 25

done_testing
