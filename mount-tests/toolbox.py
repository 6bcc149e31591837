"""The tools that bring files: what each is called, and the commands that users type.

A command gets SRC (what to bring), DEST (an empty folder, or one with an older state of SRC),
VERSION and BACKUP (a version of a table, and a copy of it), WORK (a folder of its own), and the
repositories of restic and borg. A tool that is a function of `python_calls.py` makes the calls itself.
"""

import python_calls

FILES = 'cd "$SRC"; find . -type f | sort | while read -r f; do mkdir -p "$DEST/${f%/*}"; '

# Into an empty destination, and over what an older state of the sources left there.
BRING = {
    "cp -r": 'cp -r "$SRC/." "$DEST/"',
    "cp -a": 'cp -a "$SRC/." "$DEST/"',
    "cp -au": 'cp -au "$SRC/." "$DEST/"',
    "cp -a --remove-destination": 'cp -a --remove-destination "$SRC/." "$DEST/"',
    "cp -r --sparse=always --reflink=never": (
        'cp -r --sparse=always --reflink=never "$SRC/." "$DEST/"'
    ),
    "rsync -a": 'rsync -a "$SRC/" "$DEST/"',
    "rsync -aH": 'rsync -aH "$SRC/" "$DEST/"',
    "rsync -a --inplace": 'rsync -a --inplace "$SRC/" "$DEST/"',
    "rsync -a --inplace --no-whole-file": (
        'rsync -a --inplace --no-whole-file "$SRC/" "$DEST/"'
    ),
    "rsync -a --partial": 'rsync -a --partial "$SRC/" "$DEST/"',
    "rsync -a --partial-dir": 'rsync -a --partial-dir=.part "$SRC/" "$DEST/"',
    "rsync -a --delay-updates --no-whole-file": (
        'rsync -a --delay-updates --no-whole-file "$SRC/" "$DEST/"'
    ),
    "rsync -rc --preallocate": 'rsync -rc --preallocate "$SRC/" "$DEST/"',
    "rsync -a --sparse --fsync": 'rsync -a --sparse --fsync "$SRC/" "$DEST/"',
    "rsync -a --link-dest inside": (
        'mkdir "$DEST/_prev" "$DEST/_next"; cp -a "$SRC/." "$DEST/_prev/"; '
        'rsync -aH --link-dest=../_prev "$SRC/" "$DEST/_next/"; '
        'stat -c %h "$DEST"/_next/date=*/*; rm -r "$DEST/_prev"; '
        'rsync -aH --link-dest=_next "$DEST/_next/" "$DEST/"; rm -r "$DEST/_next"'
    ),
    "tar -xp": 'tar -C "$SRC" -c . | tar -C "$DEST" -xpf -',
    "tar -x --overwrite": 'tar -C "$SRC" -c . | tar -C "$DEST" -x --overwrite -f -',
    "tar -xp --unlink-first": 'tar -C "$SRC" -c . | tar -C "$DEST" -xp --unlink-first -f -',
    "tar -xp --keep-newer-files": (
        'tar -C "$SRC" -c . | tar -C "$DEST" -xp --keep-newer-files -f -'
    ),
    "restic restore": (
        'id=$(cd "$SRC" && restic backup --json . | tail -n 1 | '
        'sed "s/.*\\"snapshot_id\\":\\"\\([0-9a-f]*\\)\\".*/\\1/"); '
        'restic restore "$id" --target "$DEST"'
    ),
    "borg extract": (
        'name=$(printf %s "$DEST" | tr / _); (cd "$SRC" && borg create "::$name" .); '
        'cd "$DEST"; borg extract "::$name"'
    ),
    "rclone copy": 'rclone copy "$SRC" "$DEST"',
    "rclone sync": 'rclone sync "$SRC" "$DEST"',
    "mv": 'cp -a "$SRC" "$WORK/moved"; mv "$WORK"/moved/* "$DEST/"',
    "mv -f of each file": (
        # Natively it is a rename, which keeps hard links; from another file system it copies.
        'cp -a "$SRC" "$WORK/moved"; rm "$WORK/moved/_linked.txt"; '
        'cd "$WORK/moved"; find . -type f | sort | '
        'while read -r f; do mkdir -p "$DEST/${f%/*}"; mv -f "$f" "$DEST/$f"; done'
    ),
    "mv inside": (
        'cp -a "$SRC" "$DEST/_in"; cd "$DEST/_in"; find . -type f | sort | '
        'while read -r f; do mkdir -p "$DEST/${f%/*}"; mv "$f" "$DEST/$f"; done; rm -r "$DEST/_in"'
    ),
    "mv --backup": (
        'cp -a "$SRC" "$DEST/_in"; cd "$DEST/_in"; '
        'find . -type f | sort | while read -r f; do mkdir -p "$DEST/${f%/*}"; '
        'mv --backup=numbered "$f" "$DEST/$f"; done; '
        'find "$DEST" -name "*~" -delete; rm -r "$DEST/_in"'
    ),
    "dd": FILES + 'dd if="$f" of="$DEST/$f" bs=512 status=none; done',
    "dd conv=fsync": FILES + 'dd if="$f" of="$DEST/$f" conv=fsync status=none; done',
    "dd oflag=sync": FILES + 'dd if="$f" of="$DEST/$f" oflag=sync bs=4k status=none; done',
    "dd conv=notrunc": (
        FILES + 'dd if="$f" of="$DEST/$f" conv=notrunc status=none; '
        'truncate -r "$f" "$DEST/$f"; done'
    ),
    "dd oflag=append": (
        FILES + 'truncate -s 0 "$DEST/$f"; '
        'dd if="$f" of="$DEST/$f" oflag=append conv=notrunc bs=700 status=none; done'
    ),
    "dd seek": (
        FILES + 'truncate -s 0 "$DEST/$f"; '
        'dd if="$f" of="$DEST/$f" skip=1 seek=1 bs=512 conv=notrunc,nocreat status=none; '
        'dd if="$f" of="$DEST/$f" count=1 bs=512 conv=notrunc,excl status=none || '
        'dd if="$f" of="$DEST/$f" count=1 bs=512 conv=notrunc status=none; done'
    ),
    "sed -i": (
        'cp -a "$SRC/." "$DEST/"; sed -i s/note/line/ "$DEST/_notes.txt"; '
        'LC_ALL=C sed -i -e "" "$DEST"/date=*/*'
    ),
    "sed -i.bak": 'cp -a "$SRC/." "$DEST/"; sed -i.bak s/note/line/ "$DEST/_notes.txt"',
    "install": FILES + 'install -m 640 "$f" "$DEST/$f"; done',
    "install -D -p": 'cd "$SRC"; for f in */*; do install -D -p -m 600 "$f" "$DEST/$f"; done',
    "install -o -g": 'cd "$SRC"; for f in */*; do install -D -o 12 -g 34 "$f" "$DEST/$f"; done',
    "redirection": FILES + 'cat "$f" >"$DEST/$f"; done',
    "appending redirection": (
        FILES + 'head -c 100 "$f" >"$DEST/$f"; tail -c +101 "$f" >>"$DEST/$f"; done'
    ),
    "redirection to read and write": (
        FILES + 'cat "$f" 1<>"$DEST/$f"; truncate -s "$(stat -c %s "$f")" "$DEST/$f"; done'
    ),
    "tee": FILES + 'tee "$DEST/$f" <"$f" >/dev/null; done',
    "gzip -d": (
        FILES + 'gzip -c "$f" >"$DEST/$f.gz"; touch -r "$f" "$DEST/$f.gz"; '
        'gzip -df "$DEST/$f.gz"; done'
    ),
    "touch, chmod": (
        'cp -r "$SRC/." "$DEST/"; '
        'find "$DEST" -type f -exec touch -d "1969-07-20 20:17:40.123456789" '
        '{} + -exec chmod u=rw,go= {} +; find "$DEST" -depth -type d -exec chmod g+s,o-rx {} + '
        '-exec touch -d @1234567890.987654321 {} +; touch -a "$DEST/_notes.txt"'
    ),
    "chown -R": 'cp -a "$SRC/." "$DEST/"; chown -R 12:34 "$DEST"',
    "ln -f": (
        'cp -a "$SRC/." "$DEST/"; for f in "$DEST"/date=*/*; do ln "$f" "${f%/*}/_link"; '
        'ln -f "${f%/*}/_link" "$f"; rm "${f%/*}/_link"; done; ln "$DEST/_notes.txt" "$DEST/_more"'
    ),
    "truncate": (
        'cp -a "$SRC/." "$DEST/"; for f in "$DEST"/date=*/*; do size=$(stat -c %s "$f"); '
        'truncate -s +1M "$f"; truncate -s "$size" "$f"; done; truncate -s 10 "$DEST/_notes.txt"'
    ),
    "fallocate": (
        'cp -a "$SRC/." "$DEST/"; for f in "$DEST"/date=*/*; do fallocate -n -l 1M "$f"; done; '
        'fallocate -p -o 0 -l 4096 "$DEST/_notes.txt"; fallocate -z -o 9 -l 99 "$DEST/_notes.txt"'
    ),
    "Python copytree": python_calls.copytree,
    "Python copyfile": python_calls.copyfile,
    "Python os.replace": python_calls.replace,
    "Python mmap": python_calls.mapped,
    "Python mmap and flush": python_calls.mapped_and_flushed,
    "Python sendfile": python_calls.sendfile,
    "Python copy_file_range": python_calls.copy_range,
    "Python O_APPEND": python_calls.append,
    "Python pwrite backwards": python_calls.backwards,
    "Python truncate": python_calls.truncated,
    "Python posix_fallocate": python_calls.allocated,
    "Python holes": python_calls.holes,
    "Python link": python_calls.link,
    "Python unlink while open": python_calls.unlink_open,
    "Python rename over an open file": python_calls.replace_open,
    "Python RENAME_NOREPLACE": python_calls.no_replace,
    "Python RENAME_EXCHANGE": python_calls.exchange,
    "Python rename of folders": python_calls.folders,
    "Python locks": python_calls.locks,
    "Python statvfs": python_calls.space,
    "Python refusals": python_calls.refusals,
}

# The destination has more than the sources; these take it away.
DELETE = {
    "rsync -a --delete": 'rsync -a --delete "$SRC/" "$DEST/"',
    "rsync -a --delete-before --inplace": 'rsync -a --delete-before --inplace "$SRC/" "$DEST/"',
    "rsync -a --delete-after": 'rsync -a --delete-after "$SRC/" "$DEST/"',
    "rsync -a --delete-delay --partial": 'rsync -a --delete-delay --partial "$SRC/" "$DEST/"',
    "rsync -a --delete --max-delete": 'rsync -a --delete --max-delete=1 "$SRC/" "$DEST/"',
    "rsync -a --delete --backup": (
        'rsync -a --delete --backup --backup-dir=_gone "$SRC/" "$DEST/"; find "$DEST/_gone" -delete'
    ),
    "rsync --remove-source-files": (
        'rsync -a --remove-source-files "$DEST/extra" "$DEST"/date=*/extra* "$WORK/"; '
        'find "$DEST" -mindepth 1 -type d -empty -delete'
    ),
    "rclone sync": 'rclone sync "$SRC" "$DEST"',
    "rclone sync --create-empty-src-dirs": (
        'rclone sync --create-empty-src-dirs --delete-after "$SRC" "$DEST"'
    ),
    "rclone move": 'rclone move "$DEST/extra" "$WORK/extra"; rclone rmdirs "$DEST"',
    "rclone purge": 'rclone purge "$DEST/extra"',
    "rm -r": (
        'rm -r "$DEST/extra"; rm "$DEST"/date=*/extra*; '
        'rmdir --ignore-fail-on-non-empty "$DEST"/date=*'
    ),
    "rm -r of all": 'rm -r "$DEST"/*',
    "rm without -r": 'rm "$DEST"/*',
    "rm -r, then cp -a": 'rm -rf "${DEST:?}"/*; cp -a "$SRC/." "$DEST/"',
    "rm -r and mkdir of the directory itself": (
        'rm -r "$DEST"; mkdir "$DEST"; cp -a "$SRC/." "$DEST/"'
    ),
    "rmdir": 'rmdir "$DEST/extra"',
    "rmdir -p": 'cd "$DEST"; rm -r extra/[!d]*; rmdir -p extra/deep/er',
    "find -delete": 'find "$DEST" -path "*extra*" -delete',
    "find -delete of all": 'find "$DEST" -mindepth 1 -delete',
    "find -empty -delete": 'find "$DEST" -name "_*" -delete; find "$DEST" -empty -delete',
    "mv out": 'mv "$DEST/extra" "$DEST"/date=*/extra* "$WORK/"',
    "tar --remove-files": 'tar -C "$DEST" -cf "$WORK/a.tar" --remove-files extra',
    "Python rmtree": python_calls.rmtree,
}

# A version of the table, from the mount or from a backup that was made of it.
RESTORE = {
    "cp -a of a version": 'cp -a "$VERSION/." "$DEST/"',
    "cp -r of a version": 'cp -r "$VERSION/." "$DEST/"',
    "cp -al of a version": 'cp -al "$VERSION/." "$DEST/"',
    "cp -al, then cp -a over it": 'cp -al "$VERSION/." "$DEST/"; cp -a "$BACKUP/." "$DEST/"',
    "cp -al, then a touch of each": (
        'cp -al "$VERSION/." "$DEST/"; find "$DEST" -type f -exec touch -d @1e9 {} +'
    ),
    "cp -a of a backup": 'cp -a "$BACKUP/." "$DEST/"',
    "rsync -a of a version": 'rsync -a "$VERSION/" "$DEST/"',
    "rsync -a of a backup": 'rsync -a "$BACKUP/" "$DEST/"',
    "rsync -a, then a version with --inplace --no-whole-file": (
        'rsync -a "$BACKUP/" "$DEST/"; '
        'rsync -rc --inplace --no-whole-file "$VERSION/" "$DEST/"'
    ),
    "rsync -aH --delete of a backup": (
        'mkdir "$DEST/junk"; echo junk >"$DEST/junk/f"; rsync -aH --delete "$BACKUP/" "$DEST/"'
    ),
    "rsync -a --link-dest=version": 'rsync -a --link-dest="$VERSION" "$BACKUP/" "$DEST/"',
    "rsync -a --copy-dest=version": 'rsync -a --copy-dest="$VERSION" "$BACKUP/" "$DEST/"',
    "tar -xp of a backup": 'tar -C "$DEST" -xpf "$BACKUP.tar"',
    "tar of a version, tar -xp": 'tar -C "$VERSION" -c . | tar -C "$DEST" -xpf -',
    "restic restore of a version": 'restic restore "$(<"$BACKUP.restic")" --target "$DEST"',
    "restic restore --verify": (
        'restic restore "$(<"$BACKUP.restic")" --verify --target "$DEST"'
    ),
    "borg extract of a version": 'cd "$DEST"; borg extract "::$(<"$BACKUP.borg")"',
    "borg extract --sparse": 'cd "$DEST"; borg extract --sparse "::$(<"$BACKUP.borg")"',
    "rclone copy of a version": 'rclone copy "$VERSION" "$DEST"',
    "rclone sync of a backup": 'rclone sync "$BACKUP" "$DEST"',
    "rclone check": 'rclone copy "$BACKUP" "$DEST"; rclone check "$VERSION" "$DEST"',
    "mv of a backup": 'cp -a "$BACKUP" "$WORK/b"; mv "$WORK/b"/* "$DEST/"',
    "install of a backup": (
        'cd "$BACKUP"; find . -type f | while read -r f; do install -D -p "$f" "$DEST/$f"; done'
    ),
    "Python copytree of a version": python_calls.copytree,
    "Python copy_file_range of a version": python_calls.copy_range,
    "Python sendfile of a version": python_calls.sendfile,
    "Python os.replace of a version": python_calls.replace,
}

# What staging refuses by design, with the exit code that FACTS.md measured for the refusal: a table
# holds files and directories alone, so a symlink and a device or pipe is EPERM.
SYMLINK = 'ln -s _notes.txt "$SRC/_symlink"; '
PIPE = 'mkfifo "$SRC/_pipe"; '
REFUSED = {
    "cp -a with a symlink": (SYMLINK + 'cp -a "$SRC/." "$DEST/"', 1),
    "rsync -a with a symlink": (SYMLINK + 'rsync -a "$SRC/" "$DEST/"', 23),
    "tar -xp with a symlink": (SYMLINK + 'tar -C "$SRC" -c . | tar -C "$DEST" -xpf -', 2),
    "ln -s": ('cp -a "$SRC/." "$DEST/"; ln -s _notes.txt "$DEST/_symlink"', 1),
    "cp -a with a pipe": (PIPE + 'cp -a "$SRC/." "$DEST/"', 1),
    "rsync -a with a pipe": (PIPE + 'rsync -a "$SRC/" "$DEST/"', 23),
    "tar -xp with a pipe": (PIPE + 'tar -C "$SRC" -c . | tar -C "$DEST" -xpf -', 2),
}

# There are no extended attributes, and so no access control lists. A tool that sets the list that
# the mode makes anyhow takes EOPNOTSUPP for an answer (FACTS.md: exit 0; each `cp -a` above does
# so). A list or an attribute that says more is lost, and who was told to keep it says so.
ATTRIBUTE = 'chmod u+w "$SRC/_notes.txt"; setfattr -n user.x -v y "$SRC/_notes.txt"; '
LIST = 'setfacl -m u:12:r "$SRC/_notes.txt"; '
WITHOUT_ATTRIBUTES = {
    "cp -a with an access list": (LIST + 'cp -a "$SRC/." "$DEST/"', 1),
    "cp -r with an access list": (LIST + 'cp -r "$SRC/." "$DEST/"', 0),
    "rsync -a with an access list": (LIST + 'rsync -a "$SRC/" "$DEST/"', 0),
    "rsync -aA": (LIST + 'rsync -aA "$SRC/" "$DEST/"', 23),
    "cp -a with an attribute": (ATTRIBUTE + 'cp -a "$SRC/." "$DEST/"', 0),
    "cp -r --preserve=xattr": (ATTRIBUTE + 'cp -r --preserve=xattr "$SRC/." "$DEST/"', 1),
    "rsync -a with an attribute": (ATTRIBUTE + 'rsync -a "$SRC/" "$DEST/"', 0),
    "rsync -aX": (ATTRIBUTE + 'rsync -aX "$SRC/" "$DEST/"', 23),
    "tar -xp with an attribute": (
        ATTRIBUTE + 'tar -C "$SRC" -c . | tar -C "$DEST" -xpf -', 0
    ),
}
