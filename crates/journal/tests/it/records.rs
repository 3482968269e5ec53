//! What is written is what a new process reads, and a number is signed once.

use std::future::ready;

use alloy_primitives::{Address, B256, Bytes};
use proptest::prelude::*;
use roadstead_core::{
    BlockRef, ClosedJob, Cursor, EventBatch, Follower, JobAccount, JobBook, JobEvent, JobRecord,
    Located, Opening, check_chain,
    ports::{Intent, Intents},
    protocol::{ReceiptRefusal, RefusalCode},
};
use roadstead_journal::JournalError;
use roadstead_types::{
    Bill, JobId, Receipt, Resources, Seconds, Signature, SignedReceipt, Tariff, Timestamp,
    TokenAmount, Voucher,
};

use crate::fixture::{
    Role, START, account, amount, head, job, other, plan, read, root, signed, tariff, terms,
};

fn block(number: u64) -> BlockRef {
    BlockRef { number, hash: B256::left_padding_from(&number.to_be_bytes()) }
}

fn opened(id: JobId, number: u64) -> Located<(JobId, JobEvent)> {
    let (terms, deposit) = (terms(number), TokenAmount::MAX);
    let opening = Opening { terms, deposit, source: vec![0, 0xff, b'"'] };
    let item = (id, JobEvent::Opened(Box::new(opening)));
    Located { block: block(number), timestamp: START, log_index: 0, item }
}

/// A job as a book has it.
pub(crate) fn one_job() -> (Cursor, JobRecord) {
    let cursor = Cursor::starting_at(5).advanced_to(block(5));
    let events = vec![opened(job(1), 5)];
    let mut book = JobBook::default();
    book.apply(EventBatch { undone_from: None, events, cursor: cursor.clone(), head: START });
    (cursor, book.job(job(1)).unwrap().clone())
}

/// A job that is over for good.
pub(crate) fn closed(number: u8, closed_at: Timestamp) -> ClosedJob {
    let item = (job(number), JobEvent::Closed { paid: amount(7), refund: amount(1) });
    let end = Located { block: block(6), timestamp: closed_at, log_index: 0, item };
    // So many that a reorganisation cannot reach block 6.
    let read = (5..=6 + Cursor::TRAIL as u64).map(block);
    let cursor = read.fold(Cursor::starting_at(5), Cursor::advanced_to);
    let events = vec![opened(job(number), 5), end];
    let mut book = JobBook::default();
    let changes = book.apply(EventBatch { undone_from: None, events, cursor, head: START });
    changes.closed.into_iter().next().unwrap()
}

fn records(book: &JobBook) -> Vec<(JobId, JobRecord)> {
    book.jobs().map(|(id, record)| (id, record.clone())).collect()
}

#[tokio::test]
async fn a_journal_knows_in_which_block_it_was_new() {
    let role = Role::new();
    assert_eq!(role.open().born_in(7).await.unwrap(), 7);
    assert_eq!(role.open().born_in(9).await.unwrap(), 7);
}

#[tokio::test]
async fn a_book_is_read_back_with_its_cursor() {
    let role = Role::new();
    assert!(role.open().book().await.unwrap().is_none());

    let mut book = JobBook::default();
    let mut cursor = Cursor::starting_at(5);
    let mut apply = async |undone_from, events, read_up_to| {
        cursor = cursor.clone().advanced_to(block(read_up_to));
        let head = START;
        let batch = EventBatch { undone_from, events, cursor: cursor.clone(), head };
        let changed = book.apply(batch).changed.into_iter();
        let changed = changed.map(|id| (id, book.job(id).cloned())).collect();
        role.open().save_book(&cursor, changed, &[]).await.unwrap();
        let (kept_cursor, kept) = role.open().book().await.unwrap().unwrap();
        assert_eq!((kept_cursor, records(&kept)), (cursor.clone(), records(&book)));
        records(&kept).len()
    };
    assert_eq!(apply(None, vec![opened(job(1), 5), opened(job(2), 6)], 6).await, 2);
    assert_eq!(apply(None, Vec::new(), 7).await, 2);
    assert_eq!(apply(Some(6), vec![opened(job(3), 8)], 8).await, 2, "one went, one came");
}

#[tokio::test]
async fn a_job_that_is_over_is_kept_in_one_step_with_the_book() {
    let role = Role::new();
    let (cursor, record) = one_job();
    let journal = role.open();
    assert_eq!(journal.closed().await.unwrap(), []);
    journal.save_book(&cursor, vec![(job(1), Some(record))], &[]).await.unwrap();
    let over = [closed(1, Timestamp(9)), closed(2, Timestamp(u32::MAX))];
    let cursor = cursor.advanced_to(block(9));
    journal.save_book(&cursor, vec![(job(1), None), (job(2), None)], &over).await.unwrap();
    drop(journal);

    let journal = role.open();
    assert_eq!(journal.closed().await.unwrap(), over);
    let (kept, book) = journal.book().await.unwrap().unwrap();
    assert_eq!((kept, book.jobs().count()), (cursor, 0));
}

/// A journal with a job that closed at each of these times and has so many receipts, an account and an order.
async fn ended(role: &Role, jobs: &[(u8, u32, usize)]) {
    let journal = role.open();
    let (cursor, _) = one_job();
    for (number, closed_at, receipts) in jobs.iter().copied() {
        let mut account = account(number);
        let receipts: Vec<_> = (0..receipts).map(|_| read(&mut account)).collect();
        journal.restore_account(job(number), &account, &receipts).await.unwrap();
        journal.take_order(job(number), B256::ZERO).await.unwrap();
        let over = [closed(number, Timestamp(closed_at))];
        journal.save_book(&cursor, Vec::new(), &over).await.unwrap();
    }
}

#[tokio::test]
async fn what_closed_long_ago_is_forgotten_with_all_that_hangs_on_it_and_nothing_else_is() {
    let role = Role::new();
    ended(&role, &[(1, 99, 5), (2, 100, 6), (3, 98, 0)]).await;
    let journal = role.open();
    let mut live = account(4);
    let receipt = read(&mut live);
    journal.save_account(job(4), &live, Some(&receipt)).await.unwrap();
    let follower = Follower::new(job(1), tariff());
    journal.save_follower(job(1), &follower, None).await.unwrap();
    journal.keep_evidence(job(1), &[read(&mut account(1))]).await.unwrap();

    assert!(!journal.forget_closed_before(Timestamp(98)).await.unwrap());
    assert_eq!(journal.closed().await.unwrap().len(), 3);
    assert!(!journal.forget_closed_before(Timestamp(100)).await.unwrap());
    drop(journal);

    let journal = role.open();
    assert_eq!(journal.closed().await.unwrap(), [closed(2, Timestamp(100))]);
    let accounts = journal.accounts().await.unwrap();
    assert_eq!(accounts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [job(2), job(4)]);
    for (number, receipts) in [(1, 0), (2, 6), (3, 0), (4, 1)] {
        let kept = journal.receipts(job(number), 0, 64).await.unwrap();
        assert_eq!(kept.len(), receipts, "job {number}");
    }
    assert!(journal.take_order(job(1), B256::ZERO).await.unwrap(), "its orders are forgotten");
    assert!(!journal.take_order(job(2), B256::ZERO).await.unwrap());
    assert_eq!(journal.followers().await.unwrap(), [(job(1), follower)], "the agent's side stays");
    assert_eq!(journal.evidence(job(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_long_job_is_forgotten_in_steps_that_leave_a_whole_beginning() {
    const RECEIPTS: usize = 3_000;
    let role = Role::new();
    ended(&role, &[(1, 98, RECEIPTS), (2, 99, 1), (3, 100, 1)]).await;
    let mut left = RECEIPTS;
    // Each step by a process of its own, as after a crash.
    while role.open().forget_closed_before(Timestamp(100)).await.unwrap() {
        let journal = role.open();
        let receipts = journal.receipts(job(1), 0, usize::MAX).await.unwrap();
        assert!(receipts.len() < left, "{left} receipts are left");
        assert!(left - receipts.len() < RECEIPTS / 2, "a step is bounded");
        left = receipts.len();
        check_chain(job(1), None, &receipts, |_| true).unwrap();
        let over: Vec<_> = journal.closed().await.unwrap().iter().map(|over| over.job).collect();
        assert_eq!(over, [job(1), job(2), job(3)]);
    }
    assert!(left < RECEIPTS / 2, "it took several steps");
    let journal = role.open();
    assert_eq!(journal.closed().await.unwrap(), [closed(3, Timestamp(100))]);
    assert_eq!(journal.receipts(job(1), 0, 64).await.unwrap(), []);
    assert_eq!(journal.receipts(job(2), 0, 64).await.unwrap(), []);
    assert_eq!(journal.receipts(job(3), 0, 64).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_account_is_read_back_with_the_receipts_that_it_made() {
    let role = Role::new();
    let (mut first, mut second) = (account(1), account(2));
    let mut receipts = Vec::new();
    let journal = role.open();
    journal.save_account(job(2), &second, None).await.unwrap();
    for _ in 0..5 {
        receipts.push(read(&mut first));
        journal.save_account(job(1), &first, receipts.last()).await.unwrap();
    }
    let of_another = read(&mut second);
    journal.save_account(job(2), &second, Some(&of_another)).await.unwrap();
    drop(journal);

    let journal = role.open();
    assert_eq!(journal.accounts().await.unwrap(), [(job(1), first), (job(2), second)]);
    assert_eq!(journal.receipts(job(1), 0, usize::MAX).await.unwrap(), receipts);
    assert_eq!(journal.receipts(job(1), 3, 64).await.unwrap(), receipts[3..]);
    assert_eq!(journal.receipts(job(1), 1, 2).await.unwrap(), receipts[1..3]);
    assert_eq!(journal.receipts(job(1), 5, 64).await.unwrap(), []);
    assert_eq!(journal.receipts(job(3), 0, 64).await.unwrap(), []);
    assert_eq!(journal.receipt(job(1), 4).await.unwrap(), Some(receipts[4]));
    assert_eq!(journal.receipt(job(2), 0).await.unwrap(), Some(of_another));
    assert_eq!(journal.receipt(job(2), 1).await.unwrap(), None);
    let by_root = journal.receipt_by_root(job(1), root(&receipts[2])).await.unwrap();
    assert_eq!(by_root, Some(receipts[2]));
    assert_eq!(journal.receipt_by_root(job(2), root(&receipts[2])).await.unwrap(), None);
}

#[tokio::test]
async fn a_number_is_signed_once() {
    let role = Role::new();
    let journal = role.open();
    let mut account = account(1);
    let first = read(&mut account);
    journal.save_account(job(1), &account, Some(&first)).await.unwrap();
    let kept = account.clone();

    let second = read(&mut account);
    let is_refused = |result: Result<(), JournalError>| match result {
        Err(JournalError::Signed { job: refused, seq: 0 }) => assert_eq!(refused, job(1)),
        result => panic!("{result:?}"),
    };
    is_refused(journal.save_account(job(1), &account, Some(&other(&first))).await);
    is_refused(journal.restore_account(job(1), &account, &[second, other(&first)]).await);
    let resigned = SignedReceipt { signature: Signature([7; 65]), ..first };
    is_refused(journal.save_account(job(1), &account, Some(&resigned)).await);
    let follower = Follower::new(job(1), tariff());
    is_refused(journal.save_follower(job(1), &follower, Some(&other(&first))).await);
    assert_eq!(journal.accounts().await.unwrap(), [(job(1), kept)], "nothing was written");
    assert_eq!(journal.followers().await.unwrap(), []);
    assert_eq!(journal.receipts(job(1), 0, 64).await.unwrap(), [first]);

    journal.save_account(job(1), &account, Some(&first)).await.unwrap();
    journal.restore_account(job(1), &account, &[first, second]).await.unwrap();
    assert_eq!(journal.accounts().await.unwrap(), [(job(1), account)]);
    assert_eq!(journal.receipts(job(1), 0, 64).await.unwrap(), [first, second]);
}

#[tokio::test]
async fn a_receipt_of_another_job_is_not_kept() {
    let role = Role::new();
    let journal = role.open();
    let mut account = account(1);
    let receipt = read(&mut account);
    let refused = journal.save_account(job(2), &account, Some(&receipt)).await;
    assert!(matches!(refused, Err(JournalError::ForeignReceipt { .. })), "{refused:?}");
    let refused = journal.keep_evidence(job(2), &[receipt]).await;
    assert!(matches!(refused, Err(JournalError::ForeignReceipt { .. })), "{refused:?}");
    assert_eq!(journal.accounts().await.unwrap(), []);
    assert_eq!(journal.evidence(job(2)).await.unwrap(), []);
}

#[tokio::test]
async fn a_follower_is_read_back_with_its_receipts() {
    let role = Role::new();
    let mut provider = account(1);
    let mut follower = Follower::new(job(1), tariff());
    let mut receipts = Vec::new();
    role.open().save_follower(job(1), &follower, None).await.unwrap();
    for _ in 0..3 {
        let receipt = read(&mut provider);
        let bill = Bill {
            cumulative: receipt.receipt.cumulative,
            until: receipt.receipt.to,
            usage_root: root(&receipt),
        };
        let refusal = ReceiptRefusal {
            seq: receipt.receipt.seq,
            code: RefusalCode::Limit,
            accepted: bill.cumulative,
        };
        let voucher = Voucher { bill, signature: Signature([3; 65]) };
        follower.accept(&receipt, voucher, Some(refusal));
        role.open().save_follower(job(1), &follower, Some(&receipt)).await.unwrap();
        receipts.push(receipt);
    }
    let journal = role.open();
    assert_eq!(follower.head(), Some(&head(&receipts[2])));
    assert_eq!(journal.followers().await.unwrap(), [(job(1), follower)]);
    assert_eq!(journal.receipts(job(1), 0, 64).await.unwrap(), receipts);
}

#[tokio::test]
async fn evidence_is_kept_once_and_as_much_as_proves() {
    let role = Role::new();
    let receipt = read(&mut account(1));
    let (second, third) = (other(&receipt), other(&other(&receipt)));
    let resigned = SignedReceipt { signature: Signature([7; 65]), ..receipt };
    for _ in 0..2 {
        role.open().keep_evidence(job(1), &[receipt, resigned, second]).await.unwrap();
    }
    let journal = role.open();
    let kept = journal.evidence(job(1)).await.unwrap();
    assert!(kept.len() == 2 && kept.contains(&receipt) && kept.contains(&second), "{kept:?}");
    journal.keep_evidence(job(1), &[third]).await.unwrap();
    assert_eq!(journal.evidence(job(1)).await.unwrap(), kept);
    assert_eq!(journal.evidence(job(2)).await.unwrap(), []);
    assert_eq!(journal.receipts(job(1), 0, 64).await.unwrap(), [], "evidence is no receipt");
}

#[tokio::test]
async fn plans_are_read_back_and_replaced() {
    let role = Role::new();
    role.open().save_plan(&plan(2)).await.unwrap();
    role.open().save_plan(&plan(1)).await.unwrap();
    let mut changed = plan(2);
    changed.deposit = TokenAmount::MAX;
    role.open().save_plan(&changed).await.unwrap();
    assert_eq!(role.open().plans().await.unwrap(), [plan(1), changed]);
}

#[tokio::test]
async fn a_plan_that_is_kept_stays() {
    let role = Role::new();
    let mut changed = plan(2);
    changed.deposit = TokenAmount::MAX;
    for (offered, is_kept) in [(plan(2), true), (changed, false), (plan(1), true), (plan(2), true)]
    {
        assert_eq!(role.open().keep_plan(&offered).await.unwrap(), is_kept);
    }
    assert_eq!(role.open().plans().await.unwrap(), [plan(1), plan(2)]);
}

#[tokio::test]
async fn an_order_is_taken_once() {
    let role = Role::new();
    let id = B256::repeat_byte(5);
    assert!(role.open().take_order(job(1), id).await.unwrap());
    assert!(!role.open().take_order(job(1), id).await.unwrap());
    assert!(role.open().take_order(job(2), id).await.unwrap());

    let journal = role.open();
    let mut taken = 1;
    let refused = loop {
        match journal.take_order(job(1), B256::left_padding_from(&u32::to_be_bytes(taken))).await {
            Ok(is_new) => assert!(is_new && taken < 10_000, "orders are bounded"),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert!(matches!(refused, JournalError::TooManyOrders { .. }), "{refused:?}");
    assert!(!journal.take_order(job(1), id).await.unwrap(), "a known one is still known");
}

#[tokio::test]
async fn the_jobs_that_were_ordered_about_are_known_to_the_next_process() {
    let role = Role::new();
    let journal = role.open();
    assert_eq!(journal.ordered().await.unwrap(), []);
    // Neither an account nor a receipt has to be there.
    for (number, id) in [(3, 1), (1, 2), (3, 2), (3, 1)] {
        journal.take_order(job(number), B256::repeat_byte(id)).await.unwrap();
    }
    drop(journal);
    assert_eq!(role.open().ordered().await.unwrap(), [job(1), job(3)]);

    let role = Role::new();
    ended(&role, &[(1, 98, 1), (2, 100, 1)]).await;
    let journal = role.open();
    assert!(!journal.forget_closed_before(Timestamp(100)).await.unwrap());
    assert_eq!(journal.ordered().await.unwrap(), [job(2)]);
}

#[tokio::test]
async fn a_method_that_was_begun_ends_though_nobody_waits() {
    let role = Role::new();
    let journal = role.open();
    for number in 1..=50 {
        let id = B256::repeat_byte(number);
        tokio::select! {
            biased;
            _ = journal.take_order(job(1), id) => panic!("nothing is durable at once"),
            () = ready(()) => {}
        }
        assert!(!journal.take_order(job(1), id).await.unwrap(), "it was taken before");
    }
}

pub(crate) fn intent(account: u8, nonce: u64, form: u8) -> Intent {
    Intent {
        account: Address::repeat_byte(account),
        nonce,
        call: "settle".into(),
        transaction: B256::left_padding_from(&[account, u8::try_from(nonce).unwrap(), form]),
        raw: Bytes::from(vec![2, form, 0, 0xff]),
    }
}

#[tokio::test]
async fn intents_come_back_in_order_until_they_are_done() {
    let role = Role::new();
    let of = Address::repeat_byte(1);
    assert_eq!(role.open().pending(of).await.unwrap(), []);
    for (account, nonce, form) in [(1, 9, 2), (1, 8, 0), (2, 8, 0), (1, 9, 1), (1, 9, 2)] {
        role.open().intend(&intent(account, nonce, form)).await.unwrap();
    }
    let expected = [intent(1, 8, 0), intent(1, 9, 2), intent(1, 9, 1)];
    assert_eq!(role.open().pending(of).await.unwrap(), expected);

    role.open().done(of, 9).await.unwrap();
    role.open().done(of, 7).await.unwrap();
    assert_eq!(role.open().pending(of).await.unwrap(), [intent(1, 8, 0)]);
    assert_eq!(role.open().pending(Address::repeat_byte(2)).await.unwrap().len(), 1);
}

fn resources<T: std::fmt::Debug + Copy + 'static>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Resources<T>> {
    proptest::collection::vec(value, 6).prop_map(|values| {
        let mut values = values.into_iter();
        Resources::from_fn(|_| values.next().unwrap())
    })
}

prop_compose! {
    fn receipts()(
        job in any::<[u8; 32]>(),
        seq in any::<u32>(),
        from in any::<u32>(),
        to in any::<u32>(),
        total in resources(any::<u64>()),
        cumulative in 0..(1u128 << 96),
        prev in any::<[u8; 32]>(),
    ) -> SignedReceipt {
        signed(Receipt {
            job: JobId(job.into()),
            seq,
            from: Timestamp(from),
            to: Timestamp(to),
            total,
            cumulative: amount(cumulative),
            prev: prev.into(),
        })
    }
}

prop_compose! {
    fn tariffs()(
        interval in any::<u32>(),
        reservation in resources(any::<u64>()),
        prices in resources(any::<u128>()),
    ) -> Tariff {
        Tariff { interval: Seconds(interval), reservation, prices }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_is_read_back_as_it_was(signed in receipts(), tariff in tariffs()) {
        let role = Role::new();
        let id = signed.receipt.job;
        let account = JobAccount::restored(tariff, &signed.receipt);
        let mut follower = Follower::new(id, tariff);
        let bill = Bill {
            cumulative: signed.receipt.cumulative,
            until: signed.receipt.to,
            usage_root: root(&signed),
        };
        follower.accept(&signed, Voucher { bill, signature: signed.signature }, None);
        let mut plan = plan(1);
        plan.tariff = tariff;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let journal = role.open();
            journal.save_account(id, &account, Some(&signed)).await.unwrap();
            journal.save_follower(id, &follower, Some(&signed)).await.unwrap();
            journal.keep_evidence(id, &[signed]).await.unwrap();
            journal.save_plan(&plan).await.unwrap();
            drop(journal);
            let journal = role.open();
            assert_eq!(journal.accounts().await.unwrap(), [(id, account)]);
            assert_eq!(journal.followers().await.unwrap(), [(id, follower)]);
            assert_eq!(journal.plans().await.unwrap(), [plan]);
            assert_eq!(journal.evidence(id).await.unwrap(), [signed]);
            let kept = journal.receipt(id, signed.receipt.seq).await.unwrap();
            assert_eq!(kept, Some(signed));
            assert_eq!(journal.receipt_by_root(id, root(&signed)).await.unwrap(), Some(signed));
        });
    }
}
