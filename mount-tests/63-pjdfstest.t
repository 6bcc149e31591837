#!/usr/bin/env bash
# pjdfstest, a suite of what POSIX says of files, on a staging directory: everything passes but what
# needs symlinks, FIFOs, sockets or devices, and those tests are listed by name (pjdfstest.toml). A
# plain folder is the control: what fails or is skipped there, too, is not ours.
. "$(dirname "$0")/lib.sh"

SUITE=$ROOT/.cache/cargo/bin/pjdfstest
[[ -x $SUITE ]] || skip_all "no pjdfstest at $SUITE: scripts/setup test installs it"

# Runs the suite below a folder. Its second file system, for links and renames across two, is
# another of the machine's; without one those tests are skipped, here and there.
second=$(mktemp -d /dev/shm/deltafs-test.XXXXXX 2>/dev/null) || second=
trap '[[ -z $second ]] || rm -rf "$second"' EXIT
trap 'exit 143' TERM
run() { # NAME FOLDER CONFIGURATION
  NO_COLOR=1 "$SUITE" --configuration-file "$3" --path "$2" ${second:+--secondary-fs "$second"} \
    >"$SCRATCH/$1.out" 2>&1 || true
}
# The names of the tests that ended so, sorted.
ended() { # NAME END
  sed -nE "s/^([a-z0-9_]+(::[a-z0-9_]+)+) +$2$/\1/p" "$SCRATCH/$1.out" | sort
}
# Why a test failed: the lines below its own.
reasons() { # NAME TEST…
  local name=$1 test
  shift
  for test; do grep -A 2 -F "$test " "$SCRATCH/$name.out"; done
}

oracle make plain "$LAKE/t" --versions 1
mkdir "$SCRATCH/plain"
if [[ $EUID == 0 ]]; then
  # Its users go in, too.
  chmod 711 "$SCRATCH"
  mount_lake --allow-other
else
  mount_lake
fi
S=$(stage t/x)

sed '/^expected_failures = \[/,/^\]/d' "$HERE/pjdfstest.toml" >"$SCRATCH/control.toml"
run control "$SCRATCH/plain" "$SCRATCH/control.toml"
run staging "$S" "$HERE/pjdfstest.toml"
for name in control staging; do
  summary=$(sed -n 's/^Summary: //p' "$SCRATCH/$name.out")
  isnt "the suite runs to its end: $name" "$summary" ""
  echo "# $name: $summary"
done
is "of the same tests" "$(ended staging '[^ ].*' | grep -c .)" "$(ended control '[^ ].*' | grep -c .)"

ended control FAILED >"$SCRATCH/not-ours"
while read -r test; do echo "# fails on the plain folder, too: $test"; done <"$SCRATCH/not-ours"
mapfile -t failed < <(comm -23 <(ended staging FAILED) "$SCRATCH/not-ours")
is "nothing fails on a staging directory alone" "${failed[*]}" ""
if ((${#failed[@]} > 0)); then diag "$(reasons staging "${failed[@]}")"; fi
is "every test on the list is needed there" "$(ended staging 'PASSED UNEXPECTEDLY')" ""
# glibc tells the most links of a few file systems alone, by their names.
is "nothing is skipped on a staging directory alone" \
  "$(comm -23 <(ended staging skipped) <(ended control skipped) | grep -vx link::link_count_max)" ""
if [[ $EUID == 0 ]]; then
  is "and is one of the suite" "$(ended staging 'failed as expected' | grep -c .)" \
    "$(grep -c '^  "' "$HERE/pjdfstest.toml")"
  # Were it skipped or listed, all of the above would hold of nothing.
  passed=$(ended staging ok | grep -c .)
  ok "most of what is left passes ($passed)" test "$passed" -ge 150
else
  skip "tests of other users' files" "run as root to become them"
fi

cd "$SCRATCH"
ok "the directory is left empty" rmdir "$S"

done_testing
