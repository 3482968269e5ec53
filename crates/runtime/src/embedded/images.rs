//! The images that are kept for each tenant, as folders that the kernel can mount.
//!
//! ```text
//! images/TENANT/IMAGE.json     configuration and layers; written last, removed first
//! layers/TENANT/DIFF-ID/       a layer that stands for itself
//! layers/TENANT/DIFF-ID-CHAIN-ID/    a layer that took files from those below it
//! new/                         what is being laid out; emptied when the engine opens
//! ```
//!
//! A layer is laid out once for a tenant and never shared between two. It comes to its place before the image that
//! needs it is kept. So layers that no kept image needs go when a preparation fails, when any image of their tenant is
//! removed, kept or not, and when the engine opens: none of them outlives a preparation that was given up or killed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use roadstead_core::ports::{EngineError, LayerReader, LayerSource};
use roadstead_types::{ImageId, ImageKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::layer::{LayerError, lay_out};
use crate::{
    files::{
        FileError, failed, make_folder, names, read_json, remove_folder, sync_folder, write_json,
    },
    image::{ImageConfig, check},
    locks::Locks,
    pieces::{Piece, Pieces},
    work::{blocking, engine_failed},
};

/// The images of all tenants.
#[derive(Debug)]
pub(crate) struct Images {
    folder: PathBuf,
    /// Held by whatever adds or removes layers of a tenant.
    tenants: Locks<Address>,
    next: AtomicU64,
}

/// The lock of a tenant. Whatever blocks for long has a share of it, so that nobody else adds or removes layers while
/// it works, even if nobody waits for it any more.
type TenantLock = Arc<OwnedMutexGuard<()>>;

/// An image that is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Names of the layers' folders, the lowest first, each once.
    layers: Vec<String>,
    /// As it was published.
    config: String,
}

impl Images {
    /// Those in `folder`, without what a crash left.
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        remove_folder(&folder.join("new"))?;
        for name in ["images", "layers", "new"] {
            make_folder(&folder.join(name))?;
        }
        let (tenants, next) = (Locks::default(), AtomicU64::new(0));
        let images = Self { folder: folder.to_owned(), tenants, next };
        for tenant in names(&folder.join("layers"))?.iter().filter_map(|name| name.parse().ok()) {
            // A record that cannot be read keeps the layers of its tenant, and nobody else from working.
            let _ = images.remove_unused(tenant);
        }
        Ok(images)
    }

    /// See [`roadstead_core::ports::Engine::prepare`].
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        key: &ImageKey,
        image: &dyn LayerSource,
    ) -> Result<(), EngineError> {
        let (key, config) = (*key, check(key, image)?);
        let lock = self.lock(key.tenant).await;
        let known = self.with(&lock, move |images| images.record(&key)).await?;
        if known.map_err(engine_failed("reading an image"))?.is_some() {
            return Ok(());
        }
        let added = self.add(&lock, key, config, image).await;
        if added.is_err() {
            // The error says more than that a layer is left, which goes with the next removal.
            let _ = self.with(&lock, move |images| images.remove_unused(key.tenant)).await;
        }
        added
    }

    async fn add(
        self: &Arc<Self>,
        lock: &TenantLock,
        key: ImageKey,
        config: String,
        image: &dyn LayerSource,
    ) -> Result<(), EngineError> {
        let mut layers: Vec<String> = Vec::new();
        let mut chain: Option<B256> = None;
        for (index, layer) in image.layers().iter().enumerate() {
            chain = Some(chain_id(chain, layer.diff_id));
            let names = names_of(layer.diff_id, chain.unwrap_or_default());
            let known = {
                let names = names.clone();
                let is_there = move |images: &Self| {
                    names.into_iter().find(|name| images.layer(key.tenant, name).is_dir())
                };
                self.with(lock, is_there).await?
            };
            let name = match known {
                Some(name) => name,
                None => {
                    let reader = image.read(index).await?;
                    let below = layers.iter().map(|name| self.layer(key.tenant, name)).collect();
                    self.lay_out(lock, key.tenant, names, layer.size, reader, below).await?
                }
            };
            // A layer that comes again hides all that it was below, and an overlay takes each folder once.
            layers.retain(|known| *known != name);
            layers.push(name);
        }
        let kept = Kept { layers, config };
        let write = move |images: &Self| {
            let path = images.path(&key);
            make_folder(path.parent().unwrap_or(&path))?;
            write_json(&path, &kept)
        };
        self.with(lock, write).await?.map_err(engine_failed("keeping an image"))
    }

    async fn lock(&self, tenant: Address) -> TenantLock {
        Arc::new(self.tenants.lock(tenant).await)
    }

    /// Does `work` in a thread that may block, under the lock to its end.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        lock: &TenantLock,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (images, lock) = (Arc::clone(self), Arc::clone(lock));
        let work = move || {
            let _lock = lock;
            work(&images)
        };
        blocking(work).await
    }

    /// Lays one layer out. Returns the one of `names` that it has now: the second where it took files from `below`.
    async fn lay_out(
        self: &Arc<Self>,
        lock: &TenantLock,
        tenant: Address,
        names: [String; 2],
        size: u64,
        mut reader: Box<dyn LayerReader>,
        below: Vec<PathBuf>,
    ) -> Result<String, EngineError> {
        let temporary = self.temporary();
        let places = names.clone().map(|name| self.layer(tenant, &name));
        let (sender, pieces) = Pieces::new(size);
        let lock = Arc::clone(lock);
        let task = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            let laid = lay_out_at(pieces, size, &temporary, &places, &below);
            if laid.is_err() {
                // The error says more than that something is left, which goes when the engine opens again.
                let _ = remove_folder(&temporary);
            }
            laid
        });
        let mut read = Ok(());
        loop {
            let piece = match reader.next().await {
                Ok(Some(piece)) => Piece::Some(piece),
                Ok(None) => Piece::End,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            };
            let ends = matches!(piece, Piece::End);
            // Whoever lays out went away with an error of its own.
            if sender.send(piece).await.is_err() || ends {
                break;
            }
        }
        drop(sender);
        let laid = task.await.map_err(engine_failed("laying out a layer"))?;
        read?;
        match laid {
            Ok(took_from_below) => {
                let [own, chained] = names;
                Ok(if took_from_below { chained } else { own })
            }
            Err(LayerError::Bad { reason }) => Err(EngineError::BadImage { reason }),
            Err(error) => Err(engine_failed("laying out a layer")(error)),
        }
    }

    /// The images that are kept.
    pub(crate) fn list(&self) -> Result<Vec<ImageKey>, FileError> {
        let folder = self.folder.join("images");
        let mut found = Vec::new();
        for tenant in names(&folder)? {
            let Ok(address) = tenant.parse::<Address>() else { continue };
            let images = names(&folder.join(&tenant))?;
            let images = images.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
            found.extend(images.map(|image| ImageKey { tenant: address, image: ImageId(image) }));
        }
        Ok(found)
    }

    /// An image's configuration and the folders of its layers, the lowest first; `None` where it is not kept.
    pub(crate) fn load(
        &self,
        key: &ImageKey,
    ) -> Result<Option<(ImageConfig, Vec<PathBuf>)>, EngineError> {
        let kept = self.record(key).map_err(engine_failed("reading an image"))?;
        let Some(kept) = kept else { return Ok(None) };
        let layers = kept.layers.iter().map(|name| self.layer(key.tenant, name)).collect();
        Ok(Some((ImageConfig::parse(kept.config.as_bytes())?, layers)))
    }

    /// Lets an image go with the layers that no other image of its tenant needs. `forget` removes its record, which
    /// is where it stops being an image.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        key: &ImageKey,
        forget: impl FnOnce(&Path) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let key = *key;
        let lock = self.lock(key.tenant).await;
        let remove = move |images: &Self| {
            forget(&images.path(&key))?;
            images.remove_unused(key.tenant).map_err(engine_failed("removing layers"))
        };
        self.with(&lock, remove).await?
    }

    /// Removes the layers of a tenant that no image needs.
    fn remove_unused(&self, tenant: Address) -> Result<(), FileError> {
        let mut used = BTreeSet::new();
        for key in self.list()?.iter().filter(|key| key.tenant == tenant) {
            used.extend(self.record(key)?.map(|kept| kept.layers).unwrap_or_default());
        }
        let all = names(&self.folder.join("layers").join(format!("{tenant:x}")))?;
        for name in all.iter().filter(|name| !used.contains(*name)) {
            let (layer, gone) = (self.layer(tenant, name), self.temporary());
            // Renamed first: what is half removed must not look like a layer.
            fs::rename(&layer, &gone).map_err(failed("move", &layer))?;
            remove_folder(&gone)?;
        }
        Ok(())
    }

    /// A place of its own for what is half there.
    fn temporary(&self) -> PathBuf {
        self.folder.join("new").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn record(&self, key: &ImageKey) -> Result<Option<Kept>, FileError> {
        read_json(&self.path(key))
    }

    fn path(&self, key: &ImageKey) -> PathBuf {
        let (tenant, image) = (key.tenant, key.image.0);
        self.folder.join("images").join(format!("{tenant:x}")).join(format!("{image:x}.json"))
    }

    fn layer(&self, tenant: Address, name: &str) -> PathBuf {
        self.folder.join("layers").join(format!("{tenant:x}")).join(name)
    }
}

/// The id of a layer with all that is below it, by the OCI image specification.
fn chain_id(below: Option<B256>, diff_id: B256) -> B256 {
    let Some(below) = below else { return diff_id };
    B256::new(Sha256::digest(format!("sha256:{below:x} sha256:{diff_id:x}")).into())
}

fn names_of(diff_id: B256, chain: B256) -> [String; 2] {
    [format!("{diff_id:x}"), format!("{diff_id:x}-{chain:x}")]
}

/// Lays a layer out beside its place and moves it there once it is whole: to the second of `places` where it took
/// files from `below`. Returns whether it did.
fn lay_out_at(
    mut pieces: Pieces,
    size: u64,
    temporary: &Path,
    places: &[PathBuf; 2],
    below: &[PathBuf],
) -> Result<bool, LayerError> {
    let file = |error: FileError| LayerError::Io(io::Error::other(error));
    fs::create_dir(temporary).map_err(LayerError::Io)?;
    let laid = lay_out(&mut pieces, size, temporary, below)?;
    pieces.expect_end().map_err(LayerError::reading)?;
    let [own, chained] = places;
    let place = if laid.took_from_below { chained } else { own };
    let folder = place.parent().unwrap_or(place);
    make_folder(folder).map_err(file)?;
    fs::rename(temporary, place).map_err(LayerError::Io)?;
    sync_folder(folder).map_err(file)?;
    Ok(laid.took_from_below)
}
