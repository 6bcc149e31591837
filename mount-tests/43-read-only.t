#!/usr/bin/env bash
# A lake that can't be written, and a mount that must not: versions are served as ever, staging is
# refused at once with EROFS (or EACCES), and nothing is written to the lake.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 2
expected=$(oracle describe "$LAKE/t")
before=$(fingerprint t)

serves_versions() { # WHAT
  is "$1: versions are served" "$(oracle describe "$MNT/t/versions/1")" "$expected"
  rm -rf "$SCRATCH/copy"
  ok "$1: cp -a of a version" cp -a "$MNT/t/versions/1" "$SCRATCH/copy"
  is "$1: is the version" "$(oracle describe "$SCRATCH/copy")" "$expected"
}
refuses_staging() { # WHAT ERRNOS
  like "$1: mkdir in staging is refused" "$(call mkdir "$MNT/t/staging/x")" "^($2)$"
  like "$1: a new table is refused" "$(call mkdir "$MNT/new")" "^($2)$"
  is "$1: the lake is as it was" "$(fingerprint t) $(ls "$LAKE")" "$before t"
}

mount_lake --read-only
serves_versions "--read-only"
refuses_staging "--read-only" EROFS
like "--read-only: it is a read-only mount or says so" "$(call create "$MNT/file")" "^(EROFS)$"
ok "--read-only: still sees new commits" true
oracle append "$LAKE/t" 100 10
ok "--read-only: new commits show up" wait_until 5 test -d "$MNT/t/versions/2"
unmount_lake
before=$(fingerprint t)

if [[ $EUID == 0 ]]; then
  mount --bind "$LAKE" "$LAKE"
  mount -o remount,ro,bind "$LAKE"
  ok "a read-only file system mounts" mount_lake
  serves_versions "read-only file system"
  refuses_staging "read-only file system" "EROFS"
  unmount_lake
  umount "$LAKE"
else
  chmod -R a-w "$LAKE"
  ok "a lake without write permission mounts" mount_lake
  serves_versions "no write permission"
  refuses_staging "no write permission" "EROFS|EACCES"
  unmount_lake
  chmod -R u+w "$LAKE"
fi

done_testing
