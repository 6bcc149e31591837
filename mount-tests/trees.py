"""A folder's tree as a value: two trees that the same tool made can be compared.

Every entry has its type and permission bits, its time of modification to the nanosecond, its owner
(where root looks), which other names share its inode, and for files size and content. A time since
`start` counts as `now`: two runs of one tool can't have the same.
"""

import collections
import hashlib
import os
import stat

# The clock of files ticks more coarsely than that of programs.
TICK_NS = 20_000_000

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink"}


def snapshot(root, start_ns, with_owners):
    """The tree as lines by path; the folder itself is `.`."""
    found = {".": os.lstat(root)}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = os.lstat(path)
    names = collections.defaultdict(list)
    for path, attributes in sorted(found.items()):
        names[(attributes.st_dev, attributes.st_ino)].append(path)
    return {
        path: line(root, path, attributes, start_ns, with_owners)
        + shares(names[(attributes.st_dev, attributes.st_ino)], path)
        for path, attributes in found.items()
    }


def line(root, path, attributes, start_ns, with_owners):
    kind = TYPES.get(stat.S_IFMT(attributes.st_mode), "special")
    time = attributes.st_mtime_ns
    parts = [kind, f"{stat.S_IMODE(attributes.st_mode):04o}"]
    parts.append("now" if time >= start_ns - TICK_NS else str(time))
    if with_owners:
        parts.append(f"{attributes.st_uid}:{attributes.st_gid}")
    if kind == "file":
        parts += [str(attributes.st_size), digest(os.path.join(root, path))]
    return " ".join(parts)


def shares(names, path):
    return "".join(f" ={name}" for name in names if name != path)


def digest(path):
    with open(path, "rb") as file:
        content = file.read()
    return hashlib.sha256(content).hexdigest()[:12]


def difference(left, right):
    """The first entries that two trees do not have in common, as a sentence; nothing if equal."""
    differing = [p for p in sorted(left.keys() | right.keys()) if left.get(p) != right.get(p)]
    told = [f"{p}: {left.get(p, 'missing')} | {right.get(p, 'missing')}" for p in differing]
    return "; ".join(told[:4])
