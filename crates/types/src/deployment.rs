//! A deployment: what a publisher thinks of as one thing, however many jobs carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{JobKey, Tariff, Terms, TokenAmount};

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

/// A job that was prepared: all that it takes to open it, and to follow it once it is open. Made durable before anything
/// is sent, so that preparing again finds the same job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPlan {
    /// Which job it is, or will be.
    pub key: JobKey,
    /// What both sides agree on.
    pub terms: Terms,
    /// What it may cost at most.
    pub deposit: TokenAmount,
    /// The hint where the bundle can be fetched.
    pub source: String,
    /// What the bundle, which only provider and publisher can open, says of the metering.
    pub tariff: Tariff,
}
