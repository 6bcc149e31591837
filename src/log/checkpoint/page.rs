//! What a Parquet page's header claims, read before the page is.
//!
//! The Parquet reader unpacks whatever a header promises, up to 2 GiB a page. Its own header type
//! is private, so the few numbers are taken from the Thrift bytes here (parquet-format's
//! `PageHeader`, compact protocol). Nothing is allocated, and any text of bytes is answered.

/// Structs within structs; a page header has two.
const DEPTH_MAX: usize = 8;

/// The numbers of a page header that decide over memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageClaims {
    pub uncompressed_bytes: u64,
    pub values: u64,
}

/// Why a header can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The bytes end before it does.
    Cut,
    /// No header, or one that says something twice.
    Damaged,
}

type Result<T> = std::result::Result<T, Unclear>;

impl PageClaims {
    /// Reads the header at the beginning of some bytes.
    pub fn read(bytes: &[u8]) -> Result<PageClaims> {
        let mut input = Input { rest: bytes };
        let mut claims = PageClaims::default();
        let mut seen = [false; 16];
        let mut id = 0;
        while let Some((kind, next)) = input.field(id)? {
            id = next;
            if let Some(seen) = usize::try_from(id).ok().and_then(|id| seen.get_mut(id))
                && std::mem::replace(seen, true)
            {
                return Err(Unclear::Damaged);
            }
            match (id, kind) {
                (2, Kind::Integer) => claims.uncompressed_bytes = input.size()?,
                // The headers of a data page, a dictionary page and a data page V2 begin with it.
                (5 | 7 | 8, Kind::Struct) => claims.values = input.values()?.max(claims.values),
                // Of another type the reader would take them for what they should be.
                (2 | 5 | 7 | 8, _) => return Err(Unclear::Damaged),
                (_, kind) => input.skip(kind, 0)?,
            }
        }
        Ok(claims)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In the type itself.
    Boolean,
    Byte,
    Integer,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn of(nibble: u8) -> Result<Kind> {
        Ok(match nibble {
            1 | 2 => Kind::Boolean,
            3 => Kind::Byte,
            4..=6 => Kind::Integer,
            7 => Kind::Double,
            8 => Kind::Binary,
            9 | 10 => Kind::List,
            11 => Kind::Map,
            12 => Kind::Struct,
            13 => Kind::Uuid,
            _ => return Err(Unclear::Damaged),
        })
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    /// The next field's type and number; `None` at the end of the struct.
    fn field(&mut self, before: i64) -> Result<Option<(Kind, i64)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let kind = Kind::of(head & 0x0F)?;
        let id = match head >> 4 {
            0 => self.integer()?,
            delta => before + i64::from(delta),
        };
        if !(0..=i64::from(i16::MAX)).contains(&id) {
            return Err(Unclear::Damaged);
        }
        Ok(Some((kind, id)))
    }

    /// The first field of the struct, a count, and the rest skipped.
    fn values(&mut self) -> Result<u64> {
        let mut values = None;
        let mut id = 0;
        while let Some((kind, next)) = self.field(id)? {
            id = next;
            match (id, kind) {
                (1, Kind::Integer) if values.is_none() => values = Some(self.size()?),
                (1, _) => return Err(Unclear::Damaged),
                (_, kind) => self.skip(kind, 1)?,
            }
        }
        values.ok_or(Unclear::Damaged)
    }

    fn skip(&mut self, kind: Kind, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Unclear::Damaged);
        }
        match kind {
            Kind::Boolean => Ok(()),
            Kind::Byte => self.byte().map(drop),
            Kind::Integer => self.varint().map(drop),
            Kind::Double => self.take(8),
            Kind::Uuid => self.take(16),
            Kind::Binary => {
                let bytes = self.varint()?;
                self.take(bytes)
            }
            Kind::List => {
                let head = self.byte()?;
                let kind = Kind::of(head & 0x0F)?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                self.skip_items(count, kind, depth)
            }
            Kind::Map => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 0x0F)?);
                for _ in 0..count {
                    self.skip_items(1, key, depth)?;
                    self.skip_items(1, value, depth)?;
                }
                Ok(())
            }
            Kind::Struct => {
                let mut id = 0;
                while let Some((kind, next)) = self.field(id)? {
                    id = next;
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
        }
    }

    /// Skips what a list holds: there a boolean has a byte, so that each item ends the loop sooner.
    fn skip_items(&mut self, count: u64, kind: Kind, depth: usize) -> Result<()> {
        for _ in 0..count {
            match kind {
                Kind::Boolean => self.byte().map(drop)?,
                kind => self.skip(kind, depth + 1)?,
            }
        }
        Ok(())
    }

    fn size(&mut self) -> Result<u64> {
        u64::try_from(self.integer()?).map_err(|_| Unclear::Damaged)
    }

    /// A signed number in zigzag.
    fn integer(&mut self) -> Result<i64> {
        let coded = self.varint()?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unclear::Damaged)
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(Unclear::Cut)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| Unclear::Cut)?;
        self.rest = self.rest.get(bytes..).ok_or(Unclear::Cut)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thrift bytes of a header: type 0, sizes 300 and 200, and a data page header with 7 values,
    /// encodings and statistics with a text.
    const HEADER: &[u8] = &[
        0x15, 0x00, 0x15, 0xD8, 0x04, 0x15, 0x90, 0x03, 0x2C, 0x15, 0x0E, 0x15, 0x00, 0x15, 0x06,
        0x15, 0x06, 0x1C, 0x18, 0x03, b'm', b'a', b'x', 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_header_tells_its_size_and_values_and_nothing_when_it_is_cut() {
        let wanted = PageClaims { uncompressed_bytes: 300, values: 7 };
        assert_eq!(PageClaims::read(HEADER), Ok(wanted));
        assert_eq!(PageClaims::read(&[HEADER, b"page"].concat()), Ok(wanted));
        for cut in 0..HEADER.len() {
            assert_eq!(PageClaims::read(&HEADER[..cut]), Err(Unclear::Cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_header_that_says_its_size_twice_or_as_text_is_damage() {
        // Field 2 again, by its whole number.
        let twice = [&HEADER[..5], &[0x05, 0x04, 0xFE, 0x07], &HEADER[5..]].concat();
        assert_eq!(PageClaims::read(&twice), Err(Unclear::Damaged));
        assert_eq!(PageClaims::read(&[0x28, 0x01, b'x', 0x00]), Err(Unclear::Damaged));
        assert_eq!(PageClaims::read(&[0x25, 0x01, 0x00]), Err(Unclear::Damaged), "negative");
        assert_eq!(PageClaims::read(&[0x4F]), Err(Unclear::Damaged));
    }

    #[test]
    fn no_text_of_bytes_is_a_panic_or_an_endless_loop() {
        let mut number: u64 = 1;
        for round in 0..20_000 {
            let mut bytes = HEADER.to_vec();
            for _ in 0..=round % 7 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (number >> 33) as usize % bytes.len();
                bytes[at] = (number >> 56) as u8;
            }
            let _ = PageClaims::read(&bytes);
        }
        // A list of 2^60 structs.
        let list = [0x19, 0xFC, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(PageClaims::read(&list), Err(Unclear::Cut));
    }
}
