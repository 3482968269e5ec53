//! Images: kept once for each tenant, whole or not at all.

use alloy_primitives::Address;
use bytes::Bytes;
use roadstead_core::ports::{EngineError, LayerSource};
use serde_json::json;

use super::{
    fixture::{TENANT, with_engine},
    image::{Tar, TestImage, busybox},
};

#[test]
fn an_image_is_kept_once_and_its_layers_are_shared_within_a_tenant() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let (plain, more) =
            (TestImage::busybox(), TestImage::with(Tar::new().file("x", 0o644, "x")));
        let (first, second) = (plain.key(TENANT), more.key(TENANT));
        engine.prepare(&first, &plain).await.unwrap();
        engine.prepare(&first, &plain).await.unwrap();
        engine.prepare(&second, &more).await.unwrap();
        let mut known = engine.images().await.unwrap();
        known.sort_unstable();
        let mut both = [first, second];
        both.sort_unstable();
        assert_eq!(known, both);
        fixture.assert_layers(2).await;
        engine.remove_image(&first).await.unwrap();
        fixture.assert_layers(2).await;
        engine.remove_image(&first).await.unwrap();
        engine.remove_image(&second).await.unwrap();
        fixture.assert_layers(0).await;
        assert!(engine.images().await.unwrap().is_empty());
    });
}

#[test]
fn tenants_share_nothing() {
    with_engine(async |fixture| {
        let (engine, image) = (fixture.engine(), TestImage::busybox());
        let other = Address::repeat_byte(0xbb);
        let mut spec = fixture.script(&image, "sleep 600").await;
        spec.containers[0].0.tenant = other;
        let result = engine.apply(&spec).await;
        assert!(matches!(result, Err(EngineError::NotPrepared { .. })), "{result:?}");
        engine.prepare(&image.key(other), &image).await.unwrap();
        fixture.assert_layers(2).await;
        engine.remove_image(&image.key(TENANT)).await.unwrap();
        engine.apply(&spec).await.unwrap();
    });
}

#[test]
fn an_image_that_is_used_stays() {
    with_engine(async |fixture| {
        let (engine, image) = (fixture.engine(), TestImage::busybox());
        let id = fixture.start("exit 0").await;
        fixture.ended(&id).await;
        assert!(engine.remove_image(&image.key(TENANT)).await.is_err());
        fixture.assert_layers(1).await;
        // Nor does it help that another tenant has it, too.
        let other = image.key(Address::repeat_byte(0xbb));
        engine.prepare(&other, &image).await.unwrap();
        assert!(engine.remove_image(&image.key(TENANT)).await.is_err());
        engine.remove_image(&other).await.unwrap();
        engine.remove(&id).await.unwrap();
        engine.remove_image(&image.key(TENANT)).await.unwrap();
    });
}

#[test]
fn layers_are_laid_over_each_other() {
    with_engine(async |fixture| {
        let base = Tar::new()
            .file("a/gone", 0o644, "below")
            .file("a/kept", 0o644, "below")
            .file("b/gone", 0o644, "below")
            .file("changed", 0o644, "below")
            .bytes();
        let top = Tar::new()
            .file("a/.wh.gone", 0o644, "")
            .file("b/.wh..wh..opq", 0o644, "")
            .file("b/new", 0o644, "above")
            .file("changed", 0o644, "above")
            .bytes();
        let config = json!({"Cmd": ["sh"]});
        // The same layer twice, as builders like to write empty ones.
        let empty = Tar::new().bytes();
        let layers = vec![empty.clone(), busybox(), empty.clone(), base, top, empty];
        let image = TestImage::new(layers, &config);
        let script = "cd /; echo a/* b/*; cat changed; echo";
        let spec = fixture.script(&image, script).await;
        assert_eq!(fixture.run_spec(&spec).await, (Some(0), "a/kept b/new\nabove\n".to_owned()));
    });
}

#[test]
fn many_layers_can_be_mounted() {
    with_engine(async |fixture| {
        let layer = |number: usize| Tar::new().file(&format!("n/{number}"), 0o644, "").bytes();
        let layers: Vec<_> = std::iter::once(busybox()).chain((1..120).map(layer)).collect();
        let image = TestImage::new(layers, &json!({"Cmd": ["sh"]}));
        let spec = fixture.script(&image, "ls /n | wc -l").await;
        assert_eq!(fixture.run_spec(&spec).await, (Some(0), "119\n".to_owned()));
    });
}

#[test]
fn what_is_damaged_or_made_for_others_leaves_nothing() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let config = json!({"Cmd": ["sh"]});
        let mut damaged = TestImage::busybox();
        damaged.damaged = true;
        let result = engine.prepare(&damaged.key(TENANT), &damaged).await;
        assert!(
            matches!(&result, Err(EngineError::Image(error)) if !error.is_retryable()),
            "{result:?}"
        );
        let no_tar = TestImage::new(vec![Bytes::from_static(&[7; 2_000])], &config);
        let outside = TestImage::with(Tar::new().file("../x", 0o644, ""));
        let other = TestImage::for_machine(vec![busybox()], &config, "s390x");
        let empty = TestImage::new(Vec::new(), &config);
        for image in [no_tar, outside, other, empty] {
            let result = engine.prepare(&image.key(TENANT), &image).await;
            assert!(matches!(result, Err(EngineError::BadImage { .. })), "{result:?}");
        }
        let (one, another) = (TestImage::busybox(), TestImage::with(Tar::new()));
        let result = engine.prepare(&one.key(TENANT), &another).await;
        assert!(matches!(result, Err(EngineError::BadImage { .. })), "{result:?}");
        assert!(engine.images().await.unwrap().is_empty());
        assert_ne!(one.image(), another.image());
        // The lower layer of one of them was whole.
        fixture.assert_layers(0).await;
    });
}
