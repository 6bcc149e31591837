#!/usr/bin/env bash
# Every usual tool fills a staging directory that then commits: cp, rsync, tar, mv, dd, redirection,
# Python's shutil, and the temporary names and renames of Spark's writers. Each exits 0, and the
# table has their rows once.
TEST_SECONDS=240
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 1
mount_lake

ranges=(0:10)
start=1000
source=''

# Runs one tool into a new staging directory and commits it. The tool gets $source, a folder with
# two partitions of 10 rows each, and $S, the staging directory.
tool() { # NAME COMMAND
  local name=$1 status=0 output
  source=$SCRATCH/source-$start
  oracle tree "$source" "$start" 20
  S=$(stage "t/$start")
  output=$(export source S && bash -euo pipefail -c "$2" 2>&1) || status=$?
  is "$name exits 0" "$status $output" "0 "
  ok "$name: sync exits 0" sync "$S"
  ranges+=("$start:20")
  is "$name: staging is empty after the commit" "$(ls -A "$S")" ""
  is "$name: one commit" "$(newest t)" $((${#ranges[@]} - 1))
  start=$((start + 1000))
}

# The commands are expanded by the shell that `tool` starts.
# shellcheck disable=SC2016
{
  tool "cp -r" 'cp -r "$source/." "$S/"'
  tool "cp -a" 'cp -a "$source/." "$S/"'
  tool "cp -rT" 'cp -rT "$source" "$S"'
  tool "rsync -a" 'rsync -a "$source/" "$S/"'
  tool "rsync -a --inplace" 'rsync -a --inplace "$source/" "$S/"'
  tool "rsync -a --fsync" 'rsync -a --fsync "$source/" "$S/"'
  tool "rsync -a twice" 'rsync -a "$source/" "$S/"; test -z "$(rsync -ai "$source/" "$S/")"'
  tool "tar -xp" 'tar -C "$source" -c . | tar -C "$S" -xpf -'
  tool "mv of folders" 'mv "$source"/date=* "$S/"'
  tool "mv of files" 'cd "$source"; for d in date=*; do mkdir "$S/$d"; mv "$d"/* "$S/$d/"; done'
  tool "mv inside staging" 'cp -r "$source" "$S/incoming"; mv "$S"/incoming/date=* "$S/"; rmdir "$S/incoming"'
  tool "dd" 'cd "$source"; for f in */*; do mkdir "$S/${f%/*}"; dd if="$f" of="$S/$f" bs=512 status=none; done'
  tool "dd conv=fsync" 'cd "$source"; for f in */*; do mkdir "$S/${f%/*}"; dd if="$f" of="$S/$f" conv=fsync status=none; done'
  tool "redirection" 'cd "$source"; for f in */*; do mkdir "$S/${f%/*}"; cat "$f" >"$S/$f"; done'
  tool "appending redirection" 'cd "$source"; for f in */*; do mkdir "$S/${f%/*}"
    head -c 100 "$f" >"$S/$f"; tail -c +101 "$f" >>"$S/$f"; done'
  tool "install" 'cd "$source"; for f in */*; do install -D -m 600 "$f" "$S/$f"; done'
  tool "Python's shutil" "'$PYTHON' '$HERE/oracle.py' shutil-copy"' "$source" "$S"'
  tool "a writer of Parquet" "'$PYTHON' '$HERE/oracle.py' tree"' "$S" "${S##*/}" 20'
  # Spark writes below _temporary, renames each file, and leaves _SUCCESS with hidden checksums.
  tool "the steps of Spark's writer" 'cd "$source"
    for f in */*; do
      attempt=$S/_temporary/0/_temporary/attempt_1/${f%/*}
      mkdir -p "$attempt" "$S/${f%/*}"; chmod 755 "$attempt"
      cat "$f" >"$attempt/${f##*/}"; echo crc >"$attempt/.${f##*/}.crc"; chmod 644 "$attempt"/*
      mv "$attempt/${f##*/}" "$S/$f"; mv "$attempt/.${f##*/}.crc" "$S/${f%/*}/.${f##*/}.crc"
    done
    rm -r "$S/_temporary"; : >"$S/_SUCCESS"; echo crc >"$S/._SUCCESS.crc"'
  # Flink's file sink renames to names without a suffix.
  tool "the steps of Flink's file sink" 'cd "$source"
    for f in */*; do
      mkdir "$S/${f%/*}"; cat "$f" >"$S/${f%/*}/.part-0.inprogress.1"
      mv "$S/${f%/*}/.part-0.inprogress.1" "$S/${f%/*}/part-0-1"
    done'
}

ok "every row of every tool is in the table once" oracle ids "$LAKE/t" "${ranges[@]}"
ok "each in its partition, with its values" oracle rows-right "$LAKE/t"
is "hidden files and markers did not get into the table" \
  "$(data_files t | grep -cE '_SUCCESS|\.crc|_temporary' || true)" 0

done_testing
