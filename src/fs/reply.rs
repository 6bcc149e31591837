//! How the values of the layers below become replies to the kernel.

use std::time::Duration;

use fuser::{Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyStatfs};

use crate::fs::attributes::file_attr;
use crate::namespace::{Attributes, Found};
use crate::table::staging::Space;

pub fn reply_entry(reply: ReplyEntry, found: Found) {
    let attr = file_attr(&found.attributes);
    let (name, attributes) = (found.name_lifetime, found.attributes_lifetime);
    reply.entry_with_ttls(&attributes, &name, &attr, Generation(0));
}

pub fn reply_attr(reply: ReplyAttr, (attributes, lifetime): (Attributes, Duration)) {
    reply.attr(&lifetime, &file_attr(&attributes));
}

pub fn reply_empty(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

pub fn reply_statfs(reply: ReplyStatfs, space: Space) {
    let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    reply.statfs(
        space.blocks,
        space.blocks_free,
        space.blocks_available,
        space.files,
        space.files_free,
        narrow(space.block_size),
        narrow(space.name_max),
        narrow(space.block_size),
    );
}
