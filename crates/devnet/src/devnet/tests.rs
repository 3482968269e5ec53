use std::net::TcpListener;

use super::*;

fn devnet(folder: &StateFolder, ports: DevnetPorts) -> DevnetConfig<'_> {
    DevnetConfig { chain: ChainChoice::Embedded, folder, ports }
}

#[tokio::test]
async fn what_a_market_leaves_is_gone_with_it_or_with_the_next() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let files = || {
        let entries = fs::read_dir(home.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let first = Devnet::start(devnet(&folder, DevnetPorts::ANY)).await.unwrap();
    let written = ["blocks", "hello", "lock", "market.toml", "provider.key", "publisher.key"];
    assert_eq!(files(), written);
    let forgotten = home.path().join("blocks/forgotten");
    fs::write(&forgotten, "").unwrap();
    // As a crash does.
    drop(first);
    assert_eq!(files(), written);
    let second = Devnet::start(devnet(&folder, DevnetPorts::ANY)).await.unwrap();
    assert!(!forgotten.exists());
    let stop = CancellationToken::new();
    stop.cancel();
    second.run(&stop).await.unwrap();
    assert_eq!(files(), ["lock"]);
}

#[tokio::test]
async fn a_taken_port_costs_nothing_that_was_there() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let market = folder.write(MARKET_FILE, b"of before").unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for ports in [
        DevnetPorts { chain: port, ..DevnetPorts::ANY },
        DevnetPorts { store: port, ..DevnetPorts::ANY },
        DevnetPorts { gateway: port, ..DevnetPorts::ANY },
    ] {
        let error = Devnet::start(devnet(&folder, ports)).await.unwrap_err();
        assert!(
            matches!(&error, DevnetError::PortTaken(taken) if taken.port == port),
            "{ports:?}: {error}"
        );
    }
    assert_eq!(fs::read(market).unwrap(), b"of before");
}

#[tokio::test]
async fn two_parts_at_one_port_are_refused_before_anything_is_started() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    for (ports, parts) in [
        (DevnetPorts { chain: port, store: port, gateway: 0 }, ["the chain", "RPC"]),
        (DevnetPorts { chain: port, store: 0, gateway: port }, ["the chain", "gateway"]),
        (DevnetPorts { chain: 0, store: port, gateway: port }, ["RPC", "gateway"]),
    ] {
        let error = Devnet::start(devnet(&folder, ports)).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {port} is asked for twice")), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[tokio::test]
async fn a_market_that_does_not_come_to_run_leaves_no_keys() {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let chain = LocalChain::start(&ChainChoice::Embedded, BLOCKS, 0).await.unwrap();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    for ports in [
        DevnetPorts { store: port, ..DevnetPorts::ANY },
        DevnetPorts { gateway: port, ..DevnetPorts::ANY },
    ] {
        // As if somebody had come between the first look and the listening.
        let started = Parts::start(&chain, &ChainChoice::Embedded, &folder, ports).await;
        let error = started.err().expect("the port is taken");
        assert!(
            matches!(&error, DevnetError::PortTaken(taken) if taken.port == port),
            "{ports:?}: {error}"
        );
        assert!(home.path().join(PUBLISHER_KEY_FILE).exists());
        Devnet::clean_up(&folder).unwrap();
    }
    chain.shutdown().await;

    // A chain that nobody runs.
    let config = DevnetConfig {
        chain: ChainChoice::Url("http://127.0.0.1:1".into()),
        folder: &folder,
        ports: DevnetPorts::ANY,
    };
    folder.write(MARKET_FILE, b"of before").unwrap();
    let error = Devnet::start(config).await.unwrap_err();
    assert!(matches!(error, DevnetError::Market(_)), "{error}");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the lock: {left:?}");
}
