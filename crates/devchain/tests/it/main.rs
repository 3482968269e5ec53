//! The chain as its clients see it: through alloy in process and over HTTP, through `cast`, beside a
//! real `anvil`, and under input that means harm.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it has to be")]

mod anvil;
mod cast;
mod fixture;
mod hostile;
mod mining;
mod provider;
mod server;
