use alloy_primitives::{Address, B256};
use proptest::prelude::*;
use roadstead_types::{JobStatus, Seconds};

use super::*;
use crate::event::{Cursor, Opening};

const START: u32 = 1_800_000_000;

fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

fn id(number: u8) -> JobId {
    JobId(B256::with_last_byte(number))
}

fn opened() -> JobEvent {
    JobEvent::Opened(Box::new(Opening {
        terms: Terms {
            publisher: Address::repeat_byte(1),
            provider: Address::repeat_byte(2),
            signer: Address::repeat_byte(3),
            rate_per_hour: amount(3_600),
            start_fee: amount(30),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            bundle: B256::ZERO,
        },
        deposit: amount(1_000),
        source: b"https://example.org".to_vec(),
    }))
}

/// A block of the branch `fork`.
fn block(number: u64, fork: u8) -> BlockRef {
    let [.., high, low] = number.to_be_bytes();
    BlockRef { number, hash: B256::left_padding_from(&[fork, high, low]) }
}

fn at(number: u64, fork: u8, job: u8, item: JobEvent) -> Located<(JobId, JobEvent)> {
    let timestamp = Timestamp(START + u32::try_from(number).unwrap());
    Located { block: block(number, fork), timestamp, log_index: 0, item: (id(job), item) }
}

fn batch(
    undone_from: Option<u64>,
    events: Vec<Located<(JobId, JobEvent)>>,
    read: BlockRef,
) -> EventBatch {
    EventBatch {
        undone_from,
        events,
        cursor: Cursor::starting_at(0).advanced_to(read),
        head: Timestamp(0),
    }
}

#[test]
fn a_job_is_followed_from_opening_to_close() {
    let mut book = JobBook::default();
    let status = |book: &JobBook| book.job(id(1)).unwrap().job().status();
    book.apply(batch(None, vec![at(5, 0, 1, opened())], block(5, 0)));
    assert_eq!(status(&book), JobStatus::Open);
    let record = book.job(id(1)).unwrap();
    assert_eq!(record.opened_in(), block(5, 0));
    assert_eq!(record.source(), b"https://example.org");
    assert_eq!(record.job().paid_until, Timestamp(START + 5));

    let paid = at(6, 0, 1, JobEvent::StartFeePaid { paid: amount(30) });
    book.apply(batch(None, vec![paid], block(6, 0)));
    assert_eq!(book.job(id(1)).unwrap().job().paid, amount(30));

    let closing = at(7, 0, 1, JobEvent::Closing { close_at: Timestamp(START + 86_400) });
    book.apply(batch(None, vec![closing], block(7, 0)));
    assert_eq!(status(&book), JobStatus::Closing);

    let closed = at(8, 0, 1, JobEvent::Closed { paid: amount(30), refund: amount(970) });
    book.apply(batch(None, vec![closed], block(8, 0)));
    let job = book.job(id(1)).unwrap().job();
    assert_eq!((job.status(), job.deposit), (JobStatus::Closed, amount(30)));
}

#[test]
fn the_book_is_behind_until_the_effect_of_an_act_could_be_read() {
    let mut book = JobBook::default();
    book.apply(batch(None, vec![at(5, 0, 1, opened())], block(5, 0)));
    assert!(!book.is_behind(id(1)));
    book.acted(id(1), block(8, 0));
    book.apply(batch(None, Vec::new(), block(7, 0)));
    assert!(book.is_behind(id(1)));

    // The block was read and the event is not in it: the transaction fell out of the chain.
    book.apply(batch(None, Vec::new(), block(8, 0)));
    assert!(!book.is_behind(id(1)));
}

#[test]
fn nothing_is_awaited_of_a_block_that_was_undone() {
    let mut book = JobBook::default();
    book.apply(batch(None, vec![at(5, 0, 1, opened())], block(5, 0)));
    book.acted(id(1), block(9, 0));
    book.apply(batch(Some(8), Vec::new(), block(7, 0)));
    assert!(!book.is_behind(id(1)));
}

#[test]
fn a_job_whose_opening_was_undone_is_forgotten() {
    let mut book = JobBook::default();
    book.apply(batch(None, vec![at(5, 0, 1, opened())], block(5, 0)));
    book.apply(batch(Some(5), Vec::new(), block(5, 1)));
    assert_eq!(book.jobs().count(), 0);
}

/// A batch without events, after which everything before block `horizon` is final.
fn quiet(undone_from: Option<u64>, horizon: u64, fork: u8) -> EventBatch {
    let first = horizon.saturating_sub(1);
    let last = first + u64::try_from(Cursor::TRAIL).unwrap() - 1;
    let read = (0..=last).map(|number| block(number, fork));
    let cursor = read.fold(Cursor::starting_at(0), Cursor::advanced_to);
    assert_eq!(cursor.horizon(), horizon);
    EventBatch { undone_from, events: Vec::new(), cursor, head: Timestamp(0) }
}

fn closed() -> JobEvent {
    JobEvent::Closed { paid: amount(30), refund: amount(970) }
}

#[test]
fn a_job_is_handed_out_once_when_its_close_cannot_be_undone_any_more() {
    let mut book = JobBook::default();
    let opened = vec![at(5, 0, 1, opened()), at(6, 0, 2, opened()), at(8, 0, 1, closed())];
    assert_eq!(book.apply(batch(None, opened, block(8, 0))).closed, []);
    assert_eq!(book.apply(quiet(None, 8, 0)), BookChanges::default(), "it can still be undone");
    assert_eq!(book.job(id(1)).unwrap().job().status(), JobStatus::Closed);

    let changes = book.apply(quiet(None, 9, 0));
    assert_eq!(changes.changed, BTreeSet::from([id(1)]));
    let [over] = changes.closed.as_slice() else { panic!("{changes:?}") };
    assert_eq!((over.job, over.closed_at), (id(1), Timestamp(START + 8)));
    assert_eq!(over.record.terms().provider, Address::repeat_byte(2));
    assert_eq!(over.record.opened_at(), Timestamp(START + 5));
    assert_eq!(over.record.job().status(), JobStatus::Closed);
    assert_eq!(over.record.job().paid, amount(30));
    assert_eq!(book.jobs().map(|(job, _)| job).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(book.apply(quiet(None, 10, 0)), BookChanges::default());
}

#[test]
fn a_close_that_is_undone_is_not_handed_out() {
    let mut book = JobBook::default();
    book.apply(batch(None, vec![at(5, 0, 1, opened()), at(8, 0, 1, closed())], block(9, 0)));
    assert_eq!(book.apply(quiet(Some(8), 9, 1)).closed, []);
    assert_eq!(book.job(id(1)).unwrap().job().status(), JobStatus::Open);

    book.apply(batch(None, vec![at(140, 1, 1, closed())], block(140, 1)));
    let changes = book.apply(quiet(None, 141, 1)).closed;
    let times: Vec<_> = changes.iter().map(|over| over.closed_at).collect();
    assert_eq!(times, [Timestamp(START + 140)], "the close that stands");
}

#[test]
fn a_job_that_came_and_went_between_two_looks_is_handed_out() {
    let mut book = JobBook::default();
    let events = vec![at(5, 0, 1, opened()), at(8, 0, 1, closed())];
    let changes = book.apply(EventBatch { events, ..quiet(None, 9, 0) });
    assert_eq!(changes.closed.iter().map(|over| over.job).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(book.jobs().count(), 0);
}

#[test]
fn events_of_unknown_jobs_are_ignored() {
    let mut book = JobBook::default();
    let closing = at(7, 0, 9, JobEvent::Closing { close_at: Timestamp(START) });
    book.apply(batch(None, vec![closing], block(7, 0)));
    assert_eq!(book.jobs().count(), 0);
}

fn any_change() -> impl Strategy<Value = JobEvent> {
    prop_oneof![
        (0u128..5_000).prop_map(|units| JobEvent::ToppedUp { deposit: amount(units) }),
        (0u128..5_000).prop_map(|units| JobEvent::StartFeePaid { paid: amount(units) }),
        (0u128..5_000, 0u32..9)
            .prop_map(|(units, s)| JobEvent::Settled { paid: amount(units), until: Timestamp(s) }),
        (2u32..9).prop_map(|s| JobEvent::Closing { close_at: Timestamp(START + s) }),
        (0u128..5_000)
            .prop_map(|units| JobEvent::Closed { paid: amount(units), refund: amount(7) }),
    ]
}

/// One step of a history: some blocks are undone, then some are read, each with at most one event.
fn any_step() -> impl Strategy<Value = (u64, Vec<Option<(u8, JobEvent)>>)> {
    let event = prop_oneof![
        1 => (0u8..3).prop_map(|job| (job, opened())),
        2 => (0u8..3, any_change()),
    ];
    (0u64..4, prop::collection::vec(prop::option::of(event), 1..5))
}

proptest! {
    /// Whatever was read, undone and read twice: the book is the one that the surviving chain alone would make, and so is
    /// what it hands out in the end.
    #[test]
    fn the_book_depends_on_the_surviving_chain_alone(
        steps in prop::collection::vec(any_step(), 1..8),
        twice in any::<bool>(),
    ) {
        let mut book = JobBook::default();
        let mut chain: Vec<Option<Located<(JobId, JobEvent)>>> = Vec::new();
        for (fork, (undone, blocks)) in (0u8..).zip(steps) {
            let kept = chain.len().saturating_sub(usize::try_from(undone).unwrap());
            let undone_from = (kept < chain.len()).then_some(u64::try_from(kept).unwrap());
            chain.truncate(kept);
            for event in blocks {
                let number = u64::try_from(chain.len()).unwrap();
                let opened_before = |job: u8| chain.iter().flatten().any(|e| e.item.0 == id(job));
                // A job id lives once, so the chain never holds a second opening.
                let event = event.filter(|(job, item)| {
                    matches!(item, JobEvent::Opened(_)) != opened_before(*job)
                });
                chain.push(event.map(|(job, item)| at(number, fork, job, item)));
            }
            let read = block(u64::try_from(chain.len()).unwrap() - 1, fork);
            let events = chain[kept..].iter().flatten().cloned().collect::<Vec<_>>();
            let changes = book.apply(batch(undone_from, events.clone(), read));
            prop_assert_eq!(changes.closed, []);
            if twice {
                book.apply(batch(undone_from, events, read));
            }
        }

        let mut fresh = JobBook::default();
        let read = block(u64::try_from(chain.len()).unwrap() - 1, 0);
        fresh.apply(batch(None, chain.into_iter().flatten().collect(), read));
        prop_assert_eq!(
            book.jobs().collect::<Vec<_>>(),
            fresh.jobs().collect::<Vec<_>>()
        );
        let (over, expected) = (book.apply(quiet(None, 40, 0)), fresh.apply(quiet(None, 40, 0)));
        prop_assert_eq!(&over, &expected);
        let is_open = |(_, record): (_, &JobRecord)| record.job().status() != JobStatus::Closed;
        prop_assert!(book.jobs().all(is_open), "{over:?}");
    }
}
