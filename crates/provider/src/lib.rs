//! The provider's client: follows the chain and serves jobs
