//! OCI images: read from disk, sealed into blocks, and opened again.
//!
//! ```text
//!  layout or archive ── OciImage ── seal ──> ContentStore ──> BlockSource ── open ── OpenedImage ──> engine
//!                       (checked)       (blocks and one ImageReference)       (checked again)
//! ```
//!
//! [`seal`] cuts the plain tar of each layer by its content, compresses and encrypts the pieces, and encrypts the index
//! that says which pieces follow each other. Equal pieces of one publisher are equal blocks, so a second publication
//! moves only what is new. [`open`] goes by the index alone and trusts no block: what it hands on as a whole layer is,
//! byte for byte, the layer that the image's configuration names. The format is in `docs/format-image.md`.
//!
//! Nothing here is durable by itself and nothing is kept between calls. A crash or a dropped future loses the call; the
//! blocks that were put before stay in the store, unpinned, and the next call finds them there.

mod chunker;
mod codec;
mod document;
mod format;
mod graph;
mod levels;
mod oci;
mod open;
mod platform;
mod seal;
#[cfg(test)]
#[path = "../tests/it/store.rs"]
mod store;

pub use codec::Compression;
pub use document::{DocumentError, LayerCompression, SourceLayer};
pub use oci::{OciImage, ReadError};
pub use open::{OpenLimits, OpenedImage, open};
pub use platform::Platform;
pub use seal::{SealCounts, SealError, SealOptions, SealProgress, Sealed, seal};
