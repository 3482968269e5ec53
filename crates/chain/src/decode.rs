//! From logs to events of the market.

use alloy::{primitives::B256, rpc::types::Log, sol_types::SolEvent};
use roadstead_abi::{Payment, job_id};
use roadstead_core::{BlockRef, JobEvent, Opening, ports::ChainError};
use roadstead_types::{JobId, Market, Terms, Timestamp};

use crate::connection::malformed;

/// The events that change a job after its opening. All have the job as their first topic.
pub(crate) const JOB_EVENTS: [B256; 5] = [
    Payment::ToppedUp::SIGNATURE_HASH,
    Payment::StartFeePaid::SIGNATURE_HASH,
    Payment::Settled::SIGNATURE_HASH,
    Payment::Closing::SIGNATURE_HASH,
    Payment::Closed::SIGNATURE_HASH,
];

/// Where a log stands. A log of the pending block, or one that was removed, stands nowhere.
pub(crate) fn place(log: &Log) -> Result<(BlockRef, u64), ChainError> {
    match (log.block_number, log.block_hash, log.log_index) {
        (Some(number), Some(hash), Some(index)) if !log.removed => {
            Ok((BlockRef { number, hash }, index))
        }
        _ => Err(ChainError::Moved { operation: "eth_getLogs" }),
    }
}

/// Reads the opening of a job, and makes sure that the id is the one of its terms.
pub(crate) fn opening(market: &Market, log: &Log) -> Result<(JobId, JobEvent), ChainError> {
    let event = decode::<Payment::Opened>(log)?;
    let terms = Terms::from(event.terms);
    let id = JobId(event.job);
    if job_id(&market.domain(), &terms) != id {
        return Err(malformed("eth_getLogs", format!("job {id} was opened with other terms")));
    }
    let source = event.source.to_vec();
    let opening = Opening { terms, deposit: event.deposit.into(), source };
    Ok((id, JobEvent::Opened(Box::new(opening))))
}

/// Reads one of [`JOB_EVENTS`].
pub(crate) fn change(log: &Log) -> Result<(JobId, JobEvent), ChainError> {
    let (job, event) = match log.topic0() {
        Some(&Payment::ToppedUp::SIGNATURE_HASH) => {
            let event = decode::<Payment::ToppedUp>(log)?;
            (event.job, JobEvent::ToppedUp { deposit: event.deposit.into() })
        }
        Some(&Payment::StartFeePaid::SIGNATURE_HASH) => {
            let event = decode::<Payment::StartFeePaid>(log)?;
            (event.job, JobEvent::StartFeePaid { paid: event.paid.into() })
        }
        Some(&Payment::Settled::SIGNATURE_HASH) => {
            let event = decode::<Payment::Settled>(log)?;
            let until = Timestamp(event.until);
            (event.job, JobEvent::Settled { paid: event.paid.into(), until })
        }
        Some(&Payment::Closing::SIGNATURE_HASH) => {
            let event = decode::<Payment::Closing>(log)?;
            (event.job, JobEvent::Closing { close_at: Timestamp(event.closeAt) })
        }
        Some(&Payment::Closed::SIGNATURE_HASH) => {
            let event = decode::<Payment::Closed>(log)?;
            let (paid, refund) = (event.paid.into(), event.refund.into());
            (event.job, JobEvent::Closed { paid, refund })
        }
        _ => return Err(malformed("eth_getLogs", "a log was not asked for")),
    };
    Ok((JobId(job), event))
}

fn decode<E: SolEvent>(log: &Log) -> Result<E, ChainError> {
    E::decode_log_validate(&log.inner)
        .map(|decoded| decoded.data)
        .map_err(|error| malformed("eth_getLogs", format!("{}: {error}", E::SIGNATURE)))
}
