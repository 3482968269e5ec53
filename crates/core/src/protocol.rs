//! What publishers and providers say to each other about jobs: `/roadstead/job/1`.
//!
//! ```text
//!   agent                                         provider
//!     Profile        ─────────────────────────────> Profile
//!     Hello(session) ─────────────────────────────> Welcome | Denied
//!     Sync(head, voucher) ────────────────────────> State(receipts after head, acked, money, phase)
//!     Restore(receipts, voucher) ─────────────────> State        the provider lost its journal
//!     Order(close) ───────────────────────────────> State        the publisher's session only
//! ```
//!
//! Always asked by the publisher's side, and each request may be repeated at will: a lost, doubled or late message
//! changes nothing. Everything here was written by a stranger until it was checked.

use std::{collections::BTreeMap, fmt};

use alloy_primitives::B256;
use roadstead_types::{JobId, Seconds, SignedReceipt, SignedSession, TokenAmount, Voucher};
use serde::{Deserialize, Serialize};

/// The name of the protocol on the peer network.
pub const PROTOCOL: &str = "/roadstead/job/1";

/// The most receipts in one message.
pub const MAX_RECEIPTS: usize = 64;

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 256 << 10;

/// How long a provider keeps a question open that it has nothing new to say to.
pub const HOLD: Seconds = Seconds(25);

/// What is asked of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What does it offer? Needs no session.
    Profile,
    /// Who speaks through this peer. A peer may speak for several accounts.
    Hello(SignedSession),
    /// How does the job stand?
    Sync(JobSync),
    /// These receipts are yours.
    Restore(Restore),
    /// Do this with the job.
    Order(Order),
}

/// Asks for the receipts after `head`, and brings what was made of those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSync {
    /// Of which job.
    pub job: JobId,
    /// The newest receipt that the agent holds: its number and its root.
    pub head: Option<(u32, B256)>,
    /// The newest bill that was accepted.
    pub voucher: Option<Voucher>,
    /// Why the receipt after `head` is not accepted as it is.
    pub refusal: Option<ReceiptRefusal>,
    /// The revision of the newest state that the agent knows: while it is this one the provider may keep the question
    /// open.
    pub known: Option<u64>,
}

/// A receipt that the agent does not accept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRefusal {
    /// Its number.
    pub seq: u32,
    /// Why not.
    pub code: RefusalCode,
    /// What the agent accepts instead, of all that is due.
    pub accepted: TokenAmount,
}

/// Why a receipt is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Neither the provider nor its operator signed it, or it is of another job.
    Signature,
    /// It does not follow the receipt before.
    Order,
    /// Its interval does not begin where the last one ended, or ends in the future, or it is one of too many.
    Time,
    /// More was used than was reserved.
    Growth,
    /// The sum is another one.
    Sum,
    /// It is more than the deposit.
    Deposit,
    /// It is more than the agent may accept.
    Limit,
    /// It is more than the rate of the terms allows since the opening.
    Rate,
    /// There are two receipts with its number.
    Equivocation,
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Signature => "neither the provider nor its operator signed it for this job",
            Self::Order => "it does not follow the receipt before",
            Self::Time => "its interval is not the next one that has passed",
            Self::Growth => "it says that more was used than was reserved",
            Self::Sum => "its sum does not follow from what was used",
            Self::Deposit => "it is more than the deposit",
            Self::Limit => "it is more than the agent may accept",
            Self::Rate => "it is more than the rate of the terms allows since the opening",
            Self::Equivocation => "there are two receipts with its number",
        })
    }
}

/// Gives a provider that lost its journal its own receipts back, from number 0 on and in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Of which job.
    pub job: JobId,
    /// At most [`MAX_RECEIPTS`], following on those of the message before.
    pub receipts: Vec<SignedReceipt>,
    /// Whether more follow.
    pub more: bool,
    /// The newest bill that was accepted.
    pub voucher: Option<Voucher>,
}

/// An order about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which job.
    pub job: JobId,
    /// Makes it one order however often it is sent.
    pub id: B256,
    /// What to do.
    pub kind: OrderKind,
}

/// What can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// Stop, make the last receipt, take the last voucher, close and credit the rest.
    Close,
}

/// What a provider answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// The JSON of its profile, whose digest is in the registry.
    Profile(String),
    /// The session stands.
    Welcome,
    /// No.
    Denied(Denial),
    /// How the job stands.
    State(Box<State>),
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The session is not signed by its subject, or not for this provider in this market.
    #[error("the session is not signed for this provider")]
    Signature,
    /// It is for another peer than the one that sent it.
    #[error("the session is for another peer")]
    Peer,
    /// It has expired, or would never.
    #[error("the session has expired, or is valid for too long")]
    Expired,
    /// Its nonce was used before.
    #[error("the session's nonce was used before")]
    Nonce,
    /// The peer speaks for nobody who may do this to this job, or there is no such job here.
    #[error("there is no such job, or this session has no right to it")]
    Forbidden,
    /// The request makes no sense.
    #[error("the request is not understood")]
    Malformed,
    /// The provider cannot answer now; later it can.
    #[error("the provider cannot answer now")]
    Busy,
}

/// How a job stands at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Which job.
    pub job: JobId,
    /// Changes whenever something else does that is worth an answer.
    pub revision: u64,
    /// Where it stands.
    pub phase: JobPhase,
    /// Where its ports can be called.
    pub urls: BTreeMap<u16, String>,
    /// Receipts after the agent's head, in order.
    pub receipts: Vec<SignedReceipt>,
    /// Whether there are more.
    pub more: bool,
    /// Whether the provider lost its journal and signs nothing before a `Restore`.
    pub restore: bool,
    /// The newest receipt whose bill counts as accepted.
    pub acked: Option<u32>,
    /// What the publisher put in.
    pub deposit: TokenAmount,
    /// What was paid.
    pub paid: TokenAmount,
    /// What was metered and not accepted yet.
    pub owed: TokenAmount,
    /// For how long the rest of the deposit lasts at full use.
    pub runway: Seconds,
    /// What the publisher should know, before it bites.
    pub note: Option<String>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum JobPhase {
    /// Its event was read.
    Seen,
    /// It is not served.
    Refused {
        /// Why.
        reason: String,
    },
    /// Its image is being fetched.
    Fetching {
        /// Bytes that are there.
        done: u64,
        /// Bytes of the whole, once that is known.
        total: Option<u64>,
    },
    /// Its container is being started.
    Starting,
    /// It runs.
    Running,
    /// It is frozen, with its data and without cost, until what is owed is accepted or paid in.
    Paused,
    /// It was stopped; the last bill is waited for.
    Draining,
    /// It is over.
    Closed,
}

impl fmt::Display for JobPhase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen => formatter.write_str("seen"),
            Self::Refused { reason } => write!(formatter, "refused: {reason}"),
            Self::Fetching { done, total: Some(total) } if *total > 0 => {
                write!(formatter, "fetching, {} %", done.saturating_mul(100) / total)
            }
            Self::Fetching { .. } => formatter.write_str("fetching"),
            Self::Starting => formatter.write_str("starting"),
            Self::Running => formatter.write_str("running"),
            Self::Paused => formatter.write_str("paused"),
            Self::Draining => formatter.write_str("draining"),
            Self::Closed => formatter.write_str("closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use roadstead_types::{
        Bill, PeerId, Receipt, Resources, Session, Signature, Timestamp, Voucher,
    };
    use serde_json::{Value, json};

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    /// A message has exactly this form, as it is documented.
    fn assert_form<T: Serialize + for<'a> Deserialize<'a> + PartialEq + fmt::Debug>(
        message: &T,
        form: &Value,
    ) {
        assert_eq!(&serde_json::to_value(message).unwrap(), form);
        let text = serde_json::to_string(form).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), message);
    }

    fn zeros(bytes: usize) -> String {
        format!("0x{}", "00".repeat(bytes))
    }

    fn signature() -> Signature {
        Signature([0; 65])
    }

    fn receipt() -> (SignedReceipt, Value) {
        let receipt = Receipt {
            job: JobId::default(),
            seq: 1,
            from: Timestamp(2),
            to: Timestamp(3),
            total: Resources::from_fn(|_| 4),
            cumulative: TokenAmount::new(7).unwrap(),
            prev: B256::ZERO,
        };
        let total = json!({
            "cpu": 4, "memory": 4, "storage": 4, "network_in": 4, "network_out": 4, "accelerator": 4,
        });
        let form = json!({
            "receipt": {
                "job": zeros(32), "seq": 1, "from": 2, "to": 3, "total": total,
                "cumulative": 7, "prev": zeros(32),
            },
            "signature": zeros(65),
        });
        (SignedReceipt { receipt, signature: signature() }, form)
    }

    fn voucher() -> (Voucher, Value) {
        let cumulative = TokenAmount::new(7).unwrap();
        let bill = Bill { cumulative, until: Timestamp(3), usage_root: B256::ZERO };
        let form = json!({
            "bill": {"cumulative": 7, "until": 3, "usage_root": zeros(32)}, "signature": zeros(65),
        });
        (Voucher { bill, signature: signature() }, form)
    }

    #[test]
    fn requests_have_their_documented_form() {
        assert_form(&Request::Profile, &json!("profile"));
        let session = Session {
            subject: Address::ZERO,
            peer: PEER.parse::<PeerId>().unwrap(),
            provider: Address::ZERO,
            expiry: Timestamp(9),
            nonce: B256::ZERO,
        };
        let hello = Request::Hello(SignedSession { session, signature: signature() });
        let form = json!({"hello": {
            "session": {
                "subject": zeros(20), "peer": PEER, "provider": zeros(20), "expiry": 9,
                "nonce": zeros(32),
            },
            "signature": zeros(65),
        }});
        assert_form(&hello, &form);

        let ((voucher, voucher_form), (receipt, receipt_form)) = (voucher(), receipt());
        let job = JobId::default();
        let accepted = TokenAmount::ZERO;
        let refusal = ReceiptRefusal { seq: 6, code: RefusalCode::Growth, accepted };
        let sync = JobSync {
            job,
            head: Some((5, B256::ZERO)),
            voucher: Some(voucher),
            refusal: Some(refusal),
            known: Some(u64::MAX),
        };
        let form = json!({"sync": {
            "job": zeros(32), "head": [5, zeros(32)], "voucher": voucher_form,
            "refusal": {"seq": 6, "code": "growth", "accepted": 0}, "known": u64::MAX,
        }});
        assert_form(&Request::Sync(sync), &form);
        let little: Request = serde_json::from_value(json!({"sync": {"job": zeros(32)}})).unwrap();
        assert!(matches!(little, Request::Sync(JobSync { head: None, known: None, .. })));
        let more = json!({"sync": {"job": zeros(32), "surprise": 1}});
        assert!(serde_json::from_value::<Request>(more).is_err());

        let restore = Restore { job, receipts: vec![receipt], more: true, voucher: None };
        let form = json!({"restore": {
            "job": zeros(32), "receipts": [receipt_form], "more": true, "voucher": null,
        }});
        assert_form(&Request::Restore(restore), &form);
        let order = Order { job, id: B256::ZERO, kind: OrderKind::Close };
        let form = json!({"order": {"job": zeros(32), "id": zeros(32), "kind": "close"}});
        assert_form(&Request::Order(order), &form);
    }

    #[test]
    fn responses_have_their_documented_form() {
        assert_form(&Response::Welcome, &json!("welcome"));
        assert_form(&Response::Denied(Denial::Busy), &json!({"denied": "busy"}));
        assert_form(&Response::Profile("{}".into()), &json!({"profile": "{}"}));
        let (receipt, receipt_form) = receipt();
        let state = State {
            job: JobId::default(),
            revision: 1,
            phase: JobPhase::Fetching { done: 1, total: None },
            urls: [(80, "http://127.0.0.1:80".to_owned())].into(),
            receipts: vec![receipt],
            more: false,
            restore: true,
            acked: Some(0),
            deposit: TokenAmount::ZERO,
            paid: TokenAmount::ZERO,
            owed: TokenAmount::ZERO,
            runway: Seconds(5),
            note: None,
        };
        let form = json!({"state": {
            "job": zeros(32), "revision": 1,
            "phase": {"phase": "fetching", "done": 1, "total": null},
            "urls": {"80": "http://127.0.0.1:80"}, "receipts": [receipt_form], "more": false,
            "restore": true, "acked": 0, "deposit": 0, "paid": 0, "owed": 0, "runway": 5,
            "note": null,
        }});
        assert_form(&Response::State(Box::new(state)), &form);
    }
}
