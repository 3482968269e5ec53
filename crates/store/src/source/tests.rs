use alloy_primitives::B256;
use roadstead_types::content::{RAW, content_id};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::block::digest;

const BLOCK: &[u8] = b"block";

fn cid() -> Cid {
    content_id(RAW, digest(BLOCK))
}

/// A gateway behind TLS at any port of this machine: its port and its certificate.
async fn behind_tls(name: &str) -> (u16, CertificateDer<'static>) {
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BLOCK.len());
            let _ = stream.write_all(&[head.as_bytes(), BLOCK].concat()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, certificate)
}

fn source(port: u16, policy: SourcePolicy, tls: Arc<ClientConfig>) -> GatewaySource {
    let address = SourceAddress::parse(&format!("https://localhost:{port}"), policy).unwrap();
    GatewaySource::new(Target::new(address, policy), tls)
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    Arc::new(tls().unwrap().with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn a_gateway_behind_tls_is_asked() {
    let (port, certificate) = behind_tls("localhost").await;
    let source = source(port, SourcePolicy::Development, trusting(certificate));
    assert_eq!(source.get(&cid()).await.unwrap().as_deref(), Some(BLOCK));
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_the_name() {
    let (port, _) = behind_tls("localhost").await;
    let (other_port, other) = behind_tls("gateway.example").await;
    for source in [
        source(port, SourcePolicy::Development, without_roots().unwrap()),
        source(other_port, SourcePolicy::Development, trusting(other)),
    ] {
        let error = source.get(&cid()).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_means_this_machine_is_refused() {
    let (port, certificate) = behind_tls("localhost").await;
    let source = source(port, SourcePolicy::Public, trusting(certificate));
    for cid in [cid(), content_id(RAW, B256::ZERO)] {
        let error = source.get(&cid).await.unwrap_err();
        assert!(matches!(error, ContentError::Refused { .. }), "{error}");
    }
}
