//! The workload manifest: what a publisher writes to say what should run.
//!
//! A manifest is YAML or JSON (which is read as the YAML that it is). Names and meanings follow Compose and Kubernetes
//! where these have a word. A field that is unknown is an error, and so is one that nothing would honour: nobody can
//! believe in a limit that is not there. All problems of a document are reported together, each with its path.
//!
//! ```text
//!  text ──document──> tree, scalars as they are written ──schema──> Workload
//!            │ syntax, duplicates, anchors, tags            │ fields, types, bounds
//!            └────────────────────> problems <──────────────┘
//! ```
//!
//! Values of environment variables may be secrets: no problem repeats one.

mod document;
mod nearest;
mod problem;
mod quantity;
mod reader;
mod schema;

#[cfg(test)]
mod tests;

use crate::{Container, Workload};
use problem::Problems;

pub use problem::{ManifestError, Problem};

/// The version of the schema that this build reads.
const VERSION: u64 = 1;

/// A manifest that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it asks for, with every default filled in.
    pub workload: Workload<ManifestContainer>,
}

/// A container of a manifest: how it runs, and which image of the publisher's machine it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestContainer {
    /// Path of an OCI image layout, a folder or an archive, relative to the manifest's folder.
    pub image: String,
    /// How to run it.
    pub container: Container,
}

impl Manifest {
    /// The longest document that is read, in bytes.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Reads and checks a manifest. The error holds everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut problems = Problems::default();
        let root = document::read(text, &mut problems);
        let workload = schema::workload(root, &mut problems);
        problems.into_result().map(|()| Self { workload })
    }
}
