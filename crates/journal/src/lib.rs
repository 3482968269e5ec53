//! What a role keeps on disk: one locked folder, one writer, one journal.
//!
//! Every role of a user (provider, publisher, a local market) has a subfolder of its own. While a process works in
//! it, it holds the folder's lock, so a second process cannot write there by mistake; the kernel frees the lock when
//! the process dies, however it dies. Files appear whole or not at all: they are written beside their place, synced
//! and renamed. So a crash loses at most what was being written.
//!
//! The [`Journal`] is a SQLite database in that folder. What a method of it has written is durable when the method
//! returns; a crash before that loses the whole of it or nothing, and everything that was returned before is there.

mod accounts;
mod book;
mod closed;
mod folder;
mod followers;
mod intents;
mod journal;
mod receipts;
mod row;
mod schema;

pub use folder::{FolderError, SecretError, StateFolder};
pub use journal::{Journal, JournalBinding, JournalError};
