//! The kernel's table of mounts, `/proc/self/mountinfo` (proc(5)): what is mounted where.
//!
//! Read before anything is mounted or unmounted, because a path alone doesn't say whose mount it
//! is. A mount that is dead is still in the table, and the table never asks its daemon.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file system type that every mount of ours has.
pub const TYPE: &str = "fuse.deltafs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of this mount; it is not given twice while the mount lives.
    pub id: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// Where it is.
    pub point: PathBuf,
    /// Its type, such as `fuse.deltafs`.
    pub kind: String,
    /// What it was mounted from.
    pub source: OsString,
}

impl Mount {
    /// Whether deltafs made it.
    pub fn is_ours(&self) -> bool {
        self.kind == TYPE
    }
}

/// All mounts that this process sees, in the order they were made.
pub fn mounts() -> Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo")
        .map_err(|error| Error::from_io("read /proc/self/mountinfo", &error))?;
    Ok(parse(&table))
}

/// The mount that is visible at exactly this path: the last one made there.
pub fn mount_at(point: &Path) -> Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|mount| mount.point == point))
}

/// The mount that a path is in.
pub fn mount_of(path: &Path) -> Result<Option<Mount>> {
    let mut best: Option<Mount> = None;
    for mount in mounts()? {
        let depth = |mount: &Mount| mount.point.components().count();
        let deeper = best.as_ref().is_none_or(|best| depth(best) <= depth(&mount));
        if path.starts_with(&mount.point) && deeper {
            best = Some(mount);
        }
    }
    Ok(best)
}

/// Takes the table apart; lines that don't have the documented form are left out.
fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point options optional… - type source super-options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?;
    let point = unescape(fields.nth(1)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source) = (fields.next()?, fields.next()?);
    Some(Mount {
        id,
        device: String::from_utf8_lossy(device).into_owned(),
        point: PathBuf::from(point),
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: unescape(source),
    })
}

/// Undoes the table's escapes: space, tab, newline, backslash and `#` are `\` and three octal
/// digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, octal(after)) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..3)?).ok()?;
    digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')).then_some(())?;
    u8::from_str_radix(digits, 8).ok()
}

/// A source as one name in the table, whatever bytes it has.
pub fn source_name(source: &OsStr) -> OsString {
    let clean = |byte: &u8| if byte.is_ascii_control() { b'?' } else { *byte };
    OsString::from_vec(source.as_bytes().iter().map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
37 22 0:33 / /mnt/my\\040lake rw,nosuid,nodev - fuse.deltafs /data/a\\134b\\011c rw,user_id=0
cut short
38 22 0:34 / /mnt/x rw - fuse.deltafs /data rw
39 22 0:35 / /mnt/x rw - tmpfs tmpfs rw
";

    #[test]
    fn lines_are_taken_apart_with_their_escapes() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].kind, "ext4");
        assert_eq!(mounts[0].point, Path::new("/"));
        assert_eq!(mounts[1].id, 37);
        assert_eq!(mounts[1].device, "0:33");
        assert_eq!(mounts[1].point, Path::new("/mnt/my lake"));
        assert_eq!(mounts[1].source, "/data/a\\b\tc");
        assert!(mounts[1].is_ours());
        assert!(!mounts[3].is_ours());
    }

    #[test]
    fn only_three_octal_digits_are_an_escape() {
        assert_eq!(unescape(b"a\\040b"), "a b");
        assert_eq!(unescape(b"a\\"), "a\\");
        assert_eq!(unescape(b"a\\04"), "a\\04");
        assert_eq!(unescape(b"a\\0x9"), "a\\0x9");
        assert_eq!(unescape(b"a\\777"), "a\\777");
        assert_eq!(unescape(b"\\134\\040"), "\\ ");
    }

    #[test]
    fn the_root_is_a_mount_of_something() {
        let root = mount_at(Path::new("/")).expect("the table is readable");
        assert!(root.is_some_and(|mount| !mount.is_ours()));
        let of = mount_of(Path::new("/proc/self")).expect("the table is readable");
        assert_eq!(of.map(|mount| mount.kind).as_deref(), Some("proc"));
    }

    #[test]
    fn a_source_is_one_printable_name() {
        assert_eq!(source_name(OsStr::new("/a\nb\tc")), "/a?b?c");
    }
}
