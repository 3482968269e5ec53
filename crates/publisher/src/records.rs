//! What can be read of a publisher's jobs, by whoever holds a journal about them: the publisher or its agent.

use roadstead_core::ports::{ChainEvents, ChainReader};
use roadstead_journal::Journal;
use roadstead_types::Domain;

use crate::{AgentPorts, Ports};

/// A journal, and the chain that it is about.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    pub(crate) events: &'a dyn ChainEvents,
    pub(crate) reader: &'a dyn ChainReader,
    pub(crate) journal: &'a Journal,
    pub(crate) domain: &'a Domain,
    pub(crate) from_block: u64,
}

impl<'a> From<&'a Ports> for Records<'a> {
    fn from(ports: &'a Ports) -> Self {
        Self {
            events: &*ports.events,
            reader: &*ports.reader,
            journal: &ports.journal,
            domain: &ports.domain,
            from_block: ports.from_block,
        }
    }
}

impl<'a> From<&'a AgentPorts> for Records<'a> {
    fn from(ports: &'a AgentPorts) -> Self {
        Self {
            events: &*ports.events,
            reader: &*ports.reader,
            journal: &ports.journal,
            domain: &ports.domain,
            from_block: ports.from_block,
        }
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("domain", self.domain).finish_non_exhaustive()
    }
}
