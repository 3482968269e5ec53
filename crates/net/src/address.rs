//! Addresses as the transport takes them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use multiaddr::{Multiaddr, Protocol};
use tokio::{net::lookup_host, time::timeout};

/// How long the look-up of a name may take.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// The most addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 8;

/// What to dial for an address: itself, or its name's addresses with the rest of it.
pub(crate) async fn resolve(address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
    let mut parts = address.iter();
    let (host, fits): (_, fn(&IpAddr) -> bool) = match parts.next() {
        Some(Protocol::Dns(host)) => (host, |_| true),
        Some(Protocol::Dns4(host)) => (host, IpAddr::is_ipv4),
        Some(Protocol::Dns6(host)) => (host, IpAddr::is_ipv6),
        _ => return Ok(vec![address.clone()]),
    };
    let found = timeout(LOOKUP_TIME, lookup_host((&*host, 0))).await??;
    let rest: Vec<_> = parts.collect();
    let mut addresses = Vec::new();
    for ip in found.map(|found| found.ip()).filter(fits).take(MAX_ADDRESSES) {
        let mut address = Multiaddr::from(ip);
        rest.iter().for_each(|part| address.push(part.clone()));
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no such address")));
    }
    Ok(addresses)
}

/// The socket behind an address of TCP, where it is one.
pub(crate) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_name_is_replaced_by_its_addresses() {
        let rest = "tcp/4101/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let found = resolve(&parsed(&format!("/dns4/localhost/{rest}"))).await.unwrap();
        assert_eq!(found, [parsed(&format!("/ip4/127.0.0.1/{rest}"))]);
    }

    #[tokio::test]
    async fn any_other_address_stays_as_it_is() {
        for text in ["/ip4/192.0.2.1/tcp/1", "/dnsaddr/example.org", "/memory/7"] {
            assert_eq!(resolve(&parsed(text)).await.unwrap(), [parsed(text)]);
        }
    }

    #[test]
    fn only_an_address_of_tcp_has_a_socket() {
        let expected: SocketAddr = "[::1]:4101".parse().unwrap();
        assert_eq!(socket(&parsed("/ip6/::1/tcp/4101")), Some(expected));
        for other in
            ["/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/ws", "/dns/a/tcp/1"]
        {
            assert_eq!(socket(&parsed(other)), None, "{other}");
        }
    }
}
