#!/usr/bin/env bash
# How a mount ends: SIGTERM, SIGINT and an outside umount are clean ends with exit 0; kill -9 leaves
# the mount dead ("Transport endpoint is not connected"), never empty: an empty folder under
# `rsync --delete` would delete somebody's backup.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 2

mount_answers() { [[ $(readlink "$MNT/t/latest") == versions/* ]]; }

for signal in TERM INT HUP; do
  "$DELTAFS" mount --foreground --log-file "$TRACE" "$LAKE" "$MNT" >"$SCRATCH/out" 2>&1 &
  pid=$!
  ok "--foreground mounts" wait_until 10 mount_answers
  ok "--foreground stays" kill -0 "$pid"
  kill -s "$signal" "$pid"
  ok "SIG$signal ends it" wait_until 10 daemon_is_gone "$pid"
  status=0
  wait "$pid" || status=$?
  is "exit 0 on SIG$signal" "$status" 0
  not_ok "SIG$signal unmounts" is_mounted "$MNT"
done

mount_lake
pid=$(daemon_pid)
kill -TERM "$pid"
ok "SIGTERM ends a daemon in the background" wait_until 10 daemon_is_gone "$pid"
not_ok "and unmounts" is_mounted "$MNT"

(trap '' HUP && exec "$DELTAFS" mount --foreground --log-file "$TRACE" "$LAKE" "$MNT") >"$SCRATCH/out" 2>&1 &
pid=$!
wait_until 10 mount_answers
kill -HUP "$pid"
ok "under nohup SIGHUP does nothing" mount_answers
kill -TERM "$pid"
ok "and SIGTERM ends it" wait_until 10 daemon_is_gone "$pid"

# --- a trace that can't be written

"$DELTAFS" mount --foreground --log-level trace "$LAKE" "$MNT" 2>/dev/full &
pid=$!
ok "mounts with a full disk under its trace" wait_until 10 mount_answers
is "and answers errors" "$(call mkdir "$MNT/t/versions/0/x")" EROFS
is "and serves" "$(call listdir "$MNT/t/versions/1")" OK
kill -TERM "$pid"
ok "and ends" wait_until 10 daemon_is_gone "$pid"
status=0
wait "$pid" || status=$?
is "with exit 0" "$status" 0

# --- a daemon that hangs

mount_lake
pid=$(daemon_pid)
kill -STOP "$pid"
# A thread that is yet to stop may take a request with it, and nobody can kill who waits for that.
is_stopped() { ! grep -hs '^State:' /proc/"$pid"/task/*/status | grep -qv 'T (stopped)'; }
wait_until 10 is_stopped
start=$(milliseconds)
like "status says that a daemon does not answer" "$(deltafs status 2>&1)" 'does not answer'
refuses "mount over it says so" 1 'does not answer' mount_lake
ok "unmount takes the mount away" unmount_lake
ok "nobody waits for long" test $(($(milliseconds) - start)) -lt 20000
not_ok "nothing is mounted after it" is_mounted "$MNT"
kill -CONT "$pid"
ok "the daemon ends when it goes on" wait_until 10 daemon_is_gone "$pid"

# --- unmounted by somebody else

"$DELTAFS" mount --foreground --log-file "$TRACE" "$LAKE" "$MNT" >"$SCRATCH/out" 2>&1 &
pid=$!
wait_until 10 mount_answers
umount "$MNT" 2>/dev/null || fusermount3 -u "$MNT"
ok "an outside umount ends the daemon" wait_until 10 daemon_is_gone "$pid"
status=0
wait "$pid" || status=$?
is "with exit 0" "$status" 0

# --- kill -9

mount_lake
pid=$(daemon_pid)
ls "$MNT/t/versions/1" >/dev/null
kill -KILL "$pid"
ok "the killed daemon is gone" wait_until 10 daemon_is_gone "$pid"
ok "the mount stays mounted" is_mounted "$MNT"
is "listing the dead mount is ENOTCONN, not empty" "$(call listdir "$MNT")" ENOTCONN
is "a path in it is ENOTCONN" "$(call stat "$MNT/t/latest")" ENOTCONN
not_ok "rsync --delete from it fails" rsync -a --delete "$MNT/" "$SCRATCH/backup/"
refuses "mount over the dead mount says so" 1 "$MNT" mount_lake
unlike "status does not call it well" "$(deltafs status 2>&1 | grep -F "$MNT" || true)" "(ready|running|mounted)$"
ok "unmount clears the dead mount" unmount_lake
not_ok "nothing is mounted after it" is_mounted "$MNT"
ok "mount works again" mount_lake
is "and shows the table" "$(newest t)" 1

done_testing
