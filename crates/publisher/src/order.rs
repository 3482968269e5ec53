//! Ordering a provider to close a job.
//!
//! ```text
//!  asking ── taken ──> repeated while the end is waited for ── ORDER_PATIENCE ──> silent
//!   │  ^└─────── busy, or the job is still to be read of ──┐
//!   │  └───────────────────────── again ───────────────────┤
//!   └── denied, or not reached ──> given up <── too long ──┘
//! ```
//!
//! The id of the order is a function of the job, so that however often it is sent, by whatever process, it is one order.
//! Nothing is durable here: repeated after a crash, it is the same order.

use std::{convert::Infallible, time::Duration};

use alloy_primitives::{B256, keccak256};
use roadstead_core::protocol::{Denial, Order, OrderKind, Request};
use roadstead_types::{JobId, Seconds, Terms};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Ports,
    line::{Line, Speaker, TalkError},
};

/// How long a provider that took the order may need to end the job.
pub const ORDER_PATIENCE: Seconds = Seconds(60);

/// A provider to whom the job means nothing may still have to read of its opening: it is asked again for so many of its
/// polls.
const UNREAD: u32 = 5;

/// How often the order is tried before the provider counts as out of reach.
const ATTEMPTS: u32 = 3;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two repetitions of an order that was taken.
const REPETITION: Duration = Duration::from_secs(5);

/// Why notice was given although the job could have been closed by order.
#[derive(Debug, thiserror::Error)]
pub enum NoticeReason {
    /// The order was not taken.
    #[error("the provider does not take the order")]
    Denied(#[source] Denial),
    /// The order did not come through.
    #[error("the provider cannot be given the order")]
    Unreachable(#[source] TalkError),
    /// The order did not come through, and not even that was said.
    #[error("the provider leaves the order unanswered")]
    Unanswered,
    /// It took the order and did not follow it.
    #[error("the provider took the order and did not close the job within {ORDER_PATIENCE}")]
    Silent,
}

/// The id of the order that closes a job.
fn order_id(job: JobId, kind: OrderKind) -> B256 {
    let name: &[u8] = match kind {
        OrderKind::Close => b"close",
    };
    keccak256([job.0.as_slice(), name].concat())
}

/// Sends the order until it is clear that it does not help; `taken` is called once when the provider took it. To be
/// dropped when the job ends.
pub(crate) async fn order_close(
    ports: &Ports,
    terms: &Terms,
    job: JobId,
    taken: impl Fn(),
) -> NoticeReason {
    let speaker = Speaker {
        link: ports.link.clone(),
        reader: ports.reader.clone(),
        signer: ports.wallet.clone(),
        domain: ports.domain,
    };
    let mut line = Line::new(speaker, terms.provider);
    let kind = OrderKind::Close;
    let order = Order { job, id: order_id(job, kind), kind };
    let begun = Instant::now();
    let (patience, unread) = (Duration::from(ORDER_PATIENCE), ports.poll_interval * UNREAD);
    let mut attempt = 1;
    loop {
        match timeout(ATTEMPT, send(ports, &mut line, &order)).await {
            Ok(Ok(())) => break,
            Ok(Err(TalkError::Denied(denial))) => {
                let is_hopeless = match denial {
                    Denial::Busy => begun.elapsed() >= patience,
                    Denial::Forbidden => begun.elapsed() >= unread,
                    _ => true,
                };
                if is_hopeless {
                    return NoticeReason::Denied(denial);
                }
                sleep(PAUSE.max(ports.poll_interval)).await;
                continue;
            }
            Ok(Err(error @ TalkError::NotRegistered { .. })) => {
                return NoticeReason::Unreachable(error);
            }
            Ok(Err(error)) if attempt >= ATTEMPTS => return NoticeReason::Unreachable(error),
            Err(_) if attempt >= ATTEMPTS => return NoticeReason::Unanswered,
            Ok(Err(error)) => tracing::debug!(%job, %error, "the order did not come through"),
            Err(_) => tracing::debug!(%job, "the order was not answered"),
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
    taken();
    let _: Result<Infallible, _> = timeout(ORDER_PATIENCE.into(), async {
        loop {
            sleep(REPETITION).await;
            // A provider that forgot it, or a connection that dropped in between, changes nothing.
            let repeated = timeout(ATTEMPT, send(ports, &mut line, &order)).await;
            if let Ok(Err(error)) = repeated {
                tracing::debug!(%job, %error, "the order could not be repeated");
            }
        }
    })
    .await;
    NoticeReason::Silent
}

async fn send(ports: &Ports, line: &mut Line, order: &Order) -> Result<(), TalkError> {
    let now = ports.reader.head().await?.timestamp;
    line.ask(now, order.job, Request::Order(order.clone())).await?;
    Ok(())
}
