//! What an agent says to people.

use roadstead_publisher::AgentEvent;
use roadstead_types::{JobId, Token};

use crate::{
    failure::{plain, with_causes},
    table::short,
};

/// One event as a line; `None` for what happens all the time.
pub(crate) fn line_of(event: &AgentEvent, token: &Token) -> Option<String> {
    let line = match event {
        AgentEvent::Following { job } => format!("{} is followed.", name_of(*job)),
        AgentEvent::Ignored { job } => format!(
            "{} names this agent, which knows nothing else of it: nothing is signed before `roadstead agent adopt`.",
            name_of(*job)
        ),
        AgentEvent::State { job, state } => {
            let mut line = format!("{}: {}", name_of(*job), plain(&state.phase.to_string()));
            for url in state.urls.values() {
                line.push_str(&format!(" {}", plain(url)));
            }
            if let Some(note) = &state.note {
                line.push_str(&format!(" ({})", plain(note)));
            }
            line
        }
        AgentEvent::Accepted { job, receipt, accepted } => format!(
            "{}: receipt {} is right, {} accepted in all.",
            name_of(*job),
            receipt.seq.saturating_add(1),
            token.format(*accepted)
        ),
        AgentEvent::Refused { job, refusal } => format!(
            "{}: receipt {} is not accepted: {}.",
            name_of(*job),
            refusal.seq.saturating_add(1),
            refusal.code
        ),
        AgentEvent::Equivocation { job, seq } => format!(
            "{}: there are two receipts {}; both are kept, and nothing more is signed.",
            name_of(*job),
            seq.saturating_add(1)
        ),
        AgentEvent::Lost { job, error } => {
            format!("{}: asking again: {}", name_of(*job), with_causes(error))
        }
        AgentEvent::Restored { job } => {
            format!("{}: its provider had lost its receipts, and has them back.", name_of(*job))
        }
        AgentEvent::Finished { job, paid } => {
            format!("{} is over; {} was paid.", name_of(*job), token.format(*paid))
        }
        AgentEvent::ChainLost { error } => format!("Waiting for the chain: {}", with_causes(error)),
        AgentEvent::ChainBack => "The chain answers again.".to_owned(),
        AgentEvent::MadeUp { .. } | AgentEvent::Connected { .. } => return None,
    };
    Some(line)
}

fn name_of(job: JobId) -> String {
    format!("Job {}", short(job))
}
