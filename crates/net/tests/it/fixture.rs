//! A service that does as it is told, and both ends around it.

use std::{error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use multiaddr::Multiaddr;
use roadstead_core::{
    ports::{JobLink, JobService, LinkError},
    protocol::{JobSync, MAX_MESSAGE, Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_net::{JobClient, JobServer};
use roadstead_types::{Endpoint, JobId, PeerId};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

/// Far more than anything here takes: a test that waits for longer would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// The job whose questions are kept open until the service lets go.
pub(crate) const HELD: u8 = 1;
/// The job whose questions break the service.
pub(crate) const BROKEN: u8 = 2;
/// The job whose answers are too large.
pub(crate) const LARGE: u8 = 3;
/// A job whose questions are welcome.
pub(crate) const PLAIN: u8 = 4;

/// What the service saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Questions that were asked.
    pub(crate) asked: usize,
    /// Questions that were answered.
    pub(crate) answered: usize,
    /// Peers that have gone.
    pub(crate) gone: Vec<PeerId>,
}

/// Answers by the number of the job.
#[derive(Default)]
pub(crate) struct Service {
    seen: watch::Sender<Seen>,
    released: watch::Sender<bool>,
}

impl Service {
    /// Answers all that is held, now and later.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until the service has seen that.
    pub(crate) async fn wait(&self, until: impl FnMut(&Seen) -> bool) -> Seen {
        patiently(self.seen.subscribe().wait_for(until)).await.unwrap().clone()
    }
}

#[async_trait]
impl JobService for Service {
    async fn answer(&self, peer: PeerId, request: Request) -> Response {
        self.seen.send_modify(|seen| seen.asked += 1);
        let kind = match &request {
            Request::Sync(sync) => sync.job.0[31],
            _ => PLAIN,
        };
        let response = match kind {
            BROKEN => panic!("as it was told"),
            LARGE => Response::Profile("x".repeat(MAX_MESSAGE)),
            HELD => {
                self.released.subscribe().wait_for(|released| *released).await.unwrap();
                Response::Welcome
            }
            _ if request == Request::Profile => Response::Profile(peer.to_string()),
            _ => Response::Welcome,
        };
        self.seen.send_modify(|seen| seen.answered += 1);
        response
    }

    fn gone(&self, peer: PeerId) {
        self.seen.send_modify(|seen| seen.gone.push(peer));
    }
}

/// A provider that listens on any port.
pub(crate) struct Provider {
    pub(crate) identity: NodeIdentity,
    pub(crate) service: Arc<Service>,
    pub(crate) server: JobServer,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let identity = NodeIdentity::generate();
        let service = Arc::new(Service::default());
        let server = JobServer::listen(&identity, any(), service.clone()).await.unwrap();
        Self { identity, service, server }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.server.endpoint()
    }

    pub(crate) fn address(&self) -> Multiaddr {
        self.server.addresses().remove(0)
    }
}

/// A connection to the provider from this address of the machine.
pub(crate) async fn connected(provider: &Provider, from: Ipv4Addr) -> TcpStream {
    let address = provider.address().to_string();
    let port = address.strip_prefix("/ip4/127.0.0.1/tcp/").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap()
}

/// Where the provider is reached by way of this address of the machine, as by somebody from elsewhere.
pub(crate) async fn by_way_of(from: Ipv4Addr, provider: &Arc<Provider>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed_on = Arc::clone(provider);
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = connected(&passed_on, from).await;
            tokio::spawn(async move { copy_bidirectional(&mut here, &mut there).await });
        }
    });
    provider.identity.endpoint(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).unwrap()
}

/// Any port of this machine.
pub(crate) fn any() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

pub(crate) fn client() -> Arc<JobClient> {
    Arc::new(JobClient::start(&NodeIdentity::generate()).unwrap())
}

/// A question about the job of this number.
pub(crate) fn about(number: u8) -> Request {
    let job: JobId = format!("0x{number:064x}").parse().unwrap();
    Request::Sync(JobSync { job, head: None, voucher: None, refusal: None, known: None })
}

/// Asks from a task of its own.
pub(crate) fn asking(
    client: &Arc<JobClient>,
    endpoint: Endpoint,
    request: Request,
) -> tokio::task::JoinHandle<Result<Response, LinkError>> {
    let client = Arc::clone(client);
    tokio::spawn(async move { client.ask(&endpoint, request).await })
}

/// The answer to a question for the profile, which must be the one of this client.
pub(crate) async fn assert_answers(client: &JobClient, endpoint: &Endpoint) {
    let answer = patiently(client.ask(endpoint, Request::Profile)).await.unwrap();
    assert_eq!(answer, Response::Profile(client.peer().to_string()));
}

/// Waits, but not for ever.
pub(crate) async fn patiently<T>(step: impl Future<Output = T>) -> T {
    timeout(PATIENCE, step).await.expect("it does not end")
}

/// What the error and all below it say.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
