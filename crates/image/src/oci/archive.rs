//! Where the parts of a layout are in a tar. The archive is walked once, header by header; nothing else is read.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::B256;
use tar::{EntryType, Header};

use super::{
    ReadError,
    blobs::{DOCKER, INDEX, LAYOUT, Region, failed},
};
use crate::document::of_digits;

const BLOCK: u64 = 512;

/// The most entries that are looked at. An image has a few hundred.
const MAX_ENTRIES: u64 = 100_000;

/// The most bytes of an entry that only describes the next one.
const MAX_EXTENSION: u64 = 64 << 10;

/// The parts of a layout in a tar.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    /// Start and length of each file that a layout may have. Their names are not kept: they may be of any length.
    files: HashMap<Part, (u64, u64)>,
}

/// A file that a layout may have.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Part {
    Document(&'static str),
    Blob(B256),
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("blobs/sha256/") {
            Some(digits) => of_digits(digits).map(Self::Blob),
            None => {
                let mut documents = [INDEX, LAYOUT, DOCKER].into_iter();
                documents.find(|document| *document == name).map(Self::Document)
            }
        }
    }
}

/// What entries before this one say about it.
#[derive(Default)]
struct Described {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Archive {
    /// Walks the archive. As everywhere with tar, the last of several files with one name counts.
    pub(super) fn index(file: File, path: &Path) -> Result<Self, ReadError> {
        let end = file.metadata().map_err(failed("examine", path))?.len();
        let mut archive = Self { file: Arc::new(file), path: path.into(), files: HashMap::new() };
        let mut described = Described::default();
        let mut offset = 0;
        for _ in 0..MAX_ENTRIES {
            let Some(header) = archive.header(offset, end)? else { return Ok(archive) };
            let start = offset + BLOCK;
            let kind = header.entry_type();
            let own = header.entry_size().map_err(|_| damaged("a size that is no number"))?;
            let size = if is_extension(kind) { own } else { described.size.unwrap_or(own) };
            if end.checked_sub(start).is_none_or(|left| size > left) {
                return Err(damaged("it ends before its last file does"));
            }
            match kind {
                EntryType::GNULongName => {
                    let name = archive.extension(start, size)?;
                    let mut name = name.ok_or_else(|| damaged("a name that is too long"))?;
                    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                    described.path = Some(name);
                }
                EntryType::XHeader => archive.pax(start, size, &mut described)?,
                EntryType::XGlobalHeader | EntryType::GNULongLink => {}
                EntryType::GNUSparse => return Err(damaged("a file with holes")),
                _ => {
                    let name = described.path.take();
                    described = Described::default();
                    if kind.is_file() {
                        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
                        archive.note(&name, start, size);
                    }
                }
            }
            // Cannot overflow: the size is that of a part of a file.
            offset = start + size.next_multiple_of(BLOCK);
        }
        Err(damaged("more entries than an image has"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        Part::named(name).is_some_and(|part| self.files.contains_key(&part))
    }

    pub(super) fn find(&self, name: &str) -> Result<Region, ReadError> {
        let found = Part::named(name).and_then(|part| self.files.get(&part));
        let &(start, length) = found.ok_or_else(|| ReadError::Missing { name: name.into() })?;
        Ok(Region { file: Arc::clone(&self.file), path: self.path.clone(), start, length })
    }

    /// The header at `offset`; `None` at the end of the archive.
    fn header(&self, offset: u64, end: u64) -> Result<Option<Header>, ReadError> {
        if offset >= end {
            return if offset == 0 { Err(self.no_tar([0; 6])) } else { Ok(None) };
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        match self.file.read_exact_at(block, offset) {
            Ok(()) if offset > 0 && block.iter().all(|byte| *byte == 0) => return Ok(None),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && offset > 0 => {
                return Err(damaged("it ends in the middle of a header"));
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(source) => return Err(failed("read", &self.path)(source)),
        }
        let magic = [block[0], block[1], block[2], block[3], block[4], block[5]];
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        // The field of the sum itself counts as blanks.
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        match header.cksum() {
            Ok(stated) if stated == sum - own + 8 * u32::from(b' ') => Ok(Some(header)),
            _ if offset == 0 => Err(self.no_tar(magic)),
            _ => Err(damaged("a header does not match its sum")),
        }
    }

    fn no_tar(&self, magic: [u8; 6]) -> ReadError {
        let found = match magic {
            [0x1f, 0x8b, ..] => "a file compressed by gzip. Decompress it first",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "a file compressed by zstd. Decompress it first",
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "a file compressed by xz. Decompress it first",
            [b'B', b'Z', b'h', ..] => "a file compressed by bzip2. Decompress it first",
            _ => "neither a tar nor a folder",
        };
        ReadError::NotAnImage { path: self.path.clone(), found }
    }

    /// What describes the next entry; `None` where it is longer than anything that does.
    fn extension(&self, start: u64, size: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let size = Some(size).filter(|size| *size <= MAX_EXTENSION);
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else { return Ok(None) };
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, start).map_err(failed("read", &self.path))?;
        Ok(Some(bytes))
    }

    fn pax(&self, start: u64, size: u64, described: &mut Described) -> Result<(), ReadError> {
        let extension = self.extension(start, size)?;
        let extension =
            extension.ok_or_else(|| damaged("a header in the form of pax that is too long"))?;
        let mut left = &*extension;
        while !left.is_empty() {
            let wrong = || damaged("a header in the form of pax is wrong");
            let (key, value, rest) = record(left).ok_or_else(wrong)?;
            left = rest;
            match key {
                b"path" => described.path = Some(value.into()),
                b"size" => {
                    let size = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
                    described.size = Some(size.ok_or_else(|| damaged("a size is no number"))?);
                }
                // A file with holes in the form of pax stands there under another size than its own.
                key if key.starts_with(b"GNU.sparse") => return Err(damaged("a file with holes")),
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, name: &[u8], start: u64, size: u64) {
        let Ok(name) = str::from_utf8(name) else { return };
        if let Some(part) = Part::named(name.trim_start_matches("./")) {
            self.files.insert(part, (start, size));
        }
    }
}

/// The key and the value of the first record of a header in the form of pax, and what follows it. Each is
/// `length key=value` and a line break, where the length counts all of it: a value may hold line breaks as well.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length = str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Whether an entry describes another: what is said about the next file does not concern it.
fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | EntryType::XGlobalHeader
    )
}

const fn damaged(reason: &'static str) -> ReadError {
    ReadError::DamagedArchive { reason }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_what_a_layout_has_is_kept() {
        let digits = "ab".repeat(32);
        let mut builder = tar::Builder::new(Vec::new());
        for name in [
            "index.json".into(),
            "./oci-layout".into(),
            "manifest.json".into(),
            format!("blobs/sha256/{digits}"),
            format!("./blobs/sha256/{digits}"),
            format!("blobs/sha256/{}", digits.to_uppercase()),
            format!("blobs/sha256/0x{digits}"),
            format!("blobs/sha256/{digits}x"),
            format!("blobs/sha256/{}", "a/".repeat(30_000)),
            format!("blobs/sha512/{digits}"),
            "repositories".into(),
        ] {
            let mut header = Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, name, io::empty()).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        let archive = Archive::index(file, Path::new("x")).unwrap();
        assert_eq!(archive.files.len(), 4);
        assert!(archive.has(&format!("blobs/sha256/{digits}")));
        assert!(archive.has("manifest.json") && !archive.has("repositories"));
    }
}
