use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use alloy_primitives::B256;
use futures_util::{StreamExt, stream};
use roadstead_types::content::{RAW, content_id};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{dial::*, *};
use crate::block::digest;

const BLOCK: &[u8] = b"block";

fn cid() -> Cid {
    content_id(RAW, digest(BLOCK))
}

fn answer() -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BLOCK.len());
    [head.as_bytes(), BLOCK].concat()
}

/// What a server with this name needs for TLS, and its certificate.
fn server_tls(name: &str) -> (TlsAcceptor, CertificateDer<'static>) {
    let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

/// A gateway behind TLS at any port of this machine: its port and its certificate.
async fn behind_tls(name: &str) -> (u16, CertificateDer<'static>) {
    let (acceptor, certificate) = server_tls(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&answer()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, certificate)
}

fn source(port: u16, policy: SourcePolicy, tls: Arc<ClientConfig>) -> GatewaySource {
    let address = SourceAddress::parse(&format!("https://localhost:{port}"), policy).unwrap();
    GatewaySource::new(Target::new(address, policy, system_look_up()), tls)
}

fn roots(certificate: CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    roots
}

#[tokio::test]
async fn a_gateway_behind_tls_is_asked() {
    let (port, certificate) = behind_tls("localhost").await;
    let source = source(port, SourcePolicy::Development, trusting(roots(certificate)).unwrap());
    assert_eq!(source.get(&cid()).await.unwrap().as_deref(), Some(BLOCK));
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_the_name() {
    let (port, _) = behind_tls("localhost").await;
    let (other_port, other) = behind_tls("gateway.example").await;
    for source in [
        source(port, SourcePolicy::Development, trusting(RootCertStore::empty()).unwrap()),
        source(other_port, SourcePolicy::Development, trusting(roots(other)).unwrap()),
    ] {
        let error = source.get(&cid()).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_means_this_machine_is_not_asked() {
    let (port, certificate) = behind_tls("localhost").await;
    let source = source(port, SourcePolicy::Public, trusting(roots(certificate)).unwrap());
    for cid in [cid(), content_id(RAW, B256::ZERO)] {
        let error = source.get(&cid).await.unwrap_err();
        assert!(error.source().unwrap().to_string().contains("not on the public internet"));
        assert!(error.is_retryable(), "{error}");
    }
}

/// Answers on its first connection, and says no word of TLS on the others.
async fn mute_but_for_the_first() -> (u16, CertificateDer<'static>, Arc<AtomicUsize>) {
    let (acceptor, certificate) = server_tls("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let held = Arc::new(AtomicUsize::new(0));
    let mute = Arc::clone(&held);
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut stream = acceptor.accept(first).await.unwrap();
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                // Meanwhile the others that ask begin connections of their own.
                tokio::time::sleep(Duration::from_millis(2)).await;
                let _ = stream.write_all(&answer()).await;
            }
        });
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mute = Arc::clone(&mute);
            mute.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
                mute.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, certificate, held)
}

#[tokio::test]
async fn connections_that_never_speak_tls_are_few_and_end() {
    let (port, certificate, held) = mute_but_for_the_first().await;
    let source = source(port, SourcePolicy::Development, trusting(roots(certificate)).unwrap());
    source.get(&cid()).await.unwrap();
    let ask = |_| async { source.get(&cid()).await.unwrap() };
    stream::iter(0..100)
        .for_each_concurrent(8, |number| async move { drop(ask(number).await) })
        .await;
    let most = held.load(Ordering::SeqCst);
    assert!((1..=MAX_CONNECTING).contains(&most), "{most} connections hang");

    tokio::time::pause();
    // Those that waited for their turn when the time of the first was over had begun to wait before.
    tokio::time::sleep(CONNECT_TIME + Duration::from_secs(1)).await;
    tokio::time::resume();
    let ended = async {
        while held.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

/// The resolver says one address and then only others; a server waits at each of them.
#[tokio::test]
async fn a_name_that_changes_its_mind_changes_nothing() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let other = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = good.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&answer()).await;
        }
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up = move |host: &str| {
        assert_eq!(host, "gateway.example");
        let address =
            if count.fetch_add(1, Ordering::SeqCst) == 0 { [127, 0, 0, 1] } else { [127, 0, 0, 2] };
        Ok(vec![IpAddr::from(address)])
    };
    let policy = SourcePolicy::Development;
    let address = format!("http://gateway.example:{port}");
    let address = SourceAddress::parse(&address, policy).unwrap();
    let target = Target::new(address, policy, Arc::new(look_up));
    let source = GatewaySource::new(target, trusting(RootCertStore::empty()).unwrap());
    // Each answer ends its connection, so each question dials.
    for _ in 0..3 {
        assert_eq!(source.get(&cid()).await.unwrap().as_deref(), Some(BLOCK));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let dialled = tokio::time::timeout(Duration::from_millis(50), other.accept()).await;
    assert!(dialled.is_err(), "what was not judged was dialled");
}

#[tokio::test]
async fn a_name_that_meant_this_machine_is_judged_anew() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up = move |_: &str| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![IpAddr::from(if first { [127, 0, 0, 1] } else { [93, 184, 215, 14] })])
    };
    let policy = SourcePolicy::Public;
    let address = SourceAddress::parse("https://gateway.example", policy).unwrap();
    let target = Target::new(address, policy, Arc::new(look_up));
    assert!(target.resolve().await.unwrap_err().is_retryable());
    for _ in 0..2 {
        assert_eq!(target.resolve().await.unwrap(), [IpAddr::from([93, 184, 215, 14])]);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn only_a_whole_reading_of_the_root_certificates_is_kept() {
    static READINGS: AtomicUsize = AtomicUsize::new(0);
    fn read() -> ReadRoots {
        let reading = READINGS.fetch_add(1, Ordering::SeqCst);
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let some = || roots(issued.cert.der().clone());
        let failure = || Some("a file cannot be read".into());
        match reading {
            0 => ReadRoots { roots: RootCertStore::empty(), failure: failure() },
            1 => ReadRoots { roots: RootCertStore::empty(), failure: None },
            2 => ReadRoots { roots: some(), failure: failure() },
            _ => ReadRoots { roots: some(), failure: None },
        }
    }
    let system = SystemRoots::new(read);
    assert_eq!(system.config().unwrap_err().to_string(), "a file cannot be read");
    system.config().unwrap_err();
    system.config().unwrap();
    let whole = system.config().unwrap();
    assert!(Arc::ptr_eq(&whole, &system.config().unwrap()));
    assert_eq!(READINGS.load(Ordering::SeqCst), 4);
}
