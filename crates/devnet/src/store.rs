//! The content store of a publisher on this machine, and where others fetch its blocks.

use std::{fmt, net::Ipv4Addr, path::Path, str::FromStr, sync::Arc};

use roadstead_core::ports::{ContentError, ContentStore};
use roadstead_store::{EmbeddedStore, Gateway, KuboStore, ServeError};
use tokio_util::sync::CancellationToken;

use crate::kubo::{Kubo, KuboStartError};

/// Which content store to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// The one in this process.
    Embedded,
    /// A Kubo daemon, started as a child with a repository of its own.
    Kubo,
    /// The RPC of a Kubo daemon that runs already.
    Url(String),
}

/// A text that names no store.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is neither `embedded`, `kubo` nor the http:// address of a Kubo daemon's RPC")]
pub struct UnknownStore {
    /// What was given.
    pub text: String,
}

impl FromStr for StoreChoice {
    type Err = UnknownStore;

    fn from_str(text: &str) -> Result<Self, UnknownStore> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "kubo" => Ok(Self::Kubo),
            url if url.starts_with("http://") => Ok(Self::Url(url.to_owned())),
            _ => Err(UnknownStore { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded"),
            Self::Kubo => formatter.write_str("kubo"),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

/// Why there is no content store.
#[derive(Debug, thiserror::Error)]
pub enum StoreStartError {
    /// The folder cannot be used, or the daemon does not answer.
    #[error("the content store cannot be used")]
    Content(#[from] ContentError),
    /// Its blocks cannot be fetched by anybody.
    #[error("the content store's blocks cannot be served")]
    Serve(#[from] ServeError),
    /// Kubo does not run.
    #[error(transparent)]
    Kubo(#[from] KuboStartError),
}

/// A content store whose blocks others can fetch. The embedded one's gateway, and Kubo where it was started, end with
/// this value.
pub struct LocalStore {
    store: Arc<dyn ContentStore>,
    source: String,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Embedded(Gateway),
    Kubo(Box<Kubo>),
    Foreign,
}

impl LocalStore {
    /// Opens or starts the store, whose files are in `folder`, or takes the one that runs.
    pub async fn start(choice: &StoreChoice, folder: &Path) -> Result<Self, StoreStartError> {
        match choice {
            StoreChoice::Embedded => {
                let store: Arc<dyn ContentStore> = Arc::new(EmbeddedStore::open(folder)?);
                let any = (Ipv4Addr::LOCALHOST, 0).into();
                let gateway = Gateway::serve(store.clone(), any, &CancellationToken::new()).await?;
                Ok(Self { store, source: gateway.url(), parts: Parts::Embedded(gateway) })
            }
            StoreChoice::Kubo => {
                let kubo = Kubo::start(folder).await?;
                let store = Arc::new(KuboStore::new(kubo.rpc())?);
                let source = kubo.gateway().to_owned();
                Ok(Self { store, source, parts: Parts::Kubo(Box::new(kubo)) })
            }
            StoreChoice::Url(url) => {
                let store = KuboStore::new(url)?;
                let source = store.gateway().await?;
                Ok(Self { store: Arc::new(store), source, parts: Parts::Foreign })
            }
        }
    }

    /// What keeps the blocks.
    pub fn store(&self) -> Arc<dyn ContentStore> {
        self.store.clone()
    }

    /// The gateway at which others fetch them: what a source is opened with.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Ends what was started.
    pub async fn shutdown(self) {
        match self.parts {
            Parts::Embedded(gateway) => gateway.shutdown().await,
            Parts::Kubo(kubo) => kubo.shutdown().await,
            Parts::Foreign => {}
        }
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, parts, .. } = self;
        formatter
            .debug_struct("LocalStore")
            .field("source", source)
            .field("parts", parts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use roadstead_core::ports::Sources;
    use roadstead_store::{GatewaySources, SourcePolicy};
    use roadstead_types::content::{RAW, content_id};

    use super::*;

    #[test]
    fn stores_are_named_as_they_are_shown() {
        for text in ["embedded", "kubo", "http://127.0.0.1:5001"] {
            assert_eq!(text.parse::<StoreChoice>().unwrap().to_string(), text);
        }
        for text in ["", "ipfs", "127.0.0.1:5001", "https://127.0.0.1:5001"] {
            assert!(text.parse::<StoreChoice>().is_err(), "{text}");
        }
    }

    /// What is kept can be fetched from the source, and what is not kept is not looked for.
    async fn check(store: &LocalStore) {
        let (kept, missing) = (&b"kept"[..], &b"missing"[..]);
        let id = |block: &[u8]| content_id(RAW, roadstead_crypto::sha256(block));
        store.store().put(&id(kept), kept.into()).await.unwrap();
        store.store().pin(&id(kept)).await.unwrap();
        let source = GatewaySources::new(SourcePolicy::Development).open(store.source()).unwrap();
        assert_eq!(source.get(&id(kept)).await.unwrap().as_deref(), Some(kept));
        assert_eq!(source.get(&id(missing)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_embedded_store_serves_what_it_keeps() {
        let home = tempfile::tempdir().unwrap();
        let store = LocalStore::start(&StoreChoice::Embedded, home.path()).await.unwrap();
        check(&store).await;
        store.shutdown().await;
    }

    #[tokio::test]
    async fn a_kubo_of_its_own_serves_what_it_keeps_and_is_gone_afterwards() {
        if env::var_os("KUBO_BINARY").is_none() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("kubo");
        let store = LocalStore::start(&StoreChoice::Kubo, &folder).await.unwrap();
        check(&store).await;
        let rpc = match &store.parts {
            Parts::Kubo(kubo) => kubo.rpc().to_owned(),
            other => panic!("{other:?}"),
        };
        let kubo = KuboStore::new(&rpc).unwrap();
        kubo.version().await.unwrap();
        // A second daemon on the same repository ends at once, and says why.
        let error = LocalStore::start(&StoreChoice::Kubo, &folder).await.unwrap_err();
        assert!(matches!(error, StoreStartError::Kubo(KuboStartError::Ended { .. })), "{error}");
        store.shutdown().await;
        kubo.version().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let nowhere = StoreChoice::Url("http://127.0.0.1:1".into());
        let error = LocalStore::start(&nowhere, home.path()).await.unwrap_err();
        assert!(matches!(error, StoreStartError::Content(ContentError::Unavailable { .. })));
    }
}
