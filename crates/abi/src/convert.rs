//! From the market's words to the contracts' and back.

use roadstead_types::{
    Bill, EncryptionKey, Endpoint, EndpointError, Job, Registration, Seconds, Terms, Timestamp,
};

use crate::bindings::{Payment, Registry};

impl From<&Terms> for Payment::Terms {
    fn from(terms: &Terms) -> Self {
        Self {
            publisher: terms.publisher,
            provider: terms.provider,
            signer: terms.signer,
            ratePerHour: terms.rate_per_hour.into(),
            startFee: terms.start_fee.into(),
            notice: terms.notice.0,
            window: terms.window.0,
            salt: terms.salt,
            bundle: terms.bundle,
        }
    }
}

impl From<Payment::Terms> for Terms {
    fn from(terms: Payment::Terms) -> Self {
        Self {
            publisher: terms.publisher,
            provider: terms.provider,
            signer: terms.signer,
            rate_per_hour: terms.ratePerHour.into(),
            start_fee: terms.startFee.into(),
            notice: Seconds(terms.notice),
            window: Seconds(terms.window),
            salt: terms.salt,
            bundle: terms.bundle,
        }
    }
}

impl From<Payment::Job> for Job {
    fn from(job: Payment::Job) -> Self {
        Self {
            deposit: job.deposit.into(),
            paid: job.paid.into(),
            paid_until: Timestamp(job.paidUntil),
            close_at: Timestamp(job.closeAt),
        }
    }
}

impl From<&Bill> for Payment::Bill {
    fn from(bill: &Bill) -> Self {
        Self { cumulative: bill.cumulative.into(), until: bill.until.0, usageRoot: bill.usage_root }
    }
}

impl From<&Registration> for Registry::Registration {
    fn from(registration: &Registration) -> Self {
        let key = |key: &EncryptionKey| Registry::EncryptionKey {
            kind: key.kind.into(),
            key: key.key.clone().into(),
        };
        Self {
            endpoint: registration.endpoint.to_bytes().into(),
            keys: registration.keys.iter().map(key).collect(),
            profile: registration.profile,
        }
    }
}

/// Anybody can write anything into the registry, so reading an entry may fail.
impl TryFrom<Registry::Registration> for Registration {
    type Error = EndpointError;

    fn try_from(registration: Registry::Registration) -> Result<Self, EndpointError> {
        let key = |key: Registry::EncryptionKey| EncryptionKey {
            kind: key.kind.into(),
            key: key.key.into(),
        };
        Ok(Self {
            endpoint: Endpoint::from_bytes(&registration.endpoint)?,
            keys: registration.keys.into_iter().map(key).collect(),
            profile: registration.profile,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, Bytes};
    use roadstead_types::{KeyKind, TokenAmount};

    use super::*;

    #[test]
    fn terms_survive_the_contracts_form() {
        let terms = Terms {
            publisher: Address::repeat_byte(1),
            provider: Address::repeat_byte(2),
            signer: Address::repeat_byte(3),
            rate_per_hour: TokenAmount::MAX,
            start_fee: TokenAmount::new(5).unwrap(),
            notice: Seconds(3_600),
            window: Seconds(7),
            salt: u64::MAX,
            bundle: B256::repeat_byte(9),
        };
        assert_eq!(Terms::from(Payment::Terms::from(&terms)), terms);
    }

    #[test]
    fn a_hostile_entry_is_an_error_and_a_later_key_kind_is_kept() {
        let entry = |endpoint: Vec<u8>| Registry::Registration {
            endpoint: endpoint.into(),
            keys: vec![Registry::EncryptionKey { kind: 900, key: Bytes::from_static(b"later") }],
            profile: B256::ZERO,
        };
        assert!(Registration::try_from(entry(vec![0xff; 40])).is_err());

        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let endpoint: Endpoint = format!("/ip4/127.0.0.1/tcp/4101/p2p/{peer}").parse().unwrap();
        let read = Registration::try_from(entry(endpoint.to_bytes())).unwrap();
        assert_eq!(read.endpoint, endpoint);
        assert_eq!(read.keys[0].kind, KeyKind::Other(900));
        assert_eq!(Registry::Registration::from(&read), entry(endpoint.to_bytes()));
    }
}
