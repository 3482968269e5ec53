//! What a provider offers, from its flags, its market and its machine.

use anyhow::Context;
use roadstead_core::{Offer, SettlePolicy};
use roadstead_provider::{check_announced, measure};
use roadstead_types::{Market, PROFILE_VERSION, Profile, Resources, Seconds};

use crate::{
    arguments::Offered,
    failure::plain,
    home::{Home, Role},
};

/// The longest name of a region, in characters.
const MAX_REGION: usize = 64;

/// What is not said otherwise on a local market, where nobody wants to wait, and on others.
const LOCAL: (Seconds, Seconds) = (Seconds(2), Seconds(10));
const OTHERS: (Seconds, Seconds) = (Seconds(60), Seconds::from_hours(12));

/// The shortest metering interval, and after what time one's pay is taken.
const fn usual(market: &Market) -> (Seconds, Seconds) {
    if market.devnet { LOCAL } else { OTHERS }
}

/// Flags that make no offer.
#[derive(Debug, thiserror::Error)]
enum OfferError {
    #[error("the region has {found} characters; the most is {MAX_REGION}, all of them printable")]
    Region { found: usize },
    #[error("the shortest metering interval, {least}, is longer than the longest, {most}")]
    Intervals { least: Seconds, most: Seconds },
    #[error("a metering interval of 0 s cannot be kept")]
    NoInterval,
}

impl Offered {
    /// What the registry vouches for. The rest of the offer is checked as well, so that nobody registers what nothing can be
    /// hosted by.
    pub(super) fn profile(&self, market: &Market) -> anyhow::Result<Profile> {
        self.intervals(market)?;
        self.settle_policy(market)?;
        let found = self.region.chars().count();
        if found > MAX_REGION || plain(&self.region) != self.region {
            return Err(OfferError::Region { found }.into());
        }
        check_announced(self.announced(), market.devnet)
            .context("others cannot reach this provider")?;
        let prices = self.price_list().prices(&market.token)?;
        Ok(Profile { version: PROFILE_VERSION, region: self.region.clone(), prices })
    }

    /// What the provider takes.
    pub(super) fn offer(&self, market: &Market, home: &Home) -> anyhow::Result<Offer> {
        let machine = measure(&home.role_path(Role::Provider));
        let machine = machine.context("what this machine has cannot be found out")?;
        let network = self.network.map(|bytes| bytes.0);
        Ok(Offer {
            prices: self.profile(market)?.prices,
            capacity: Resources {
                cpu: self.cpu.map_or(machine.cpu, |cores| cores.0),
                memory: self.memory.map_or(machine.memory, |size| size.0),
                storage: self.storage.map_or(machine.storage, |size| size.0),
                network_in: network.unwrap_or(machine.network_in),
                network_out: network.unwrap_or(machine.network_out),
                accelerator: 0,
            },
            interval: self.intervals(market)?,
            notice: self.min_notice,
            image_size: self.max_image.0,
            settle: self.settle_policy(market)?,
            grace: self.grace,
            silence: self.silence,
        })
    }

    /// The shortest and the longest metering interval.
    fn intervals(&self, market: &Market) -> Result<(Seconds, Seconds), OfferError> {
        let (usual, _) = usual(market);
        let (least, most) = (self.min_interval.unwrap_or(usual), self.max_interval);
        if least > most {
            return Err(OfferError::Intervals { least, most });
        }
        if least == Seconds(0) {
            return Err(OfferError::NoInterval);
        }
        Ok((least, most))
    }

    fn settle_policy(&self, market: &Market) -> anyhow::Result<SettlePolicy> {
        let value = market.token.parse(&self.settle_value);
        Ok(SettlePolicy {
            value: value.context("--settle-value cannot be used")?,
            age: self.settle_age.unwrap_or(usual(market).1),
        })
    }
}
