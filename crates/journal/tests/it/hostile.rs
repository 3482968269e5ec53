//! Files that are no journal, no longer whole, or about something else.

use std::{
    error::Error,
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt,
};

use alloy_primitives::{Address, B256};
use roadstead_core::{Follower, ports::Intents};
use roadstead_journal::{FolderError, JournalBinding, JournalError, StateFolder};
use roadstead_types::{Contracts, Market, Token};
use rusqlite::Connection;

use crate::{
    fixture::{BINDING, Role, START, account, job, plan, read, tariff},
    records::{closed, intent, one_job},
};

/// The text of an error with its causes.
fn told(error: &JournalError) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        told.push_str(&format!(": {error}"));
        source = error.source();
    }
    told
}

#[test]
fn a_journal_is_bound_to_its_market() {
    let role = Role::new();
    drop(role.open());
    let refused = |binding| role.try_open(&binding).unwrap_err();

    let error = refused(JournalBinding { chain: 1, ..BINDING });
    let text = error.to_string();
    assert!(matches!(error, JournalError::AnotherMarket { what: "chain", .. }), "{error:?}");
    assert!(text.ends_with("belongs to chain 31337, the market file says 1"), "{text}");

    let contract = Address::repeat_byte(3);
    let error = refused(JournalBinding { contract, ..BINDING });
    let text = error.to_string();
    assert!(matches!(error, JournalError::AnotherMarket { what: "contract", .. }), "{error:?}");
    assert!(text.contains(&contract.to_string()), "{text}");
    assert!(text.contains(&BINDING.contract.to_string()), "{text}");

    let genesis = B256::repeat_byte(8);
    let error = refused(JournalBinding { genesis, ..BINDING });
    let text = error.to_string();
    assert!(matches!(error, JournalError::AnotherLife { .. }), "{error:?}");
    for part in ["belongs to another life of the chain", "reset the state folder of this role"] {
        assert!(text.contains(part), "{text}");
    }
    drop(role.open());
}

#[test]
fn the_binding_is_that_of_the_market_file() {
    let market = Market {
        devnet: true,
        chain_id: BINDING.chain,
        genesis: BINDING.genesis,
        rpc: Vec::new(),
        contracts: Contracts { registry: Address::repeat_byte(1), payment: BINDING.contract },
        token: Token { address: Address::repeat_byte(4), symbol: "RTD".into(), decimals: 6 },
        from_block: 1,
        confirmations: 0,
    };
    assert_eq!(JournalBinding::from(&market), BINDING);
}

#[test]
fn a_chain_with_the_largest_id_has_a_journal() {
    let role = Role::new();
    let binding = JournalBinding { chain: u64::MAX, ..BINDING };
    drop(role.try_open(&binding).unwrap());
    drop(role.try_open(&binding).unwrap());
}

#[test]
fn a_folder_stays_locked_while_its_journal_lives() {
    let role = Role::new();
    let path = role.file().parent().unwrap().to_owned();
    let journal = role.open();
    assert!(matches!(StateFolder::open(&path), Err(FolderError::InUse { .. })));
    drop(journal);
    drop(role.folder());
}

#[test]
fn a_journal_is_for_its_owner_alone() {
    let role = Role::new();
    let journal = role.open();
    for entry in fs::read_dir(role.file().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("journal") {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{entry:?}");
        }
    }
    drop(journal);
    fs::set_permissions(role.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let error = role.try_open(&BINDING).unwrap_err();
    assert!(matches!(error, JournalError::Folder(FolderError::Exposed { .. })), "{error:?}");
}

#[test]
fn a_later_version_is_left_alone() {
    let role = Role::new();
    drop(role.open());
    let file = Connection::open(role.file()).unwrap();
    file.pragma_update(None, "user_version", 2).unwrap();
    drop(file);
    let before = fs::read(role.file()).unwrap();
    let error = role.try_open(&BINDING).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 2, known: 1, .. }), "{error:?}");
    assert_eq!(fs::read(role.file()).unwrap(), before);
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let role = Role::new();
    drop(role.folder().write_secret("journal.sqlite", b"").unwrap());
    let file = Connection::open(role.file()).unwrap();
    file.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(file);
    let before = fs::read(role.file()).unwrap();
    let error = role.try_open(&BINDING).unwrap_err();
    assert!(matches!(error, JournalError::NoJournal { .. }), "{error:?}");
    assert_eq!(fs::read(role.file()).unwrap(), before);
}

#[test]
fn a_journal_that_was_half_made_is_made_anew() {
    let role = Role::new();
    role.folder().write_secret(".journal.sqlite.new", b"half of a jour").unwrap();
    drop(role.open());
    drop(role.open());
    assert!(!role.file().with_file_name(".journal.sqlite.new").exists());
}

#[tokio::test]
async fn a_log_without_its_database_is_no_new_journal() {
    let role = Role::new();
    let journal = role.open();
    journal.take_order(job(1), B256::ZERO).await.unwrap();
    let log = role.file().with_file_name("journal.sqlite-wal");
    let left = fs::read(&log).unwrap();
    drop(journal);
    fs::remove_file(role.file()).unwrap();
    fs::write(&log, left).unwrap();
    let error = role.try_open(&BINDING).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
    assert!(!role.file().exists());
}

#[test]
fn a_file_of_garbage_is_left_alone() {
    let role = Role::new();
    for garbage in [b"garbage".repeat(1_000), b"x".to_vec(), Vec::new(), vec![0; 8_192]] {
        role.folder().write_secret("journal.sqlite", &garbage).unwrap();
        let error = role.try_open(&BINDING).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
        assert_eq!(fs::read(role.file()).unwrap(), garbage);
    }
}

/// A journal with so many receipts that they take many pages.
async fn filled() -> Role {
    let role = Role::new();
    let journal = role.open();
    let mut account = account(1);
    let receipts: Vec<_> = (0..200).map(|_| read(&mut account)).collect();
    journal.restore_account(job(1), &account, &receipts).await.unwrap();
    role
}

#[tokio::test]
async fn a_truncated_journal_is_an_error() {
    let role = filled().await;
    let length = fs::metadata(role.file()).unwrap().len();
    assert!(length > 100_000, "{length}");
    for shorter in [length - 1, length - 4_096, length / 2, 4_096, 100, 1, 0] {
        OpenOptions::new().write(true).open(role.file()).unwrap().set_len(shorter).unwrap();
        let error = role.try_open(&BINDING).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{shorter}: {error:?}");
        assert!(error.to_string().ends_with("is damaged"), "{error}");
    }
}

#[tokio::test]
async fn a_page_of_garbage_is_found_before_anything_is_built_on_it() {
    let role = filled().await;
    let mut content = fs::read(role.file()).unwrap();
    let middle = content.len() / 2 / 4_096 * 4_096;
    content[middle..middle + 4_096].fill(0xa5);
    role.folder().write_secret("journal.sqlite", &content).unwrap();
    let error = role.try_open(&BINDING).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
}

/// What is wrong with a row of a table, once for each way to read it.
async fn failures(role: &Role) -> Vec<String> {
    let journal = role.open();
    let mut failures = Vec::new();
    failures.extend(journal.book().await.err().as_ref().map(told));
    failures.extend(journal.closed().await.err().as_ref().map(told));
    failures.extend(journal.accounts().await.err().as_ref().map(told));
    failures.extend(journal.receipts(job(1), 0, 64).await.err().as_ref().map(told));
    failures.extend(journal.evidence(job(1)).await.err().as_ref().map(told));
    failures.extend(journal.followers().await.err().as_ref().map(told));
    failures.extend(journal.plans().await.err().as_ref().map(told));
    let pending = journal.pending(Address::repeat_byte(1)).await.err();
    failures.extend(pending.and_then(|error| error.source().map(ToString::to_string)));
    failures
}

#[tokio::test]
async fn a_damaged_row_names_its_table_and_its_job() {
    let id = job(1).to_string();
    let id = id.as_str();
    for (change, named) in [
        ("UPDATE cursor SET cursor = '{}'", ["`cursor`", "the only row"]),
        ("UPDATE jobs SET record = '{\"terms\":'", ["`jobs`", id]),
        ("UPDATE jobs SET job = x'0101'", ["`jobs`", "0x0101"]),
        ("UPDATE accounts SET account = '[]'", ["`accounts`", id]),
        ("UPDATE accounts SET job = x''", ["`accounts`", "0x"]),
        ("UPDATE accounts SET account = replace(account, '0x0101', '0x0202')", ["`accounts`", id]),
        ("UPDATE closed SET record = '{}'", ["`closed`", id]),
        ("UPDATE closed SET job = x''", ["`closed`", "0x"]),
        ("UPDATE closed SET closed_at = -1", ["`closed`", id]),
        ("UPDATE closed SET record = (SELECT record FROM jobs)", ["`closed`", id]),
        ("UPDATE receipts SET receipt = 'null'", ["`receipts`", id]),
        ("UPDATE receipts SET seq = 1 << 32", ["`receipts`", id]),
        ("UPDATE receipts SET seq = 1", ["`receipts`", id]),
        ("UPDATE receipts SET root = zeroblob(32)", ["`receipts`", id]),
        (
            "UPDATE receipts SET receipt = replace(receipt, '\"seq\":0', '\"seq\":1')",
            ["`receipts`", id],
        ),
        ("UPDATE evidence SET root = x'00'", ["`evidence`", id]),
        (
            "UPDATE followers SET follower = replace(follower, '0x0101', '0x0202')",
            ["`followers`", id],
        ),
        ("UPDATE plans SET plan = replace(plan, '0x0101', '0x0202')", ["`plans`", id]),
        ("UPDATE plans SET plan = CAST(x'ff' AS TEXT)", ["`plans`", id]),
        ("UPDATE intents SET nonce = -1", ["`intents`", "0x0101"]),
        ("UPDATE intents SET hash = x'00'", ["`intents`", "0x0101"]),
    ] {
        let role = Role::new();
        let journal = role.open();
        let mut account = account(1);
        let receipt = read(&mut account);
        let follower = Follower::new(job(1), tariff());
        journal.save_account(job(1), &account, Some(&receipt)).await.unwrap();
        journal.save_follower(job(1), &follower, None).await.unwrap();
        journal.keep_evidence(job(1), &[receipt]).await.unwrap();
        journal.save_plan(&plan(1)).await.unwrap();
        let (cursor, record) = one_job();
        let over = [closed(1, START)];
        journal.save_book(&cursor, vec![(job(1), Some(record))], &over).await.unwrap();
        journal.intend(&intent(1, 0, 0)).await.unwrap();
        drop(journal);
        assert_eq!(failures(&role).await, [] as [String; 0]);

        role.tamper(change, ());
        let failures = failures(&role).await;
        let [failure] = failures.as_slice() else { panic!("{change}: {failures:?}") };
        for part in named {
            assert!(failure.contains(part), "{change}: {failure}");
        }
    }
}

#[tokio::test]
async fn a_number_whose_receipt_is_damaged_is_not_signed_again() {
    let role = Role::new();
    let mut account = account(1);
    let receipt = read(&mut account);
    role.open().save_account(job(1), &account, Some(&receipt)).await.unwrap();
    role.tamper("UPDATE receipts SET receipt = '{}'", ());
    let error = role.open().save_account(job(1), &account, Some(&receipt)).await.unwrap_err();
    assert!(matches!(error, JournalError::DamagedRow { table: "receipts", .. }), "{error:?}");
}

#[test]
fn a_binding_that_was_tampered_with_is_an_error() {
    for change in
        ["UPDATE meta SET chain = 'x'", "UPDATE meta SET genesis = x'00'", "DELETE FROM meta"]
    {
        let role = Role::new();
        drop(role.open());
        role.tamper(change, ());
        let error = role.try_open(&BINDING).unwrap_err();
        assert!(matches!(error, JournalError::DamagedRow { table: "meta", .. }), "{error:?}");
    }
}
