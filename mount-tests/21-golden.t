#!/usr/bin/env bash
# Every golden table, at every version, reads through the mount as it reads by delta_kernel and
# deltalake from the original, and as its own `expected/` says; what nobody reads is refused with a
# sentence, or shown byte for byte.
TEST_SECONDS=400
. "$(dirname "$0")/lib.sh"

[[ -n ${DELTAFS_GOLDEN:-} ]] || skip_all "DELTAFS_GOLDEN is not set: no golden tables"
[[ -x $DELTAFS_KERNEL_ROWS ]] || skip_all "no $DELTAFS_KERNEL_ROWS: scripts/setup test builds it"

golden() { "$PYTHON" "$HERE/golden.py" "$@"; }

golden unpack "$LAKE"
mount_lake
verdicts golden check "$LAKE" "$MNT" "$TRACE"
done_testing
