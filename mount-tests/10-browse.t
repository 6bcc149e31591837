#!/usr/bin/env bash
# The tree: what `ls`, `find`, `readlink` and `cat` show of a lake, its tables and their versions;
# each version holds what its reader needs, and no more; other Delta readers open it where it is.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/sales" --versions 3
oracle delete "$LAKE/sales" "id < 10"
oracle make plain "$LAKE/finance/deep/ledger" --versions 12 --checkpoint 10
oracle make special "$LAKE/special"
mount_lake

list() { find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//'; }
files() { (cd "$1" && find . -type f | sort); }

# --- the lake

is "the lake lists folders and tables" "$(list "$MNT")" "finance sales special"
is "a folder lists what is in it" "$(list "$MNT/finance")" deep
is "tables may be nested" "$(readlink "$MNT/finance/deep/ledger/latest")" versions/11
is "a name that is not there is ENOENT" "$(call stat "$MNT/nothing")" ENOENT
is "the table's own folders are not at its top" "$(call stat "$MNT/sales/_delta_log")" ENOENT

# --- the table

for name in latest versions staging history; do
  like "a table lists $name" " $(list "$MNT/sales") " " $name "
done
unlike "a table does not list .deltafs" "$(ls -A "$MNT/sales")" deltafs
ok ".deltafs of a table is found by name" test -d "$MNT/sales/.deltafs"
ok ".deltafs of a version is found by name" test -d "$MNT/sales/versions/0/.deltafs"
is "find never walks into .deltafs" "$(find "$MNT" -name '.deltafs*' | head -1)" ""
is "latest is a link to the newest version" "$(readlink "$MNT/sales/latest")" versions/3
is "versions lists each version" "$(list "$MNT/sales/versions")" "0 1 2 3"
for name in 4 00 01 -1 +1 x 1x '' 9223372036854775808 99999999999999999999999; do
  [[ -n $name ]] || continue
  is "versions/$name is ENOENT" "$(call stat "$MNT/sales/versions/$name")" ENOENT
done
is "history has a line a version" "$(wc -l <"$MNT/sales/history")" 4
is "history begins with the newest" "$(awk 'NR == 1 { print $1 }' "$MNT/sales/history")" 3
is "history ends with the oldest" "$(awk 'END { print $1 }' "$MNT/sales/history")" 0
like "history says what each commit was" "$(head -1 "$MNT/sales/history")" DELETE
is "history's size is exact" "$(stat -c %s "$MNT/sales/history")" "$(wc -c <"$MNT/sales/history")"

# --- the version

is "a version lists its partitions and log" "$(list "$MNT/sales/versions/1")" \
  "_delta_log date=2026-11-01 date=2026-11-02"
is "a removed file is in the versions before its removal only" \
  "$(list "$MNT/sales/versions/3")" "_delta_log date=2026-11-02 date=2026-11-03"
is "the log of version 1 is that of versions 0 and 1" \
  "$(list "$MNT/sales/versions/1/_delta_log")" "00000000000000000000.json 00000000000000000001.json"
is "files of version 2: all data files and three log files" \
  "$(files "$MNT/sales/versions/2")" \
  "$( (cd "$LAKE/sales" && find . -type f ! -name '*3.json' | sort) )"
ok "bytes of version 2 are the table's" diff -r --exclude='*3.json' "$LAKE/sales" "$MNT/sales/versions/2"
ok "a version with special characters has the table's names and bytes" \
  diff -r "$LAKE/special" "$MNT/special/versions/0"
is "latest can be walked through" "$(list "$MNT/sales/latest/")" "_delta_log date=2026-11-02 date=2026-11-03"

# --- checkpoints

ledger=$MNT/finance/deep/ledger/versions
ok "the log of a version is byte for byte the table's, checkpoints too" \
  diff -r "$LAKE/finance/deep/ledger/_delta_log" "$ledger/11/_delta_log"
is "version 9 has no checkpoint of version 10" "$(find "$ledger/9" -name '*checkpoint*')" ""
ok "version 10 has it" test -f "$ledger/10/_delta_log/00000000000000000010.checkpoint.parquet"
ok "_last_checkpoint is where it is true" test -f "$ledger/10/_delta_log/_last_checkpoint"
is "and not where it isn't" "$(call stat "$ledger/9/_delta_log/_last_checkpoint")" ENOENT

# --- attributes

V=$MNT/sales/versions/1
is "a version's mode is 755" "$(stat -c %a "$V")" 755
is "a log file's mode is 644" "$(stat -c %a "$V/_delta_log/00000000000000000001.json")" 644
is "a data file's mode is 644" "$(find "$V" -name '*.parquet' -printf '%m\n' | sort -u)" 644
is "all belongs to the mounter" "$(find "$MNT" -printf '%U:%G\n' | sort -u)" "$(id -u):$(id -g)"

# --- other readers on the mount itself

for version in 0 1 2 3; do
  is "deltalake opens versions/$version through the mount as it opens the table at $version" \
    "$(oracle describe "$MNT/sales/versions/$version")" \
    "$(oracle describe "$LAKE/sales" --version "$version")"
done
is "deltalake opens a version below a checkpoint" \
  "$(oracle describe "$ledger/9")" "$(oracle describe "$LAKE/finance/deep/ledger" --version 9)"
is "deltalake opens a version above a checkpoint" \
  "$(oracle describe "$ledger/11")" "$(oracle describe "$LAKE/finance/deep/ledger" --version 11)"
is "deltalake reads special partition values" \
  "$(oracle partitions "$MNT/special/versions/0")" "$(oracle partitions "$LAKE/special")"

# --- sizes that tools believe before they read

while read -r path; do
  [[ $(stat -c %s "$path") == "$(wc -c <"$path")" ]] || flunk "size of $path" "stat and read differ"
done < <(find "$MNT" -type f)
pass "every file has as many bytes as stat says"
ok "df answers" df "$MNT"

done_testing
