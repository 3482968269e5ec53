//! The journal as the roles use it: what is read back by a new process, what is refused, and what a crash leaves.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it has to be")]

mod crash;
mod fixture;
mod hostile;
mod records;
