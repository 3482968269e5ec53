//! `roadstead image`: what an image is, and what lies of it in the publisher's content store.
//!
//! Sealing needs the publisher's folder, because its secret and its store are there, and no account. Cut off, the same
//! call again finds the blocks that are there and adds the rest.

mod config;
mod inspect;
mod survey;

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use roadstead_image::{OciImage, Platform, ReadError, SealCounts, SealOptions, SealProgress, seal};
use roadstead_publisher::{Keys, SealedImage};
use tokio::task::spawn_blocking;

pub(crate) use survey::SurveyError;

use crate::{
    arguments::{self, ImageCommand, SealImage},
    context::Context,
    home::Role,
    output::Progress,
    publisher::open_store,
    table::{facts, size},
};

pub(crate) async fn run(command: arguments::Image, context: &Context) -> anyhow::Result<()> {
    match command.command {
        ImageCommand::Seal(command) => run_seal(&command, context).await,
        ImageCommand::Inspect(command) => inspect::run(&command, context).await,
    }
}

async fn run_seal(command: &SealImage, context: &Context) -> anyhow::Result<()> {
    let path = &command.path;
    let image = Arc::new(read(path.clone()).await?);
    let folder = context.home.lock(Role::Publisher)?;
    let keys = Keys::load_or_create(&folder)?;
    let store = open_store(&folder, &command.store.store)?;
    let progress = Progress::start();
    progress.line(format!("Sealing {} ({})", path.display(), image.image()));
    let told = progress.clone();
    let mut report = move |now: SealProgress| told.wait_for(waiting(now));
    let options = SealOptions::default();
    let sealed = seal(&image, &keys.dedupe, &*store, &options, &mut report).await;
    let sealed = sealed.with_context(|| format!("{} cannot be sealed", path.display()));
    if sealed.is_ok() {
        progress.wait_for("the disk has everything");
    }
    let pinned = match &sealed {
        Ok(sealed) => store.pin(&sealed.reference.root).await,
        Err(_) => Ok(()),
    };
    progress.finish();
    let sealed = sealed?;
    pinned.context("the sealed image cannot be kept")?;
    let SealCounts { blocks, new_blocks, raw_bytes, sealed_bytes, .. } = sealed.counts;
    let (root, image) = (sealed.reference.root, sealed.reference.image);
    let sealed = SealedImage { root, image, blocks, new_blocks, raw_bytes, sealed_bytes };
    context.print(&sealed, || {
        facts([
            ("root", sealed.root.to_string()),
            ("image", sealed.image.to_string()),
            ("blocks", format!("{blocks}, {new_blocks} of them new")),
            ("plain layers", size(raw_bytes)),
            ("sealed", size(sealed_bytes)),
        ])
    })
}

fn waiting(now: SealProgress) -> String {
    let percent = now.read.saturating_mul(100).checked_div(now.size).unwrap_or(100);
    let layer = now.layer.saturating_add(1);
    format!("sealing layer {layer} of {} ({percent} %)", now.layers)
}

/// Reads the image at `path` that is for machines like this one.
async fn read(path: PathBuf) -> anyhow::Result<OciImage> {
    let shown = path.display().to_string();
    let read = spawn_blocking(move || OciImage::read(&path, &Platform::host())).await?;
    read.map_err(|error| match error {
        // They name what they are about.
        ReadError::NotAnImage { .. } | ReadError::Io { .. } => error.into(),
        error => anyhow::Error::new(error).context(format!("the image {shown} cannot be used")),
    })
}
