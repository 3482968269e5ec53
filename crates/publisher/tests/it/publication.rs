//! Which job a request stands for: what was interrupted is found again, and nothing is opened twice.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use roadstead_crypto::EncryptionSecret;
use roadstead_journal::StateFolder;
use roadstead_publisher::{
    Deal, Keys, Publication, SealedWorkload, Wish, find_live, find_publication, publish,
};
use roadstead_types::{
    BundledContainer, ChunkKey, ChunkRef, Container, Contracts, ImageId, ImageReference, JobPlan,
    Market, Resources, Seconds, Token, Workload,
    content::{DAG_PB, content_id},
};
use tempfile::TempDir;

use crate::world::{DOMAIN, OPENED, World, amount, wallet};

/// A publisher with a request.
struct Desk {
    world: World,
    keys: Keys,
    sealed: SealedWorkload,
    deal: Deal,
    _home: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let deal = Deal {
            provider: wallet(9).address(),
            signer: wallet(2).address(),
            deposit: amount(1_000),
            prices: Resources::from_fn(|_| 7),
            interval: Seconds(10),
            start_fee: amount(0),
            notice: Seconds(3_600),
            window: Seconds(0),
            salt: 0,
            source: "http://127.0.0.1:1".into(),
        };
        Self {
            world: World::new().await,
            keys: Keys::load_or_create(&folder).unwrap(),
            sealed: SealedWorkload { workload: workload("hello"), images: Vec::new() },
            deal,
            _home: home,
        }
    }

    async fn find(&self, another: bool) -> Publication {
        let ports = self.world.publisher();
        find_publication(&ports, &self.keys, &self.sealed, &self.deal, another).await.unwrap()
    }

    async fn new_salt(&self, another: bool) -> u64 {
        match self.find(another).await {
            Publication::New { salt } => salt,
            found => panic!("{found:?}"),
        }
    }

    /// Prepares what is asked for now.
    async fn prepare(&self, salt: u64) -> JobPlan {
        let deal = Deal { salt, ..self.deal.clone() };
        let key = EncryptionSecret::generate().public_key();
        let ports = self.world.publisher();
        let prepared = publish(&ports, &self.keys, &market(), &self.sealed, &key, &deal).await;
        prepared.unwrap().plan
    }

    fn open(&self, plan: &JobPlan) {
        assert_eq!(self.world.chain.open(&plan.terms, plan.deposit, OPENED), plan.key.job);
    }
}

fn workload(name: &str) -> Workload<BundledContainer> {
    let index = ChunkRef {
        digest: B256::repeat_byte(1),
        key: ChunkKey::new([2; 32]),
        length: 100,
        raw_length: 100,
    };
    let image = ImageReference {
        root: content_id(DAG_PB, B256::repeat_byte(3)),
        index,
        index_digest: B256::repeat_byte(4),
        image: ImageId(B256::repeat_byte(5)),
    };
    let container = Container {
        name: "service".into(),
        command: None,
        args: None,
        env: BTreeMap::new(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: vec![8080],
        stop_grace_period: Seconds(10),
    };
    Workload {
        name: name.into(),
        containers: vec![BundledContainer { image, container }],
        reservation: Resources { cpu: 100, memory: 16, ..Resources::default() },
        pids_limit: 16,
    }
}

fn market() -> Market {
    Market {
        devnet: true,
        chain_id: DOMAIN.chain,
        genesis: B256::ZERO,
        rpc: vec!["http://127.0.0.1:1".into()],
        contracts: Contracts { registry: Address::ZERO, payment: DOMAIN.contract },
        token: Token { address: Address::ZERO, symbol: "RTD".into(), decimals: 6 },
        from_block: 0,
        confirmations: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_is_one_job_until_that_is_over() {
    let desk = Desk::new().await;
    let salt = desk.new_salt(false).await;
    assert_eq!(desk.new_salt(false).await, salt);
    let plan = desk.prepare(salt).await;
    assert_eq!(desk.find(false).await, Publication::Prepared(Box::new(plan.clone())));
    desk.open(&plan);
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(plan.clone())));
    desk.world.chain.give_notice(&plan.terms);
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(plan.clone())));

    desk.world.chain.close(plan.key.job, amount(0));
    let next = desk.new_salt(false).await;
    assert_ne!(next, salt);
    let second = desk.prepare(next).await;
    assert_ne!(second.key.job, plan.key.job);
    assert_eq!(desk.find(false).await, Publication::Prepared(Box::new(second)));
}

#[tokio::test(start_paused = true)]
async fn another_one_is_a_job_of_its_own_and_is_found_again_as_well() {
    let desk = Desk::new().await;
    let first = desk.prepare(desk.new_salt(false).await).await;
    // Nothing lives yet, so the one that was prepared is the one that is meant.
    assert_eq!(desk.find(true).await, Publication::Prepared(Box::new(first.clone())));
    desk.open(&first);
    let second = desk.prepare(desk.new_salt(true).await).await;
    assert_eq!(desk.find(true).await, Publication::Prepared(Box::new(second.clone())));
    desk.open(&second);
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(first.clone())));
    desk.world.chain.close(first.key.job, amount(0));
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(second)));
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_changed_is_prepared_anew_and_a_job_that_lives_stays_the_one() {
    let mut desk = Desk::new().await;
    let salt = desk.new_salt(false).await;
    let plan = desk.prepare(salt).await;
    desk.deal.prices = Resources::from_fn(|_| 8);
    assert_eq!(desk.new_salt(false).await, salt, "the request is the same");
    let dearer = desk.prepare(salt).await;
    assert_eq!(desk.find(false).await, Publication::Prepared(Box::new(dearer)));
    desk.deal.source = "http://127.0.0.1:2".into();
    assert_eq!(desk.new_salt(false).await, salt);
    // The first was opened all the same, by other means.
    desk.open(&plan);
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(plan)));
}

#[tokio::test(start_paused = true)]
async fn another_request_is_another_job() {
    let mut desk = Desk::new().await;
    let salt = desk.new_salt(false).await;
    let plan = desk.prepare(salt).await;
    desk.open(&plan);
    let changes: [fn(&mut Desk); 6] = [
        |desk| desk.sealed.workload = workload("other"),
        |desk| desk.sealed.workload.containers[0].image.image = ImageId(B256::ZERO),
        |desk| desk.deal.signer = wallet(7).address(),
        |desk| desk.deal.interval = Seconds(20),
        |desk| desk.deal.notice = Seconds(7_200),
        |desk| desk.deal.start_fee = amount(1),
    ];
    let mut salts = vec![salt];
    for change in changes {
        let before = (desk.sealed.clone(), desk.deal.clone());
        change(&mut desk);
        salts.push(desk.new_salt(false).await);
        (desk.sealed, desk.deal) = before;
    }
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 7);
    // Another provider is found by its name in the terms.
    let provider = std::mem::replace(&mut desk.deal.provider, wallet(8).address());
    assert_eq!(desk.find(false).await, Publication::New { salt });
    desk.deal.provider = provider;
    assert_eq!(desk.find(false).await, Publication::Live(Box::new(plan)));
}

#[tokio::test(start_paused = true)]
async fn a_salt_says_nothing_to_whoever_lacks_the_secret() {
    let (one, other) = (Desk::new().await, Desk::new().await);
    assert_ne!(one.new_salt(false).await, other.new_salt(false).await);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lives_is_found_without_naming_its_provider() {
    let desk = Desk::new().await;
    let ports = desk.world.publisher();
    let live = async |provider| {
        let wish = Wish { provider, ..Wish::from(&desk.deal) };
        find_live(&ports, &desk.keys, &desk.sealed, &wish).await.unwrap()
    };
    let first = desk.prepare(desk.new_salt(false).await).await;
    assert_eq!(live(None).await, None, "it is only prepared");
    desk.open(&first);
    assert_eq!(live(None).await, Some(first.clone()));
    assert_eq!(live(Some(desk.deal.provider)).await, Some(first.clone()));
    assert_eq!(live(Some(wallet(8).address())).await, None);
    desk.world.chain.close(first.key.job, amount(0));
    assert_eq!(live(None).await, None);
    let second = desk.prepare(desk.new_salt(false).await).await;
    desk.open(&second);
    assert_eq!(live(None).await, Some(second));
}
