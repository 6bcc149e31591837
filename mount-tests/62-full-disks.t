#!/usr/bin/env bash
# Disks that get full, go over quota or fail, under the spool, the table or its log, at each moment
# of a commit: the tool or `sync` fails, nothing is lost, and with space again `sync` commits.
# `disks.py` makes the disks, `full_disks.py` has the moments. DISKS=PATTERN takes those of such
# names, DISKS=. all of them.
TEST_SECONDS=900
. "$(dirname "$0")/lib.sh"

if [[ $EUID != 0 ]]; then
  skip "full disks" "only root can make and mount them"
  done_testing
fi
for tool in rsync rclone mkfs.btrfs mkfs.ext4 e2fsck; do
  command -v "$tool" >/dev/null || skip_all "no $tool: scripts/setup test installs it"
done
[[ -e /sys/class/zram-control/hot_add ]] || modprobe zram 2>/dev/null || true
[[ -e /sys/class/zram-control/hot_add ]] || skip_all "no zram in this kernel"

touch "$TRACE"
rmdir "$LAKE"
verdicts "$PYTHON" "$HERE/full_disks.py" "$SCRATCH" "$DELTAFS" "$TRACE" "${DISKS:-}"
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'

done_testing
