//! The network as providers and publishers see it: questions over loopback, bounds that hold, and strangers who keep no
//! rule.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it has to be")]

mod asking;
mod bounds;
mod fixture;
mod hostile;
mod lifetime;
mod stranger;
