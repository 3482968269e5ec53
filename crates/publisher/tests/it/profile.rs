//! Profiles, as far as the registry vouches for them.

use roadstead_core::protocol::Denial;
use roadstead_publisher::{ProfileError, provider_profile};
use roadstead_types::{PROFILE_VERSION, Profile, Resources};

use crate::world::{World, wallet};

fn profile() -> Profile {
    let prices = Resources::from_fn(|_| 7);
    Profile { version: PROFILE_VERSION, region: "the shelf below the window".into(), prices }
}

/// Asks a provider whose registered profile is `registered`, and which gives `given`.
async fn ask(registered: &str, given: &str) -> Result<Profile, ProfileError> {
    let mut world = World::new().await;
    let host = world.host_as(|host| host.set_profile(registered));
    host.set_profile(given);
    provider_profile(&world.publisher(), host.wallet.address()).await
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_read_if_it_is_the_registered_one() {
    let text = serde_json::to_string(&profile()).unwrap();
    assert_eq!(ask(&text, &text).await.unwrap(), profile());
    let refused = ask(&text, &text.replace('7', "6")).await;
    assert!(matches!(refused, Err(ProfileError::Differs)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_profile_of_this_version_is_named() {
    let later = r#"{"version":2,"regions":["everywhere"]}"#;
    let refused = ask(later, later).await;
    assert!(matches!(refused, Err(ProfileError::Version { found: 2 })), "{refused:?}");
    let refused = ask("{}", "{}").await;
    assert!(matches!(refused, Err(ProfileError::Malformed(_))), "{refused:?}");
    let huge = " ".repeat((64 << 10) + 1);
    let refused = ask(&huge, &huge).await;
    assert!(matches!(refused, Err(ProfileError::TooLarge { size: 65_537 })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_be_asked_is_named() {
    let mut world = World::new().await;
    let host = world.host();
    let (ports, provider) = (world.publisher(), host.wallet.address());
    host.deny(Some(Denial::Busy));
    let refused = provider_profile(&ports, provider).await;
    assert!(matches!(refused, Err(ProfileError::Denied(Denial::Busy))), "{refused:?}");
    host.set_up(false);
    let refused = provider_profile(&ports, provider).await;
    assert!(matches!(refused, Err(ProfileError::Link(_))), "{refused:?}");
    let refused = provider_profile(&ports, wallet(77).address()).await;
    assert!(matches!(refused, Err(ProfileError::NotRegistered { .. })), "{refused:?}");
}
