//! Sealing the images of a workload into the publisher's content store.
//!
//! Nothing is kept for ever yet: [`crate::publish`] pins what was sealed. Cut off, the same call again finds the blocks
//! that are there and adds the rest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use roadstead_image::{
    OciImage, Platform, ReadError, SealCounts, SealError, SealOptions, SealProgress,
};
use roadstead_types::{BundledContainer, Cid, ImageId, ManifestContainer, Workload, content};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{Keys, Ports};

/// A workload whose images lie sealed in the publisher's store.
#[derive(Clone, Debug)]
pub struct SealedWorkload {
    /// What goes into the bundle.
    pub workload: Workload<BundledContainer>,
    /// What can be told of the images, in the order of the containers.
    pub images: Vec<SealedImage>,
}

/// What can be told of a sealed image: no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealedImage {
    /// The graph that holds its blocks.
    #[serde(with = "content::text")]
    pub root: Cid,
    /// The image that comes out, as container engines name it.
    pub image: ImageId,
    /// Blocks of the sealed image.
    pub blocks: u64,
    /// How many of them the store did not have.
    pub new_blocks: u64,
    /// Bytes of the plain layers.
    pub raw_bytes: u64,
    /// Bytes of all its blocks.
    pub sealed_bytes: u64,
}

/// Why an image was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealWorkloadError {
    /// It is no image, or a damaged one.
    #[error("the image of container `{container}` cannot be used ({})", path.display())]
    Read {
        /// Whose.
        container: String,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// It could not be sealed, or its blocks could not be kept.
    #[error("the image of container `{container}` cannot be sealed ({})", path.display())]
    Seal {
        /// Whose.
        container: String,
        /// Where it is.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: SealError,
    },
}

/// Reads, checks and seals every image of the workload. Paths are relative to `folder`. `report` hears of the progress.
pub async fn seal(
    ports: &Ports,
    keys: &Keys,
    workload: Workload<ManifestContainer>,
    folder: &Path,
    mut report: impl FnMut(SealProgress) + Send,
) -> Result<SealedWorkload, SealWorkloadError> {
    let Workload { name, containers, reservation, pids_limit } = workload;
    let (mut sealed, mut images) = (Vec::new(), Vec::new());
    for ManifestContainer { image, container } in containers {
        let path = folder.join(image);
        let reading = path.clone();
        let read = spawn_blocking(move || OciImage::read(&reading, &Platform::host())).await;
        let read = read.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        let read = read.map_err(|source| SealWorkloadError::Read {
            container: container.name.clone(),
            path: path.clone(),
            source,
        })?;
        let (read, options) = (Arc::new(read), SealOptions::default());
        let made = roadstead_image::seal(&read, &keys.dedupe, &*ports.store, &options, &mut report)
            .await
            .map_err(|source| SealWorkloadError::Seal {
                container: container.name.clone(),
                path: path.clone(),
                source,
            })?;
        let SealCounts { blocks, new_blocks, raw_bytes, sealed_bytes, .. } = made.counts;
        let (root, image) = (made.reference.root, made.reference.image);
        images.push(SealedImage { root, image, blocks, new_blocks, raw_bytes, sealed_bytes });
        sealed.push(BundledContainer { image: made.reference, container });
    }
    let workload = Workload { name, containers: sealed, reservation, pids_limit };
    Ok(SealedWorkload { workload, images })
}
