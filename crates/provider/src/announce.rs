//! What address a provider may give to others.

use std::net::IpAddr;

use multiaddr::{Multiaddr, Protocol};

/// Why an address is of no use to anybody else.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// It is not a host with a port.
    #[error("`{address}` is not of the form /ip4/<address>/tcp/<port> or /dns/<name>/tcp/<port>")]
    Form {
        /// What was given.
        address: Multiaddr,
    },
    /// It stands for all addresses of a machine.
    #[error("`{address}` stands for every address of this machine, so nobody can dial it")]
    Unspecified {
        /// What was given.
        address: Multiaddr,
    },
    /// Whoever dials it reaches their own machine.
    #[error(
        "`{address}` leads to whoever dials it themselves, so nobody else reaches this machine"
    )]
    Loopback {
        /// What was given.
        address: Multiaddr,
    },
    /// Only neighbours on the same cable can dial it.
    #[error("`{address}` is known on one link of a network alone, so nobody beyond it can dial it")]
    LinkLocal {
        /// What was given.
        address: Multiaddr,
    },
    /// It stands for any free port.
    #[error("`{address}` names no port, so nobody can dial it")]
    NoPort {
        /// What was given.
        address: Multiaddr,
    },
}

/// Checks that others can dial an address: a host and a port of TCP. `is_local` says that the others are on this machine.
pub fn check_announced(address: &Multiaddr, is_local: bool) -> Result<(), AnnounceError> {
    let parts: Vec<_> = address.iter().collect();
    let [host, Protocol::Tcp(port)] = parts.as_slice() else {
        return Err(AnnounceError::Form { address: address.clone() });
    };
    let (ip, name) = match host {
        Protocol::Ip4(ip) => (Some(IpAddr::from(*ip)), None),
        // An address of version 4 is the same in the form of version 6.
        Protocol::Ip6(ip) => (Some(ip.to_canonical()), None),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => (None, Some(name)),
        _ => return Err(AnnounceError::Form { address: address.clone() }),
    };
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        return Err(AnnounceError::Unspecified { address: address.clone() });
    }
    if *port == 0 {
        return Err(AnnounceError::NoPort { address: address.clone() });
    }
    let is_loopback = ip.is_some_and(|ip| ip.is_loopback())
        || name.is_some_and(|name| name.trim_end_matches('.').eq_ignore_ascii_case("localhost"));
    if is_loopback && !is_local {
        return Err(AnnounceError::Loopback { address: address.clone() });
    }
    let is_link_local = match ip {
        Some(IpAddr::V4(ip)) => ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_unicast_link_local(),
        None => false,
    };
    if is_link_local && !is_local {
        return Err(AnnounceError::LinkLocal { address: address.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_dial_is_announced() {
        let check = |text: &str| check_announced(&text.parse().unwrap(), false);
        for text in ["/ip4/192.0.2.1/tcp/47600", "/ip6/2001:db8::1/tcp/1", "/dns4/a.org/tcp/1"] {
            check(text).unwrap();
        }
        for text in ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip6/::ffff:0.0.0.0/tcp/1"] {
            assert!(matches!(check(text), Err(AnnounceError::Unspecified { .. })), "{text}");
        }
        let no_port = check("/ip4/127.0.0.1/tcp/0");
        assert!(matches!(no_port, Err(AnnounceError::NoPort { .. })));
        for text in ["/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/ws", "/tcp/1"]
        {
            assert!(matches!(check(text), Err(AnnounceError::Form { .. })), "{text}");
        }
    }

    #[test]
    fn what_leads_nowhere_else_is_for_a_market_of_one_machine() {
        let check = |text: &str, is_local| check_announced(&text.parse().unwrap(), is_local);
        for text in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.9.9.9/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/dns/localhost/tcp/1",
            "/dns4/LocalHost./tcp/1",
        ] {
            let refused = check(text, false);
            assert!(matches!(refused, Err(AnnounceError::Loopback { .. })), "{text}");
            check(text, true).unwrap();
        }
        for text in ["/ip4/169.254.1.1/tcp/1", "/ip6/fe80::1/tcp/1"] {
            let refused = check(text, false);
            assert!(matches!(refused, Err(AnnounceError::LinkLocal { .. })), "{text}");
            check(text, true).unwrap();
        }
    }
}
