//! The provider's entry in the registry.

use alloy_primitives::{Address, B256};
use multiaddr::Multiaddr;
use roadstead_core::ports::{Call, ChainError, RegistryEntry, WriteError};
use roadstead_crypto::sha256;
use roadstead_types::{EndpointError, Profile, Registration};
use serde::Serialize;

use crate::{Keys, Ports};

/// The provider's entry as it now stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// The provider's account.
    pub provider: Address,
    /// Where it says it listens.
    pub endpoint: String,
    /// SHA-256 digest of its profile.
    pub profile: B256,
    /// What was done.
    pub change: RegistryChange,
}

/// What registering did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryChange {
    /// The provider is new.
    Registered,
    /// Its entry was another one.
    Updated,
    /// Its entry was this one already; no transaction was sent.
    Unchanged,
}

/// Why the entry does not stand.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The address cannot be an endpoint.
    #[error("the address to listen on cannot be registered")]
    Endpoint(#[from] EndpointError),
    /// The registry could not be read.
    #[error("the registry could not be read")]
    Read(#[from] ChainError),
    /// The registry could not be written.
    #[error("the registry could not be written")]
    Write(#[from] WriteError),
}

/// A profile as it is given to whoever asks; its digest is what is registered.
pub(crate) fn profile_json(profile: &Profile) -> String {
    serde_json::to_string(profile).expect("every field of a profile has a JSON form")
}

/// Makes the registry say that the provider listens on `address`, with these keys and this profile. May be repeated:
/// it sends a transaction only where something differs.
pub async fn register(
    ports: &Ports,
    keys: &Keys,
    address: Multiaddr,
    profile: &Profile,
) -> Result<Registered, RegisterError> {
    let provider = ports.writer.account();
    let wanted = Registration {
        endpoint: keys.identity.endpoint(address)?,
        keys: vec![keys.encryption.public_key()],
        profile: sha256(profile_json(profile).as_bytes()),
    };
    let (endpoint, profile) = (wanted.endpoint.to_string(), wanted.profile);
    let change = match ports.reader.registration(provider).await? {
        RegistryEntry::Registered(current) if current == wanted => RegistryChange::Unchanged,
        RegistryEntry::Registered(_) | RegistryEntry::Unusable => {
            ports.writer.submit(Call::UpdateRegistration(wanted)).await?;
            RegistryChange::Updated
        }
        RegistryEntry::Absent => {
            ports.writer.submit(Call::Register(wanted)).await?;
            RegistryChange::Registered
        }
    };
    Ok(Registered { provider, endpoint, profile, change })
}
