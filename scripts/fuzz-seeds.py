"""Takes seeds for the fuzz targets out of the golden tables: fuzz-seeds.py GOLDEN FOLDER"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

BYTES_MAX = 64 * 1024  # of one seed
LINES_MAX = 20  # of one commit: more of them are alike
ARCHIVE_BYTES_MAX = 1024 * 1024  # larger tables have no other kinds of files


def main(golden, folder):
    counts = {}

    def seed(target, data):
        data = data if isinstance(data, bytes) else data.encode()
        if 0 < len(data) <= BYTES_MAX:
            path = folder / target / hashlib.sha256(data).hexdigest()[:16]
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                counts[target] = counts.get(target, 0) + 1

    def action(line):
        try:
            (name, body), = json.loads(line).items()
        except (ValueError, AttributeError):
            return
        if name in ("add", "remove"):
            seed("path", body.get("path", ""))
            if body.get("deletionVector"):
                seed("vector", json.dumps(body["deletionVector"]))
        elif name == "metaData":
            seed("schema", body.get("schemaString", ""))

    def log_file(path):
        name, data = path.name, path.read_bytes()
        if name.startswith("."):
            return
        if path.parent.name == "_sidecars":
            seed("checkpoint", b"\3" + data)
        elif name.endswith(".parquet"):
            is_v2 = re.fullmatch(r"\d{20}\.checkpoint\.[0-9a-f-]{36}\.parquet", name)
            seed("checkpoint", (b"\1" if is_v2 else b"\0") + data)
        elif ".checkpoint." in name:
            seed("checkpoint", b"\2" + data)
        elif name.endswith(".json"):
            seed("commit", data)
            for line in data.splitlines()[:LINES_MAX]:
                seed("commit", line)
                action(line)
        elif name.endswith(".crc"):
            seed("checksum", data)
        elif name == "_last_checkpoint":
            seed("hint", data)

    def table(root):
        for log in sorted(root.rglob("_delta_log")):
            for path in sorted(log.rglob("*")):
                if path.is_file():
                    log_file(path)

    for entry in sorted(golden.glob("*/*")):
        if entry.is_dir():
            table(entry)
        elif entry.name.endswith(".tar.zst") and entry.stat().st_size <= ARCHIVE_BYTES_MAX:
            with tempfile.TemporaryDirectory() as scratch:
                unpack = ["tar", "--warning=no-unknown-keyword", "--zstd", "-xf", entry, "-C", scratch]
                subprocess.run(unpack, check=True)
                table(pathlib.Path(scratch))
    print("seeds:", ", ".join(f"{target} {count}" for target, count in sorted(counts.items())))
    if not counts:
        sys.exit(f"fuzz-seeds: {golden} has no tables")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
