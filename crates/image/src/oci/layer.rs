//! The plain tar of one layer, from its blob. What came out counts only once [`LayerStream::finish`] agreed.
//!
//! Memory is bounded whatever the blob says: gzip looks back 32 KiB, and Zstandard at most 128 MiB, which is the
//! library's own bound.

use std::io::{self, BufReader, Read};

use alloy_primitives::B256;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zstd::stream::read::Decoder;

use super::{
    ReadError,
    blobs::{Region, RegionReader},
};
use crate::{LayerCompression, SourceLayer};

/// Bytes read from disk at a time.
const READ: usize = 128 << 10;

/// A blob that is being read: what was read is hashed.
struct Blob {
    region: RegionReader,
    hasher: Sha256,
    read: u64,
    stop: CancellationToken,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let read = self.region.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.read += u64::try_from(read).expect("a part of the blob");
        Ok(read)
    }
}

enum Unpacker {
    None(BufReader<Blob>),
    Gzip(MultiGzDecoder<BufReader<Blob>>),
    Zstd(Decoder<'static, BufReader<Blob>>),
}

impl Unpacker {
    fn packed(&mut self) -> &mut BufReader<Blob> {
        match self {
            Self::None(reader) => reader,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }

    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(reader) => reader.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// The plain tar of a layer, in pieces.
pub(crate) struct LayerStream {
    unpacker: Unpacker,
    name: String,
    layer: SourceLayer,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

impl LayerStream {
    pub(super) fn new(
        region: Region,
        name: String,
        layer: &SourceLayer,
        limit: u64,
        stop: CancellationToken,
    ) -> Result<Self, ReadError> {
        if region.length != layer.size {
            return Err(ReadError::Mismatch { name, property: "size" });
        }
        let blob = Blob { region: region.reader(), hasher: Sha256::new(), read: 0, stop };
        let blob = BufReader::with_capacity(READ, blob);
        let unpacker = match layer.compression {
            LayerCompression::None => Unpacker::None(blob),
            LayerCompression::Gzip => Unpacker::Gzip(MultiGzDecoder::new(blob)),
            LayerCompression::Zstd => match Decoder::with_buffer(blob) {
                Ok(decoder) => Unpacker::Zstd(decoder),
                Err(source) => return Err(ReadError::Corrupt { name, source }),
            },
        };
        Ok(Self { unpacker, name, layer: *layer, hasher: Sha256::new(), size: 0, limit })
    }

    /// Bytes of the blob that were read so far.
    pub(crate) fn consumed(&mut self) -> u64 {
        self.unpacker.packed().get_ref().read
    }

    /// Bytes of the tar so far.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Reads a piece of the tar into `buffer`, which is not empty. 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let read = self.unpacker.unpack(buffer).map_err(|source| self.failed(source))?;
        self.size += u64::try_from(read).expect("a part of a buffer");
        if self.size > self.limit {
            return Err(ReadError::TooLarge { name: self.name.clone(), max: self.limit });
        }
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }

    /// Checks the digests of the blob and of the tar, once the tar has ended. It ends only where the blob does: behind a
    /// gzip member or a Zstandard frame there is another one, or an error.
    pub(crate) fn finish(mut self) -> Result<(), ReadError> {
        let blob = self.unpacker.packed().get_ref();
        let blob = B256::from(<[u8; 32]>::from(blob.hasher.clone().finalize()));
        if blob != self.layer.digest {
            return Err(ReadError::Mismatch { name: self.name, property: "digest" });
        }
        if B256::from(<[u8; 32]>::from(self.hasher.finalize())) != self.layer.diff_id {
            return Err(ReadError::Mismatch { name: self.name, property: "diff id" });
        }
        Ok(())
    }

    fn failed(&mut self, source: io::Error) -> ReadError {
        if self.unpacker.packed().get_ref().stop.is_cancelled() {
            return ReadError::Stopped;
        }
        ReadError::Corrupt { name: self.name.clone(), source }
    }
}
