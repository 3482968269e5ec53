//! One job, the keys of everybody around it, and what they sign.

use alloy_primitives::{Address, B256, keccak256};
use k256::ecdsa::SigningKey;
use roadstead_abi::{job_id, receipt_digest, receipt_root, voucher_digest};
use roadstead_core::{Circumstances, JobAccount, Sighting, due_for, ports::Usage, rate_per_hour};
use roadstead_types::{
    Bill, Domain, Job, JobId, Receipt, Resource, Resources, Seconds, Signature, SignedReceipt,
    Tariff, Terms, Timestamp, TokenAmount, Voucher,
};

/// When the job of the fixture is opened.
pub(crate) const OPENED: Timestamp = Timestamp(1_800_000_000);

/// When its instance is ready.
pub(crate) const READY: Timestamp = Timestamp(1_800_000_010);

/// More than enough.
pub(crate) const DEPOSIT: u128 = 1_000_000;

pub(crate) fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

/// So many seconds after the instance is ready.
pub(crate) fn at(seconds: u32) -> Timestamp {
    READY.after(Seconds(seconds))
}

/// The key of one account.
#[derive(Clone, Debug)]
pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn new(byte: u8) -> Self {
        Self(SigningKey::from_slice(&[byte; 32]).unwrap())
    }

    pub(crate) fn address(&self) -> Address {
        let point = self.0.verifying_key().to_encoded_point(false);
        Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
    }

    /// The same digest gives the same bytes.
    pub(crate) fn sign(&self, digest: &B256) -> Signature {
        let (signature, recovery) = self.0.sign_prehash_recoverable(digest.as_slice()).unwrap();
        let mut bytes = [0; Signature::LENGTH];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Signature(bytes)
    }
}

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) publisher: Key,
    pub(crate) provider: Key,
    pub(crate) operator: Key,
    pub(crate) signer: Key,
    pub(crate) stranger: Key,
    pub(crate) domain: Domain,
    pub(crate) terms: Terms,
    pub(crate) tariff: Tariff,
    pub(crate) job: JobId,
}

impl Fixture {
    /// Every resource is reserved and priced; full use costs 38.8 units a second.
    pub(crate) fn new() -> Self {
        let reservation = Resources {
            cpu: 500,
            memory: 256,
            storage: 1_024,
            network_in: 1_000,
            network_out: 1_000,
            accelerator: 100,
        };
        let prices = Resources::from_fn(|_| 10_000_000_000);
        Self::with(Tariff { interval: Seconds(60), reservation, prices }, 0)
    }

    /// A job with another tariff. The terms allow exactly what full use costs, and so many units an hour more.
    pub(crate) fn with(tariff: Tariff, margin: u128) -> Self {
        let rate = rate_per_hour(&tariff.reservation, &tariff.prices).unwrap();
        let [publisher, provider, operator, signer, stranger] = [1, 2, 3, 4, 5].map(Key::new);
        let terms = Terms {
            publisher: publisher.address(),
            provider: provider.address(),
            signer: signer.address(),
            rate_per_hour: rate.checked_add(amount(margin)).unwrap(),
            start_fee: amount(30),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 7,
            bundle: B256::repeat_byte(8),
        };
        let domain = Domain { chain: 31_337, contract: Address::repeat_byte(0xcc) };
        let job = job_id(&domain, &terms);
        Self { publisher, provider, operator, signer, stranger, domain, terms, tariff, job }
    }

    /// The slot after the opening.
    pub(crate) fn slot(&self, deposit: u128) -> Job {
        Job { deposit: amount(deposit), paid_until: OPENED, ..Job::default() }
    }

    pub(crate) fn circumstances(&self, limit: u128, now: Timestamp) -> Circumstances<'_> {
        Circumstances {
            domain: &self.domain,
            terms: &self.terms,
            operator: Some(self.operator.address()),
            opened_at: OPENED,
            limit: amount(limit),
            is_deposit: true,
            now,
        }
    }

    /// As the provider signs it.
    pub(crate) fn signed(&self, receipt: Receipt) -> SignedReceipt {
        self.signed_by(&self.provider, receipt)
    }

    pub(crate) fn signed_by(&self, key: &Key, receipt: Receipt) -> SignedReceipt {
        let signature = key.sign(&receipt_digest(&self.domain, &receipt));
        SignedReceipt { receipt, signature }
    }

    /// As the job's signer accepts it.
    pub(crate) fn voucher(&self, bill: Bill) -> Voucher {
        Voucher {
            bill,
            signature: self.signer.sign(&voucher_digest(&self.domain, self.job, &bill)),
        }
    }

    /// The voucher that accepts all of a receipt.
    pub(crate) fn full(&self, receipt: &Receipt) -> Voucher {
        self.voucher(bill_of(receipt))
    }

    /// What totals cost.
    pub(crate) fn due(&self, total: &Resources<u64>) -> TokenAmount {
        due_for(total, &self.tariff.prices).unwrap()
    }

    /// The totals of so many seconds of full use.
    pub(crate) fn full_use(&self, seconds: u64) -> Resources<u64> {
        Resources::from_fn(|each| self.tariff.reservation.get(each) * seconds)
    }

    /// An honest chain of so many receipts, each over one interval of full use.
    pub(crate) fn chain(&self, count: u32) -> Vec<Receipt> {
        let interval = self.tariff.interval.0;
        let mut prev = self.job.0;
        (0..count)
            .map(|seq| {
                let total = self.full_use(u64::from((seq + 1) * interval));
                let (from, to) = (at(seq * interval), at((seq + 1) * interval));
                let cumulative = self.due(&total);
                let receipt = Receipt { job: self.job, seq, from, to, total, cumulative, prev };
                prev = receipt_root(&receipt);
                receipt
            })
            .collect()
    }

    /// What counters show after so many seconds of full use.
    pub(crate) fn counters(&self, seconds: u64) -> Usage {
        usage(&self.full_use(seconds))
    }

    /// An account that made this many receipts of full use, and the receipts.
    pub(crate) fn account(&self, count: u32) -> (JobAccount, Vec<Receipt>) {
        let mut account = JobAccount::open(self.job, self.tariff, READY);
        let interval = self.tariff.interval.0;
        let receipts = (1..=count)
            .map(|number| {
                let seconds = number * interval;
                account.see(at(seconds), Sighting::Running(self.counters(seconds.into())));
                account.read(at(seconds)).unwrap()
            })
            .collect();
        (account, receipts)
    }

    /// The account takes in what it has to take in.
    pub(crate) fn take(
        &self,
        account: &mut JobAccount,
        voucher: &Voucher,
        receipt: &Receipt,
        slot: &Job,
    ) {
        let taken = account.accept(voucher, receipt, &self.domain, &self.terms, slot);
        assert_eq!(taken, Ok(true));
    }

    /// An account of this many receipts of which so many are accepted in full.
    pub(crate) fn accepted(&self, receipts: u32, accepted: usize) -> (JobAccount, Vec<Receipt>) {
        let (mut account, receipts) = self.account(receipts);
        if let Some(last) = accepted.checked_sub(1) {
            let receipt = &receipts[last];
            self.take(&mut account, &self.full(receipt), receipt, &self.slot(DEPOSIT));
        }
        (account, receipts)
    }
}

/// The counters of an engine that meters CPU and network.
pub(crate) fn usage(total: &Resources<u64>) -> Usage {
    Usage {
        cpu: Some(total.cpu),
        network_in: Some(total.network_in),
        network_out: Some(total.network_out),
    }
}

/// What accepts all of a receipt.
pub(crate) fn bill_of(receipt: &Receipt) -> Bill {
    Bill { cumulative: receipt.cumulative, until: receipt.to, usage_root: receipt_root(receipt) }
}

/// The same totals with another value for one resource.
pub(crate) fn replaced(total: &Resources<u64>, resource: Resource, value: u64) -> Resources<u64> {
    Resources::from_fn(|each| if each == resource { value } else { total.get(each) })
}
