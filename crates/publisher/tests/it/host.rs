//! A provider in memory. It makes receipts at times that a test chooses, checks every voucher it is brought, and lies
//! only where it is told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{Address, B256};
use roadstead_abi::{receipt_digest, receipt_root, recover, voucher_digest};
use roadstead_chain::Wallet;
use roadstead_core::{
    Verb, authorise, check_session, due_for,
    ports::Signer,
    protocol::{
        Denial, HOLD, JobPhase, JobSync, MAX_RECEIPTS, Order, ReceiptRefusal, Request, Response,
        Restore, State,
    },
};
use roadstead_crypto::NodeIdentity;
use roadstead_types::{
    Domain, Endpoint, JobId, PeerId, Receipt, Resources, Seconds, SignedReceipt, Tariff, Terms,
    Timestamp, TokenAmount, Voucher,
};
use tokio::{sync::Notify, time::timeout};

use crate::chain::FakeChain;

/// So many questions of one peer a real provider bears.
const MOST_UNDER_WAY: usize = 32;

/// A question under way.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct Host {
    pub(crate) wallet: Wallet,
    /// Signs the receipts: the wallet, or an operator.
    pub(crate) pen: Wallet,
    identity: NodeIdentity,
    chain: Arc<FakeChain>,
    domain: Domain,
    is_up: AtomicBool,
    under_way: AtomicUsize,
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Default)]
struct Books {
    profile: String,
    port: u16,
    jobs: BTreeMap<JobId, Hosted>,
    sessions: BTreeMap<(PeerId, Address), Timestamp>,
    nonces: BTreeSet<B256>,
    requests: Vec<Request>,
    denied: usize,
    denial: Option<Denial>,
    lie: Option<Lie>,
}

/// Changes a state before it is sent.
type Lie = Box<dyn Fn(&mut State) + Send>;

struct Hosted {
    terms: Terms,
    tariff: Tariff,
    opened_at: Timestamp,
    receipts: Vec<SignedReceipt>,
    vouchers: Vec<Voucher>,
    refusals: Vec<ReceiptRefusal>,
    orders: Vec<Order>,
    revision: u64,
    note: Option<String>,
    must_restore: bool,
    /// Whether it loses its receipts as soon as it has them back.
    is_forgetful: bool,
    /// What it is paid when it is ordered to close; `None` where it takes orders and does nothing.
    closes_for: Option<TokenAmount>,
}

impl Host {
    pub(crate) fn new(number: u16, chain: Arc<FakeChain>, domain: Domain, wallet: Wallet) -> Self {
        Self {
            pen: wallet.clone(),
            wallet,
            identity: NodeIdentity::generate(),
            chain,
            domain,
            is_up: AtomicBool::new(true),
            under_way: AtomicUsize::new(0),
            books: Mutex::new(Books { port: 4_000 + number, ..Books::default() }),
            changed: Notify::new(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let port = self.books().port;
        self.identity.endpoint(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).unwrap()
    }

    pub(crate) fn profile(&self) -> String {
        self.books().profile.clone()
    }

    /// Gives this as its profile from now on.
    pub(crate) fn set_profile(&self, profile: &str) {
        self.books().profile = profile.to_owned();
    }

    /// Listens at another port from now on.
    pub(crate) fn move_to(&self, port: u16) {
        self.books().port = port;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Goes, and forgets its sessions, or comes back.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.books().sessions.clear();
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    pub(crate) fn deny(&self, denial: Option<Denial>) {
        self.books().denial = denial;
    }

    pub(crate) fn lie(&self, lie: impl Fn(&mut State) + Send + 'static) {
        self.books().lie = Some(Box::new(lie));
    }

    pub(crate) fn be_honest(&self) {
        self.books().lie = None;
    }

    pub(crate) fn take_job(&self, job: JobId, terms: &Terms, tariff: Tariff, opened_at: Timestamp) {
        let hosted = Hosted {
            terms: terms.clone(),
            tariff,
            opened_at,
            receipts: Vec::new(),
            vouchers: Vec::new(),
            refusals: Vec::new(),
            orders: Vec::new(),
            revision: 1,
            note: None,
            must_restore: false,
            is_forgetful: false,
            closes_for: None,
        };
        self.books().jobs.insert(job, hosted);
    }

    fn change<T>(&self, job: JobId, change: impl FnOnce(&mut Hosted) -> T) -> T {
        let changed = {
            let mut books = self.books();
            let hosted = books.jobs.get_mut(&job).unwrap();
            hosted.revision += 1;
            change(hosted)
        };
        self.changed.notify_waiters();
        changed
    }

    /// The next receipt, of full use up to `to` and changed as a test likes, signed and kept.
    pub(crate) async fn read_as(
        &self,
        job: JobId,
        to: Timestamp,
        change: impl FnOnce(&mut Receipt),
    ) -> SignedReceipt {
        let mut receipt = {
            let books = self.books();
            let hosted = &books.jobs[&job];
            let last = hosted.receipts.last().map(|signed| signed.receipt);
            let from = last.map_or(hosted.opened_at, |last| last.to);
            let before = last.map_or_else(Resources::default, |last| last.total);
            let seconds = u64::from(to.since(from).0);
            let reservation = &hosted.tariff.reservation;
            let total =
                Resources::from_fn(|each| before.get(each) + reservation.get(each) * seconds);
            Receipt {
                job,
                seq: last.map_or(0, |last| last.seq + 1),
                from,
                to,
                total,
                cumulative: due_for(&total, &hosted.tariff.prices).unwrap(),
                prev: last.map_or(job.0, |last| receipt_root(&last)),
            }
        };
        change(&mut receipt);
        let signed = self.sign(receipt).await;
        self.change(job, |hosted| hosted.receipts.push(signed));
        signed
    }

    pub(crate) async fn read(&self, job: JobId, to: Timestamp) -> SignedReceipt {
        self.read_as(job, to, |_| {}).await
    }

    pub(crate) async fn sign(&self, receipt: Receipt) -> SignedReceipt {
        let digest = receipt_digest(&self.domain, &receipt);
        SignedReceipt { receipt, signature: self.pen.sign(&digest).await.unwrap() }
    }

    /// Puts another receipt in the place of the newest one.
    pub(crate) fn replace_newest(&self, job: JobId, signed: SignedReceipt) {
        self.change(job, |hosted| *hosted.receipts.last_mut().unwrap() = signed);
    }

    pub(crate) fn set_note(&self, job: JobId, note: Option<&str>) {
        self.change(job, |hosted| hosted.note = note.map(str::to_owned));
    }

    pub(crate) fn obey(&self, job: JobId, paid: TokenAmount) {
        self.change(job, |hosted| hosted.closes_for = Some(paid));
    }

    /// Loses what it knows of the job's receipts.
    pub(crate) fn lose_journal(&self, job: JobId) -> Vec<SignedReceipt> {
        self.change(job, |hosted| {
            hosted.must_restore = true;
            hosted.vouchers.clear();
            std::mem::take(&mut hosted.receipts)
        })
    }

    pub(crate) fn set_forgetful(&self, job: JobId, is_forgetful: bool) {
        self.change(job, |hosted| hosted.is_forgetful = is_forgetful);
    }

    pub(crate) fn receipts(&self, job: JobId) -> Vec<SignedReceipt> {
        self.books().jobs[&job].receipts.clone()
    }

    /// Every voucher that it was brought, without repetitions.
    pub(crate) fn vouchers(&self, job: JobId) -> Vec<Voucher> {
        self.books().jobs[&job].vouchers.clone()
    }

    pub(crate) fn voucher(&self, job: JobId) -> Option<Voucher> {
        self.vouchers(job).last().copied()
    }

    pub(crate) fn refusals(&self, job: JobId) -> Vec<ReceiptRefusal> {
        self.books().jobs[&job].refusals.clone()
    }

    pub(crate) fn orders(&self, job: JobId) -> Vec<Order> {
        self.books().jobs[&job].orders.clone()
    }

    /// All that it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.books().requests.clone()
    }

    pub(crate) fn greetings(&self) -> usize {
        self.requests().iter().filter(|request| matches!(request, Request::Hello(_))).count()
    }

    /// How often it said no.
    pub(crate) fn denied(&self) -> usize {
        self.books().denied
    }

    /// Waits for a voucher for the newest receipt.
    pub(crate) async fn paid_up(&self, job: JobId) -> Voucher {
        let newest = self.receipts(job).last().map(|signed| signed.receipt.to);
        self.brought(job, |voucher| Some(voucher.bill.until) == newest).await
    }

    /// Waits until so much is accepted.
    pub(crate) async fn worth(&self, job: JobId, accepted: TokenAmount) -> Voucher {
        self.brought(job, |voucher| voucher.bill.cumulative == accepted).await
    }

    async fn brought(&self, job: JobId, is_wanted: impl Fn(&Voucher) -> bool) -> Voucher {
        let brought = async {
            loop {
                let changed = self.changed.notified();
                if let Some(voucher) = self.voucher(job).filter(&is_wanted) {
                    return voucher;
                }
                changed.await;
            }
        };
        timeout(Duration::from_secs(7_200), brought).await.expect("the voucher comes")
    }

    pub(crate) async fn answer(&self, peer: PeerId, request: Request) -> Response {
        self.books().requests.push(request.clone());
        let place = Place(&self.under_way);
        let response = if self.under_way.fetch_add(1, Ordering::Relaxed) < MOST_UNDER_WAY {
            self.respond(peer, request).await
        } else {
            Response::Denied(Denial::Busy)
        };
        drop(place);
        if matches!(response, Response::Denied(_)) {
            self.books().denied += 1;
        }
        response
    }

    async fn respond(&self, peer: PeerId, request: Request) -> Response {
        let denial = self.books().denial;
        if let Some(denial) = denial {
            return Response::Denied(denial);
        }
        let now = self.chain.now();
        match request {
            Request::Profile => Response::Profile(self.profile()),
            Request::Hello(signed) => {
                let provider = self.wallet.address();
                if let Err(denial) = check_session(&signed, &self.domain, provider, peer, now) {
                    return Response::Denied(denial);
                }
                let session = signed.session;
                let mut books = self.books();
                if !books.nonces.insert(session.nonce) {
                    return Response::Denied(Denial::Nonce);
                }
                books.sessions.insert((peer, session.subject), session.expiry);
                Response::Welcome
            }
            Request::Sync(sync) => match self.permit(peer, sync.job, Verb::Sync) {
                Ok(()) => self.sync(sync).await,
                Err(denial) => Response::Denied(denial),
            },
            Request::Restore(restore) => match self.permit(peer, restore.job, Verb::Restore) {
                Ok(()) => self.restore(restore),
                Err(denial) => Response::Denied(denial),
            },
            Request::Order(order) => match self.permit(peer, order.job, Verb::Order) {
                Ok(()) => self.order(order),
                Err(denial) => Response::Denied(denial),
            },
        }
    }

    fn permit(&self, peer: PeerId, job: JobId, verb: Verb) -> Result<(), Denial> {
        let now = self.chain.now();
        let books = self.books();
        let terms = &books.jobs.get(&job).ok_or(Denial::Forbidden)?.terms;
        let speaks = |((who, subject), expiry): (&(PeerId, Address), &Timestamp)| {
            *who == peer && *expiry > now && authorise(*subject, verb, terms)
        };
        books.sessions.iter().any(speaks).then_some(()).ok_or(Denial::Forbidden)
    }

    async fn sync(&self, sync: JobSync) -> Response {
        let JobSync { job, head, voucher, refusal, known } = sync;
        if let Some(voucher) = voucher {
            self.take_voucher(job, voucher);
        }
        if let Some(refusal) = refusal {
            let known = self.refusals(job).last().cloned();
            if known.as_ref() != Some(&refusal) {
                self.change(job, |hosted| hosted.refusals.push(refusal));
            }
        }
        let held = async {
            loop {
                let changed = self.changed.notified();
                if Some(self.books().jobs[&job].revision) != known {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(HOLD.into(), held).await;
        self.state(job, head.map(|(seq, _)| seq))
    }

    /// Checks a voucher by what was really signed.
    fn take_voucher(&self, job: JobId, voucher: Voucher) {
        let (receipt, terms, last, is_restoring) = {
            let books = self.books();
            let hosted = &books.jobs[&job];
            let of =
                |signed: &&SignedReceipt| receipt_root(&signed.receipt) == voucher.bill.usage_root;
            let receipt = hosted.receipts.iter().find(of).map(|signed| signed.receipt);
            let last = hosted.vouchers.last().copied();
            (receipt, hosted.terms.clone(), last, hosted.must_restore)
        };
        if is_restoring {
            return;
        }
        let digest = voucher_digest(&self.domain, job, &voucher.bill);
        assert_eq!(recover(&digest, &voucher.signature), Some(terms.signer));
        let receipt = receipt.expect("a voucher for a receipt of this provider");
        assert_eq!(voucher.bill.until, receipt.to);
        assert!(voucher.bill.cumulative <= receipt.cumulative, "never more than was billed");
        match last {
            Some(last) if voucher == last => {}
            // An agent that lost its disk works its way up again.
            Some(last) if voucher.bill.until < last.bill.until => {}
            Some(last) => {
                let is_more = last.bill.cumulative < voucher.bill.cumulative;
                assert!(last.bill.until < voucher.bill.until || is_more, "{last:?}, {voucher:?}");
                assert!(last.bill.cumulative <= voucher.bill.cumulative, "{last:?}, {voucher:?}");
                self.change(job, |hosted| hosted.vouchers.push(voucher));
            }
            None => self.change(job, |hosted| hosted.vouchers.push(voucher)),
        }
    }

    fn restore(&self, restore: Restore) -> Response {
        let Restore { job, receipts, more, voucher } = restore;
        assert!(receipts.len() <= MAX_RECEIPTS, "{} receipts in one message", receipts.len());
        self.change(job, |hosted| {
            assert!(hosted.must_restore, "nobody asked for it");
            for signed in receipts {
                let next = hosted.receipts.last().map_or(0, |last| last.receipt.seq + 1);
                if signed.receipt.seq == 0 {
                    hosted.receipts.clear();
                } else {
                    assert_eq!(signed.receipt.seq, next, "in order");
                }
                hosted.receipts.push(signed);
            }
            hosted.must_restore = more || hosted.is_forgetful;
        });
        if let Some(voucher) = voucher {
            assert!(!more, "its receipt comes first");
            self.take_voucher(job, voucher);
        }
        self.state(job, None)
    }

    fn order(&self, order: Order) -> Response {
        let job = order.job;
        let closes_for = self.change(job, |hosted| {
            hosted.orders.push(order);
            hosted.closes_for.take()
        });
        if let Some(paid) = closes_for {
            self.chain.close(job, paid);
        }
        self.state(job, None)
    }

    fn state(&self, job: JobId, head: Option<u32>) -> Response {
        let books = self.books();
        let hosted = &books.jobs[&job];
        let after = |signed: &&SignedReceipt| head.is_none_or(|head| signed.receipt.seq > head);
        let mut receipts: Vec<_> = hosted.receipts.iter().filter(after).copied().collect();
        let more = receipts.len() > MAX_RECEIPTS;
        receipts.truncate(MAX_RECEIPTS);
        if hosted.must_restore {
            receipts.clear();
        }
        let mut state = State {
            job,
            revision: hosted.revision,
            phase: if self.chain.is_closed(job) { JobPhase::Closed } else { JobPhase::Running },
            urls: BTreeMap::from([(80, "http://127.0.0.1:8080".to_owned())]),
            receipts,
            more,
            restore: hosted.must_restore,
            acked: None,
            deposit: TokenAmount::ZERO,
            paid: TokenAmount::ZERO,
            owed: TokenAmount::ZERO,
            runway: Seconds(0),
            note: hosted.note.clone(),
        };
        if let Some(lie) = &books.lie {
            lie(&mut state);
        }
        Response::State(Box::new(state))
    }
}
