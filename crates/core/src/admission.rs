//! Whether a provider takes a job, from the job's terms, its opened bundle and the provider's own offer alone.
//!
//! Everything here was written by a stranger: what passes is bounded in size, in money and in what it asks of the
//! machine. A refusal is final for that job, because neither terms nor bundle ever change.

use std::time::Duration;

use roadstead_types::{
    BUNDLE_VERSION, Bundle, Problem, Resource, Resources, Seconds, Terms, TokenAmount,
};

use crate::{
    account::SettlePolicy,
    billing::{cost_of, rate_per_hour},
    ports::Capabilities,
};

/// What a provider offers and what it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The least it takes, in token base units per 10^12 units of usage.
    pub prices: Resources<u128>,
    /// The most that one job may reserve, and all jobs together.
    pub capacity: Resources<u64>,
    /// The shortest and the longest metering interval.
    pub interval: (Seconds, Seconds),
    /// The shortest notice.
    pub notice: Seconds,
    /// Bytes of an image's plain layers, at most.
    pub image_size: u64,
    /// When vouchers are turned into money.
    pub settle: SettlePolicy,
    /// How long a job whose deposit is used up is kept, frozen, before it is ended.
    pub grace: Seconds,
    /// How long a job whose bills nobody accepts is kept, frozen, before it is ended.
    pub silence: Seconds,
}

/// Why a provider does not take a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bundle does not open, or is no bundle.
    #[error("its bundle cannot be read: {reason}")]
    BadBundle {
        /// Why.
        reason: String,
    },
    /// Written by a version with another format.
    #[error("its bundle has version {found}; this provider reads version {BUNDLE_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// More containers than the engine puts together, or none.
    #[error("it has {found} containers; this provider runs 1 to {max}")]
    Containers {
        /// How many.
        found: usize,
        /// At most.
        max: usize,
    },
    /// A value that no publisher's client writes.
    #[error("its bundle makes no sense: {reason}")]
    Senseless {
        /// Which.
        reason: String,
    },
    /// It asks for something that nobody here can hold it to, or meter.
    #[error("this provider's engine cannot {what}")]
    Incapable {
        /// What.
        what: &'static str,
    },
    /// The machine is too small, or other jobs use it.
    #[error("it reserves {wanted} of {resource}; {free} are free")]
    NoRoom {
        /// Of what.
        resource: Resource,
        /// What it reserves.
        wanted: u64,
        /// What is left.
        free: u64,
    },
    /// It pays less than the offer.
    #[error("it pays {price} for {resource}; the price is {wanted}")]
    Price {
        /// For what.
        resource: Resource,
        /// What it pays, per 10^12 units.
        price: u128,
        /// The offer.
        wanted: u128,
    },
    /// The terms allow less than the reservation costs.
    #[error("its terms allow {rate} token units an hour; what it reserves costs {needed}")]
    Rate {
        /// What the terms allow.
        rate: TokenAmount,
        /// What full use would cost.
        needed: TokenAmount,
    },
    /// The money would be gone before the first bills are accepted.
    #[error("its deposit is {deposit} token units; two metering intervals cost {needed}")]
    Deposit {
        /// What is there.
        deposit: TokenAmount,
        /// What is needed.
        needed: TokenAmount,
    },
    /// Too short or too long.
    #[error("its {what} is {found}; this provider takes {least} to {most}")]
    Span {
        /// Which.
        what: &'static str,
        /// What it is.
        found: Seconds,
        /// At least.
        least: Seconds,
        /// At most.
        most: Seconds,
    },
    /// Its bundle or its image could not be had in all this time.
    #[error("it could not be brought to run within {} minutes", within.as_secs() / 60)]
    Unreachable {
        /// How long it was tried.
        within: Duration,
    },
    /// Its image can never run here.
    #[error("its image cannot be run: {reason}")]
    BadImage {
        /// Why.
        reason: String,
    },
}

/// The most sources that a bundle may name.
const MAX_SOURCES: usize = 8;
/// The longest address of a source, in bytes.
const MAX_SOURCE: usize = 256;
/// The contracts' own bound.
const MAX_NOTICE: Seconds = Seconds(30 * 24 * 3_600);

/// Checks a job. `used` is what other jobs have reserved here.
pub fn admit(
    terms: &Terms,
    deposit: TokenAmount,
    bundle: &Bundle,
    offer: &Offer,
    capabilities: &Capabilities,
    used: &Resources<u64>,
) -> Result<(), Refusal> {
    let found = bundle.workload.containers.len();
    if found == 0 || found > capabilities.containers {
        return Err(Refusal::Containers { found, max: capabilities.containers });
    }
    within("metering interval", bundle.interval, offer.interval.0, offer.interval.1)?;
    within("notice", terms.notice, offer.notice, MAX_NOTICE)?;
    sensible(bundle)?;
    capable(bundle, capabilities)?;

    let reservation = &bundle.workload.reservation;
    for resource in Resource::ALL {
        let (wanted, used) = (reservation.get(resource), used.get(resource));
        let free = offer.capacity.get(resource).saturating_sub(used);
        if wanted > free {
            return Err(Refusal::NoRoom { resource, wanted, free });
        }
        let (price, asked) = (bundle.prices.get(resource), offer.prices.get(resource));
        if wanted > 0 && price < asked {
            return Err(Refusal::Price { resource, price, wanted: asked });
        }
    }
    let rate = terms.rate_per_hour;
    let needed = rate_per_hour(reservation, &bundle.prices).unwrap_or(TokenAmount::MAX);
    if rate < needed {
        return Err(Refusal::Rate { rate, needed });
    }
    let needed = cost_of(needed, Seconds(bundle.interval.0.saturating_mul(2)));
    if deposit < needed {
        return Err(Refusal::Deposit { deposit, needed });
    }
    Ok(())
}

fn within(
    what: &'static str,
    found: Seconds,
    least: Seconds,
    most: Seconds,
) -> Result<(), Refusal> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(Refusal::Span { what, found, least, most })
    }
}

fn sensible(bundle: &Bundle) -> Result<(), Refusal> {
    let senseless = |problem: Problem| Refusal::Senseless { reason: problem.to_string() };
    bundle.workload.check(|each| &each.container).map_err(senseless)?;
    let is_too_long = |source: &String| source.len() > MAX_SOURCE;
    if bundle.sources.len() > MAX_SOURCES || bundle.sources.iter().any(is_too_long) {
        return Err(Refusal::Senseless { reason: "too many sources, or too long ones".into() });
    }
    Ok(())
}

/// Nothing is promised that nobody enforces, and nothing is paid for that nobody meters.
fn capable(bundle: &Bundle, capabilities: &Capabilities) -> Result<(), Refusal> {
    let (reservation, prices) = (&bundle.workload.reservation, &bundle.prices);
    let pays_network = prices.network_in > 0 || prices.network_out > 0;
    let what = if !capabilities.limits_compute {
        "limit CPU, memory and processes"
    } else if !capabilities.limits_storage {
        "limit storage"
    } else if !capabilities.freezes {
        "freeze"
    } else if !capabilities.meters_cpu && prices.cpu > 0 {
        "meter CPU time"
    } else if !capabilities.meters_network && pays_network {
        "meter the network"
    } else if reservation.accelerator > 0 || prices.accelerator > 0 {
        "give access to accelerators"
    } else {
        return Ok(());
    };
    Err(Refusal::Incapable { what })
}

#[cfg(test)]
mod tests;
