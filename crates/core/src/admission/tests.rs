use alloy_primitives::{Address, B256};
use proptest::prelude::*;
use roadstead_types::{
    BundledContainer, ChunkKey, ChunkRef, Container, ImageId, ImageReference, Start, Workload,
    content,
};

use super::*;

fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

fn terms() -> Terms {
    Terms {
        publisher: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        signer: Address::repeat_byte(3),
        // Exactly what the bundle below costs: 3600 x (100 x 10^9 + 64 x 10^8) / 10^12, rounded up.
        rate_per_hour: amount(384),
        start_fee: amount(0),
        notice: Seconds::from_hours(1),
        window: Seconds(0),
        salt: 0,
        bundle: B256::ZERO,
    }
}

fn bundle() -> Bundle {
    let index =
        ChunkRef { digest: B256::ZERO, key: ChunkKey::new([0; 32]), length: 1, raw_length: 1 };
    let image = ImageReference {
        root: content::content_id(content::DAG_PB, B256::ZERO),
        index,
        index_digest: B256::ZERO,
        image: ImageId(B256::ZERO),
    };
    let container = Container {
        name: "web".into(),
        command: None,
        args: None,
        env: Default::default(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: vec![8080],
        stop_grace_period: Seconds(10),
    };
    Bundle {
        version: BUNDLE_VERSION,
        workload: Workload {
            name: "web".into(),
            containers: vec![BundledContainer { image, container }],
            reservation: Resources {
                cpu: 100,
                memory: 64,
                storage: 16,
                network_in: 1,
                network_out: 1,
                accelerator: 0,
            },
            pids_limit: 64,
        },
        sources: vec!["https://blocks.example".into()],
        interval: Seconds(60),
        prices: Resources { cpu: 1_000_000_000, memory: 100_000_000, ..Default::default() },
        start: Start::AtOnce,
    }
}

fn offer() -> Offer {
    Offer {
        prices: Resources { cpu: 1_000_000_000, memory: 100_000_000, ..Default::default() },
        capacity: Resources {
            cpu: 1_000,
            memory: 512,
            storage: 512,
            network_in: 1,
            network_out: 1,
            accelerator: 0,
        },
        interval: (Seconds(2), Seconds(3_600)),
        notice: Seconds::from_hours(1),
        image_size: 1 << 30,
        settle: SettlePolicy { value: TokenAmount::MAX, age: Seconds(60) },
        grace: Seconds(60),
        silence: Seconds(60),
    }
}

const CAPABLE: Capabilities = Capabilities {
    containers: 1,
    freezes: true,
    limits_compute: true,
    limits_storage: true,
    meters_cpu: true,
    meters_network: true,
};

/// Two intervals of 60 s at 384 an hour.
const DEPOSIT: u128 = 13;

fn judge(terms: &Terms, bundle: &Bundle) -> Result<(), Refusal> {
    admit(terms, amount(DEPOSIT), bundle, &offer(), &CAPABLE, &Resources::default())
}

/// What becomes of a bundle after a change.
fn changed(change: impl FnOnce(&mut Bundle)) -> Result<(), Refusal> {
    let mut bundle = bundle();
    change(&mut bundle);
    judge(&terms(), &bundle)
}

#[test]
fn what_fits_exactly_is_taken() {
    assert_eq!(judge(&terms(), &bundle()), Ok(()));
}

#[test]
fn only_as_many_containers_are_taken_as_the_engine_runs() {
    let none = changed(|bundle| bundle.workload.containers.clear());
    assert_eq!(none, Err(Refusal::Containers { found: 0, max: 1 }));
    let two = changed(|bundle| bundle.workload.containers.extend_from_within(..));
    assert_eq!(two, Err(Refusal::Containers { found: 2, max: 1 }));
}

#[test]
fn spans_are_bounded_on_both_sides() {
    for (interval, is_taken) in [(1, false), (2, true), (3_600, true), (3_601, false)] {
        let mut bundle = bundle();
        bundle.interval = Seconds(interval);
        let deposit = amount(1_000);
        let judged = admit(&terms(), deposit, &bundle, &offer(), &CAPABLE, &Resources::default());
        assert_eq!(judged.is_ok(), is_taken, "{interval}: {judged:?}");
        assert!(is_taken || matches!(judged, Err(Refusal::Span { .. })));
    }
    let short = Terms { notice: Seconds(3_599), ..terms() };
    assert!(matches!(judge(&short, &bundle()), Err(Refusal::Span { what: "notice", .. })));
}

#[test]
fn senseless_values_are_refused() {
    let port = changed(|bundle| bundle.workload.containers[0].container.ports = vec![0]);
    let Err(Refusal::Senseless { reason }) = port else { panic!("{port:?}") };
    assert!(reason.starts_with("containers[0].ports: "), "{reason}");
    for sources in [vec![String::new(); 9], vec!["x".repeat(257)]] {
        let judged = changed(|bundle| bundle.sources = sources);
        assert!(matches!(judged, Err(Refusal::Senseless { .. })), "{judged:?}");
    }
}

#[test]
fn what_nobody_enforces_or_meters_is_refused() {
    let paying = |change: fn(&mut Resources<u128>)| {
        let mut bundle = bundle();
        change(&mut bundle.prices);
        bundle
    };
    let (plain, network) = (bundle(), paying(|prices| prices.network_in = 1));
    let unlimited = Capabilities { limits_compute: false, ..CAPABLE };
    let boundless = Capabilities { limits_storage: false, ..CAPABLE };
    let unfreezable = Capabilities { freezes: false, ..CAPABLE };
    let blind = Capabilities { meters_cpu: false, ..CAPABLE };
    let deaf = Capabilities { meters_network: false, ..CAPABLE };
    for (capabilities, bundle) in [
        (unlimited, &plain),
        (boundless, &plain),
        (unfreezable, &plain),
        (blind, &plain),
        (deaf, &network),
        (CAPABLE, &paying(|prices| prices.accelerator = 1)),
    ] {
        let terms = Terms { rate_per_hour: TokenAmount::MAX, ..terms() };
        let deposit = TokenAmount::MAX;
        let used = Resources::default();
        let judged = admit(&terms, deposit, bundle, &offer(), &capabilities, &used);
        assert!(matches!(judged, Err(Refusal::Incapable { .. })), "{capabilities:?}: {judged:?}");
    }
}

#[test]
fn what_others_use_is_not_given_twice() {
    let judge = |used| {
        admit(&terms(), amount(DEPOSIT), &bundle(), &offer(), &CAPABLE, &used).map_err(|refusal| {
            let Refusal::NoRoom { resource, wanted, free } = refusal else { panic!("{refusal:?}") };
            (resource, wanted, free)
        })
    };
    let used = |cpu, memory| Resources { cpu, memory, ..Default::default() };
    assert_eq!(judge(used(900, 448)), Ok(()));
    assert_eq!(judge(used(901, 0)), Err((Resource::Cpu, 100, 99)));
    assert_eq!(judge(used(0, u64::MAX)), Err((Resource::Memory, 64, 0)));
}

#[test]
fn the_money_must_suffice() {
    let cheap = changed(|bundle| bundle.prices.cpu -= 1);
    assert!(matches!(cheap, Err(Refusal::Price { resource: Resource::Cpu, .. })));
    let slow = Terms { rate_per_hour: amount(383), ..terms() };
    let needed = amount(384);
    assert_eq!(judge(&slow, &bundle()), Err(Refusal::Rate { rate: slow.rate_per_hour, needed }));
    let deposit = amount(DEPOSIT - 1);
    let poor = admit(&terms(), deposit, &bundle(), &offer(), &CAPABLE, &Resources::default());
    assert_eq!(poor, Err(Refusal::Deposit { deposit, needed: amount(DEPOSIT) }));
    let dear = changed(|bundle| bundle.prices.cpu = u128::MAX);
    assert!(matches!(dear, Err(Refusal::Rate { .. })), "{dear:?}");
}

proptest! {
    #[test]
    fn a_job_that_was_taken_can_pay_for_what_it_reserves(
        cpu in 1u64..2_000,
        price in 0u128..5_000_000_000,
        rate in 0u128..50_000,
        deposit in 0u128..2_000,
        interval in 1u32..4_000,
    ) {
        let mut bundle = bundle();
        bundle.workload.reservation.cpu = cpu;
        bundle.prices.cpu = price;
        bundle.interval = Seconds(interval);
        let terms = Terms { rate_per_hour: amount(rate), ..terms() };
        let used = Resources::default();
        if admit(&terms, amount(deposit), &bundle, &offer(), &CAPABLE, &used).is_ok() {
            prop_assert!(cpu <= 1_000);
            prop_assert!(price >= 1_000_000_000);
            let hourly = (u128::from(cpu) * price + 64 * 100_000_000) * 3_600;
            prop_assert!(rate * 1_000_000_000_000 >= hourly);
            let two_intervals = hourly * u128::from(interval) * 2;
            prop_assert!(deposit * 3_600_000_000_000_000 >= two_intervals);
        }
    }
}
