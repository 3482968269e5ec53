//! A journal in a temporary folder, and records to keep in it.

use std::{
    path::PathBuf,
    thread::yield_now,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256};
use roadstead_abi::receipt_root;
use roadstead_core::{JobAccount, ReceiptHead, Sighting, ports::Usage};
use roadstead_journal::{FolderError, Journal, JournalBinding, JournalError, StateFolder};
use roadstead_types::{
    JobId, JobKey, JobPlan, Receipt, Resources, Seconds, Signature, SignedReceipt, Tariff, Terms,
    Timestamp, TokenAmount,
};
use rusqlite::{Connection, Params};
use tempfile::TempDir;

pub(crate) const BINDING: JournalBinding = JournalBinding {
    chain: 31_337,
    genesis: B256::repeat_byte(7),
    contract: Address::repeat_byte(2),
};

pub(crate) const START: Timestamp = Timestamp(1_800_000_000);

/// More than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of a role.
pub(crate) struct Role {
    home: TempDir,
}

impl Role {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// Waits for its lock: a process that another test starts has it, too, until it has become another program.
    pub(crate) fn folder(&self) -> StateFolder {
        let started = Instant::now();
        loop {
            match StateFolder::open(self.home.path().join("provider")) {
                Err(FolderError::InUse { .. }) if started.elapsed() < PATIENCE => yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.home.path().join("provider/journal.sqlite")
    }

    pub(crate) fn try_open(&self, binding: &JournalBinding) -> Result<Journal, JournalError> {
        Journal::open(&self.folder(), binding)
    }

    pub(crate) fn open(&self) -> Journal {
        self.try_open(&BINDING).unwrap()
    }

    /// Changes the file behind the back of its role, which is not there now.
    pub(crate) fn tamper(&self, change: &str, parameters: impl Params) {
        let changed = Connection::open(self.file()).unwrap().execute(change, parameters).unwrap();
        assert_eq!(changed, 1, "{change}");
    }
}

pub(crate) const fn job(number: u8) -> JobId {
    JobId(B256::repeat_byte(number))
}

pub(crate) fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

pub(crate) const fn tariff() -> Tariff {
    let of_each = Resources {
        cpu: 1_000,
        memory: 64,
        storage: 64,
        network_in: 0,
        network_out: 0,
        accelerator: 0,
    };
    let prices = Resources {
        cpu: 1_000_000_000,
        memory: 1_000_000,
        storage: 1_000_000,
        network_in: 0,
        network_out: 0,
        accelerator: 0,
    };
    Tariff { interval: Seconds(2), reservation: of_each, prices }
}

pub(crate) fn terms(salt: u64) -> Terms {
    Terms {
        publisher: Address::repeat_byte(0x11),
        provider: Address::repeat_byte(0x22),
        signer: Address::repeat_byte(0x33),
        rate_per_hour: TokenAmount::MAX,
        start_fee: amount(30),
        notice: Seconds::from_hours(24),
        window: Seconds(0),
        salt,
        bundle: B256::repeat_byte(9),
    }
}

pub(crate) fn plan(number: u8) -> JobPlan {
    JobPlan {
        key: JobKey { chain: BINDING.chain, contract: BINDING.contract, job: job(number) },
        terms: terms(u64::MAX),
        deposit: amount(1_000),
        source: "https://example.org/\u{0}'\"".into(),
        tariff: tariff(),
    }
}

/// The next receipt of an account, two seconds after the one before. Nobody looks at its signature here.
pub(crate) fn read(account: &mut JobAccount) -> SignedReceipt {
    let now = account.head().map_or(START, |head| head.to).after(Seconds(2));
    account.see(now, Sighting::Running(Usage::default()));
    signed(account.read(now).unwrap())
}

pub(crate) const fn signed(receipt: Receipt) -> SignedReceipt {
    SignedReceipt { receipt, signature: Signature([0x1b; 65]) }
}

pub(crate) fn account(number: u8) -> JobAccount {
    JobAccount::open(job(number), tariff(), START)
}

/// Another receipt with the same number.
pub(crate) fn other(receipt: &SignedReceipt) -> SignedReceipt {
    let cumulative = receipt.receipt.cumulative.checked_add(amount(1)).unwrap();
    signed(Receipt { cumulative, ..receipt.receipt })
}

pub(crate) fn root(receipt: &SignedReceipt) -> B256 {
    receipt_root(&receipt.receipt)
}

pub(crate) fn head(receipt: &SignedReceipt) -> ReceiptHead {
    (&receipt.receipt).into()
}
