//! Work that fails, is given up or is killed when it is half done.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use roadstead_core::ports::{EngineError, Phase, Usage};
use roadstead_types::InstanceId;
use serde_json::json;

use super::{
    fixture::{Fixture, TENANT, container_of, refusal, spec, with_embedded, with_engine},
    image::{Tar, TestImage, busybox},
};
use crate::command::binary;

/// A layer that takes a while.
fn many_files() -> Tar {
    (0..2_000).fold(Tar::new(), |tar, number| tar.file(&format!("n/{number}"), 0o644, "x"))
}

/// Gives up preparing an image some time after its last layer came to its end, or to where it stops.
async fn give_up(fixture: &Fixture, image: &TestImage, after: Duration) {
    let key = image.key(TENANT);
    let last = async {
        image.last.notified().await;
        tokio::time::sleep(after).await;
    };
    tokio::select! {
        biased;
        () = last => {}
        prepared = fixture.engine().prepare(&key, image) => prepared.unwrap(),
    }
}

#[test]
fn an_image_that_is_removed_after_its_preparation_was_given_up_leaves_no_layer() {
    with_engine(async |fixture| {
        let mut image = TestImage::with(many_files());
        for stuck in [Some(1_000_000), None] {
            image.stuck = stuck;
            for delay in [0, 1, 3, 10, 30] {
                give_up(fixture, &image, Duration::from_millis(delay)).await;
                fixture.engine().remove_image(&image.key(TENANT)).await.unwrap();
                fixture.assert_layers(0).await;
            }
        }
        image.stuck = None;
        fixture.engine().prepare(&image.key(TENANT), &image).await.unwrap();
        fixture.assert_layers(2).await;
    });
}

#[test]
fn a_preparation_that_fails_takes_its_layers_along_and_no_others() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let own = Tar::new().file("own", 0o644, "").bytes();
        let bad = Tar::new().file("../x", 0o644, "").bytes();
        let refused = TestImage::new(vec![busybox(), own, bad], &json!({}));
        let result = engine.prepare(&refused.key(TENANT), &refused).await;
        assert!(matches!(result, Err(EngineError::BadImage { .. })), "{result:?}");
        fixture.assert_layers(0).await;

        let plain = TestImage::busybox();
        engine.prepare(&plain.key(TENANT), &plain).await.unwrap();
        let mut damaged = TestImage::with(many_files());
        damaged.damaged = true;
        let result = engine.prepare(&damaged.key(TENANT), &damaged).await;
        assert!(matches!(result, Err(EngineError::Image(_))), "{result:?}");
        fixture.assert_layers(1).await;
    });
}

#[test]
fn layers_of_a_preparation_that_a_crash_ended_go_when_the_engine_opens() {
    with_embedded(async |fixture| {
        let kept = TestImage::busybox();
        fixture.engine().prepare(&kept.key(TENANT), &kept).await.unwrap();
        let top = Tar::new().file("top", 0o644, "").bytes();
        let layers = vec![busybox(), many_files().bytes(), top];
        let mut image = TestImage::new(layers, &json!({}));
        image.stuck = Some(512);
        give_up(fixture, &image, Duration::ZERO).await;
        fixture.until(async || (fixture.half_laid_out() == 0).then_some(())).await;
        fixture.assert_layers(2).await;
        fixture.reopen().await;
        fixture.assert_layers(1).await;
        assert_eq!(fixture.engine().images().await.unwrap(), [kept.key(TENANT)]);
    });
}

/// An instance that has ended, with its status and what it used.
async fn ended(fixture: &Fixture) -> (roadstead_core::ports::InstanceSpec, Phase, Usage) {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; trap 'exit 3' TERM; echo first; \
                  while :; do sleep 0.05; done";
    let spec = fixture.script(&TestImage::busybox(), script).await;
    fixture.engine().apply(&spec).await.unwrap();
    fixture.says(&spec.id, "first").await;
    // An engine may know only what it read before the end.
    fixture.engine().usage(&spec.id).await.unwrap();
    fixture.terminate(&spec.id);
    let phase = fixture.ended(&spec.id).await;
    assert!(matches!(phase, Phase::Exited { status: Some(3), .. }), "{phase:?}");
    let usage = fixture.engine().usage(&spec.id).await.unwrap();
    assert!(usage.cpu > Some(0));
    (spec, phase, usage)
}

async fn assert_as_before(fixture: &Fixture, id: &InstanceId, phase: Phase, usage: Usage) {
    assert_eq!(fixture.engine().instances().await.unwrap(), [*id]);
    assert_eq!(fixture.observe(id).await.phase, phase);
    assert_eq!(fixture.engine().usage(id).await.unwrap(), usage);
    assert_eq!(fixture.said(id).await, "first\n");
}

fn folder_of(fixture: &Fixture, prefix: &str, id: &InstanceId) -> PathBuf {
    fixture.folder().join("instances").join(format!("{prefix}{id}"))
}

#[test]
fn a_new_start_that_fails_leaves_what_is_known_of_the_run_before() {
    with_engine(async |fixture| {
        let (mut spec, phase, usage) = ended(fixture).await;
        let program = container_of(&mut spec).command.replace(vec!["nothing".to_owned()]);
        refusal(fixture.engine().apply(&spec).await);
        assert_as_before(fixture, &spec.id, phase, usage).await;
        let key = spec.containers[0].0;
        assert!(fixture.engine().remove_image(&key).await.is_err(), "it is still used");
        fixture.reopen().await;
        assert_as_before(fixture, &spec.id, phase, usage).await;
        container_of(&mut spec).command = program;
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "first").await;
        assert_eq!(fixture.observe(&spec.id).await.phase, Phase::Running);
    });
}

#[test]
fn a_new_start_that_a_crash_ended_leaves_what_is_known_of_the_run_before() {
    with_embedded(async |fixture| {
        let (mut spec, phase, usage) = ended(fixture).await;
        let key = spec.containers[0].0;
        // Before the new start has begun and when it has.
        let (folder, aside) =
            (folder_of(fixture, "", &spec.id), folder_of(fixture, "ended-", &spec.id));
        for begun in [false, true] {
            fs::rename(&folder, &aside).unwrap();
            if begun {
                fs::create_dir(&folder).unwrap();
            }
            fixture.reopen().await;
            assert!(fixture.engine().remove_image(&key).await.is_err(), "it is still used");
            assert_as_before(fixture, &spec.id, phase, usage).await;
        }
        fs::create_dir(&aside).unwrap();
        container_of(&mut spec).command = Some(vec!["true".to_owned()]);
        fixture.engine().apply(&spec).await.unwrap();
        fixture.ended(&spec.id).await;
        assert!(!aside.exists());
    });
}

#[test]
fn a_removal_that_does_not_come_to_its_end_leaves_no_half_of_an_instance() {
    with_embedded(async |fixture| {
        let (spec, _, usage) = ended(fixture).await;
        let run = |program: &str, arguments: &[&str]| {
            assert!(Command::new(program).args(arguments).status().unwrap().success());
        };
        // A folder with something mounted on it is not removed.
        let private = folder_of(fixture, "", &spec.id).join("private");
        run("mount", &["-t", "tmpfs", "none", private.to_str().unwrap()]);
        let removed = fixture.engine().remove(&spec.id).await;
        let gone = folder_of(fixture, "gone-", &spec.id);
        let there = if gone.exists() { gone.join("private") } else { private };
        let observed = fixture.engine().observe(&spec.id).await;
        run("umount", &[there.to_str().unwrap()]);
        assert_eq!(removed.unwrap(), Some(usage), "whoever removes gets the last readings");
        assert_eq!(observed.unwrap(), None);
        assert!(fixture.engine().instances().await.unwrap().is_empty());
        assert!(gone.exists());
        fixture.reopen().await;
        fixture.assert_nothing_left();
    });
}

#[test]
fn a_start_that_hangs_is_ended_by_a_new_engine() {
    with_embedded(async |fixture| {
        let id = spec().id;
        let folder = folder_of(fixture, "", &id);
        fs::create_dir(&folder).unwrap();
        // It waits for an order that never comes.
        let mut shim = Command::new(binary())
            .args(["__shim", "start", folder.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0];
        std::io::Read::read_exact(shim.stdout.as_mut().unwrap(), &mut said).unwrap();
        fixture.reopen().await;
        let observed = fixture.engine().observe(&id).await;
        // What it held is free before it is gone. Were it not killed, it would wait for ever.
        fixture.until(async || shim.try_wait().unwrap()).await;
        assert_eq!(observed.unwrap(), None);
        fixture.assert_nothing_left();
    });
}
