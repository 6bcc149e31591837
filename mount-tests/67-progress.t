#!/usr/bin/env bash
# How far a commit is can be read while it runs in TABLE/.deltafs/commits, and `deltafs commit` draws
# a bar of it on a terminal, and nothing of the kind into a pipe.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/t" --versions 1
mount_lake

is "nothing runs: the board is empty" "$(cat "$MNT/t/.deltafs/commits")" ""

# A list of digests that is checked for a while, and then found wrong: any size of work without
# data. The file has no bytes on disk.
S=$(stage t/slow)
big() { # BYTES
  truncate -s "$1" "$S/big.parquet"
  printf '%064d  big.parquet\n' 0 >"$S/SHA256SUMS"
}
# As large as makes about 3 s of work, whatever the build.
big $((64 << 20))
began=$(milliseconds)
sync "$S" 2>/dev/null || true
took=$(($(milliseconds) - began + 1))
size=$(((64 << 20) / took * 3000))
big $size

# --- the board

status=0
sync "$S" 2>/dev/null &
syncing=$!
ok "a running commit has a line" wait_until 10 grep -q '^staging/slow' "$MNT/t/.deltafs/commits"
ok "with what it does, files and bytes done of all, seconds" wait_until 10 grep -qP \
  '^staging/slow\tchecks SHA256SUMS\t0/1 files\t[1-9][0-9]*/'$size' bytes\t[0-9]+ s$' \
  "$MNT/t/.deltafs/commits"
read_board() { cut -f4 "$MNT/t/.deltafs/commits" | cut -d/ -f1; }
first=$(read_board)
grown() { local now; now=$(read_board) && [[ -n $now ]] && ((now > first)); }
ok "which grow" wait_until 10 grown
like "the mount's status has it too" "$(cat "$MNT/.deltafs/status")" '^commit t staging/slow'
wait "$syncing" || status=$?
is "the commit is refused in the end" "$status" 1
like "for its digest" "$(result "$S")" 'big.parquet: its bytes are not those'
is "and its line is gone" "$(cat "$MNT/t/.deltafs/commits")" ""

# --- the bar

cat >"$SCRATCH/on-terminal.py" <<'EOP'
"""Runs a command on a terminal of 100 columns; its screen goes to a file, its stdout to another."""
import os, pty, struct, fcntl, sys, termios
screen, out = sys.argv[1:3]
parent, child = pty.openpty()
fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
pid = os.fork()
if pid == 0:
    os.close(parent)
    os.setsid()
    os.dup2(child, 0)
    os.dup2(child, 2)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.environ["TERM"] = "xterm"
    os.execvp(sys.argv[3], sys.argv[3:])
os.close(child)
with open(screen, "wb") as seen:
    while True:
        try:
            read = os.read(parent, 65536)
        except OSError:
            break
        if not read:
            break
        seen.write(read)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
EOP
on_terminal() { "$PYTHON" "$SCRATCH/on-terminal.py" "$SCRATCH/screen" "$SCRATCH/out" "$DELTAFS" "$@"; }

status=0
on_terminal commit "$S" || status=$?
is "a refused commit exits 1 on a terminal too" "$status" 1
like "the bar says what is done" "$(tr '\r' '\n' <"$SCRATCH/screen")" 'checks SHA256SUMS: 0 of 1 files \['
like "it moves" "$(tr '\r' '\n' <"$SCRATCH/screen" | grep -oE '\[=*>? *\]' | sort -u | wc -l)" '^([3-9]|[0-9]{2,})$'
like "with percents" "$(tr '\r' '\n' <"$SCRATCH/screen")" '[1-9][0-9]?%'
like "the reason stands there in the end" "$(tail -c 300 "$SCRATCH/screen")" 'big.parquet: its bytes'

status=0
deltafs commit "$S" >"$SCRATCH/out" 2>"$SCRATCH/err" || status=$?
is "into a pipe it exits 1 as well" "$status" 1
is "and says the reason alone" "$(wc -l <"$SCRATCH/err") $(grep -c 'its bytes are not those' "$SCRATCH/err" || true)" "1 1"
unlike "without a bar" "$(cat "$SCRATCH/err")" '%|\[=|checks'

rm "$S/big.parquet" "$S/SHA256SUMS"
oracle parquet "$S/a.parquet" 100 5
ok "a commit that is over at once" on_terminal commit "$S"
is "is made" "$(newest t)" 1
like "draws too" "$(cat "$SCRATCH/screen")" 'commits'
is "and standard output has the result alone" "$(oracle json "$SCRATCH/out" version)" 1
oracle parquet "$S/b.parquet" 200 5
deltafs commit "$S" >"$SCRATCH/out" 2>"$SCRATCH/err"
is "into a pipe nothing but the result" "$(oracle json "$SCRATCH/out" version) $(wc -c <"$SCRATCH/err")" "2 0"

done_testing
