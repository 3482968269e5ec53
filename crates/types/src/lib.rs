//! The words of the market: ids, money, time, terms of a job, workloads and their manifests, bundles, receipts and
//! vouchers, a provider's entry, the market file.
//!
//! Plain data and its validation. Nothing here does input or output, knows a chain client, or keeps state. An amount,
//! an endpoint, a manifest and a market file are checked when they are made; what only the contracts can judge, such
//! as the bounds of terms, is left to them.

mod amount;
mod bundle;
pub mod content;
mod decimal;
mod deployment;
mod image;
mod instance;
mod job;
mod manifest;
mod market;
mod profile;
mod receipt;
mod registration;
mod resources;
mod rules;
mod secret;
mod session;
mod signature;
mod syntax;
mod time;
mod workload;

pub use amount::{AmountError, Token, TokenAmount, UnknownAmount};
pub use bundle::{
    BUNDLE_VERSION, Bundle, BundleBinding, BundleFormatError, BundledContainer, Start,
};
pub use cid::Cid;
pub use decimal::{Decimal, bytes_of_unit};
pub use deployment::{Deployment, DeploymentId, JobPlan};
pub use image::{ChunkRef, ImageId, ImageKey, ImageReference, InvalidImageId};
pub use instance::{InstanceId, InvalidInstanceId};
pub use job::{Bill, Job, JobId, JobKey, JobStatus, Terms};
pub use manifest::{Manifest, ManifestContainer, ManifestError, Problem};
pub use market::{Contracts, Market, MarketError};
pub use multiaddr::PeerId;
pub use profile::{PROFILE_VERSION, Profile};
pub use receipt::{Receipt, SignedReceipt, Tariff, Voucher};
pub use registration::{EncryptionKey, Endpoint, EndpointError, KeyKind, Registration};
pub use resources::{Resource, Resources};
pub use secret::{ChunkKey, SecretText};
pub use session::{Session, SignedSession};
pub use signature::{Domain, InvalidSignature, Signature};
pub use syntax::SyntaxError;
pub use time::{Seconds, Timestamp, UnknownSpan};
pub use workload::{Container, Workload};
