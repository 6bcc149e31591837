#!/usr/bin/env bash
# Identity that backup tools rely on: inodes, sizes, blocks and times are the same on every mount;
# a data file of many versions is one inode with two links; times come from the log.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 4
# The store's own times must not matter for data files; for log files they are the commit's time.
find "$LAKE/t" -name '*.parquet' -exec touch -d 2001-01-01T00:00:00Z {} +
for version in 0 1 2 3; do
  touch -d "2026-01-0$((version + 1))T12:00:00Z" "$LAKE/t/_delta_log/0000000000000000000$version.json"
done

attributes() { find "$1" -printf '%P %y %i %s %b %n %m %T@ %C@\n' | sort; }

mount_lake
first=$(attributes "$MNT/t/versions")
remount
is "inodes, sizes, blocks, links, modes and times are the same after a remount" \
  "$(attributes "$MNT/t/versions" | md5sum)" "$(md5sum <<<"$first")"
mkdir "$SCRATCH/second"
mount_at "$LAKE" "$SCRATCH/second"
is "and on a second mount beside the first" \
  "$(attributes "$SCRATCH/second/t/versions" | md5sum)" "$(md5sum <<<"$first")"
deltafs unmount "$SCRATCH/second"

# --- one inode

data=$(cd "$LAKE/t" && find . -name '*.parquet' | sort | head -1)
is "the first data file stands in four versions as one inode" \
  "$(stat -c %i "$MNT"/t/versions/*/"$data" | sort -u | wc -l)" 1
is "with two links, so that tools look for its other names" \
  "$(stat -c %h "$MNT"/t/versions/*/"$data" | sort -u)" 2
is "different data files are different inodes" \
  "$(find "$MNT/t/versions/3" -name '*.parquet' -printf '%i\n' | sort -u | wc -l)" 4
is "every directory and log file of one version has an inode of its own" \
  "$(find "$MNT/t/versions/3" -printf '%i\n' | sort | uniq -d)" ""

# --- sizes and times

wrong=$(find "$MNT/t/versions" -type f -printf '%s %b %p\n' | awk '$2 != int(($1 + 511) / 512)')
is "blocks are the size in units of 512, rounded up" "$wrong" ""
for path in $(cd "$LAKE/t" && find . -type f | sort); do
  is "size of $(basename "$path" | cut -c1-10)… is the store's" \
    "$(stat -c %s "$MNT/t/versions/3/$path")" "$(stat -c %s "$LAKE/t/$path")"
done

modification=$(oracle adds "$LAKE/t" 0 --field modificationTime)
is "a data file's mtime is the log's modificationTime" \
  "$(stat -c %.3Y "$MNT/t/versions/3/$data" | tr -d .)" "$modification"
is "its ctime too" "$(stat -c %.3Z "$MNT/t/versions/3/$data" | tr -d .)" "$modification"
for version in 0 1 2 3; do
  expected=$(date -d "2026-01-0$((version + 1))T12:00:00Z" +%s)
  is "log file $version has the commit's time" \
    "$(stat -c %Y "$MNT/t/versions/3/_delta_log/0000000000000000000$version.json")" "$expected"
  is "version directory $version has its commit's time" \
    "$(stat -c %Y "$MNT/t/versions/$version")" "$expected"
done

# --- tools that rely on it

cp -a "$MNT/t/versions" "$SCRATCH/all"
is "cp -a of all versions copies each data file once" \
  "$(find "$SCRATCH/all" -name '*.parquet' -printf '%i\n' | sort -u | wc -l)" 4
rsync -aH "$MNT/t/versions/" "$SCRATCH/rsynced/"
is "rsync -aH too" \
  "$(find "$SCRATCH/rsynced" -name '*.parquet' -printf '%i\n' | sort -u | wc -l)" 4
rsync -a "$MNT/t/versions/3/" "$SCRATCH/nightly/"
remount
is "a second rsync has nothing to send, even after a remount" \
  "$(rsync -ai "$MNT/t/versions/3/" "$SCRATCH/nightly/")" ""
(cd "$MNT/t/versions/3" && tar -cf "$SCRATCH/3.tar" .)
mkdir "$SCRATCH/untarred"
tar -xpf "$SCRATCH/3.tar" -C "$SCRATCH/untarred"
is "a tar of a version is that version" \
  "$(oracle describe "$SCRATCH/untarred")" "$(oracle describe "$LAKE/t")"

done_testing
