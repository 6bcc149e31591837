#!/usr/bin/env bash
# A staging directory is an ordinary folder: everything that tools do to files works and is
# remembered; what can't be kept is refused at once.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
mount_lake
S=$(stage t/x)
cd "$S"

# --- files

echo hello >f
is "create and read back" "$(cat f)" hello
echo world >>f
is "append" "$(cat f)" "hello
world"
printf J | dd of=f bs=1 seek=0 conv=notrunc status=none
is "write in the middle" "$(head -1 f)" Jello
truncate -s 3 f
is "truncate shorter" "$(cat f)" Jel
truncate -s 8 f
is "truncate longer fills with zeros" "$(od -An -c f | tr -s ' ')" " J e l \0 \0 \0 \0 \0"
is "size follows" "$(stat -c %s f)" 8
: >f
is "O_TRUNC" "$(stat -c %s f)" 0
is "O_EXCL of what is there" "$(call create "$S/f")" EEXIST
dd if=/dev/urandom of="$SCRATCH/random" bs=1M count=5 status=none
"$PYTHON" - "$SCRATCH/random" "$S/random" <<'EOP'
import os, random, sys
data = open(sys.argv[1], "rb").read()
out = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
pieces = [(start, min(len(data), start + 7001)) for start in range(0, len(data), 7001)]
random.Random(1).shuffle(pieces)
for start, end in pieces:
    os.pwrite(out, data[start:end], start)
os.close(out)
EOP
ok "writes in any order" cmp "$SCRATCH/random" random
ok "fallocate" fallocate -l 100000 allocated
is "sets the size" "$(stat -c %s allocated)" 100000
ok "fallocate -n keeps it" fallocate -n -l 200000 allocated
is "so" "$(stat -c %s allocated)" 100000
"$PYTHON" - "$S/mapped" <<'EOP'
import mmap, sys
with open(sys.argv[1], "w+b") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 8192) as view:
        view[4096:4101] = b"mmap!"
EOP
is "a shared mapping is written back" "$(tail -c 4096 mapped | head -c 5)" "mmap!"

# --- names

mv f g
is "rename" "$(ls f g 2>/dev/null)" g
echo other >h
mv -f h g
is "rename onto a file" "$(cat g)" other
echo third >i
mv -n i g
is "NOREPLACE keeps the target" "$(cat g) $(cat i)" "other third"
ok "rename exchanging nothing: onto itself" mv -f g ./g2
mkdir -p d/e
mv g2 d/e/
mv d moved
is "rename of a folder takes its files along" "$(cat moved/e/g2)" other
is "rename of a folder into itself" "$(call rename "$S/moved" "$S/moved/e/x")" EINVAL
is "rename onto a folder that is not empty" "$(mkdir full empty; touch full/x; call rename "$S/empty" "$S/full")" ENOTEMPTY
is "rename of a file onto a folder" "$(call rename "$S/i" "$S/empty")" EISDIR
is "rename of a folder onto a file" "$(call rename "$S/empty" "$S/i")" ENOTDIR
is "rmdir of what is not empty" "$(call rmdir "$S/full")" ENOTEMPTY
is "unlink of a folder" "$(call unlink "$S/empty")" EISDIR
is "rmdir of a file" "$(call rmdir "$S/i")" ENOTDIR
ln i j
is "link" "$(stat -c %h j) $(cat j)" "2 third"
rm i
is "unlink of one of two names" "$(stat -c %h j) $(cat j)" "1 third"
exec 9<j
rm j
is "an unlinked file that is open can still be read" "$(cat <&9)" third
exec 9<&-
is "unlink of what is missing" "$(call unlink "$S/i")" ENOENT
is "a name of 256 bytes" "$(call create "$S/$(printf 'x%.0s' $(seq 256))")" ENAMETOOLONG
is "a name of 255 bytes" "$(call create "$S/$(printf 'x%.0s' $(seq 255))")" OK
touch 'a b' $'new\nline' 'ünï' '%41' '*'
is "names are kept as they are" "$(find . -maxdepth 1 -type f -name '*[ ï%*]*' | wc -l)" 4
isnt "the staging directory itself is not moved out" "$(call rename "$S" "$MNT/out")" OK

# --- attributes

touch a
chmod 640 a
is "chmod is remembered" "$(stat -c %a a)" 640
touch -d '2020-02-02T02:02:02.123456789Z' a
is "utimens is remembered, with nanoseconds" "$(TZ=UTC stat -c %y a | cut -c1-29)" "2020-02-02 02:02:02.123456789"
chmod 700 moved
touch -d '2020-02-02T02:02:02Z' moved
is "for folders, too" "$(stat -c '%a %Y' moved)" "700 1580608922"
if [[ $EUID == 0 ]]; then
  chown 1234:2345 a
  is "chown is remembered" "$(stat -c %u:%g a)" 1234:2345
fi
is "a folder's links and type" "$(stat -c %F moved)" directory

# --- refused at once

is "symlink" "$(call symlink "$S/link")" EPERM
is "mknod" "$(call mknod "$S/fifo")" EPERM
like "setxattr" "$(call setxattr "$S/a")" EOPNOTSUPP
like "getxattr" "$(call getxattr "$S/a")" 'EOPNOTSUPP|ENODATA'

# --- what was remembered is there after a remount

sync a random moved/e/g2
before=$(find a random moved -printf '%p %s %m %T@ %U\n' | sort)
cd "$SCRATCH"
remount
cd "$S"
is "all of it is there after a remount" "$(find a random moved -printf '%p %s %m %T@ %U\n' | sort)" "$before"
ok "bytes too" cmp "$SCRATCH/random" random
cd "$SCRATCH"
ok "rm -r takes it all away" rm -r "$S"
is "so" "$(ls "$MNT/t/staging")" ""
is "the table is at its version" "$(newest t)" 0

done_testing
