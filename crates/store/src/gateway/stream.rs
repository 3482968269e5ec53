//! A graph as a CAR stream, read block by block as the client takes it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use roadstead_core::ports::{BlockSource, ContentError};
use roadstead_types::Cid;
use tokio::sync::OwnedSemaphorePermit;

use super::request::Scope;
use crate::{
    block::BlockId,
    car,
    graph::{GraphLimits, NodeKind, Walk, read_node},
    server::Share,
};

/// Why there is no stream at all.
#[derive(Debug)]
pub(super) enum NoStream {
    /// An entity that cannot be told from what is in it without reading more.
    ShardedFolder,
    /// The root is no node.
    BadGraph(ContentError),
}

/// What a stream will hold.
#[derive(Debug)]
pub(super) struct Plan {
    walk: Walk,
    /// Whether what is under the root belongs to the answer.
    is_whole: bool,
}

/// What a stream takes away from others while it lasts.
pub(super) type Turn = (OwnedSemaphorePermit, Share);

struct Progress {
    store: Arc<dyn BlockSource>,
    plan: Plan,
    /// The root, until its turn comes.
    root: Option<Bytes>,
    /// Bytes that come before anything else.
    ahead: Option<Bytes>,
    /// The block whose length and id were sent last.
    block: Option<Bytes>,
    _turn: Turn,
}

impl Plan {
    /// What is streamed of the graph under `root`, whose own block was read already.
    pub(super) fn new(root: &Cid, block: &Bytes, scope: Scope) -> Result<Self, NoStream> {
        let walk = Walk::new(root, GraphLimits::STORE).map_err(NoStream::BadGraph)?;
        let id = BlockId::of(root).map_err(NoStream::BadGraph)?;
        let is_whole = match scope {
            Scope::Block => false,
            Scope::All => true,
            Scope::Entity if !id.is_node => false,
            Scope::Entity => {
                match read_node(root, block.clone()).map_err(NoStream::BadGraph)?.kind {
                    NodeKind::File => true,
                    NodeKind::Single => false,
                    NodeKind::ShardedFolder => return Err(NoStream::ShardedFolder),
                }
            }
        };
        Ok(Self { walk, is_whole })
    }

    /// The stream; `block` is the root's.
    pub(super) fn stream(
        self,
        store: Arc<dyn BlockSource>,
        block: Bytes,
        turn: Turn,
    ) -> impl Stream<Item = Result<Bytes, ContentError>> + use<> {
        let ahead = Some(car::header(self.walk.root()).into());
        let progress =
            Progress { store, plan: self, root: Some(block), ahead, block: None, _turn: turn };
        stream::try_unfold(progress, |mut progress| async move {
            let piece = progress.next().await;
            if let Err(error) = &piece {
                let root = progress.plan.walk.root();
                let error = error as &dyn std::error::Error;
                tracing::debug!(%root, error, "a stream ends early");
            }
            Ok(piece?.map(|piece| (piece, progress)))
        })
    }
}

impl Progress {
    async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        if let Some(piece) = self.ahead.take().or_else(|| self.block.take()) {
            return Ok(Some(piece));
        }
        if !self.plan.is_whole && self.root.is_none() {
            return Ok(None);
        }
        let Some(id) = self.plan.walk.next()? else { return Ok(None) };
        let cid = id.cid();
        let block = match self.root.take() {
            Some(root) => root,
            None => self.store.get(&cid).await?.ok_or(ContentError::Absent { cid })?,
        };
        if id.is_node && self.plan.is_whole {
            let node = read_node(self.plan.walk.root(), block.clone())?;
            self.plan.walk.descend(node.links)?;
        }
        let section = car::section(&cid, block.len());
        self.block = Some(block).filter(|block| !block.is_empty());
        Ok(Some(section.into()))
    }
}
