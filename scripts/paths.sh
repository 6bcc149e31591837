# Sourced before any cd: makes the paths that the environment gives absolute. No symlink is followed,
# because a venv's Python knows its packages by the name that it is called by.
for name in DELTAFS_BIN DELTAFS_PYTHON DELTAFS_GOLDEN; do
  [[ -z ${!name:-} ]] || export "$name=$(realpath -ms -- "${!name}")"
done
unset name
