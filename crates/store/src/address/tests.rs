use super::*;

fn public(address: &str) -> Result<SourceAddress, String> {
    SourceAddress::parse(address, SourcePolicy::Public).map_err(reason)
}

fn reason(error: ContentError) -> String {
    match error {
        ContentError::Refused { reason, .. } => reason,
        ContentError::Unavailable { source, .. } => source.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn an_address_of_the_internet_is_taken() {
    for (address, base, port) in [
        ("https://gateway.example", "https://gateway.example", 443),
        ("https://gateway.example:8443/", "https://gateway.example:8443", 8443),
        ("https://GATEWAY.example/a/b/", "https://gateway.example/a/b", 443),
        ("https://93.184.215.14", "https://93.184.215.14", 443),
        ("https://[2606:4700::6810:85e5]/", "https://[2606:4700::6810:85e5]", 443),
    ] {
        let parsed = public(address).unwrap();
        assert_eq!((parsed.base.as_str(), parsed.port), (base, port));
    }
}

#[test]
fn what_is_no_plain_address_is_refused() {
    let long = format!("https://gateway.example/{}", "a".repeat(MAX_LENGTH));
    for (address, part) in [
        ("", "no URL"),
        ("gateway.example", "no URL"),
        ("http://gateway.example", "only https"),
        ("ftp://gateway.example", "neither"),
        ("file:///etc/passwd", "neither"),
        ("unix:/var/run/docker.sock", "neither"),
        ("https://", "no URL"),
        ("https://gateway.example:0", "no host and port"),
        ("https://gateway.example:99999", "no URL"),
        ("https://user@gateway.example", "credentials"),
        ("https://user:secret@gateway.example", "credentials"),
        ("https://@gateway.example", "credentials"),
        ("https://gateway.example?x=1", "query"),
        ("https://gateway.example?", "query"),
        ("https://gateway.example#x", "fragment"),
        ("https://gateway.example\\@127.0.0.1", "credentials"),
        ("https://gateway.example/\r\nHost: x", "spaces"),
        (" https://gateway.example", "spaces"),
        ("https://gatewäy.example", "characters"),
        (long.as_str(), "longer"),
    ] {
        let reason = public(address).unwrap_err();
        assert!(reason.contains(part), "{address:?}: {reason}");
    }
}

#[test]
fn a_host_written_as_a_number_is_judged_however_it_is_spelled() {
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xA9FEA9FE",
        "0.0.0.0",
        "0",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.1.2.3]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2002:5db8:d822::1]",
        "[2001::1]",
        "[2001:0:53aa:64c:0:7fff:80ff:fffe]",
        "[2001:2::1]",
        "[2001:10::1]",
        "[2001:20::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
    ] {
        assert_eq!(public(&format!("https://{host}/")).unwrap_err(), NOT_GLOBAL, "{host}");
    }
    for host in [
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "[::ffff:93.184.215.14]",
        "[64:ff9b::93.184.215.14]",
        "[2001:200::1]",
        "[2001:4860:4860::8888]",
    ] {
        public(&format!("https://{host}/")).unwrap();
    }
}

#[test]
fn one_local_address_of_a_name_spoils_all_until_it_means_another() {
    let address = public("https://gateway.example").unwrap();
    let judge = |ips: &[&str]| {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let judged = address.judge(ips, SourcePolicy::Public);
        judged.map_err(|error| {
            assert!(error.is_retryable(), "{error}");
            reason(error)
        })
    };
    assert_eq!(judge(&["93.184.215.14", "2606:4700::1"]).unwrap().len(), 2);
    assert_eq!(judge(&["93.184.215.14", "127.0.0.1"]).unwrap_err(), NOT_GLOBAL);
    assert_eq!(judge(&["fd00::1"]).unwrap_err(), NOT_GLOBAL);
    assert_eq!(judge(&[]).unwrap_err(), "its host has no address");
}

#[test]
fn a_development_market_asks_its_own_machine_but_no_other_kind_of_address() {
    let development = |text| SourceAddress::parse(text, SourcePolicy::Development).map_err(reason);
    development("http://127.0.0.1:8080").unwrap();
    development("http://[::1]:8080").unwrap();
    development("https://192.168.1.1/base").unwrap();
    assert!(development("ftp://127.0.0.1").unwrap_err().contains("neither"));
    assert!(development("http://user@127.0.0.1").unwrap_err().contains("credentials"));
}

#[test]
fn a_refusal_shows_the_address_without_its_control_characters() {
    let error = SourceAddress::parse("\u{1b}[2J", SourcePolicy::Public).unwrap_err();
    assert!(error.to_string().starts_with(r"`\u{1b}[2J` is refused"), "{error}");
}
