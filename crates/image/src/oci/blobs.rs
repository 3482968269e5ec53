//! The parts of a layout by their names, wherever they lie.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::B256;
use roadstead_crypto::sha256;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use serde::Deserialize;

use super::{ReadError, archive::Archive};
use crate::document::{parse, sha256_of};

/// The largest document of an image that is read, in bytes. Manifests and configurations have some kilobytes.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;

/// The largest file that only says that this is a layout.
const MAX_LAYOUT: u64 = 4 << 10;

pub(super) const INDEX: &str = "index.json";
pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const DOCKER: &str = "manifest.json";
const LAYOUT_VERSION: &str = "1.0.0";

/// Where the parts are.
#[derive(Debug)]
pub(super) enum Blobs {
    /// A folder, by its real path.
    Folder(PathBuf),
    /// A tar.
    Archive(Archive),
}

/// Bytes of a file.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) start: u64,
    pub(super) length: u64,
}

#[derive(Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// The name of a blob in a layout.
pub(super) fn blob_name(digest: B256) -> String {
    format!("blobs/sha256/{digest:x}")
}

impl Blobs {
    /// Finds out what lies at `path`, and whether it is an OCI layout.
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let not_an_image = |found| ReadError::NotAnImage { path: path.into(), found };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_an_image("there is no such file or folder"));
            }
            Err(source) => return Err(failed("examine", path)(source)),
        };
        let blobs = if metadata.is_dir() {
            Self::Folder(fs::canonicalize(path).map_err(failed("examine", path))?)
        } else if metadata.is_file() {
            let file = File::open(path).map_err(failed("open", path))?;
            Self::Archive(Archive::index(file, path)?)
        } else {
            return Err(not_an_image("neither a file nor a folder"));
        };
        if !blobs.has(INDEX) {
            return Err(not_an_image(blobs.kind()));
        }
        let layout: LayoutFile = parse(LAYOUT, &blobs.document(LAYOUT, MAX_LAYOUT)?)?;
        if layout.version != LAYOUT_VERSION {
            return Err(not_an_image("a layout of a version that is not known here"));
        }
        Ok(blobs)
    }

    /// A part by its name.
    pub(super) fn find(&self, name: &str) -> Result<Region, ReadError> {
        match self {
            Self::Archive(archive) => archive.find(name),
            Self::Folder(folder) => find_in(folder, name),
        }
    }

    /// A whole document that has no digest, of at most `max` bytes.
    pub(super) fn document(&self, name: &str, max: u64) -> Result<Vec<u8>, ReadError> {
        let region = self.find(name)?;
        if region.length > max {
            return Err(ReadError::TooLarge { name: name.into(), max });
        }
        let path = region.path.clone();
        let mut bytes = Vec::new();
        region.reader().read_to_end(&mut bytes).map_err(failed("read", &path))?;
        Ok(bytes)
    }

    /// The document that another one names by digest and size, of at most `max` bytes.
    pub(super) fn described(
        &self,
        digest: &str,
        size: u64,
        max: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let digest = sha256_of(digest)?;
        let name = blob_name(digest);
        let bytes = self.document(&name, max)?;
        if u64::try_from(bytes.len()) != Ok(size) {
            return Err(ReadError::Mismatch { name, property: "size" });
        }
        if sha256(&bytes) != digest {
            return Err(ReadError::Mismatch { name, property: "digest" });
        }
        Ok(bytes)
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Archive(archive) => archive.has(name),
            Self::Folder(folder) => folder.join(name).exists(),
        }
    }

    /// What something without an index is.
    fn kind(&self) -> &'static str {
        let docker = self.has(DOCKER);
        match self {
            Self::Archive(_) if docker => {
                "an archive of `docker save` in Docker's own form. `skopeo copy docker-archive:… oci-archive:…` turns \
                 it into an image"
            }
            Self::Archive(_) => "a tar without index.json",
            Self::Folder(_) if docker => {
                "a folder in the `dir` form of skopeo. `skopeo copy dir:… oci:…` turns it into an image"
            }
            Self::Folder(folder) if folder.join("rootfs").is_dir() => {
                "a bundle for a runtime, which holds an unpacked image"
            }
            Self::Folder(_) => "a folder without index.json",
        }
    }
}

impl Region {
    /// Reads the region from its beginning. Fewer bytes come where the file was cut since.
    pub(super) fn reader(self) -> RegionReader {
        RegionReader { region: self, position: 0 }
    }
}

/// A region that is being read.
pub(super) struct RegionReader {
    region: Region,
    position: u64,
}

impl Read for RegionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.region.length - self.position;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let at = self.region.start + self.position;
        let read = self.region.file.read_at(&mut buffer[..wanted], at)?;
        self.position += u64::try_from(read).expect("a part of the region");
        Ok(read)
    }
}

/// A file of a folder. Links are followed, but not out of the folder.
fn find_in(folder: &Path, name: &str) -> Result<Region, ReadError> {
    let path = match fs::canonicalize(folder.join(name)) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadError::Missing { name: name.into() });
        }
        Err(source) => return Err(failed("find", &folder.join(name))(source)),
    };
    let outside = || Err(ReadError::Outside { name: name.into() });
    if !path.starts_with(folder) {
        return outside();
    }
    // What lies there may have become something else by now, so it is asked what was opened: not a link, which the real
    // path has none of, and without waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link, or a socket.
        Err(Errno::LOOP | Errno::NXIO) => return outside(),
        Err(error) => return Err(failed("open", &path)(error.into())),
    };
    let metadata = file.metadata().map_err(failed("examine", &path))?;
    if !metadata.is_file() {
        return outside();
    }
    Ok(Region { file: Arc::new(file), path, start: 0, length: metadata.len() })
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Io { operation, path, source }
}
