use roadstead_chain::Wallet;
use roadstead_core::JobEvent;
use roadstead_core::ports::Phase;
use roadstead_core::{
    SettlePolicy, Settlement,
    protocol::{Denial, Response},
};
use roadstead_crypto::NodeIdentity;

use crate::fixture::{RESERVATION, World, amount, at};

fn settlement(world: &World) -> Settlement {
    let facts = world.facts();
    let (head, now) = world.host.ledger.times().unwrap();
    let policy = SettlePolicy { value: amount(1), ..world.offer.settle };
    facts.account.unwrap().settlement(&facts.terms, &facts.slot, &policy, head, now)
}

#[tokio::test]
async fn true_receipts_that_the_journal_has_take_nothing_back() {
    let mut world = World::new().await;
    world.deploy().await;
    world.at(0).await;
    world.at(61).await;
    world.accept_newest().await;
    let paid = world.receipts().await[0].receipt;
    world.happens(62, JobEvent::Settled { paid: paid.cumulative, until: paid.to });
    for seconds in [122, 183] {
        world.at(seconds).await;
        world.accept_newest().await;
    }
    let receipts = world.receipts().await;
    let before = world.facts().account.unwrap();
    let good = settlement(&world);
    assert!(matches!(good, Settlement::Settle(_)));
    // A head that nobody holds, and then what is true, up to some number.
    world.sync(&world.signer, Some(u32::MAX - 1), None).await;
    for held in 0..=receipts.len() {
        let answer = world.restore(&receipts[..held]).await;
        assert!(matches!(answer, Response::State(_)), "{answer:?}");
        assert_eq!(world.facts().account.as_ref(), Some(&before), "{held} given back");
    }
    assert_eq!(settlement(&world), good);
    // Signing goes on where it was.
    world.at(245).await;
    let newest = world.receipts().await.pop().unwrap().receipt;
    assert_eq!((newest.seq, newest.to), (3, at(245)));
    world.accept_newest().await;
    world.order_away().await;
    world.at(250).await;
    assert!(world.is_final());
    assert_eq!(world.billed().await, 250 * RESERVATION.memory);
}

#[tokio::test]
async fn receipts_that_differ_from_the_journal_are_refused() {
    let mut world = World::new().await;
    world.deploy().await;
    for seconds in [0, 61, 122] {
        world.at(seconds).await;
    }
    let before = world.facts().account.unwrap();
    let mut receipts = world.receipts().await;
    receipts[0].receipt.cumulative = amount(1);
    for given in [&receipts[..1], &receipts[..]] {
        assert_eq!(world.restore(given).await, Response::Denied(Denial::Malformed));
    }
    assert_eq!(world.facts().account, Some(before));
}

#[tokio::test]
async fn another_asker_does_not_take_back_what_the_signer_says_to_hold() {
    let mut world = World::new().await;
    world.deploy().await;
    world.at(0).await;
    world.at(61).await;
    let (backup, known) = (world.facts().account.unwrap(), world.receipts().await);
    world.at(122).await;
    let all = world.receipts().await;
    // The provider comes back with a journal of a minute ago.
    world.loses_journal().await;
    world.journal.restore_account(world.job, &backup, &known).await.unwrap();
    world.restarts().await;
    world.deploy().await;
    assert!(world.sync(&world.signer, Some(1), None).await.restore);
    world.sync(&world.publisher, None, None).await;
    world.sync(&world.signer, None, None).await;
    for seconds in [130, 150, 180] {
        world.at(seconds).await;
        assert_eq!(world.receipts().await, known, "after {seconds} s");
    }
    assert!(matches!(world.restore(&all).await, Response::State(_)));
    world.at(190).await;
    world.accept_newest().await;
    world.at(255).await;
    let receipts = world.receipts().await;
    assert_eq!(receipts[..2], all);
    assert_eq!(receipts.len(), 3);
    assert_eq!(world.phase().await, Some(Phase::Running));
}

#[tokio::test]
async fn a_strangers_sessions_keep_nobody_out() {
    let world = World::new().await;
    let (stranger, peer) = (Wallet::random(), NodeIdentity::generate().peer_id());
    let mut answers = Vec::new();
    for _ in 0..300 {
        answers.push(world.hello(peer, &stranger).await);
    }
    assert_eq!(answers.first(), Some(&Response::Welcome));
    assert_eq!(answers.last(), Some(&Response::Denied(Denial::Busy)));
    let state = world.sync(&world.signer, None, None).await;
    assert_eq!(state.job, world.job);
}
