# Sourced before any cd: makes the paths that the environment gives absolute. No symlink is followed,
# because a venv's Python knows its packages by the name that it is called by.
for name in DELTAFS_{BIN,PYTHON,GOLDEN,KERNEL_ROWS,SPARK_JARS}; do
  [[ -z ${!name:-} ]] || export "$name=$(realpath -ms -- "${!name}")"
done
unset name
