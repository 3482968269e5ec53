//! Workload manifests as files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use roadstead_types::{Manifest, ManifestContainer, ManifestError, Workload};

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFileError {
    /// The file cannot be read.
    #[error("the workload manifest {} cannot be read", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It has mistakes.
    #[error("the workload manifest {} has mistakes", path.display())]
    Mistakes {
        /// Where it is.
        path: PathBuf,
        /// All of them.
        #[source]
        source: ManifestError,
    },
}

/// Reads and checks a manifest. Paths in the workload are relative to the returned folder.
pub fn read_manifest(
    path: &Path,
) -> Result<(Workload<ManifestContainer>, PathBuf), ManifestFileError> {
    let read = || {
        let mut text = String::new();
        let bound = u64::try_from(Manifest::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)?.take(bound).read_to_string(&mut text)?;
        Ok(text)
    };
    let unreadable = |source| ManifestFileError::Unreadable { path: path.to_owned(), source };
    let text = read().map_err(unreadable)?;
    let mistakes = |source| ManifestFileError::Mistakes { path: path.to_owned(), source };
    let parsed = Manifest::parse(&text).map_err(mistakes)?;
    Ok((parsed.workload, path.parent().map(Path::to_owned).unwrap_or_default()))
}
