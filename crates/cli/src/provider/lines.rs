//! What the provider's daemon says, in words.

use roadstead_core::ports::WriteError;
use roadstead_provider::ProviderEvent;
use roadstead_types::{JobId, Token};

use crate::{failure::with_causes, table::short};

/// The line for an event; `None` for what is no news.
pub(crate) fn line(event: &ProviderEvent, token: &Token) -> Option<String> {
    let of = |job: &JobId, text: String| Some(format!("{}  {text}", short(*job)));
    let show = |amount| token.format(amount);
    match event {
        ProviderEvent::JobSeen { job, deposit } => {
            of(job, format!("job {job} was opened with a deposit of {}", show(*deposit)))
        }
        ProviderEvent::Admitted { job } => of(job, "its bundle is opened; it is taken".into()),
        ProviderEvent::Fetching { .. } => None,
        ProviderEvent::Starting { job } => of(job, "its image is here and right".into()),
        ProviderEvent::Running { job, urls } => {
            let urls: Vec<_> = urls.values().map(String::as_str).collect();
            let place = if urls.is_empty() { "without ports".into() } else { urls.join(" ") };
            of(job, format!("its container runs: {place}"))
        }
        ProviderEvent::Exited { job, status } => {
            let status = status.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            of(job, format!("its container ended (status {status}); it is started anew"))
        }
        ProviderEvent::Refused { job, refusal } => {
            of(job, format!("it is refused: {}", with_causes(refusal)))
        }
        ProviderEvent::DeployFailed { job, error } => {
            of(job, format!("it does not run yet, tried again later: {}", with_causes(error)))
        }
        ProviderEvent::Removed { job } => of(job, "its container and its image are gone".into()),
        ProviderEvent::RemoveFailed { job, error } => {
            of(job, format!("it is not gone yet, tried again later: {}", with_causes(error)))
        }
        ProviderEvent::StartFeePaid { job, paid } => {
            of(job, format!("its start fee was paid: {}", show(*paid)))
        }
        ProviderEvent::Settled { job, paid, .. } => {
            of(job, format!("a bill was paid: {} in all", show(*paid)))
        }
        ProviderEvent::ToppedUp { job, deposit } => {
            of(job, format!("its deposit is {} now", show(*deposit)))
        }
        ProviderEvent::ReceiptSigned { job, receipt } => {
            let number = receipt.seq.saturating_add(1);
            of(job, format!("receipt {number}: {} in all", show(receipt.cumulative)))
        }
        ProviderEvent::VoucherAccepted { job, accepted } => {
            of(job, format!("{} are accepted in all", show(*accepted)))
        }
        ProviderEvent::ReceiptRefused { job, refusal } => {
            let number = refusal.seq.saturating_add(1);
            of(job, format!("receipt {number} is not accepted: {}", refusal.code))
        }
        ProviderEvent::Paused { job, reason: Some(reason) } => {
            of(job, format!("its container is frozen: {reason}"))
        }
        ProviderEvent::Paused { job, reason: None } => {
            of(job, "its container is frozen: receipts were lost".into())
        }
        ProviderEvent::Resumed { job } => of(job, "its container runs again".into()),
        ProviderEvent::Ordered { job } => of(job, "its publisher ordered it to end".into()),
        ProviderEvent::Draining { job } => {
            of(job, "its last receipt was made; nothing more is billed".into())
        }
        ProviderEvent::ReceiptsLost { job } => {
            of(job, "its agent holds receipts that are lost here; they are asked back".into())
        }
        ProviderEvent::ReceiptsRestored { job } => {
            of(job, "the receipts that were lost are back".into())
        }
        ProviderEvent::Closing { job } => of(job, "its publisher gave notice".into()),
        ProviderEvent::Closed { job, paid } => {
            of(job, format!("it is closed; it paid {} in all", show(*paid)))
        }
        ProviderEvent::CallFailed { job, error } => {
            of(job, format!("tried again later: {}", failed(error)))
        }
        ProviderEvent::Reorganised { from_block } => {
            Some(format!("The chain was reorganised from block {from_block} on."))
        }
        ProviderEvent::ResumeFailed { error } => {
            Some(format!("An earlier transaction is looked after later: {}", failed(error)))
        }
        ProviderEvent::ChainLost { error } => {
            Some(format!("The chain does not answer; jobs go on: {}", with_causes(error)))
        }
        ProviderEvent::ChainBack => Some("The chain answers again.".to_owned()),
    }
}

/// What a call lacks is named with what to do, because nobody is there to read a hint.
fn failed(error: &WriteError) -> String {
    match error {
        WriteError::NoGas { account, .. } => {
            format!("{}; send ether to {account}", with_causes(error))
        }
        _ => with_causes(error),
    }
}
