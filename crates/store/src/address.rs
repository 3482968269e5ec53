//! Which addresses may be asked for blocks. Strangers write them: a job's publisher must not steer a provider's requests
//! to the provider's own machine and network.
//!
//! An address is judged twice: as text, and when its host is known as numbers. What is dialled is exactly what was
//! judged, so a name that changes its mind between the two gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use roadstead_core::ports::ContentError;
use url::{Host, Url};

use crate::block::unavailable;

/// The most bytes of an address.
const MAX_LENGTH: usize = 256;

/// Whom a source may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// Anybody on the public internet, by https.
    Public,
    /// A throw-away market on the user's own machine: any address, by http as well.
    Development,
}

/// An address that may be asked, as far as its text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceAddress {
    /// The base without a slash at its end.
    pub(crate) base: String,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
}

impl SourceAddress {
    /// Judges the text. A host written as a number, however spelled, is judged as one.
    pub(crate) fn parse(address: &str, policy: SourcePolicy) -> Result<Self, ContentError> {
        let refuse = |reason| refused(address, reason);
        if address.len() > MAX_LENGTH {
            return Err(refuse("it is longer than 256 bytes"));
        }
        // Parsers disagree about these, or drop them without a word.
        if !address.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'@')) {
            return Err(refuse("it holds credentials, spaces, or characters that no URL has"));
        }
        let url: Url = address.parse().map_err(|_| refuse("it is no URL"))?;
        match (url.scheme(), policy) {
            ("https", _) | ("http", SourcePolicy::Development) => {}
            ("http", SourcePolicy::Public) => return Err(refuse("only https is asked")),
            _ => return Err(refuse("it is neither http nor https")),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it holds a query or a fragment"));
        }
        let (Some(host), Some(port @ 1..)) = (url.host(), url.port_or_known_default()) else {
            return Err(refuse("it names no host and port"));
        };
        let literal = match host {
            Host::Ipv4(host) => Some(IpAddr::V4(host)),
            Host::Ipv6(host) => Some(IpAddr::V6(host)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|host| !policy.allows(host)) {
            return Err(refuse(NOT_GLOBAL));
        }
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, host: host.to_owned(), port })
    }

    /// Judges what the host turned out to be. One address that must not be asked spoils all of them. Names change, so
    /// what is wrong with one today is no reason to refuse its address for good.
    pub(crate) fn judge(
        &self,
        addresses: Vec<IpAddr>,
        policy: SourcePolicy,
    ) -> Result<Vec<IpAddr>, ContentError> {
        let misled = |reason: &str| unavailable(&self.base, "the look-up of its name", reason);
        if addresses.is_empty() {
            return Err(misled("its host has no address"));
        }
        if !addresses.iter().all(|address| policy.allows(*address)) {
            return Err(misled(NOT_GLOBAL));
        }
        Ok(addresses)
    }
}

const NOT_GLOBAL: &str = "its host is not on the public internet";

impl SourcePolicy {
    fn allows(self, address: IpAddr) -> bool {
        self == Self::Development || is_global(address)
    }
}

fn refused(address: &str, reason: &str) -> ContentError {
    let shown: String = address.chars().take(MAX_LENGTH).flat_map(char::escape_default).collect();
    ContentError::Refused { address: shown, reason: reason.to_owned() }
}

/// Whether an address is one of a host on the public internet, by the special-purpose registries of IANA.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // This network, private, shared by a carrier, loopback, link-local with the metadata services, private.
        [0 | 10 | 127, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..]
        // Protocol assignments, documentation, relays of 6to4, private, benchmarks, documentation.
        | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 168, ..] | [198, 18 | 19, ..]
        | [198, 51, 100, _] | [203, 0, 113, _]
        // Multicast, reserved, broadcast.
        | [224..=255, ..]
    )
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // An IPv4 address in other clothes: mapped, or behind a NAT64 with the well-known prefix.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            is_global_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo, documentation, 6to4, documentation.
        [0x2001, ..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, ..=0x0fff, ..] => false,
        // The rest of what is given out to networks; everything else is local, multicast or reserved.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
