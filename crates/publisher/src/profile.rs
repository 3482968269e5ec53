//! What a provider says of itself, as far as the registry vouches for it.

use alloy_primitives::Address;
use roadstead_core::{
    ports::{ChainError, JobLink, LinkError},
    protocol::{Denial, Request, Response},
};
use roadstead_crypto::sha256;
use roadstead_types::{PROFILE_VERSION, Profile, Registration};
use serde::Deserialize;

use crate::{Ports, registry::registration_of};

/// The largest profile, in bytes.
const MAX_PROFILE: usize = 64 << 10;

/// Why a provider's profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Nobody knows how to reach it.
    #[error("{provider} is not registered, or with an endpoint that nobody can use")]
    NotRegistered {
        /// Who.
        provider: Address,
    },
    /// The registry could not be read.
    #[error("the registry could not be read")]
    Read(#[from] ChainError),
    /// It gave no answer.
    #[error("the provider does not answer")]
    Link(#[from] LinkError),
    /// It said no.
    #[error("the provider refuses")]
    Denied(#[from] Denial),
    /// It answered with something else.
    #[error("the provider's answer is no profile")]
    Senseless,
    /// It is larger than a profile may be.
    #[error("the profile has {size} bytes, at most {MAX_PROFILE} are read")]
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// The registry names another one.
    #[error("the profile is not the one in the registry")]
    Differs,
    /// It cannot be read.
    #[error("the profile cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// Of a version with another format.
    #[error("profile version {found}; this build reads version {PROFILE_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Asks a provider for its profile, and checks that it is the one in the registry.
pub async fn provider_profile(ports: &Ports, provider: Address) -> Result<Profile, ProfileError> {
    let entry = registration_of(&*ports.reader, provider).await?;
    let entry = entry.ok_or(ProfileError::NotRegistered { provider })?;
    registered_profile(&*ports.link, &entry).await
}

/// Asks the provider of an entry for its profile.
pub(crate) async fn registered_profile(
    link: &dyn JobLink,
    entry: &Registration,
) -> Result<Profile, ProfileError> {
    let text = match link.ask(&entry.endpoint, Request::Profile).await? {
        Response::Profile(text) => text,
        Response::Denied(denial) => return Err(denial.into()),
        Response::Welcome | Response::State(_) => return Err(ProfileError::Senseless),
    };
    if text.len() > MAX_PROFILE {
        return Err(ProfileError::TooLarge { size: text.len() });
    }
    if sha256(text.as_bytes()) != entry.profile {
        return Err(ProfileError::Differs);
    }
    let Versioned { version: found } = serde_json::from_str(&text)?;
    if found != PROFILE_VERSION {
        return Err(ProfileError::Version { found });
    }
    Ok(serde_json::from_str(&text)?)
}
