//! Links from a version into staging: `ln`, and `cp -al versions/3/. staging/undo/`.
//!
//! A data file becomes a reference, which costs no bytes. The other files of a version (log,
//! deletion vectors) are small, and staging must hold them itself to be read as a table: they are
//! copied. Both give an inode of its own, which the kernel takes as the answer to LINK.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::serve::on_disk;
use crate::fs::staged::Place;
use crate::fs::{State, errno};
use crate::namespace::{Attributes, Found, Node, Opened};
use crate::table::Table;
use crate::table::staging::{OpenFor, Owner, SetAttributes, SetTime, StagedFile, Stat};

/// How much is copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

impl State {
    /// Gives a version's file a name in staging of the same table.
    pub(super) async fn link_version(
        &self,
        inode: u64,
        node: &Node,
        to: Place,
        name: &OsStr,
        owner: Owner,
    ) -> Result<Found> {
        let table = table_of(node)
            .ok_or_else(|| errno::across("link: only files of a version go into staging"))?;
        if !Arc::ptr_eq(table, &to.table) {
            return Err(errno::across("link: from another table"));
        }
        let (attributes, _) = self.attributes(inode).await?;
        let read = OpenFor { read: true, ..OpenFor::default() };
        let opened = self.namespace.open(node, read).await?;
        let reference = self.namespace.reference(node);
        let (place, name) = (to.clone(), name.to_owned());
        let stat = on_disk(move || match (opened, reference) {
            (Opened::Local { file, .. }, Some((_, reference))) => {
                place.staging.link_reference(&reference, &file, place.id, &name, owner)
            }
            (Opened::Local { file, size }, None) => {
                copy(&place, &name, owner, &attributes, |target| copy_file(&file, size, target))
            }
            (Opened::Memory(bytes), _) => {
                copy(&place, &name, owner, &attributes, |target| write_all(target, 0, &bytes))
            }
            (Opened::Staged(_) | Opened::Control(_), _) => {
                Err(errno::across("link: only files of a version go into staging"))
            }
        })
        .await?;
        Ok(self.staged_entry(&to, stat))
    }
}

/// The table that a version's file belongs to.
fn table_of(node: &Node) -> Option<&Arc<Table>> {
    match node {
        Node::DataFile { table, .. }
        | Node::LogFile { table, .. }
        | Node::LastCheckpoint { table, .. } => Some(table),
        _ => None,
    }
}

/// Makes a file in staging with the content that `fill` writes and the attributes of its source; a
/// file that can't be filled doesn't stay.
fn copy(
    place: &Place,
    name: &OsStr,
    owner: Owner,
    attributes: &Attributes,
    fill: impl FnOnce(&StagedFile) -> Result<()>,
) -> Result<Stat> {
    let staging = &place.staging;
    let open = OpenFor { write: true, exclusive: true, ..OpenFor::default() };
    let mode = u32::from(attributes.mode);
    let (stat, file) = staging.create(place.id, name, mode, owner, open)?;
    let times = SetAttributes {
        atime: Some(SetTime::At(attributes.atime)),
        mtime: Some(SetTime::At(attributes.mtime)),
        ..SetAttributes::default()
    };
    // While it is open for writing no commit can take it as it is by then.
    let made = fill(&file)
        .and_then(|()| staging.set_attributes(stat.id, times))
        .and_then(|stat| file.flush().map(|()| stat));
    made.inspect_err(|_| {
        if let Err(error) = staging.unlink(place.id, name) {
            tracing::warn!("remove a link that could not be made: {error}");
        }
    })
}

fn copy_file(source: &File, size: u64, target: &StagedFile) -> Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < size {
        let step = usize::try_from(size - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        source
            .read_exact_at(&mut chunk[..step], offset)
            .map_err(|error| Error::from_io("link: read the version's file", &error))?;
        write_all(target, offset, &chunk[..step])?;
        offset += step as u64;
    }
    Ok(())
}

fn write_all(target: &StagedFile, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = target.write(offset, bytes, false)?;
        if written == 0 {
            return Err(Error::NoSpace("link: the spool takes no more bytes".into()));
        }
        offset += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}
