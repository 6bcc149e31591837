#!/usr/bin/env bash
# What users do in a staging directory while its commit runs: it belongs to the next commit, and
# nothing of it is lost. What would alter a file that the commit reads waits for the commit's end.
TEST_SECONDS=240
. "$(dirname "$0")/lib.sh"

FILES=1500
oracle make plain "$LAKE/t" --versions 1 --rows 1
oracle parquet "$SCRATCH/many/%d.parquet" 1000 1 --files "$FILES"
oracle parquet "$SCRATCH/late/%d.parquet" 100000 1 --files 40
mount_lake
S=$(stage t/s)
mkdir "$S/in" "$S/taken"
cp "$SCRATCH"/many/*.parquet "$S/in/"
cp "$SCRATCH/late/100039.parquet" "$S/taken/"

# The kernel holds the staging directory's own lock while its fsync waits, so all of this is below.
sync "$S" &
syncing=$!
committing() { [[ -n $(cat "$MNT/t/.deltafs/commits") ]]; }
ok "the table tells of the commit" wait_until 10 committing

late=0
while kill -0 "$syncing" 2>/dev/null && ((late < 30)); do
  cp "$SCRATCH/late/$((100000 + late)).parquet" "$S/in/"
  late=$((late + 1))
done
ok "files were brought while the commit ran" test "$late" -gt 0
if kill -0 "$syncing" 2>/dev/null; then during=yes; else during=no; fi
# A tool that replaces a file by rename, one that writes over it, and one that takes it away.
cp "$SCRATCH/late/100030.parquet" "$S/in/.new"
mv "$S/in/.new" "$S/in/1000.parquet"
cp "$SCRATCH/late/100031.parquet" "$S/in/1001.parquet"
rm -f "$S/in/1002.parquet"
status=0
wait "$syncing" || status=$?
is "sync exits 0" "$status" 0
is "the commit went on while they worked" "$during" yes
is "one version" "$(newest t)" 1
ok "it has what was staged before, once" oracle ids "$LAKE/t" 0:1 1000:"$FILES" 100039:1
is "what came later is staged" "$(find "$S" -type f | wc -l)" $((late + 2))
ok "the file that was replaced is the new one" \
  cmp "$S/in/1000.parquet" "$SCRATCH/late/100030.parquet"
ok "and so is the one that was written over" \
  cmp "$S/in/1001.parquet" "$SCRATCH/late/100031.parquet"
is "a directory that nobody was at work in is still there" "$(ls "$S")" "$(printf 'in\ntaken')"
ok "the next sync" sync "$S"
ok "commits what came later, once" oracle ids "$LAKE/t" 0:1 1000:"$FILES" 100039:1 \
  100000:"$late" 100030:2
is "and leaves nothing behind" "$(ls -A "$S")" ""
is "nor in the spool" "$(find "$LAKE/.deltafs" -type f -name '*.parquet')" ""

# --- a daemon that dies while a tool writes

mkdir "$S/cut"
"$PYTHON" -c 'import sys
out = open(sys.argv[2], "wb", buffering=0)
out.write(open(sys.argv[1], "rb").read(300))
print("written", flush=True)
sys.stdin.read()
' "$SCRATCH/late/100032.parquet" "$S/cut/half.parquet" >"$SCRATCH/writer" < <(sleep 60) 2>&1 &
writer=$!
wait_until 10 grep -q written "$SCRATCH/writer"
cp "$SCRATCH/late/100033.parquet" "$S/cut/whole.parquet"
# A mapping outlives its descriptor: the pages go to the file after the last close of it.
"$PYTHON" - "$SCRATCH/late/100034.parquet" "$S/cut/mapped.parquet" <<'END'
import ctypes, os, sys
data = open(sys.argv[1], "rb").read()
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
out = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.truncate(out, len(data))
READ_WRITE, SHARED = 3, 1
at = libc.mmap(None, len(data), READ_WRITE, SHARED, out, 0)
os.close(out)
ctypes.memmove(at, data, len(data))
assert libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(len(data))) == 0
END
ok "a mapping is written" cmp "$S/cut/mapped.parquet" "$SCRATCH/late/100034.parquet"
pid=$(daemon_pid)
kill -KILL "$pid"
kill -KILL "$writer"
wait "$writer" 2>/dev/null || true
wait_until 10 daemon_is_gone "$pid"
detach "$MNT"
mount_lake
is "one file was being written" "$(grep failed_files= "$S/.deltafs/status")" failed_files=1
like "status tells of the file that was cut short" "$(cat "$S/.deltafs/status")" \
  'failed="cut/half.parquet".*the daemon ended while it was being written'
refuses "sync refuses it" 1 'cut/half.parquet.*write it again or remove it' deltafs commit "$S"
rm "$S/cut/half.parquet"
ok "and goes on without it" sync "$S"
is "with the file that was closed" "$(newest t)" 3

unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
done_testing
