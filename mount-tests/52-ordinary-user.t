#!/usr/bin/env bash
# An ordinary user mounts a lake of their own, browses, backs up and restores; nobody else sees into
# the mount, not even root.
. "$(dirname "$0")/lib.sh"

if [[ $EUID != 0 ]]; then
  skip "an ordinary user" "run as root to become one (as an ordinary user every other test is it)"
  done_testing
fi
for tool in useradd userdel setpriv fusermount3; do
  command -v "$tool" >/dev/null || skip_all "no $tool on this machine"
done

make_user

as_user() { setpriv --reuid="$user" --regid="$user" --clear-groups "$@"; }
# The program may lie where the user can't reach it.
install -m 755 "$DELTAFS" "$SCRATCH/deltafs"
deltafs_as_user() { as_user timeout -s KILL 60 "$SCRATCH/deltafs" "$@"; }

oracle make sales "$LAKE/t" --versions 3
mkdir "$SCRATCH/theirs"
chown -R "$user:" "$LAKE" "$MNT" "$SCRATCH/theirs" "$SCRATCH/home" "$SCRATCH/run"

ok "an ordinary user mounts" deltafs_as_user mount --log-file "$SCRATCH/theirs/trace" "$LAKE" "$MNT"
TRACE=$SCRATCH/theirs/trace
is "and browses" "$(as_user ls "$MNT/t/versions" | sort -n | tr '\n' ' ')" "0 1 2 "
is "files are the user's" "$(as_user stat -c %U "$MNT/t/versions/1")" "$user"
is "root does not see into it" "$(call listdir "$MNT")" EACCES
like "status of the user names it" "$(deltafs_as_user status)" "$MNT"

ok "the user backs up" as_user cp -a "$MNT/t/versions/1" "$SCRATCH/theirs/backup"
is "and has the version" "$(oracle describe "$SCRATCH/theirs/backup")" "$(oracle describe "$LAKE/t" --version 1)"
ok "the user begins" as_user mkdir "$MNT/t/staging/r"
ok "brings the backup" as_user cp -a "$SCRATCH/theirs/backup/." "$MNT/t/staging/r/"
ok "and restores it" as_user sync "$MNT/t/staging/r"
ok "the table is as in the backup" oracle same "$LAKE/t" 3 "$SCRATCH/theirs/backup" 1
is "its new log entry is the user's" "$(stat -c %U "$LAKE/t/_delta_log/00000000000000000003.json")" "$user"
ok "rsync -a of a version by the user" as_user rsync -a "$MNT/t/versions/3/" "$SCRATCH/theirs/rsynced/"
is "is the version" "$(oracle describe "$SCRATCH/theirs/rsynced")" "$(oracle describe "$LAKE/t")"

is "the spool and state are the user's alone" \
  "$(find "$SCRATCH/home" "$SCRATCH/run" -mindepth 1 -perm /077 ! -type s -name '*deltafs*' -type d)" ""
ok "the user unmounts" deltafs_as_user unmount "$MNT"
not_ok "nothing is mounted after it" is_mounted "$MNT"

done_testing
