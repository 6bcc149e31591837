# What every mount test stands on: TAP output, a scratch folder, one lake and its mount, a hard
# time limit. A test is a file `NN-name.t` that says what it proves, sources this, and ends with
# `done_testing`:
#
#     #!/usr/bin/env bash
#     # A version can't be written to.
#     . "$(dirname "$0")/lib.sh"
#     oracle make plain "$LAKE/t" --versions 2
#     mount_lake
#     is "mkdir in a version is EROFS" "$(call mkdir "$MNT/t/versions/0/x")" EROFS
#     done_testing
#
# Set-up commands that fail end the test at once (set -e); assertions never do.
#
# From the environment: DELTAFS_BIN (the program), DELTAFS_PYTHON (with deltalake and pyarrow),
# DELTAFS_KERNEL_ROWS (delta_kernel as a reader, of examples/), DELTAFS_GOLDEN (golden tables),
# DELTAFS_TEST_TMP (where scratch folders go), TEST_SECONDS (set by a test before it sources this:
# its time limit), CI=true (a skip is a failure).

set -Eeuo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
. "$ROOT/scripts/paths.sh"
DELTAFS=${DELTAFS_BIN:-$ROOT/target/release/deltafs}
PYTHON=${DELTAFS_PYTHON:-$ROOT/.cache/venv/bin/python}
export DELTAFS_KERNEL_ROWS=${DELTAFS_KERNEL_ROWS:-$ROOT/target/debug/examples/kernel_rows}
export DELTAFS_SPARK_JARS=${DELTAFS_SPARK_JARS:-$ROOT/.cache/jars}
export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8

# --- the guard ------------------------------------------------------------------------------------
# A test file first runs itself as a child and watches it. A process that waits for a FUSE daemon
# can be in a state that no signal ends, so the guard never waits for the child without a limit: at
# the limit it kills the daemon and aborts the connection, and that lets go of whoever waits.

# Prints "MINOR TYPE PATH" of each mount under a folder, the innermost first. Reads only
# mountinfo: stat of a mount that hangs would hang too.
mounts_under() {
  awk -v folder="$1/" 'index($5 "/", folder) == 1 {
    for (i = 7; i < NF; i++) if ($i == "-") { split($3, device, ":"); print device[2], $(i + 1), $5 }
  }' /proc/self/mountinfo | tac
}

# Detaches a mount whatever state it is in; as an ordinary user only fusermount3 may.
detach() {
  umount -l "$1" 2>/dev/null || fusermount3 -uz "$1" 2>/dev/null || true
}

# Kills every process that this test started, the daemon too: they carry the scratch folder in their
# environment.
kill_started() {
  local environ
  grep -lzxF "DELTAFS_TEST_SCRATCH=$1" /proc/[0-9]*/environ 2>/dev/null | while read -r environ; do
    environ=${environ#/proc/}
    kill -KILL "${environ%/environ}" 2>/dev/null || true
  done || true
}

# Frees whatever hangs: connections aborted, mounts detached, processes killed.
release() {
  local folder=$1 minor type path
  kill_started "$folder"
  while read -r minor type path; do
    if [[ $type == fuse* ]]; then
      if [[ $EUID == 0 && ! -e /sys/fs/fuse/connections/$minor ]]; then
        mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null || true
      fi
      { echo 1 >"/sys/fs/fuse/connections/$minor/abort"; } 2>/dev/null || true
    fi
    detach "$path"
  done < <(mounts_under "$folder")
}

# Unmounts as a user does, for at most 10 s: a daemon that hangs is the business of `release`, which
# also kills what is started here, by its environment.
unmount_within() { # FOLDER MOUNTPOINT
  local deadline=$((SECONDS + 10)) unmount
  DELTAFS_TEST_SCRATCH=$1 "$DELTAFS" unmount "$2" >/dev/null 2>&1 &
  unmount=$!
  while kill -0 "$unmount" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.02; done
}

clean() {
  local folder=$1 minor type path
  while read -r minor type path; do
    if [[ $type == fuse* ]]; then unmount_within "$folder" "$path"; fi
  done < <(mounts_under "$folder")
  release "$folder"
  if [[ -n $(mounts_under "$folder") ]]; then
    echo "# still mounted, so left where it is: $folder"
  else
    chmod -R u+rwX "$folder" 2>/dev/null || true
    rm -rf --one-file-system "$folder"
  fi
}

# Ends a test, and first lets it put back what it changed outside of its folder: TERM to all of its
# session (`timeout` has a group of its own, and bash waits for it), KILL after 2 s.
end_test() { # PID
  local tries pids
  mapfile -t pids < <(ps -o pid= -s "$1" | tr -d ' ')
  kill -TERM "${pids[@]}" 2>/dev/null || true
  for ((tries = 0; tries < 40; tries++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL -- "-$1" 2>/dev/null || true
}

# Runs the test file again as a child in its own session; ends it at the limit.
guard() {
  local limit=${TEST_SECONDS:-120} scratch child status=0 deadline
  # Short, because the path of a control socket has at most 107 bytes.
  scratch=$(mktemp -d "${DELTAFS_TEST_TMP:-/tmp}/dfs.XXXXXX")
  chmod 755 "$scratch"
  # shellcheck disable=SC2064 # The folder of now.
  trap "clean '$scratch'" EXIT
  trap '[[ -z ${child:-} ]] || end_test "$child"; exit 130' INT TERM HUP
  DELTAFS_TEST_SCRATCH=$scratch setsid bash "$0" "$@" &
  child=$!
  deadline=$((SECONDS + limit))
  while kill -0 "$child" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      echo "not ok - ends within its limit of $limit seconds"
      echo "# what it was doing (state, kernel function, command):"
      ps -o pid=,stat=,wchan:24=,args= -s "$child" | cut -c1-160 | sed 's/^/#   /'
      end_test "$child"
      release "$scratch"
      exit 124
    fi
    sleep 0.05
  done
  wait "$child" 2>/dev/null || status=$?
  exit "$status"
}

if [[ -z ${DELTAFS_TEST_SCRATCH:-} ]]; then
  guard "$@"
fi

# --- TAP ------------------------------------------------------------------------------------------

tap_count=0
tap_failed=0

diag() { # text… as diagnostics, which prove shows on failure
  printf '%s\n' "$*" | cut -c1-400 | head -40 | sed 's/^/# /' >&2
}

pass() { # DESCRIPTION
  tap_count=$((tap_count + 1))
  echo "ok $tap_count - ${1//#/\\#}"
}

flunk() { # DESCRIPTION [DIAGNOSTIC…]
  tap_count=$((tap_count + 1))
  tap_failed=$((tap_failed + 1))
  echo "not ok $tap_count - ${1//#/\\#}"
  diag "failed: $1 ($(basename "$0"))"
  shift
  local line
  for line in "$@"; do diag "$line"; done
}

is() { # DESCRIPTION GOT EXPECTED
  if [[ $2 == "$3" ]]; then pass "$1"; else flunk "$1" "expected: $3" "got:      $2"; fi
}

isnt() { # DESCRIPTION GOT UNEXPECTED
  if [[ $2 != "$3" ]]; then pass "$1"; else flunk "$1" "expected: anything but $3" "got: $2"; fi
}

like() { # DESCRIPTION GOT REGEX — extended, case ignored
  if grep -qiE -- "$3" <<<"$2"; then pass "$1"; else flunk "$1" "expected: /$3/" "got:      $2"; fi
}

unlike() { # DESCRIPTION GOT REGEX
  if grep -qiE -- "$3" <<<"$2"; then flunk "$1" "expected: not /$3/" "got: $2"; else pass "$1"; fi
}

ok() { # DESCRIPTION COMMAND… — it must exit 0
  local description=$1 status=0 output
  shift
  output=$("$@" 2>&1) || status=$?
  if ((status == 0)); then pass "$description"; else
    flunk "$description" "expected: exit 0 of: $*" "got:      exit $status: $output"
  fi
}

not_ok() { # DESCRIPTION COMMAND… — it must exit with another status than 0
  local description=$1 output
  shift
  if output=$("$@" 2>&1); then
    flunk "$description" "expected: another exit than 0 of: $*" "got:      exit 0: $output"
  else pass "$description"; fi
}

refuses() { # DESCRIPTION STATUS REGEX COMMAND… — it must exit with STATUS and say REGEX
  local description=$1 expected=$2 pattern=$3 status=0 output
  shift 3
  output=$("$@" 2>&1) || status=$?
  if [[ $status == "$expected" ]] && grep -qiE -- "$pattern" <<<"$output"; then
    pass "$description"
  else
    flunk "$description" "expected: exit $expected and /$pattern/ of: $*" "got:      exit $status: $output"
  fi
}

# Takes over the verdicts of a program that checks many things: lines of `ok` or `not ok`, what and
# why, parted by tabs; any other line is a remark that prove shows. It must exit with 0.
verdicts() { # COMMAND…
  local status=0 line parts
  while IFS= read -r line; do
    IFS=$'\t' read -r -a parts <<<"$line"
    case ${parts[0]:-} in
      ok) pass "${parts[1]}" ;;
      "not ok") flunk "${parts[@]:1}" ;;
      "exit "*) status=${line#exit } ;;
      *) echo "# $line" >&2 ;;
    esac
  done < <("$@" || echo "exit $?")
  is "${1##*/} runs to its end" "$status" 0
}

skip() { # DESCRIPTION REASON — a named skip; in CI what is missing is a failure
  if [[ ${CI:-} == true ]]; then flunk "$1" "skipped in CI: $2"; return; fi
  tap_count=$((tap_count + 1))
  echo "ok $tap_count - $1 # SKIP $2"
}

skip_all() { # REASON
  if [[ ${CI:-} == true ]]; then
    flunk "has what it needs" "$1"
    done_testing
  fi
  echo "1..0 # SKIP $1"
  exit 0
}

done_testing() {
  if ((tap_failed > 0)) && [[ -s ${TRACE:-} ]]; then
    diag "the daemon's trace ends with:"
    tail -n 25 "$TRACE" | cut -c1-300 | sed 's/^/#   /' >&2
  fi
  echo "1..$tap_count"
  exit $((tap_failed > 0))
}

# shellcheck disable=SC2154 # status is set in the trap itself.
trap 'status=$?; ((BASH_SUBSHELL > 0)) || diag "line $LINENO of ${BASH_SOURCE[0]##*/}: exit $status of: $BASH_COMMAND"' ERR

# --- waiting --------------------------------------------------------------------------------------

wait_until() { # SECONDS COMMAND… — polls until it exits 0; fails when the seconds are over
  local limit=$1 start=${EPOCHREALTIME/./}
  shift
  until "$@" >/dev/null 2>&1; do
    if ((${EPOCHREALTIME/./} - start > limit * 1000000)); then return 1; fi
    sleep 0.02
  done
}

milliseconds() { # a clock for differences
  echo $((${EPOCHREALTIME/./} / 1000))
}

# --- the lake and its mount -----------------------------------------------------------------------

SCRATCH=$DELTAFS_TEST_SCRATCH
LAKE=$SCRATCH/lake
MNT=$SCRATCH/mnt
TRACE=$SCRATCH/trace.log
mkdir -p "$LAKE" "$MNT" "$SCRATCH/home" "$SCRATCH/run"
# The daemon's sockets, state and caches stay in the scratch folder.
export HOME=$SCRATCH/home XDG_RUNTIME_DIR=$SCRATCH/run
export XDG_STATE_HOME=$SCRATCH/home/state XDG_CACHE_HOME=$SCRATCH/home/cache
chmod 700 "$SCRATCH/run"
cd "$SCRATCH"

[[ -x $DELTAFS ]] || skip_all "no program at $DELTAFS: scripts/setup builds it"
[[ -x $PYTHON ]] || skip_all "no Python with deltalake at $PYTHON: scripts/setup installs it"
[[ -e /dev/fuse ]] || skip_all "no /dev/fuse on this machine"
command -v fusermount3 >/dev/null || [[ $EUID == 0 ]] || skip_all "no fusermount3: install fuse3"

oracle() { "$PYTHON" "$HERE/oracle.py" "$@"; }
call() { "$PYTHON" "$HERE/calls.py" "$@"; } # CALL PATH… — the errno's name, or OK

deltafs() { timeout -s KILL 60 "$DELTAFS" "$@"; }

# Makes an ordinary user, $user, who may mount: opens /dev/fuse, as udev does on ordinary systems.
# Both end with the test.
make_user() {
  user=deltafs-$$
  useradd --no-create-home --shell /bin/bash "$user"
  device_mode=$(stat -c %a /dev/fuse)
  # At a TERM too, and fast: a mount and a daemon that are left are the guard's to end.
  trap 'chmod "$device_mode" /dev/fuse; userdel -f "$user" 2>/dev/null || true' EXIT
  trap 'exit 143' TERM
  chmod 666 /dev/fuse
}

mount_at() { # SOURCE MOUNTPOINT [FLAG…]
  local source=$1 mountpoint=$2
  shift 2
  deltafs mount --log-file "$TRACE" --log-level debug "$@" "$source" "$mountpoint"
}

mount_lake() { # [FLAG…]
  mount_at "$LAKE" "$MNT" "$@"
}

unmount_lake() {
  deltafs unmount "$MNT"
}

remount() {
  unmount_lake
  mount_lake "$@"
}

is_mounted() { # PATH — says mountinfo, so a dead mount counts
  [[ -n $(mounts_under "$1") ]]
}

# The daemon's process id: the one process that runs the program and names the mountpoint.
daemon_pid() { # [MOUNTPOINT]
  local mountpoint=${1:-$MNT} exe pid
  for exe in /proc/[0-9]*/exe; do
    pid=${exe#/proc/} pid=${pid%/exe}
    if [[ $(readlink "$exe" 2>/dev/null) == "$(readlink -f "$DELTAFS")"* ]] &&
      tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF "$mountpoint"; then
      echo "$pid"
      return
    fi
  done
  return 1
}

daemon_is_gone() { # PID — a zombie that nobody reaped counts as gone
  [[ ! -e /proc/$1/exe ]] || ! readlink "/proc/$1/exe" >/dev/null 2>&1
}

newest() { # TABLE — the version that `latest` names
  local target
  target=$(readlink "$MNT/$1/latest")
  echo "${target#versions/}"
}

stage() { # TABLE/NAME — begins a staging directory and prints its path
  local directory=$MNT/${1%/*}/staging/${1##*/}
  mkdir "$directory"
  echo "$directory"
}

result() { # STAGING — the result of the last sync, in one line
  tr '\n' ' ' <"$1/.deltafs/result"
}

# The data files of a table in the lake, without hidden folders (a spool may be among them).
data_files() { # TABLE
  (cd "$LAKE/$1" && find . -name '.?*' -prune -o -name _delta_log -prune -o -type f -print | sort)
}

# The bytes of everything under a folder, hidden or not; a hard link counts once.
bytes_in() {
  find "$1" -type f -printf '%D:%i %b\n' | sort -u | awk '{ sum += $2 * 512 } END { print sum + 0 }'
}

# A digest of every file of a table, log included, and of their names: "was it left as it was?"
fingerprint() { # TABLE
  (
    cd "$LAKE/$1"
    find . -mindepth 1 -name '.?*' -prune -o -type f -print0 | sort -z | xargs -0r sha256sum
  ) | sha256sum | cut -c1-16
}
