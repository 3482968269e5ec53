//! Receipts, vouchers and settlements, between a real daemon and a real agent over a real network.

use std::time::Duration;

use roadstead_abi::{receipt_root, session_digest, voucher_digest};
use roadstead_core::{
    Follower, PauseReason,
    ports::{Engine, JobLink, Phase, Signer},
    protocol::{Denial, JobPhase, JobSync, Order, OrderKind, Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_net::JobClient;
use roadstead_provider::ProviderEvent;
use roadstead_publisher::{AgentEvent, adopt, verify_job};
use roadstead_types::{
    Bill, JobStatus, PeerId, Receipt, Session, SignedSession, Timestamp, TokenAmount, Voucher,
};
use tokio::time::timeout;

use crate::{
    daemon::Running,
    market::PATIENCE,
    rent::{Following, INTERVAL, Rent, metering},
};

fn paused(event: &ProviderEvent) -> bool {
    matches!(event, ProviderEvent::Paused { .. })
}

fn resumed(event: &ProviderEvent) -> bool {
    matches!(event, ProviderEvent::Resumed { .. })
}

fn accepted(event: &ProviderEvent) -> bool {
    matches!(event, ProviderEvent::VoucherAccepted { .. })
}

fn settled(event: &ProviderEvent) -> bool {
    matches!(event, ProviderEvent::Settled { .. })
}

#[tokio::test]
async fn what_is_metered_is_accepted_paid_and_recomputed() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    for seq in 0..3 {
        rent.market.engine.spend(&rent.instance(), 6_000, 1 << 20, 1 << 20);
        rent.interval().await;
        let accepted = agent.accepts(seq).await;
        // 20 units a second for memory and storage, 6 for the CPU of an interval; and what passes in between.
        let least = u128::from(seq + 1) * (u128::from(INTERVAL) * 20 + 6);
        assert!((least..least + 1_200).contains(&accepted.units()), "{accepted} of {least}");
        rent.daemon.until(settled).await;
    }
    let bill = rent.close().await;
    assert!(bill.receipts >= 3);
    assert_eq!(bill.due, bill.metered);
    agent.until(|event| matches!(event, AgentEvent::Finished { .. })).await;
    agent.stop().await;
    rent.daemon.stop().await;
    rent.server.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_was_away_accepts_everything_with_one_voucher() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    rent.interval().await;
    agent.accepts(0).await;
    rent.daemon.until(accepted).await;
    agent.stop().await;

    for seq in [1, 2] {
        rent.interval().await;
        rent.signs(seq).await;
    }
    let event = rent.daemon.until(paused).await;
    assert!(
        matches!(event, ProviderEvent::Paused { reason: Some(PauseReason::Unaccepted), .. }),
        "{event:?}"
    );
    let observed = rent.market.engine.observe(&rent.instance()).await.unwrap().unwrap();
    assert_eq!(observed.phase, Phase::Frozen);
    for _ in 0..3 {
        rent.interval().await;
    }

    let mut agent = Following::start(&rent.market).await;
    agent.accepts(2).await;
    rent.daemon.until(resumed).await;
    let observed = rent.market.engine.observe(&rent.instance()).await.unwrap().unwrap();
    assert_eq!(observed.phase, Phase::Running);
    rent.interval().await;
    let accepted = agent.accepts(3).await;
    // Four intervals ran; the three that were frozen cost nothing.
    let least = 4 * u128::from(INTERVAL) * 20;
    assert!((least..least + 1_200).contains(&accepted.units()), "{accepted}");
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn a_provider_that_was_killed_goes_on_with_the_same_container_and_the_same_chain() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    rent.interval().await;
    agent.accepts(0).await;
    rent.restart(async |market| market.pass(INTERVAL * 2).await).await;
    // What ran meanwhile is billed with the next reading.
    let accepted = agent.accepts(1).await;
    let least = 3 * u128::from(INTERVAL) * 20;
    assert!((least..least + 1_200).contains(&accepted.units()), "{accepted}");
    assert_eq!(rent.market.engine.starts(&rent.instance()), 1);
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn a_provider_without_its_journal_signs_nothing_until_its_receipts_are_back() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    rent.accepted_for(0..2, &mut agent).await;
    agent.stop().await;
    rent.restart(async |market| market.lose_journal("provider")).await;
    rent.interval().await;
    rent.interval().await;
    // It does not run for nothing either.
    let event = rent.daemon.until(paused).await;
    assert!(matches!(event, ProviderEvent::Paused { reason: None, .. }), "{event:?}");
    let journal = rent.market.provider_journal();
    let job = rent.plan.key.job;
    assert_eq!(journal.receipts(job, 0, 10).await.unwrap(), []);

    let mut agent = Following::start(&rent.market).await;
    agent.until(|event| matches!(event, AgentEvent::Restored { .. })).await;
    rent.daemon.until(resumed).await;
    rent.interval().await;
    agent.accepts(2).await;
    let mine = rent.publisher.journal.receipts(job, 0, 10).await.unwrap();
    assert_eq!(journal.receipts(job, 0, 10).await.unwrap()[..2], mine[..2]);
    assert_eq!(rent.publisher.journal.evidence(job).await.unwrap(), []);
    assert_eq!(rent.market.engine.starts(&rent.instance()), 1);
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn an_agent_without_its_journal_signs_the_same_vouchers_again() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    rent.accepted_for(0..2, &mut agent).await;
    agent.stop().await;
    let before = rent.publisher.journal.followers().await.unwrap();
    rent.market.lose_journal("publisher");
    rent.publisher = rent.market.publisher().await;
    let journal = &rent.publisher.journal;
    assert_eq!(journal.followers().await.unwrap(), []);
    adopt(journal, &rent.publisher.domain, &rent.plan).await.unwrap();

    let mut agent = Following::start(&rent.market).await;
    agent.accepts(1).await;
    let after = rent.publisher.journal.followers().await.unwrap();
    assert_eq!(after[0].1.voucher(), before[0].1.voucher());
    assert_eq!(after[0].1.head(), before[0].1.head());
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn a_deposit_that_is_used_up_pauses_the_job_until_it_is_topped_up() {
    // An interval costs 1,207 units, so a third one is not covered.
    let mut rent = Rent::start(3_500).await;
    let mut agent = Following::start(&rent.market).await;
    rent.accepted_for(0..2, &mut agent).await;
    let event = rent.daemon.until(paused).await;
    assert!(
        matches!(event, ProviderEvent::Paused { reason: Some(PauseReason::Exhausted), .. }),
        "{event:?}"
    );
    rent.interval().await;
    rent.top_up(10_000).await;
    rent.daemon.until(resumed).await;
    rent.interval().await;
    agent.accepts(2).await;
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn a_job_without_money_is_ended_after_the_grace_time() {
    let mut rent = Rent::start(3_500).await;
    let mut agent = Following::start(&rent.market).await;
    rent.accepted_for(0..2, &mut agent).await;
    rent.daemon.until(paused).await;
    rent.market.pass(3_700).await;
    rent.daemon.until(|event| matches!(event, ProviderEvent::Closed { .. })).await;
    assert_eq!(rent.market.engine.instances().await.unwrap(), []);
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    agent.stop().await;
    rent.daemon.stop().await;
}

#[tokio::test]
async fn a_job_whose_bills_nobody_accepts_is_kept_for_a_while_and_then_ended() {
    let mut rent = Rent::start(1_000_000).await;
    for seq in 0..2 {
        rent.interval().await;
        rent.signs(seq).await;
    }
    rent.daemon.until(paused).await;
    rent.market.pass(3_700).await;
    rent.market.pass(INTERVAL).await;
    assert_eq!(rent.market.engine.instances().await.unwrap(), [rent.instance()]);
    rent.market.pass(3_600).await;
    rent.daemon.until(|event| matches!(event, ProviderEvent::Removed { .. })).await;
    assert_eq!(rent.market.engine.instances().await.unwrap(), []);
    let state = rent.publisher.reader.job(rent.plan.key.job).await.unwrap();
    assert_eq!((state.status(), state.paid), (JobStatus::Open, rent.plan.terms.start_fee));
    rent.daemon.stop().await;
}

#[tokio::test]
async fn without_an_agent_the_last_voucher_is_waited_for_and_the_rest_is_left() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    rent.interval().await;
    agent.accepts(0).await;
    rent.daemon.until(settled).await;
    agent.kill().await;
    rent.interval().await;
    rent.signs(1).await;

    let (job, terms) = (rent.plan.key.job, &rent.plan.terms);
    let notice = roadstead_core::ports::Call::BeginClose(terms.clone());
    rent.publisher.writer.submit(notice).await.unwrap();
    rent.daemon.until(|event| matches!(event, ProviderEvent::Removed { .. })).await;
    let before = rent.publisher.reader.job(job).await.unwrap();
    rent.market.pass(61).await;
    rent.market.pass(terms.notice.0.into()).await;
    let finalize = roadstead_core::ports::Call::Finalize(terms.clone());
    rent.publisher.writer.submit(finalize).await.unwrap();
    let after = rent.publisher.reader.job(job).await.unwrap();
    assert_eq!((after.status(), after.paid), (JobStatus::Closed, before.paid));
    rent.daemon.stop().await;
}

/// A stranger's way to the provider.
struct Line {
    client: JobClient,
    rent: Rent,
}

impl Line {
    async fn ask(&self, request: Request) -> Response {
        let endpoint = self.rent.server.endpoint();
        timeout(PATIENCE, self.client.ask(&endpoint, request)).await.unwrap().unwrap()
    }

    fn session(&self, subject: &dyn Signer, peer: PeerId, expiry: u32) -> Session {
        let provider = self.rent.plan.terms.provider;
        let nonce = alloy::primitives::keccak256(expiry.to_be_bytes());
        Session { subject: subject.address(), peer, provider, expiry: Timestamp(expiry), nonce }
    }

    async fn hello(&self, signer: &dyn Signer, session: Session) -> Response {
        let domain = self.rent.publisher.domain;
        let signature = signer.sign(&session_digest(&domain, &session)).await.unwrap();
        self.ask(Request::Hello(SignedSession { session, signature })).await
    }

    async fn sync(&self) -> Response {
        let job = self.rent.plan.key.job;
        let sync = JobSync { job, head: None, voucher: None, refusal: None, known: None };
        self.ask(Request::Sync(sync)).await
    }

    async fn order(&self) -> Response {
        let (job, id) = (self.rent.plan.key.job, Default::default());
        self.ask(Request::Order(Order { job, id, kind: OrderKind::Close })).await
    }
}

#[tokio::test]
async fn nobody_but_its_own_people_learns_of_a_job_and_only_its_publisher_ends_it() {
    let rent = Rent::start(1_000_000).await;
    let client = JobClient::start(&NodeIdentity::generate()).unwrap();
    let line = Line { client, rent };
    let now = line.rent.publisher.reader.head().await.unwrap().timestamp.0;
    let denied = |denial| Response::Denied(denial);
    let peer = line.client.peer();

    assert_eq!(line.sync().await, denied(Denial::Expired), "nobody said hello");
    let stranger = roadstead_chain::Wallet::random();
    let session = line.session(&stranger, peer, now + 600);
    assert_eq!(line.hello(&stranger, session).await, Response::Welcome);
    assert_eq!(line.sync().await, denied(Denial::Forbidden));
    assert_eq!(line.order().await, denied(Denial::Forbidden));

    let signer = line.rent.market.agent_keys().signer;
    let elsewhere = NodeIdentity::generate().peer_id();
    for (session, denial) in [
        (line.session(&signer, elsewhere, now + 601), Denial::Peer),
        (line.session(&signer, peer, now - 1), Denial::Expired),
        (line.session(&signer, peer, now + 7_300), Denial::Expired),
        (
            Session { provider: stranger.address(), ..line.session(&signer, peer, now + 602) },
            Denial::Signature,
        ),
        (
            Session { subject: stranger.address(), ..line.session(&signer, peer, now + 603) },
            Denial::Signature,
        ),
        (
            Session {
                nonce: line.session(&stranger, peer, now + 600).nonce,
                ..line.session(&signer, peer, now + 604)
            },
            Denial::Nonce,
        ),
    ] {
        assert_eq!(line.hello(&signer, session).await, denied(denial), "{session:?}");
        assert_eq!(line.sync().await, denied(Denial::Forbidden));
    }
    let session = line.session(&signer, peer, now + 605);
    assert_eq!(line.hello(&signer, session).await, Response::Welcome);
    assert_eq!(line.hello(&signer, session).await, Response::Welcome, "the same again");
    assert!(matches!(line.sync().await, Response::State(_)));
    assert_eq!(line.order().await, denied(Denial::Forbidden), "the signer gives no orders");

    let owner = line.rent.market.local.publisher.clone();
    let session = line.session(&owner, peer, now + 606);
    assert_eq!(line.hello(&owner, session).await, Response::Welcome);
    for _ in 0..2 {
        assert!(matches!(line.order().await, Response::State(_)), "however often");
    }
    let Line { mut rent, client } = line;
    rent.daemon.until(|event| matches!(event, ProviderEvent::Removed { .. })).await;
    client.shutdown().await;
    rent.daemon.stop().await;
}

/// Whatever ends at whatever moment, and however often: nothing is lost, and nothing is paid or signed twice.
#[tokio::test]
async fn crashes_at_any_moment_lose_nothing() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    // A fixed sequence of moments, in milliseconds after an interval begins, and of who dies then.
    let mut seed = 0x5eed_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    for _ in 0..10 {
        rent.interval().await;
        tokio::time::sleep(Duration::from_millis(random() % 600)).await;
        match random() % 3 {
            0 => rent.restart(async |_| {}).await,
            1 => {
                agent.kill().await;
                agent = Following::start(&rent.market).await;
            }
            _ => {
                agent.kill().await;
                rent.restart(async |market| market.pass(7).await).await;
                agent = Following::start(&rent.market).await;
            }
        }
    }
    rent.interval().await;
    let bill = rent.close().await;
    assert_eq!(bill.due, bill.metered);
    assert_eq!(rent.market.engine.starts(&rent.instance()), 1);
    let job = rent.plan.key.job;
    assert_eq!(rent.publisher.journal.evidence(job).await.unwrap(), []);
    agent.stop().await;
    rent.daemon.stop().await;
}

/// Waits until the provider has noted that its only job is over for good.
async fn archived(rent: &Rent) {
    let ports = rent.market.provider().await;
    let journal = ports.journal.clone();
    // A close is final once it was looked past often enough, which need not take long.
    let ports = roadstead_provider::Ports { poll_interval: Duration::from_millis(1), ..ports };
    let daemon = Running::start_on(&rent.market, ports, metering());
    let archived = async {
        while journal.closed().await.unwrap().is_empty() {
            rent.market.pass(1).await;
        }
    };
    timeout(PATIENCE, archived).await.expect("it is over for good in time");
    daemon.stop().await;
    let (_, book) = journal.book().await.unwrap().unwrap();
    assert_eq!(book.jobs().count(), 0);
}

#[tokio::test]
async fn a_provider_answers_for_a_closed_job_for_ninety_days_and_then_forgets_it() {
    let mut rent = Rent::start(1_000_000).await;
    let mut agent = Following::start(&rent.market).await;
    for seq in 0..3 {
        rent.interval().await;
        agent.accepts(seq).await;
    }
    let bill = rent.close().await;
    agent.until(|event| matches!(event, AgentEvent::Finished { .. })).await;
    agent.stop().await;
    rent.server.shutdown().await;
    rent.daemon.kill().await;
    archived(&rent).await;

    let job = rent.plan.key.job;
    let receipts = rent.publisher.journal.receipts(job, 0, 100).await.unwrap();
    assert_eq!(receipts.len(), usize::try_from(bill.receipts).unwrap());
    let lost = rent.publisher.journal.followers().await.unwrap().remove(0).1;
    rent.market.lose_journal("publisher");
    rent.publisher = rent.market.publisher().await;
    adopt(&rent.publisher.journal, &rent.publisher.domain, &rent.plan).await.unwrap();
    (rent.daemon, rent.server) = Running::listening(&rent.market, metering()).await;

    let client = JobClient::start(&NodeIdentity::generate()).unwrap();
    let line = Line { client, rent };
    let peer = line.client.peer();
    let signer = line.rent.market.agent_keys().signer;
    let now = line.rent.publisher.reader.head().await.unwrap().timestamp.0;
    // The provider may not have seen a block yet, without which it does not know whether a session is over.
    let welcome = async {
        let session = line.session(&signer, peer, now + 600);
        while line.hello(&signer, session).await == Response::Denied(Denial::Busy) {}
    };
    timeout(PATIENCE, welcome).await.unwrap();
    let Response::State(state) = line.sync().await else { panic!("it still answers") };
    assert_eq!((state.phase.clone(), state.restore, state.more), (JobPhase::Closed, false, false));
    assert_eq!(state.receipts, receipts);
    assert_eq!((state.paid, state.owed), (bill.paid, TokenAmount::ZERO));
    assert_eq!(state.acked, lost.head().map(|head| head.seq));

    // Nothing is accepted, ended or metered any more, and the answer stays the same.
    let voucher = lost.voucher().copied();
    let head = lost.head().map(|head| (head.seq, head.root));
    let sync = JobSync { job, head, voucher, refusal: None, known: None };
    let Response::State(again) = line.ask(Request::Sync(sync)).await else { panic!("it answers") };
    assert_eq!((again.receipts.as_slice(), again.acked), ([].as_slice(), state.acked));
    let owner = line.rent.market.local.publisher.clone();
    line.hello(&owner, line.session(&owner, peer, now + 601)).await;
    let Response::State(ordered) = line.order().await else { panic!("it answers") };
    assert_eq!(ordered.phase, JobPhase::Closed);
    let kept = line.rent.market.provider_journal();
    assert!(matches!(kept.accounts().await.unwrap().as_slice(), [(id, _)] if *id == job));
    assert_eq!(kept.receipts(job, 0, 100).await.unwrap(), receipts);

    // A voucher is made of its receipt alone, so that the bill is as good as before.
    let journal = &line.rent.publisher.journal;
    let mut follower = Follower::new(job, line.rent.plan.tariff);
    for signed in &state.receipts {
        let Receipt { cumulative, to: until, .. } = signed.receipt;
        let bill = Bill { cumulative, until, usage_root: receipt_root(&signed.receipt) };
        let digest = voucher_digest(&line.rent.publisher.domain, job, &bill);
        let signature = signer.sign(&digest).await.unwrap();
        follower.accept(signed, Voucher { bill, signature }, None);
        journal.save_follower(job, &follower, Some(signed)).await.unwrap();
    }
    assert_eq!(follower.voucher(), lost.voucher());
    assert_eq!(verify_job(&line.rent.publisher, job).await.unwrap(), bill);

    line.rent.market.pass(90 * 86_400).await;
    let forgotten = async {
        while !kept.closed().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, forgotten).await.expect("it is forgotten in time");
    assert_eq!(kept.accounts().await.unwrap(), []);
    assert_eq!(kept.receipts(job, 0, 100).await.unwrap(), []);
    let now = line.rent.publisher.reader.head().await.unwrap().timestamp.0;
    let session = line.session(&signer, peer, now + 602);
    assert_eq!(line.hello(&signer, session).await, Response::Welcome);
    assert_eq!(line.sync().await, Response::Denied(Denial::Forbidden));
    let Line { rent, client } = line;
    client.shutdown().await;
    rent.daemon.stop().await;
}
