//! What the registry says of a provider.

use alloy_primitives::Address;
use roadstead_core::ports::{ChainError, ChainReader, RegistryEntry};
use roadstead_types::Registration;

/// The entry of a provider, where it has one that can be used.
pub(crate) async fn registration_of(
    reader: &dyn ChainReader,
    provider: Address,
) -> Result<Option<Registration>, ChainError> {
    Ok(match reader.registration(provider).await? {
        RegistryEntry::Registered(entry) => Some(entry),
        RegistryEntry::Absent | RegistryEntry::Unusable => None,
    })
}
