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
    /// It stands for any free port.
    #[error("`{address}` names no port, so nobody can dial it")]
    NoPort {
        /// What was given.
        address: Multiaddr,
    },
}

/// Checks that others can dial an address: a host and a port of TCP.
pub fn check_announced(address: &Multiaddr) -> Result<(), AnnounceError> {
    let parts: Vec<_> = address.iter().collect();
    let [host, Protocol::Tcp(port)] = parts.as_slice() else {
        return Err(AnnounceError::Form { address: address.clone() });
    };
    let ip = match host {
        Protocol::Ip4(ip) => Some(IpAddr::from(*ip)),
        Protocol::Ip6(ip) => Some(IpAddr::from(*ip)),
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => None,
        _ => return Err(AnnounceError::Form { address: address.clone() }),
    };
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        return Err(AnnounceError::Unspecified { address: address.clone() });
    }
    if *port == 0 {
        return Err(AnnounceError::NoPort { address: address.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_dial_is_announced() {
        let check = |text: &str| check_announced(&text.parse().unwrap());
        for text in ["/ip4/192.0.2.1/tcp/47600", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/1"] {
            check(text).unwrap();
        }
        for text in ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"] {
            assert!(matches!(check(text), Err(AnnounceError::Unspecified { .. })), "{text}");
        }
        let no_port = check("/ip4/127.0.0.1/tcp/0");
        assert!(matches!(no_port, Err(AnnounceError::NoPort { .. })));
        for text in ["/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/ws", "/tcp/1"]
        {
            assert!(matches!(check(text), Err(AnnounceError::Form { .. })), "{text}");
        }
    }
}
