//! Who can be rented from: the registry, and what its providers say of themselves.

use std::time::Duration;

use alloy_primitives::Address;
use futures_util::{StreamExt, stream};
use roadstead_core::ports::{ChainError, ChainReader, JobLink, RegistryEntry};
use roadstead_types::Profile;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::profile::registered_profile;

/// Entries that are asked for at once.
const PAGE: u64 = 100;

/// The most providers that are listed.
const MOST: usize = 10_000;

/// How long one provider may take to say what it offers.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of them may take. To register and then be silent is cheap.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(60);

/// Providers that are asked at once.
const AT_ONCE: usize = 16;

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedProvider {
    /// Its account.
    pub provider: Address,
    /// Where it says it listens; `None` where nobody can use what it says.
    pub endpoint: Option<String>,
    /// What it offers, as far as the registry vouches for it; `None` where it did not answer as it should.
    pub profile: Option<Profile>,
    /// Why there is no profile.
    pub trouble: Option<String>,
}

/// The providers of the market, each asked for its profile.
pub async fn providers(
    reader: &dyn ChainReader,
    link: &dyn JobLink,
) -> Result<Vec<ListedProvider>, ChainError> {
    let mut entries: Vec<(Address, RegistryEntry)> = Vec::new();
    loop {
        let start = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let page = reader.providers(start, PAGE).await?;
        if page.is_empty() || entries.len() >= MOST {
            break;
        }
        entries.extend(page);
    }
    // Who left while the pages were read may have moved another entry to a page that was read already.
    entries.sort_by_key(|(provider, _)| *provider);
    entries.dedup_by_key(|(provider, _)| *provider);
    let end = Instant::now() + PATIENCE_FOR_ALL;
    let listed = stream::iter(entries).map(|(provider, entry)| listed(link, provider, entry, end));
    Ok(listed.buffered(AT_ONCE).collect().await)
}

async fn listed(
    link: &dyn JobLink,
    provider: Address,
    entry: RegistryEntry,
    end: Instant,
) -> ListedProvider {
    let RegistryEntry::Registered(entry) = entry else {
        let trouble = Some("nobody can use the endpoint that it registered".to_owned());
        return ListedProvider { provider, endpoint: None, profile: None, trouble };
    };
    let endpoint = Some(entry.endpoint.to_string());
    if Instant::now() >= end {
        let trouble = Some("it was not asked, for others took too long".to_owned());
        return ListedProvider { provider, endpoint, profile: None, trouble };
    }
    let asked = timeout(PATIENCE, registered_profile(link, &entry)).await;
    let (profile, trouble) = match asked {
        Ok(Ok(profile)) => (Some(profile), None),
        Ok(Err(error)) => (None, Some(roadstead_core::with_causes(&error))),
        Err(_) => (None, Some(format!("it did not answer within {} s", PATIENCE.as_secs()))),
    };
    ListedProvider { provider, endpoint, profile, trouble }
}
