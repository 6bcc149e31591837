#!/usr/bin/env bash
# Broken tables: what can't be read is EIO (or ENOENT where there is nothing), with a sentence that
# names file and version; what can be read still is; nothing is written to the table; and the
# tables beside it go on working.
. "$(dirname "$0")/lib.sh"

log_file() { printf '%s/_delta_log/%020d.json' "$1" "$2"; }

oracle make plain "$LAKE/good" --versions 2
for table in gap cut missing short dots nul absolute nonsense negative; do
  cp -a "$LAKE/good" "$LAKE/$table"
done
mkdir -p "$LAKE/empty/_delta_log" "$LAKE/folder/sub" "$LAKE/fileslog"
echo hello >"$LAKE/folder/sub/file"
echo hello >"$LAKE/fileslog/_delta_log"
echo secret >"$SCRATCH/outside.parquet"

oracle append "$LAKE/gap" 100 1
oracle append "$LAKE/gap" 101 1
rm "$(log_file "$LAKE/gap" 2)"
oracle append "$LAKE/cut" 100 1
truncate -s -20 "$(log_file "$LAKE/cut" 2)"
oracle append "$LAKE/missing" 100 1
lost=$(oracle adds "$LAKE/missing" 1)
rm "$LAKE/missing/$lost"
short=$(oracle adds "$LAKE/short" 1)
truncate -s -1 "$LAKE/short/$short"
oracle bad-commit "$LAKE/dots" --add-path ../../outside.parquet >/dev/null
oracle bad-commit "$LAKE/nul" --add-path 'a%00b.parquet' >/dev/null
oracle bad-commit "$LAKE/absolute" --add-path "$SCRATCH/outside.parquet" >/dev/null
oracle bad-commit "$LAKE/nonsense" --line '{"add": {"path": 7}}' >/dev/null
oracle bad-commit "$LAKE/negative" --line \
  '{"add":{"path":"x.parquet","partitionValues":{},"size":-5,"modificationTime":0,"dataChange":true}}' >/dev/null

declare -A before
for table in good gap cut missing short dots nul absolute nonsense negative; do
  before[$table]=$(fingerprint "$table")
done

mount_lake

trace_says() { grep -qiE "$1" "$TRACE"; }
readable() { # TABLE VERSION
  is "$1: version $2 reads as it should" "$(oracle count "$MNT/$1/versions/$2")" $((($2 + 1) * 10))
}
broken() { # TABLE VERSION ERRNOS TRACE — a version whose content can't be told
  like "$1: version $2 can't be listed" "$(call listdir "$MNT/$1/versions/$2")" "^($3)$"
  not_ok "$1: cp of version $2 fails loudly" cp -a "$MNT/$1/versions/$2" "$SCRATCH/copy-$1"
  like "$1: nothing of it is shown" "$(find "$SCRATCH/copy-$1" -name '*.parquet' 2>/dev/null | wc -l)" '^0$'
  ok "$1: a sentence in the trace names it: /$4/" trace_says "$4"
}

# --- no table at all

is "a plain folder is a folder" "$(ls "$MNT/folder")" sub
is "and has no versions" "$(call stat "$MNT/folder/versions")" ENOENT
is "a name that is not there" "$(call listdir "$MNT/nothing/versions")" ENOENT
is "_delta_log that is a file makes no table" "$(call stat "$MNT/fileslog/versions/0")" ENOENT
like "an empty log has no version 0" "$(call stat "$MNT/empty/versions/0")" "^(ENOENT|EIO)$"
isnt "and no latest to walk through" "$(call listdir "$MNT/empty/latest/")" OK

# --- broken logs

readable gap 0
readable gap 1
broken gap 3 'ENOENT|EIO' 'gap.*\b2\b|\b2\b.*missing.*gap|00000000000000000002'
is "gap: version 2 is an error, not an absence" "$(call stat "$MNT/gap/versions/2")" EIO

readable cut 0
readable cut 1
broken cut 2 EIO 'cut.*00000000000000000002\.json'

readable dots 1
broken dots 2 EIO '00000000000000000002|version 2'
ok "dots: the trace says which path" trace_says '\.\./\.\./outside'
is "dots: what lies outside is not shown" "$(find "$MNT/dots" -name 'outside*')" ""
readable nul 1
broken nul 2 EIO 'nul.*(00000000000000000002|version 2|\b2\b)'
readable absolute 1
broken absolute 2 EOPNOTSUPP 'absolute.*(00000000000000000002|version 2|\b2\b)'
is "absolute: what lies outside is not shown" "$(find "$MNT/absolute" -name 'outside*')" ""
readable nonsense 1
broken nonsense 2 EIO 'nonsense.*(00000000000000000002|version 2|\b2\b)'
readable negative 1
broken negative 2 EIO 'negative.*(00000000000000000002|version 2|\b2\b)'

# A commit that is lost under a live mount, with later ones there.
oracle make plain "$LAKE/live" --versions 2
is "live: latest before" "$(newest live)" 1
oracle append "$LAKE/live" 100 5
oracle append "$LAKE/live" 200 5
mv "$LAKE/live/_delta_log/00000000000000000002.json" "$SCRATCH/lost.json"
latest_is_told() { [[ $(call stat "$MNT/live/latest/") == EIO ]]; }
ok "live: a lost commit is an error, not an end" wait_until 5 latest_is_told
mv "$SCRATCH/lost.json" "$LAKE/live/_delta_log/00000000000000000002.json"
latest_is_back() { [[ $(newest live 2>/dev/null) == 3 ]]; }
ok "live: and all is well when it is back" wait_until 5 latest_is_back

# --- lost and short data files

V=$MNT/missing/versions
readable missing 0
is "missing: the file is listed, with its size" "$(stat -c %s "$V/1/$lost")" \
  "$(oracle adds "$LAKE/missing" 1 --field size)"
is "missing: opening it is EIO" "$(call read "$V/1/$lost")" EIO
not_ok "missing: cp -a of the version fails" cp -a "$V/2" "$SCRATCH/copy-missing"
not_ok "missing: rsync of the version fails" rsync -a "$V/2/" "$SCRATCH/rsync-missing/"
not_ok "missing: tar of the version fails" tar -C "$V/2" -cf "$SCRATCH/missing.tar" .
like "missing: the control file tells" "$(cat "$V/2/.deltafs/missing")" "$lost"
ok "missing: a sentence in the trace names the file" trace_says "$lost"
not_ok "missing: a link to it fails" cp -al "$V/1/." "$(stage missing/u)/"
not_ok "missing: a restore that needs it is refused" sync "$MNT/missing/staging/u"
like "missing: with its name" "$(result "$MNT/missing/staging/u")" "$lost"
rm -r "$MNT/missing/staging/u"

V=$MNT/short/versions
is "short: stat says the log's size" "$(stat -c %s "$V/1/$short")" \
  "$(oracle adds "$LAKE/short" 1 --field size)"
is "short: reading it is EIO" "$(call read "$V/1/$short")" EIO
not_ok "short: cp -a of the version fails" cp -a "$V/1" "$SCRATCH/copy-short"
ok "short: a sentence in the trace names the file" trace_says "$short"
readable short 0

# --- a broken table takes no commits, and whatever happened is as it was

for table in gap cut dots; do
  S=$MNT/$table/staging/x
  if mkdir "$S" 2>/dev/null; then
    oracle parquet "$S/f.parquet" 500 1 2>/dev/null || true
    not_ok "$table: a commit on top is refused" sync "$S"
    rm -rf "$S"
  else
    pass "$table: a commit on top is refused (no staging)"
  fi
done
for table in good gap cut missing short dots nul absolute nonsense negative; do
  is "$table is as it was" "$(fingerprint "$table")" "${before[$table]}"
done
readable good 1
S=$(stage good/x)
oracle parquet "$S/f.parquet" 500 1
ok "the good table beside them commits" sync "$S"
unlike "the daemon never panicked" "$(cat "$TRACE")" 'panicked|BUG:'
ok "and unmounts cleanly" unmount_lake

done_testing
