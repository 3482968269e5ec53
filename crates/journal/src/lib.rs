//! What a role keeps on disk: one locked folder, one writer.
//!
//! Every role of a user (provider, publisher, a local market) has a subfolder of its own. While a process works in
//! it, it holds the folder's lock, so a second process cannot write there by mistake; the kernel frees the lock when
//! the process dies, however it dies. Files appear whole or not at all: they are written beside their place, synced
//! and renamed. So a crash loses at most what was being written.

mod folder;

pub use folder::{FolderError, SecretError, StateFolder};
