#!/usr/bin/env bash
# A shallow clone names files outside of its own folder: refused by name, until the mount allows the
# place. Then its versions show what is in the table, and `.deltafs/files` tells of the rest.
. "$(dirname "$0")/lib.sh"

oracle make plain "$LAKE/source" --versions 2
mkdir -p "$LAKE/clone/_delta_log"
source=$(readlink -f "$LAKE/source")
"$PYTHON" - "$source" "$LAKE/clone/_delta_log/00000000000000000000.json" <<'PYTHON'
import glob, json, sys

lines = []
for commit in sorted(glob.glob(sys.argv[1] + "/_delta_log/*.json")):
    for line in open(commit):
        action = json.loads(line)
        if "add" in action:
            action["add"]["path"] = "file://" + sys.argv[1] + "/" + action["add"]["path"]
        if "commitInfo" not in action:
            lines.append(json.dumps(action))
open(sys.argv[2], "w").write("\n".join(lines) + "\n")
PYTHON
file=$(oracle adds "$LAKE/source" 0)

mount_lake
V=$MNT/clone/versions/0
is "a clone's version is not shown as if it were empty" "$(call listdir "$V")" EOPNOTSUPP
is "its log is there" "$(ls "$V/_delta_log")" 00000000000000000000.json
S=$(stage clone/x)
cp "$LAKE/source/$file" "$S/new.parquet"
refuses "a commit to it is refused, and the sentence names the option" 1 "--allow-outside" \
  deltafs commit "$S"

remount --allow-outside "$LAKE/source" --allow-outside s3://elsewhere/
is "with the place allowed it holds what is in the table: the log" "$(ls "$V")" _delta_log
like "files tells of a file outside, by its place" "$(cat "$V/.deltafs/files")" \
  "$(printf '\n%s/%s\t' "$source" "$file")"
is "nothing is missing in the table's own folder" "$(cat "$V/.deltafs/missing")" ""
ok "it takes a commit" sync "$S"
is "the new version shows the new file" "$(ls "$MNT/clone/versions/1" | tr '\n' ' ')" \
  "_delta_log new.parquet "
is "and has all others too" "$(wc -l <"$MNT/clone/versions/1/.deltafs/files")" \
  "$(($(wc -l <"$V/.deltafs/files") + 1))"

unmount_lake
refuses "a place that is relative is refused" 1 "--allow-outside ../x" \
  deltafs mount --allow-outside ../x "$LAKE" "$MNT"

done_testing
