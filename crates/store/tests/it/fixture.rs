//! Graphs, stores and gateways to test with.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{Router, body::Body, extract::Path, response::Response, routing::get};
use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_store::{EmbeddedStore, Gateway};
use roadstead_types::{
    Cid,
    content::{DAG_PB, RAW, content_id},
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Any port of this machine.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A block and its id.
pub(crate) type Block = (Cid, Bytes);

fn block(codec: u64, bytes: Bytes) -> Block {
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    (content_id(codec, digest.into()), bytes)
}

/// A block that is only bytes.
pub(crate) fn raw(bytes: impl Into<Bytes>) -> Block {
    block(RAW, bytes.into())
}

/// A block whose id says that it is a node, whatever its bytes are.
pub(crate) fn raw_node(bytes: &'static [u8]) -> Block {
    block(DAG_PB, Bytes::from_static(bytes))
}

/// A node of a file over these blocks, which claims the sizes that `sizes` says.
pub(crate) fn node(children: &[(Cid, u64)]) -> Block {
    unixfs(2, children)
}

/// A folder over these blocks.
pub(crate) fn folder(children: &[(Cid, u64)]) -> Block {
    unixfs(1, children)
}

/// A folder that is spread over these nodes.
pub(crate) fn sharded_folder(children: &[(Cid, u64)]) -> Block {
    unixfs(5, children)
}

fn unixfs(kind: u8, children: &[(Cid, u64)]) -> Block {
    let link = |(index, (cid, size)): (usize, &(Cid, u64))| PbLink {
        cid: *cid,
        name: (kind == 1).then(|| format!("{index:04}")),
        size: Some(*size),
    };
    let links = children.iter().enumerate().map(link).collect();
    let data = Some(Bytes::copy_from_slice(&[8, kind]));
    block(DAG_PB, PbNode { links, data }.into_bytes().into())
}

/// A graph in the order in which it is read, its root first, each block once.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) blocks: Vec<Block>,
}

impl Graph {
    /// A folder of two files that share a block.
    pub(crate) fn sample() -> Self {
        let leaves = ["one", "two", "shared", ""].map(|text| raw(text.as_bytes()));
        let claim = |block: &Block| (block.0, u64::try_from(block.1.len()).unwrap());
        let first = node(&[claim(&leaves[0]), claim(&leaves[2]), claim(&leaves[1])]);
        let second = node(&[claim(&leaves[2]), claim(&leaves[3])]);
        let total = |node: &Block, bytes: u64| (node.0, claim(node).1 + bytes);
        let root = folder(&[total(&first, 12), total(&second, 6)]);
        let [one, two, shared, empty] = leaves;
        Self { blocks: vec![root, first, one, shared, two, second, empty] }
    }

    pub(crate) fn root(&self) -> Cid {
        self.blocks[0].0
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(_, block)| u64::try_from(block.len()).unwrap()).sum()
    }

    pub(crate) async fn put(&self, store: &dyn ContentStore) {
        for (cid, block) in &self.blocks {
            store.put(cid, block.clone()).await.unwrap();
        }
    }

    /// Whether the store has every block as it is.
    pub(crate) async fn is_in(&self, store: &dyn ContentStore) -> bool {
        for (cid, block) in &self.blocks {
            if store.get(cid).await.unwrap().as_ref() != Some(block) {
                return false;
            }
        }
        true
    }
}

/// An embedded store in a folder of its own.
pub(crate) fn embedded() -> (EmbeddedStore, TempDir) {
    let home = tempfile::tempdir().unwrap();
    (EmbeddedStore::open(home.path()).unwrap(), home)
}

/// A gateway over a store.
pub(crate) async fn gateway(store: &EmbeddedStore) -> Gateway {
    Gateway::serve(Arc::new(store.clone()), ANY, &CancellationToken::new()).await.unwrap()
}

/// A gateway that answers as the test wants. It runs until the test's runtime ends.
pub(crate) async fn strange<F, A>(answer: F) -> String
where
    F: Fn(Cid) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |Path(cid): Path<String>| {
        let answer = answer.clone();
        async move { answer(cid.parse().unwrap()).await }
    };
    let router = Router::new().route("/ipfs/{cid}", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// What a source in memory does when it is asked for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Absent,
    Damaged,
    Failing,
}

/// A source in memory that counts the questions.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    blocks: HashMap<Cid, Bytes>,
    faults: Mutex<HashMap<Cid, Fault>>,
    asked: AtomicUsize,
}

impl Memory {
    pub(crate) fn of(graph: &Graph) -> Self {
        Self { blocks: graph.blocks.iter().cloned().collect(), ..Self::default() }
    }

    pub(crate) fn with_fault(self, cid: Cid, fault: Fault) -> Self {
        self.faults.lock().unwrap().insert(cid, fault);
        self
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl BlockSource for Memory {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let fault = self.faults.lock().unwrap().get(cid).copied();
        let block = self.blocks.get(cid).cloned();
        match fault {
            None => Ok(block),
            Some(Fault::Absent) => Ok(None),
            Some(Fault::Damaged) => Ok(Some(Bytes::from_static(b"something else"))),
            Some(Fault::Failing) => Err(ContentError::Unavailable {
                place: "memory".into(),
                operation: "a test",
                source: "it fails".into(),
            }),
        }
    }
}
