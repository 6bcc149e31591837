#!/usr/bin/env bash
# Every tool that brings, changes, deletes or restores files does in a staging directory what it
# does in any folder: the same exit code, and the same names, sizes, bytes, modes, owners and times.
# Each is run in both places and compared, by root and by an ordinary user with a mount of their
# own; then each staging directory is one commit with these rows. `toolbox.py` has the tools;
# TOOLS=PATTERN takes some, as in "update: rsync".
TEST_SECONDS=400
. "$(dirname "$0")/lib.sh"

for tool in restic borg rclone rsync setfattr setfacl gzip; do
  command -v "$tool" >/dev/null || skip_all "no $tool: scripts/setup test installs it"
done

# Files of the scratch folder and of the spool must be of one file system, for it makes a difference
# which rules it has.
prepare() { # FOLDER
  mkdir -p "$1/lake" "$1/mnt" "$1/work"
  oracle make sales "$1/lake/t" --versions 1
  oracle make sales "$1/lake/r" --versions 3
}

prepare "$SCRATCH/root"
mount_at "$SCRATCH/root/lake" "$SCRATCH/root/mnt"
verdicts "$PYTHON" "$HERE/tools.py" "$SCRATCH/root/lake" "$SCRATCH/root/mnt" "$SCRATCH/root/work"

if [[ $EUID == 0 ]]; then
  make_user
  prepare "$SCRATCH/user"
  # The program may lie where the user can't reach it.
  install -m 755 "$DELTAFS" "$SCRATCH/deltafs"
  chown -R "$user:" "$SCRATCH/user" "$SCRATCH/home" "$SCRATCH/run"
  as_user() { setpriv --reuid="$user" --regid="$user" --clear-groups timeout -s KILL 60 "$@"; }
  root_trace=$TRACE
  TRACE=$SCRATCH/user/trace
  ok "an ordinary user mounts" \
    as_user "$SCRATCH/deltafs" mount --log-file "$TRACE" "$SCRATCH/user/lake" "$SCRATCH/user/mnt"
  verdicts "$PYTHON" "$HERE/tools.py" "$SCRATCH/user/lake" "$SCRATCH/user/mnt" \
    "$SCRATCH/user/work" "$(id -u "$user")" "$(id -g "$user")"
  ok "and unmounts" as_user "$SCRATCH/deltafs" unmount "$SCRATCH/user/mnt"
  unlike "the user's daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
  TRACE=$root_trace
else
  skip "the tools by an ordinary user" "this one is; run as root for both"
fi

ok "the first daemon unmounts" deltafs unmount "$SCRATCH/root/mnt"
unlike "and never panicked" "$(cat "$TRACE")" 'panicked|BUG:'

done_testing
