#!/usr/bin/env bash
# Mounting and unmounting: `deltafs mount` returns when the mount answers, refuses in a sentence what
# it can't do, and leaves nothing behind; `deltafs status` tells what is mounted.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 3

# --- mount, status, unmount

ok "mount exits 0, and lets go of its output" mount_lake
is "the mount answers as soon as the command has returned" "$(readlink "$MNT/t/latest")" versions/2
like "it is mounted nosuid and nodev" "$(grep -F " $MNT " /proc/self/mountinfo)" 'nosuid.*nodev|nodev.*nosuid'
like "status names the mountpoint and the source" "$(deltafs status | tr '\n' ' ')" "$LAKE.*$MNT|$MNT.*$LAKE"

pid=$(daemon_pid)
ok "unmount exits 0" unmount_lake
not_ok "nothing is mounted after it" is_mounted "$MNT"
ok "the daemon has ended" wait_until 5 daemon_is_gone "$pid"
is "the mountpoint is an empty folder again" "$(ls -A "$MNT")" ""
unlike "status names it no more" "$(deltafs status 2>&1 || true)" "$MNT"
refuses "unmount of what is not mounted" 1 "$MNT.*not|not.*$MNT" deltafs unmount "$MNT"

# --- other ways to say it

(cd "$SCRATCH" && deltafs mount --log-file "$TRACE" lake mnt)
is "relative paths are taken from where the command runs" "$(readlink "$MNT/t/latest")" versions/2
deltafs unmount "$MNT"

mount_at "file://$LAKE" "$MNT"
is "a file:// URL is a source" "$(readlink "$MNT/t/latest")" versions/2
unmount_lake

mount_at "$LAKE/t" "$MNT"
is "one table is a source: its versions are at the top" "$(readlink "$MNT/latest")" versions/2
unmount_lake

# --- refusals: a sentence with the path, exit 1, nothing mounted

mkdir "$SCRATCH/full" "$SCRATCH/other" "$LAKE/inside"
touch "$SCRATCH/full/file" "$SCRATCH/file"

refuses "a mountpoint that is missing" 1 "$SCRATCH/absent" mount_at "$LAKE" "$SCRATCH/absent"
refuses "a mountpoint that is a file" 1 "$SCRATCH/file" mount_at "$LAKE" "$SCRATCH/file"
refuses "a mountpoint that is not empty" 1 "$SCRATCH/full.*not empty" mount_at "$LAKE" "$SCRATCH/full"
refuses "a source that is missing" 1 "$SCRATCH/nowhere" mount_at "$SCRATCH/nowhere" "$MNT"
refuses "a source that is a file" 1 "$SCRATCH/file" mount_at "$SCRATCH/file" "$MNT"
refuses "a scheme that is not known" 1 "gopher" mount_at "gopher://host/lake" "$MNT"
refuses "a mountpoint that is the source" 1 "overlap|inside|same" mount_at "$SCRATCH/other" "$SCRATCH/other"
refuses "a mountpoint inside the source" 1 "overlap|inside" mount_at "$LAKE" "$LAKE/inside"
refuses "a source inside the mountpoint" 1 "overlap|inside|not empty" mount_at "$LAKE/t" "$LAKE"
ln -s "$LAKE/inside" "$SCRATCH/link"
refuses "a mountpoint inside the source by a symlink" 1 "overlap|inside" mount_at "$LAKE" "$SCRATCH/link"
refuses "no arguments: usage" 2 "usage" deltafs mount
refuses "a flag that is not known" 2 "unexpected|usage" deltafs mount --no-such-flag "$LAKE" "$MNT"

is "no refusal left a mount" "$(mounts_under "$SCRATCH")" ""
not_ok "no refusal left a daemon" daemon_pid "$MNT"

# --- busy

mount_lake
refuses "a mountpoint that is mounted already" 1 "$MNT.*(mounted|busy|use)" mount_lake
is "the first mount still answers" "$(readlink "$MNT/t/latest")" versions/2

exec 9<"$MNT/t/versions/0/_delta_log/00000000000000000000.json"
refuses "unmount while a file is open" 1 "busy|in use|open" unmount_lake
is "the busy mount still answers" "$(readlink "$MNT/t/latest")" versions/2
exec 9<&-
ok "unmount when the file is closed" wait_until 5 unmount_lake

done_testing
