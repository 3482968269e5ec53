//! Everybody in the registry, and what they say of themselves.

use std::time::Duration;

use alloy_primitives::Address;
use roadstead_core::ports::{ChainError, ChainReader, RegistryEntry};
use roadstead_publisher::{ListedProvider, providers};
use roadstead_types::{PROFILE_VERSION, Profile, Resources};
use tokio::time::Instant;

use crate::{
    link::Fault,
    world::{World, wallet},
};

async fn list(world: &World) -> Vec<ListedProvider> {
    providers(&*world.chain, &*world.link).await.unwrap()
}

fn trouble(listed: &ListedProvider) -> &str {
    assert_eq!(listed.profile, None);
    listed.trouble.as_deref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_is_listed_with_its_offer_and_others_with_why_not() {
    let mut world = World::new().await;
    assert!(list(&world).await.is_empty());
    let profile = Profile {
        version: PROFILE_VERSION,
        region: "by the sea".into(),
        prices: Resources::from_fn(|_| 7),
    };
    let text = serde_json::to_string(&profile).unwrap();
    let good = world.host_as(|host| host.set_profile(&text));
    let away = world.host_as(|host| host.set_profile(&text));
    away.set_up(false);
    let liar = world.host_as(|host| host.set_profile(&text));
    liar.set_profile("{}");
    let broken = wallet(50).address();
    world.chain.register(broken, RegistryEntry::Unusable);

    let listed = list(&world).await;
    let mut accounts: Vec<_> = listed.iter().map(|listed| listed.provider).collect();
    assert!(accounts.is_sorted(), "{accounts:?}");
    accounts.dedup();
    assert_eq!(accounts.len(), 4);
    let of = |account: Address| listed.iter().find(|listed| listed.provider == account).unwrap();
    let found = of(good.wallet.address());
    assert_eq!((found.profile.as_ref(), found.trouble.as_ref()), (Some(&profile), None));
    assert_eq!(found.endpoint, Some(good.endpoint().to_string()));
    assert!(trouble(of(away.wallet.address())).contains("nobody listens there"));
    assert!(trouble(of(liar.wallet.address())).contains("not the one in the registry"));
    assert!(trouble(of(broken)).contains("endpoint"));
    assert_eq!(of(broken).endpoint, None);
}

#[tokio::test(start_paused = true)]
async fn a_registry_of_several_pages_is_read_to_its_end_and_the_silent_hold_nobody_up_for_long() {
    let mut world = World::new().await;
    let silent = world.host();
    for number in 0..250_u64 {
        let account = Address::left_padding_from(&(number + 1).to_be_bytes());
        world.chain.register(account, RegistryEntry::Unusable);
    }
    world.link.spoil([Fault::Hang]);
    let begun = Instant::now();
    let listed = list(&world).await;
    assert_eq!(listed.len(), 251);
    let found = listed.iter().find(|listed| listed.provider == silent.wallet.address()).unwrap();
    assert_eq!(trouble(found), "it did not answer within 5 s");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_the_silent_is_given_up() {
    let mut world = World::new().await;
    let silent = world.host();
    let entry = world.chain.registration(silent.wallet.address()).await.unwrap();
    for number in 0..400_u64 {
        let account = Address::left_padding_from(&(number + 1).to_be_bytes());
        world.chain.register(account, entry.clone());
    }
    world.link.spoil([Fault::Hang; 401]);
    let begun = Instant::now();
    let listed = list(&world).await;
    assert_eq!(listed.len(), 401);
    assert!(begun.elapsed() <= Duration::from_secs(65), "{:?}", begun.elapsed());
    let unasked = listed.iter().filter(|listed| trouble(listed).contains("it was not asked"));
    assert!((100..300).contains(&unasked.count()));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_away_is_an_error_and_no_empty_list() {
    let mut world = World::new().await;
    world.host();
    world.chain.set_lost(true);
    let failed = providers(&*world.chain, &*world.link).await;
    assert!(matches!(failed, Err(ChainError::Rpc { .. })), "{failed:?}");
}
