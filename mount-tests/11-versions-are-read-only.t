#!/usr/bin/env bash
# A version can't be changed: every call that writes is EROFS, by whatever path, and leaves the
# version and the table as they were.
. "$(dirname "$0")/lib.sh"

oracle make sales "$LAKE/t" --versions 2
before=$(fingerprint t)
mount_lake

V=$MNT/t/versions/1
F=$(find "$V" -name '*.parquet' | sort | head -1)
L=$V/_delta_log/00000000000000000001.json
D=$(dirname "$F")

for file in "$F" "$L"; do
  for operation in open-write open-truncate append truncate unlink chmod utime; do
    is "$operation of $(basename "$file" | sed 's/-.*/…/')" "$(call "$operation" "$file")" EROFS
  done
  is "rename of it" "$(call rename "$file" "$file.new")" EROFS
  is "link of it" "$(call link "$file" "$file.new")" EROFS
done
for folder in "$V" "$D" "$V/_delta_log"; do
  for operation in create mkdir mknod symlink; do
    is "$operation in ${folder#"$MNT"/}" "$(call "$operation" "$folder/new")" EROFS
  done
  is "chmod of ${folder#"$MNT"/}" "$(call chmod "$folder")" EROFS
  is "utime of ${folder#"$MNT"/}" "$(call utime "$folder")" EROFS
done
is "rmdir of a partition" "$(call rmdir "$D")" EROFS
is "rename of a partition" "$(call rename "$D" "$D.new")" EROFS
is "mkdir in versions/" "$(call mkdir "$MNT/t/versions/9")" EROFS
is "rmdir of a version" "$(call rmdir "$V")" EROFS
is "rename of a version" "$(call rename "$V" "$MNT/t/versions/9")" EROFS
if [[ $EUID == 0 ]]; then
  is "chown of a file" "$(call chown "$F")" EROFS
fi
like "setxattr is refused" "$(call setxattr "$F")" "EOPNOTSUPP|EROFS"
like "getxattr has no attributes" "$(call getxattr "$F")" "EOPNOTSUPP|ENODATA"

mkdir "$MNT/t/staging/x"
is "rename out of a version into staging" "$(call rename "$F" "$MNT/t/staging/x/f.parquet")" EROFS
echo x >"$MNT/t/staging/x/y"
is "rename from staging into a version" "$(call rename "$MNT/t/staging/x/y" "$V/y")" EROFS
is "link from staging into a version" "$(call link "$MNT/t/staging/x/y" "$V/y")" EROFS

for name in latest history versions staging .deltafs; do
  isnt "unlink of $name is refused" "$(call unlink "$MNT/t/$name")" OK
  isnt "rename of $name is refused" "$(call rename "$MNT/t/$name" "$MNT/t/other")" OK
done
isnt "a control file can't be written" "$(call open-write "$V/.deltafs/schema.json")" OK

not_ok "rm -rf of a version fails" rm -rf "$V"
not_ok "cp onto a version fails" cp /etc/passwd "$V/"
not_ok "rsync --delete onto a version fails" rsync -a --delete "$SCRATCH/run/" "$V/"
rm -r "$MNT/t/staging/x"
is "the version is whole" "$(oracle describe "$V")" "$(oracle describe "$LAKE/t" --version 1)"
is "the table is as it was" "$(fingerprint t)" "$before"

done_testing
