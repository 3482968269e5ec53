//! `roadstead image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use roadstead_devnet::StoreChoice;

#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Encrypt an image into the publisher's content store and keep it there
    Seal(SealImage),
    /// Show what an image is, or what lies of a sealed one in the publisher's content store
    Inspect(InspectImage),
}

#[derive(Debug, Args)]
pub(crate) struct SealImage {
    /// An OCI image: a layout folder or an uncompressed archive of one
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Debug, Args)]
pub(crate) struct InspectImage {
    /// An OCI image, or the root of a sealed one as `image seal` printed it
    #[arg(value_name = "PATH|ROOT")]
    pub(crate) what: PathBuf,

    #[command(flatten)]
    pub(crate) store: Store,
}

/// Which content store.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Where sealed images are kept: `embedded`, `kubo`, or the http:// address of a Kubo daemon's RPC
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    pub(crate) store: StoreChoice,
}
