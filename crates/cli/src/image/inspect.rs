//! `roadstead image inspect`.

use std::path::Path;

use roadstead_image::{LayerCompression, OciImage, Platform};
use roadstead_types::{Cid, ImageId};
use serde::Serialize;

use super::{
    config::ContainerConfig,
    open_store, read,
    survey::{Survey, survey},
};
use crate::{
    arguments::InspectImage,
    context::Context,
    failure::plain,
    home::Role,
    output::Progress,
    table::{facts, rows, size},
};

/// An image on disk.
#[derive(Serialize)]
struct Inspected<'a> {
    /// The digest of its manifest, by which it is pinned where it came from.
    pinned: String,
    image: ImageId,
    platform: &'a Platform,
    layers: Vec<Layer>,
    #[serde(flatten)]
    config: ContainerConfig,
}

#[derive(Serialize)]
struct Layer {
    digest: String,
    size: u64,
    compression: LayerCompression,
    diff_id: String,
}

pub(super) async fn run(command: &InspectImage, context: &Context) -> anyhow::Result<()> {
    match root_of(&command.what) {
        Some(root) => inspect_root(root, command, context).await,
        None => inspect_path(&command.what, context).await,
    }
}

/// The root that is meant. A file of that name counts more.
fn root_of(what: &Path) -> Option<Cid> {
    if what.exists() {
        return None;
    }
    what.to_str()?.parse().ok()
}

async fn inspect_path(path: &Path, context: &Context) -> anyhow::Result<()> {
    let image = read(path.to_owned()).await?;
    let inspected = Inspected::new(&image)?;
    context.print(&inspected, || described(&inspected))
}

impl<'a> Inspected<'a> {
    fn new(image: &'a OciImage) -> anyhow::Result<Self> {
        let layers = image.layers().iter().map(|layer| Layer {
            digest: format!("sha256:{:x}", layer.digest),
            size: layer.size,
            compression: layer.compression,
            diff_id: format!("sha256:{:x}", layer.diff_id),
        });
        Ok(Self {
            pinned: format!("sha256:{:x}", image.manifest_digest()),
            image: image.image(),
            platform: image.platform(),
            layers: layers.collect(),
            config: ContainerConfig::read(image.config())?,
        })
    }
}

fn described(inspected: &Inspected<'_>) -> String {
    let Inspected { pinned, image, platform, layers, config } = inspected;
    let list = |texts: &[String]| {
        let texts: Vec<_> = texts.iter().map(|text| plain(text)).collect();
        texts.join(" ")
    };
    let text = |text: &Option<String>| text.as_deref().map(plain).unwrap_or_default();
    let named = [
        ("pinned source", pinned.clone()),
        ("image", image.to_string()),
        ("platform", platform.to_string()),
        ("entry point", list(&config.entry_point)),
        ("arguments", list(&config.arguments)),
        ("exposed ports", list(&config.exposed_ports)),
        ("environment (names)", list(&config.environment)),
        ("working folder", text(&config.working_dir)),
        ("user", text(&config.user)),
    ];
    let named = facts(named.into_iter().filter(|(_, value)| !value.is_empty()));
    let layers = layers.iter().map(|layer| {
        let compression = match layer.compression {
            LayerCompression::None => "none",
            LayerCompression::Gzip => "gzip",
            LayerCompression::Zstd => "zstd",
        };
        [layer.digest.clone(), size(layer.size), compression.to_owned()]
    });
    format!("{named}\n{}", rows(["layer, the lowest first", "size", "compression"], layers))
}

async fn inspect_root(root: Cid, command: &InspectImage, context: &Context) -> anyhow::Result<()> {
    let folder = context.home.lock(Role::Publisher)?;
    let store = open_store(&folder, &command.store.store)?;
    let progress = Progress::start();
    progress.wait_for("reading every block");
    let surveyed = survey(root, &*store).await;
    progress.finish();
    let surveyed = surveyed?;
    context.print(&surveyed, || {
        let Survey { root, blocks, missing, bytes, pinned, parts } = &surveyed;
        let state = match missing {
            0 => "all of them are there and whole".to_owned(),
            missing => format!("{missing} of them are missing or damaged"),
        };
        let kept =
            if *pinned { "for good" } else { "until blocks that nobody pinned are collected" };
        let named = facts([
            ("root", root.to_string()),
            ("blocks", format!("{blocks}; {state}")),
            ("in the store", size(*bytes)),
            ("kept", kept.to_owned()),
        ]);
        let parts =
            parts.iter().map(|part| [plain(&part.name), part.bytes.map(size).unwrap_or_default()]);
        format!("{named}\n{}", rows(["part", "size, as the root says"], parts))
    })
}
