//! A process that is killed while it writes, many times.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use roadstead_core::check_chain;
use roadstead_journal::{Journal, StateFolder};

use crate::fixture::{BINDING, Role, account, head, job, read};

/// Names the folder to the process that writes.
const FOLDER: &str = "JOURNAL_CRASH_FOLDER";

const ROUNDS: usize = 10;

#[tokio::test]
#[ignore = "the process that the test below kills"]
async fn writes_until_it_is_killed() {
    let folder = StateFolder::open(env::var_os(FOLDER).unwrap()).unwrap();
    let journal = Journal::open(&folder, &BINDING).unwrap();
    let kept = journal.accounts().await.unwrap().pop();
    let mut account = kept.map_or_else(|| account(1), |(_, account)| account);
    loop {
        let receipt = read(&mut account);
        journal.save_account(job(1), &account, Some(&receipt)).await.unwrap();
        let mut out = io::stdout();
        writeln!(out, "kept {}", receipt.receipt.seq).and_then(|()| out.flush()).unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let role = Role::new();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut known = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["crash::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, role.file().parent().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let mut take = |line: io::Result<String>| {
            let line = line.unwrap();
            acknowledged
                .extend(line.split_once("kept ").map(|(_, seq)| seq.parse::<u32>().unwrap()));
            acknowledged.len()
        };
        let enough = usize::try_from(1 + random.next_u32() % 30).unwrap();
        while take(lines.next().unwrap()) < enough {}
        thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 3_000)));
        child.kill().unwrap();
        lines.for_each(|line| {
            take(line);
        });
        child.wait().unwrap();

        let journal = role.open();
        let receipts = journal.receipts(job(1), 0, usize::MAX).await.unwrap();
        let newest = check_chain(job(1), None, &receipts, |_| true).unwrap();
        let accounts = journal.accounts().await.unwrap();
        let [(_, account)] = accounts.as_slice() else { panic!("round {round}: {accounts:?}") };
        assert_eq!(account.head().copied(), newest, "round {round}");
        assert_eq!(newest, receipts.last().map(head), "round {round}");
        let last = acknowledged.last().copied().unwrap();
        let expected: Vec<_> = (known..=last).collect();
        assert_eq!(acknowledged, expected, "round {round}: a number is signed once");
        known = u32::try_from(receipts.len()).unwrap();
        assert!((last + 1..=last + 2).contains(&known), "round {round}: {known} after {last}");
    }
}
