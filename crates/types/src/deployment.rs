//! A deployment: what a publisher thinks of as one thing, however many jobs carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::JobKey;

/// The publisher's own name for a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentId(pub String);

impl fmt::Display for DeploymentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One or more jobs, at one or more providers, that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Unique within the publisher's state.
    pub id: DeploymentId,
    /// Its jobs, in the order of opening.
    pub jobs: Vec<JobKey>,
}
