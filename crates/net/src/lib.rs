//! The peer network: both ends of the job protocol over TCP, Noise and Yamux.
//!
//! Owned here are connections and questions under way, nothing that outlives the process: a crash loses both, and each
//! question may be asked again. A provider listens and answers and dials nobody; a publisher's side dials and asks and
//! listens nowhere. Whoever sits at the other end is a stranger: messages, streams, connections, the share of each source
//! and the time each may take are bounded.

mod address;
mod client;
mod codec;
mod failure;
mod gate;
mod network;
mod server;

pub use client::{ClientError, JobClient};
pub use server::{JobServer, ListenError};
