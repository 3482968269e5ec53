use super::*;
use crate::fixture::World;

/// What the provider asks from now on is more than the job pays.
async fn dearer(world: &mut World) {
    world.offer.prices.memory = u128::MAX;
    world.restarts().await;
}

#[tokio::test]
async fn a_job_that_ran_is_not_judged_again_though_nothing_of_it_is_left_at_the_engine() {
    let mut world = World::new().await;
    world.deploy().await;
    world.at(0).await;
    world.at(61).await;
    world.loses_instance().await;
    dearer(&mut world).await;
    world.deploy().await;
    assert_eq!(world.engine.starts(&world.id()), 2);
    // What fails then is tried again.
    world.loses_instance().await;
    world.engine.refuse("its program is missing");
    let failed = world.host.deploy(&world.order(), false).await.unwrap_err();
    assert!(matches!(failed, DeployError::Adopt(_)), "{failed:?}");
    assert_eq!(failed.refusal(), None);
}

#[tokio::test]
async fn a_job_that_never_ran_is_judged_by_what_is_asked_now() {
    for is_prepared in [false, true] {
        let mut world = World::new().await;
        if is_prepared {
            world.deploy_up_to_the_start().await;
            world.loses_instance().await;
        }
        dearer(&mut world).await;
        let failed = world.host.deploy(&world.order(), false).await.unwrap_err();
        assert!(matches!(failed.refusal(), Some(Refusal::Price { .. })), "{failed:?}");
    }
}
