//! The images that Docker keeps for each tenant.
//!
//! ```text
//! ENGINE/TENANT:IMAGE    name of an image: its layers, and a configuration of our own
//!   roadstead.engine       label: the engine's name
//!   roadstead.tenant       label: whose it is
//!   roadstead.config       label: the configuration as it was published
//! ```
//!
//! Docker is not given the published configuration as one: it would run health checks, make volumes that nothing
//! bounds and copy labels of the tenant's choice. So the images of two tenants are never the same to Docker, but equal
//! layers of theirs lie on its disk once. Nobody gets at a layer by its digest alone: every layer is read to its end
//! and checked each time, also where Docker has it, and only then is the image named of which it is a part. It is looked
//! through, too: Docker lays out what the embedded engine leaves out, and whatever of that may do harm is refused.
//!
//! A crash or an error in the middle leaves nothing: Docker forgets an archive that does not come to its end.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use bollard::query_parameters::{ImportImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use roadstead_core::ports::{EngineError, LayerReader, LayerSource};
use roadstead_types::{ImageId, ImageKey};
use serde_json::json;

use super::{
    answers::{docker_failed, status},
    archive::{Closed, Writer, archive},
    client::{Client, ENGINE_LABEL},
};
use crate::{
    embedded::layer::{LayerError, Survey},
    image::{ImageConfig, check, machine},
    locks::Locks,
    pieces::{Piece, Pieces},
    work::engine_failed,
};

/// Label with the tenant of an image.
const TENANT_LABEL: &str = "roadstead.tenant";

/// Label with the configuration of an image as it was published.
pub(super) const CONFIG_LABEL: &str = "roadstead.config";

/// How long the daemon may take for an image after its first byte, however large it is and however slowly it comes.
const LOAD_PATIENCE: Duration = Duration::from_secs(24 * 3_600);

const LOADING: &str = "loading an image into Docker";

/// The images of all tenants.
#[derive(Debug)]
pub(super) struct Images {
    client: Client,
    /// Held by whatever adds or removes an image of a tenant.
    tenants: Locks<Address>,
}

impl Images {
    pub(super) fn new(client: Client) -> Self {
        Self { client, tenants: Locks::default() }
    }

    /// What Docker calls an image.
    pub(super) fn tag(&self, key: &ImageKey) -> String {
        format!("{}/{:x}:{:x}", self.client.name, key.tenant, key.image.0)
    }

    /// See [`roadstead_core::ports::Engine::prepare`].
    pub(super) async fn prepare(
        self: &Arc<Self>,
        key: &ImageKey,
        image: &dyn LayerSource,
    ) -> Result<(), EngineError> {
        let published = check(key, image)?;
        let lock = self.tenants.lock(key.tenant).await;
        if self.config(key).await?.is_some() {
            return Ok(());
        }
        let diff_ids: Vec<_> =
            image.layers().iter().map(|layer| format!("sha256:{:x}", layer.diff_id)).collect();
        let labels = json!({
            ENGINE_LABEL: self.client.name,
            // Else the images of two tenants could be one with two names, which is not in use for Docker by one of them.
            TENANT_LABEL: format!("{:x}", key.tenant),
            CONFIG_LABEL: published,
        });
        let own = json!({
            "architecture": machine(),
            "os": "linux",
            "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (writer, stream) = archive();
        let task = {
            let (images, key) = (Arc::clone(self), *key);
            async move {
                // To the end of what Docker does, even if nobody waits for it any more.
                let _lock = lock;
                images.load(&key, stream, &diff_ids).await
            }
        };
        let task = tokio::spawn(task);
        let sent = send(writer, &self.tag(key), own.to_string(), image).await;
        let loaded = task.await.map_err(engine_failed("working in the background"))?;
        match sent {
            Err(Unsent::Failed(error)) => Err(error),
            // What makes an image of the layers is sent when all of them were checked. So where Docker took enough to
            // make it, it is right, and else Docker says why not.
            Ok(()) | Err(Unsent::Closed) => loaded,
        }
    }

    async fn load(
        &self,
        key: &ImageKey,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        diff_ids: &[String],
    ) -> Result<(), EngineError> {
        let docker = self.client.docker.clone().with_timeout(LOAD_PATIENCE);
        let options = ImportImageOptions { quiet: true, ..Default::default() };
        let mut answers = docker.import_image_stream(options, stream, None);
        while let Some(answer) = answers.next().await {
            answer.map_err(docker_failed(LOADING))?;
        }
        let loaded = self.client.docker.inspect_image(&self.tag(key)).await;
        let loaded = loaded.map_err(docker_failed(LOADING))?;
        let layers = loaded.root_fs.and_then(|root| root.layers).unwrap_or_default();
        if layers == diff_ids {
            return Ok(());
        }
        self.untag(key).await?;
        Err(engine_failed(LOADING)("Docker made other layers of it"))
    }

    /// The published configuration of an image; `None` where the image is not kept.
    pub(super) async fn config(&self, key: &ImageKey) -> Result<Option<ImageConfig>, EngineError> {
        let found = match self.client.docker.inspect_image(&self.tag(key)).await {
            Err(error) if status(&error) == Some(404) => return Ok(None),
            found => found.map_err(docker_failed("looking at an image"))?,
        };
        let published = found
            .config
            .and_then(|config| config.labels)
            .and_then(|mut labels| labels.remove(CONFIG_LABEL));
        published.map(|published| ImageConfig::parse(published.as_bytes())).transpose()
    }

    pub(super) async fn list(&self) -> Result<Vec<ImageKey>, EngineError> {
        let filters = Some(self.client.filters(None));
        let options = ListImagesOptions { filters, ..Default::default() };
        let found = self.client.docker.list_images(Some(options)).await;
        let found = found.map_err(docker_failed("listing the images"))?;
        let tags = found.into_iter().flat_map(|image| image.repo_tags);
        let mut keys: Vec<_> = tags.filter_map(|tag| key(&self.client.name, &tag)).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// See [`roadstead_core::ports::Engine::remove_image`].
    pub(super) async fn remove(self: &Arc<Self>, key: &ImageKey) -> Result<(), EngineError> {
        let (images, key, lock) = (Arc::clone(self), *key, self.tenants.lock(key.tenant).await);
        let remove = async move {
            let _lock = lock;
            images.untag(&key).await
        };
        tokio::spawn(remove).await.map_err(engine_failed("working in the background"))?
    }

    /// Docker refuses where a container uses the image, also one that has ended.
    async fn untag(&self, key: &ImageKey) -> Result<(), EngineError> {
        let options: Option<RemoveImageOptions> = None;
        match self.client.docker.remove_image(&self.tag(key), options, None).await {
            Err(error) if status(&error) == Some(404) => Ok(()),
            removed => removed.map(drop).map_err(docker_failed("removing an image")),
        }
    }
}

/// The image that has this name with an engine.
fn key(engine: &str, tag: &str) -> Option<ImageKey> {
    let (tenant, image) = tag.strip_prefix(engine)?.strip_prefix('/')?.split_once(':')?;
    Some(ImageKey { tenant: tenant.parse().ok()?, image: ImageId(image.parse().ok()?) })
}

/// Why not all of an image was sent.
enum Unsent {
    /// Docker does not take any more.
    Closed,
    Failed(EngineError),
}

impl From<Closed> for Unsent {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl<E: Into<EngineError>> From<E> for Unsent {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends an image, what makes one of it last.
async fn send(
    writer: Writer,
    tag: &str,
    config: String,
    image: &dyn LayerSource,
) -> Result<(), Unsent> {
    let mut files: BTreeMap<B256, String> = BTreeMap::new();
    let mut names = Vec::new();
    let mut survey = Survey::default();
    for (index, layer) in image.layers().iter().enumerate() {
        let name = match files.get(&layer.diff_id) {
            Some(known) => known.clone(),
            None => {
                let name = format!("{index}.tar");
                writer.begin(&name, layer.size).await?;
                let reader = image.read(index).await.map_err(EngineError::from)?;
                survey = send_layer(&writer, reader, layer.size, survey).await?;
                writer.fill(layer.size).await?;
                files.insert(layer.diff_id, name.clone());
                name
            }
        };
        names.push(name);
    }
    survey.end().map_err(refused)?;
    writer.file("config.json", config.into_bytes()).await?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    writer.file("manifest.json", manifest.to_string().into_bytes()).await?;
    Ok(writer.end().await?)
}

/// Sends one layer, and looks through it on the way.
async fn send_layer(
    writer: &Writer,
    mut reader: Box<dyn LayerReader>,
    size: u64,
    mut survey: Survey,
) -> Result<Survey, Unsent> {
    let (sender, mut pieces) = Pieces::new(size);
    let task = tokio::task::spawn_blocking(move || {
        survey.layer(&mut pieces, size)?;
        pieces.expect_end().map_err(LayerError::reading)?;
        Ok(survey)
    });
    let mut sent = 0;
    let read = loop {
        match reader.next().await {
            Ok(Some(piece)) => {
                sent += piece.len() as u64;
                // Whoever looks through it went away with an error of its own.
                if sender.send(Piece::Some(piece.clone())).await.is_err() || sent > size {
                    break Ok(());
                }
                if let Err(closed) = writer.write(piece).await {
                    break Err(closed.into());
                }
            }
            Ok(None) => {
                let _ = sender.send(Piece::End).await;
                break Ok(());
            }
            Err(error) => break Err(Unsent::Failed(error.into())),
        }
    };
    drop(sender);
    let surveyed = task.await.map_err(engine_failed("looking through a layer"))?;
    read?;
    let survey = surveyed.map_err(refused)?;
    if sent < size {
        let reason = "a layer is shorter than it is said to be".to_owned();
        return Err(EngineError::BadImage { reason }.into());
    }
    Ok(survey)
}

fn refused(error: LayerError) -> EngineError {
    match error {
        LayerError::Bad { reason } => EngineError::BadImage { reason },
        error @ LayerError::Io(_) => engine_failed("looking through a layer")(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_engines_name() {
        let tag = format!("roadstead-1/{}:{}", "aa".repeat(20), "bb".repeat(32));
        let expected = ImageKey {
            tenant: Address::repeat_byte(0xaa),
            image: ImageId(B256::repeat_byte(0xbb)),
        };
        assert_eq!(key("roadstead-1", &tag), Some(expected));
        assert_eq!(key("roadstead-", &tag), None);
        assert_eq!(key("roadstead-2", &tag), None);
        assert_eq!(key("roadstead-1", "roadstead-1/other:latest"), None);
        assert_eq!(key("roadstead-1", "<none>:<none>"), None);
    }
}
