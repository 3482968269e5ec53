//! The publisher's client: opens and closes jobs
