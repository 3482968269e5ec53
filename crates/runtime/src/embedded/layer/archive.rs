//! Reads a tar entry by entry: headers, what GNU tar and pax add to them, and contents as a stream.
//!
//! Every size that a header names is bounded before anything is reserved for it. Sparse files are refused: they would
//! take more space than the archive, which is what the bound of a layer counts.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::LayerError;

const BLOCK: usize = 512;

/// The most that one extension may hold, in bytes: a long name, or the pax records of one entry.
const MAX_EXTENSION: u64 = 1 << 20;

/// The most extended headers before one entry.
const MAX_EXTENSIONS: usize = 16;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another name for a file.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A device.
    Device,
    /// A kind that only some systems know.
    Other,
}

/// One entry, as written: nothing of it has been checked but that its numbers are numbers.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// Where a link points to; empty for what is no link.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) user: u64,
    pub(super) group: u64,
    /// Seconds since 1970.
    pub(super) modified: u64,
    /// Extended attributes, of every kind.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What pax records and GNU headers say about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    modified: Option<u64>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar that is being read.
pub(super) struct Archive<R> {
    input: R,
    /// Bytes of the current entry's content that were not read yet.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extensions = Extensions::default();
        for _ in 0..=MAX_EXTENSIONS {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| LayerError::bad("a size is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    extensions.path = Some(terminated(self.extension(size)?));
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(terminated(self.extension(size)?));
                }
                EntryType::XHeader => extensions.add(&self.extension(size)?)?,
                // Defaults for all that follows; what builds images writes comments there.
                EntryType::XGlobalHeader => self.begin(size),
                kind => {
                    let entry = extensions.complete(&header, kind)?;
                    let size = extensions.size.unwrap_or(size);
                    // Only files have content, whatever the size of something else says.
                    self.begin(if has_content(kind) { size } else { 0 });
                    return Ok(Some(entry));
                }
            }
        }
        Err(LayerError::bad("too many extended headers before one entry"))
    }

    /// All that follows the end of the archive.
    pub(super) fn into_rest(self) -> R {
        self.input
    }

    fn begin(&mut self, size: u64) {
        let block = BLOCK as u64;
        self.left = size;
        self.padding = (block - size % block) % block;
    }

    /// Leaves what is left of the current entry behind.
    fn skip(&mut self) -> Result<(), LayerError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())
            .map_err(LayerError::reading)?;
        (self.left, self.padding) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(LayerError::truncated()) }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > MAX_EXTENSION {
            return Err(LayerError::bad("an extended header of more than 1 MiB"));
        }
        self.begin(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content).map_err(LayerError::reading)?;
        Ok(content)
    }

    /// The next header block; `None` at two empty blocks, or where the archive just ends.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(LayerError::bad("an empty block within the archive"))
                }
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // Its own field counts as eight spaces.
        let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        match header.cksum() {
            Ok(found) if found == expected => Ok(Some(header)),
            _ => Err(LayerError::bad("it is no tar, or damaged")),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(LayerError::truncated()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::reading(error)),
            }
        }
        Ok(Some(block))
    }
}

/// The content of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.input).take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other(LayerError::truncated()));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Adds the records `length key=value\n` of a pax header.
    fn add(&mut self, mut records: &[u8]) -> Result<(), LayerError> {
        let bad = || LayerError::bad("a pax record makes no sense");
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length = number(&records[..space]).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length <= records.len()).ok_or_else(bad)?;
            let record = records.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        let bad = || LayerError::bad("a number of a pax record is none");
        match key {
            b"path" => self.path = Some(value.to_owned()),
            b"linkpath" => self.link = Some(value.to_owned()),
            b"size" => self.size = Some(number(value).ok_or_else(bad)?),
            b"uid" => self.user = Some(number(value).ok_or_else(bad)?),
            b"gid" => self.group = Some(number(value).ok_or_else(bad)?),
            // With a fraction, and before 1970 with a sign.
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                self.modified = Some(number(whole).unwrap_or(0));
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(LayerError::bad("it holds a sparse file"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// The entry of a header together with these extensions, which stay but for what they give away.
    fn complete(&mut self, header: &Header, kind: EntryType) -> Result<Entry, LayerError> {
        let raw = header.as_old();
        let path = self.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind {
            // Old archives mark a folder by its name alone.
            EntryType::Regular if header.as_ustar().is_none() && path.ends_with(b"/") => {
                Kind::Folder
            }
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::GNUSparse => return Err(LayerError::bad("it holds a sparse file")),
            _ => Kind::Other,
        };
        let link = || header.link_name_bytes().unwrap_or_default().into_owned();
        Ok(Entry {
            kind,
            path,
            link: self.link.take().unwrap_or_else(link),
            mode: field(&raw.mode, header.mode())?,
            user: self.user.map_or_else(|| field(&raw.uid, header.uid()), Ok)?,
            group: self.group.map_or_else(|| field(&raw.gid, header.gid()), Ok)?,
            modified: self.modified.map_or_else(|| field(&raw.mtime, header.mtime()), Ok)?,
            attributes: std::mem::take(&mut self.attributes),
        })
    }
}

/// The number in a field of a header; an empty one means zero.
fn field<T: Default>(raw: &[u8], number: io::Result<T>) -> Result<T, LayerError> {
    if raw.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    number.map_err(|_| LayerError::bad("a number of a header is none"))
}

fn has_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Directory
            | EntryType::Symlink
            | EntryType::Link
            | EntryType::Fifo
            | EntryType::Char
            | EntryType::Block
    )
}

/// A name up to its first null byte.
fn terminated(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    name
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::Builder;

    use super::*;

    fn entry(name: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let mut length = body.len();
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        format!("{length}{body}").into_bytes()
    }

    fn error(bytes: &[u8]) -> String {
        let mut archive = Archive::new(bytes);
        loop {
            match archive.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => return error.to_string(),
            }
        }
    }

    #[test]
    fn long_names_of_both_kinds_and_contents_are_read() {
        let name = "folder/".repeat(40);
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        builder.append_data(&mut header, format!("{name}a"), &b"abc"[..]).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 2 * BLOCK);
        let records = [record("path", &format!("{name}b")), record("uid", "3000000")].concat();
        bytes.extend(entry(b"pax", EntryType::XHeader, &records));
        bytes.extend(entry(b"short", EntryType::Regular, b"de"));
        bytes.extend([0; 2 * BLOCK]);

        let mut archive = Archive::new(&bytes[..]);
        let mut content = String::new();
        let first = archive.next().unwrap().unwrap();
        assert_eq!(first.path, format!("{name}a").as_bytes());
        archive.read_to_string(&mut content).unwrap();
        let second = archive.next().unwrap().unwrap();
        assert_eq!(second.path, format!("{name}b").as_bytes());
        assert_eq!((second.user, second.group, second.modified), (3_000_000, 8, 9));
        archive.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abcde");
        assert!(archive.next().unwrap().is_none());
    }

    #[test]
    fn content_that_is_not_read_is_left_behind() {
        let mut bytes = entry(b"a", EntryType::Regular, &[1; 700]);
        bytes.extend(entry(b"b", EntryType::Directory, b""));
        let mut archive = Archive::new(&bytes[..]);
        assert_eq!(archive.next().unwrap().unwrap().path, b"a");
        assert_eq!(archive.next().unwrap().unwrap().kind, Kind::Folder);
        assert!(archive.next().unwrap().is_none(), "an archive may just end");
    }

    #[test]
    fn attributes_are_taken_as_they_are_written() {
        let records =
            [record("SCHILY.xattr.user.note", "yes"), record("SCHILY.xattr.trusted.x", "y")];
        let mut bytes = entry(b"pax", EntryType::XHeader, &records.concat());
        bytes.extend(entry(b"a", EntryType::Regular, b""));
        let entry = Archive::new(&bytes[..]).next().unwrap().unwrap();
        let expected =
            [(b"user.note".to_vec(), b"yes".to_vec()), (b"trusted.x".to_vec(), b"y".to_vec())];
        assert_eq!(entry.attributes, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut damaged = entry(b"a", EntryType::Regular, b"");
        damaged[0] = b'b';
        assert!(error(&damaged).contains("it is no tar"));
        assert!(error(b"just some bytes").contains("ends early"));
        assert!(error(&entry(b"a", EntryType::Regular, &[1; 700])[..1_000]).contains("ends early"));
        assert!(error(&entry(b"a", EntryType::GNUSparse, b"")).contains("sparse"));
        let sparse = entry(b"pax", EntryType::XHeader, &record("GNU.sparse.major", "1"));
        assert!(error(&sparse).contains("sparse"));
        for records in ["x", "5 a=b\n", "99 a=b\n", "6 a=b ", "1 ", "0 a=b\n", "6 size\n"] {
            assert!(
                error(&entry(b"pax", EntryType::XHeader, records.as_bytes())).contains("pax"),
                "{records}"
            );
        }
    }

    #[test]
    fn extensions_do_not_add_up_without_a_bound() {
        let one = entry(b"pax", EntryType::XHeader, &record("SCHILY.xattr.user.a", "b"));
        assert!(error(&one.repeat(MAX_EXTENSIONS + 1)).contains("too many"));
    }

    #[test]
    fn a_huge_extension_is_refused_before_it_is_read() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(MAX_EXTENSION + 1);
        header.set_cksum();
        assert!(error(header.as_bytes()).contains("1 MiB"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut damaged = entry(b"pax", EntryType::XHeader, &bytes);
            damaged.extend_from_slice(&bytes);
            let mut archive = Archive::new(&damaged[..]);
            while let Ok(Some(_)) = archive.next() {}
        }
    }
}
