//! The provider's entry in the registry.

use alloy_primitives::{Address, B256};
use multiaddr::Multiaddr;
use roadstead_core::ports::{
    Call, ChainError, ChainReader, ChainWriter, RegistryEntry, WriteError,
};
use roadstead_crypto::sha256;
use roadstead_types::{Endpoint, EndpointError, Profile, Registration};
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

/// Why the registry does not lead publishers to what is offered here.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationProblem {
    /// Nobody finds the provider.
    #[error("{provider} is not registered as a provider")]
    Absent {
        /// Who.
        provider: Address,
    },
    /// Nobody can use its entry.
    #[error("the registry has an entry of {provider} with an endpoint that makes no sense")]
    Unusable {
        /// Who.
        provider: Address,
    },
    /// Publishers would dial somebody else.
    #[error("the registry has the endpoint {found} of this provider, here it is {expected}")]
    Endpoint {
        /// In the registry.
        found: Endpoint,
        /// Here.
        expected: Endpoint,
    },
    /// Publishers would seal bundles that nobody here can open.
    #[error("the registry has other encryption keys of {provider} than the one that is here")]
    Keys {
        /// Who.
        provider: Address,
    },
    /// Publishers would not believe what the provider says of itself.
    #[error(
        "the registry has the digest {found} of this provider's region and prices, here it is {expected}"
    )]
    Profile {
        /// In the registry.
        found: B256,
        /// Here.
        expected: B256,
    },
    /// It could not be read.
    #[error("the registry could not be read")]
    Read(#[from] ChainError),
}

/// A profile as it is given to whoever asks; its digest is what is registered.
pub(crate) fn profile_json(profile: &Profile) -> String {
    serde_json::to_string(profile).expect("every field of a profile has a JSON form")
}

/// What the registry is to say of a provider that others reach at `address`, with these keys and this profile.
pub fn registration(
    keys: &Keys,
    address: Multiaddr,
    profile: &Profile,
) -> Result<Registration, EndpointError> {
    Ok(Registration {
        endpoint: keys.identity.endpoint(address)?,
        keys: vec![keys.encryption.public_key()],
        profile: sha256(profile_json(profile).as_bytes()),
    })
}

/// Makes the registry say that the provider listens on `address`, with these keys and this profile. May be repeated:
/// it sends a transaction only where something differs.
pub async fn register(
    ports: &Ports,
    keys: &Keys,
    address: Multiaddr,
    profile: &Profile,
) -> Result<Registered, RegisterError> {
    let wanted = registration(keys, address, profile)?;
    register_entry(&*ports.reader, &*ports.writer, wanted).await
}

/// Makes the registry say `wanted` of the writer's account. May be repeated: it sends a transaction only where something
/// differs.
pub async fn register_entry(
    reader: &dyn ChainReader,
    writer: &dyn ChainWriter,
    wanted: Registration,
) -> Result<Registered, RegisterError> {
    let provider = writer.account();
    let (endpoint, profile) = (wanted.endpoint.to_string(), wanted.profile);
    let change = match reader.registration(provider).await? {
        RegistryEntry::Registered(current) if current == wanted => RegistryChange::Unchanged,
        RegistryEntry::Registered(_) | RegistryEntry::Unusable => {
            writer.submit(Call::UpdateRegistration(wanted)).await?;
            RegistryChange::Updated
        }
        RegistryEntry::Absent => {
            writer.submit(Call::Register(wanted)).await?;
            RegistryChange::Registered
        }
    };
    Ok(Registered { provider, endpoint, profile, change })
}

/// Checks that the registry says exactly `wanted` of `provider`.
pub async fn check_registered(
    reader: &dyn ChainReader,
    provider: Address,
    wanted: &Registration,
) -> Result<(), RegistrationProblem> {
    let found = match reader.registration(provider).await? {
        RegistryEntry::Registered(found) => found,
        RegistryEntry::Absent => return Err(RegistrationProblem::Absent { provider }),
        RegistryEntry::Unusable => return Err(RegistrationProblem::Unusable { provider }),
    };
    if found.endpoint != wanted.endpoint {
        let (found, expected) = (found.endpoint, wanted.endpoint.clone());
        return Err(RegistrationProblem::Endpoint { found, expected });
    }
    if found.keys != wanted.keys {
        return Err(RegistrationProblem::Keys { provider });
    }
    if found.profile != wanted.profile {
        let (found, expected) = (found.profile, wanted.profile);
        return Err(RegistrationProblem::Profile { found, expected });
    }
    Ok(())
}
