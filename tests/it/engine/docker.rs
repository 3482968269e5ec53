//! What is Docker's alone.

use std::time::Duration;

use roadstead_core::ports::{Engine, EngineError, Phase, Usage};
use roadstead_runtime::DockerEngine;
use serde_json::json;
use tar::EntryType;
use tokio::time::timeout;

use super::{
    dockerd,
    fixture::{TENANT, container_of, spec, with_docker},
    image::{Tar, TestImage, busybox},
};

#[tokio::test]
async fn a_daemon_that_is_not_there_is_an_error_that_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("engine");
    let missing = home.path().join("missing.sock");
    let deaf = home.path().join("deaf.sock");
    drop(std::os::unix::net::UnixListener::bind(&deaf).unwrap());
    let socket = |path: &std::path::Path| format!("unix://{}", path.display());
    for (host, expected) in [
        (socket(&missing), "missing.sock"),
        (socket(&deaf), "cannot be reached"),
        ("ssh://host".to_owned(), "ssh://host is neither"),
        ("tcp://192.0.2.1:2375".to_owned(), "tcp://192.0.2.1:2375 is no address of this machine"),
    ] {
        let error = DockerEngine::open_at(&folder, &host).await.unwrap_err();
        assert!(matches!(error, EngineError::Unusable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("start Docker's daemon"), "{text}");
        assert!(!folder.exists(), "{host}: nothing is made");
    }
}

#[test]
fn engines_that_share_a_daemon_do_not_see_each_other() {
    with_docker(async |fixture| {
        let image = TestImage::busybox();
        let id = fixture.start("sleep 600").await;
        let folder = fixture.folder().with_file_name("other");
        let other = DockerEngine::open(&folder).await.unwrap();
        assert!(other.instances().await.unwrap().is_empty());
        assert!(other.images().await.unwrap().is_empty());
        assert_eq!(other.observe(&id).await.unwrap(), None);
        assert_eq!(other.remove(&id).await.unwrap(), None);
        other.remove_image(&image.key(TENANT)).await.unwrap();
        let started = other.apply(&fixture.script(&image, "sleep 600").await).await;
        assert!(matches!(started, Err(EngineError::NotPrepared { .. })), "{started:?}");
        // What it opens with is a look for what is left, too.
        drop(DockerEngine::open(&folder).await.unwrap());
        assert_eq!(fixture.observe(&id).await.phase, Phase::Running);
        assert_eq!(fixture.engine().images().await.unwrap(), [image.key(TENANT)]);
    });
}

#[test]
fn a_layer_is_not_to_be_had_by_its_digest_alone() {
    with_docker(async |fixture| {
        let engine = fixture.engine();
        let image = TestImage::with(Tar::new().file("secret", 0o600, "of a tenant"));
        engine.prepare(&image.key(TENANT), &image).await.unwrap();
        // Docker has these layers, and would make an image of them without a look at the bytes.
        let thief = alloy_primitives::Address::repeat_byte(0xbb);
        let forged = image.forged();
        let result = engine.prepare(&forged.key(thief), &forged).await;
        assert!(matches!(result, Err(EngineError::Image(_))), "{result:?}");
        assert_eq!(engine.images().await.unwrap(), [image.key(TENANT)]);
        fixture.assert_layers(2).await;
        engine.prepare(&image.key(thief), &image).await.unwrap();
        engine.remove_image(&image.key(TENANT)).await.unwrap();
        assert_eq!(engine.images().await.unwrap(), [image.key(thief)]);
    });
}

#[test]
fn storage_is_bounded() {
    with_docker(async |fixture| {
        let script = "for i in 1 2 3 4 5; do dd if=/dev/zero of=/srv/$i bs=1M count=4; done; \
                      echo written; sleep 600";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        spec.limits.storage = 8;
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "written").await;
        // Where its storage has quotas Docker itself refused what is beyond.
        if !fixture.said(&spec.id).await.contains("No space left on device") {
            let ended = fixture.ended(&spec.id).await;
            assert_eq!(ended, Phase::Exited { status: Some(137), out_of_memory: Some(false) });
        }
        let script = "dd if=/dev/zero of=/srv/fill bs=1M count=64; echo status $?; \
                      stat -c %s /srv/fill";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        spec.limits.storage = 8;
        let (_, said) = fixture.run_spec(&spec).await;
        let written = said.lines().find_map(|line| line.parse::<u64>().ok()).unwrap();
        assert!(written <= 8 << 20, "{said}");
    });
}

#[test]
fn the_image_has_no_say_in_how_docker_runs_it() {
    with_docker(async |fixture| {
        let config = json!({
            "Cmd": ["sh"],
            "Healthcheck": {"Test": ["CMD", "touch", "/srv/healthy"], "Interval": 1_000_000_000},
            "Labels": {"roadstead.engine": "other", "own": "label"},
            "Volumes": {"/srv/data": {}},
            "ExposedPorts": {"80/tcp": {}},
        });
        let image = TestImage::new(vec![busybox()], &config);
        let spec = fixture.script(&image, "sleep 600").await;
        fixture.engine().apply(&spec).await.unwrap();
        let container = dockerd::container(&fixture.name(), &spec.id);
        let format = "{{len .Mounts}} {{json .Config.Healthcheck}} {{json .Config.Labels}}";
        let shown = dockerd::run(&["inspect", "--format", format, &container]);
        // Those of its names.
        assert!(shown.starts_with("3 null "), "{shown}");
        assert!(!shown.contains("other") && !shown.contains("own"), "{shown}");
    });
}

#[test]
fn what_a_crash_left_half_made_goes_when_the_engine_opens() {
    with_docker(async |fixture| {
        let id = fixture.start("sleep 600").await;
        let (name, image) = (fixture.name(), TestImage::busybox());
        let (engine, half) = (format!("roadstead.engine={name}"), spec().id);
        let instance = format!("roadstead.instance={half}");
        let tag = dockerd::run(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            &format!("label={engine}"),
        ]);
        let network = format!("{name}-{half}");
        let labels = ["--label", &engine, "--label", &instance];
        let run = |before: &[&str], after: &[&str]| {
            dockerd::run(&[before, &labels[..], after].concat());
        };
        run(&["network", "create", "--internal"], &[&network]);
        run(&["run", "--detach", "--network", &network], &[&tag, "sleep", "600"]);
        // Of the instance that runs, too: another start that came to nothing.
        let instance = format!("roadstead.instance={id}");
        dockerd::run(&["create", "--label", &engine, "--label", &instance, &tag, "sleep", "600"]);
        assert_eq!(dockerd::containers(&name).lines().count(), 3);
        fixture.reopen().await;
        assert_eq!(fixture.engine().instances().await.unwrap(), [id]);
        assert_eq!(dockerd::containers(&name), dockerd::container(&name, &id));
        assert_eq!(dockerd::networks(&name).lines().count(), 1);
        assert_eq!(fixture.observe(&id).await.phase, Phase::Running);
        assert_eq!(fixture.engine().images().await.unwrap(), [image.key(TENANT)]);
    });
}

#[test]
fn a_container_that_somebody_removed_has_ended_and_keeps_its_readings() {
    with_docker(async |fixture| {
        let burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo done; sleep 600";
        let mut spec = fixture.script(&TestImage::busybox(), burn).await;
        container_of(&mut spec).ports = vec![80];
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "done").await;
        let before = fixture.engine().usage(&spec.id).await.unwrap();
        assert!(before.cpu > Some(0));
        dockerd::run(&["rm", "--force", &dockerd::container(&fixture.name(), &spec.id)]);
        let observed = fixture.observe(&spec.id).await;
        assert_eq!(observed.phase, Phase::Exited { status: None, out_of_memory: None });
        assert!(observed.ports.is_empty());
        let Usage { cpu, .. } = fixture.engine().usage(&spec.id).await.unwrap();
        assert_eq!(cpu, before.cpu);
        assert!(fixture.engine().logs(&spec.id, 100).await.unwrap().is_empty());
        assert_eq!(fixture.engine().apply(&spec).await.unwrap().phase, Phase::Running);
        dockerd::run(&["rm", "--force", &dockerd::container(&fixture.name(), &spec.id)]);
        assert!(fixture.engine().remove(&spec.id).await.unwrap().is_some());
    });
}

#[test]
fn a_crash_at_any_step_of_a_start_or_a_removal_is_put_right() {
    with_docker(async |fixture| {
        let spec = fixture.script(&TestImage::busybox(), "echo ready; sleep 600").await;
        let mut random = 0x5eed_u64;
        for round in 0..10 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let delay = Duration::from_millis(round * 90 + (random >> 33) % 90);
            // All that the engine does ends with its runtime, wherever it has come to.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (folder, spec_there) = (fixture.folder(), spec.clone());
            let work = runtime.spawn(async move {
                let engine = DockerEngine::open(folder).await.unwrap();
                if engine.instances().await.unwrap().is_empty() {
                    engine.apply(&spec_there).await.map(drop)
                } else {
                    engine.remove(&spec_there.id).await.map(drop)
                }
            });
            let _ = timeout(delay, work).await;
            runtime.shutdown_background();
            fixture.reopen().await;
            let known = fixture.engine().instances().await.unwrap();
            let observed = fixture.engine().observe(&spec.id).await.unwrap();
            assert_eq!(known.len(), usize::from(observed.is_some()), "{round}");
            fixture.engine().apply(&spec).await.unwrap();
            fixture.says(&spec.id, "ready").await;
            assert_eq!(fixture.observe(&spec.id).await.phase, Phase::Running);
            if round % 2 == 0 {
                assert!(fixture.engine().remove(&spec.id).await.unwrap().is_some());
                fixture.assert_nothing_left();
            }
        }
    });
}

#[test]
fn images_that_would_hang_docker_or_be_unpacked_by_it_are_refused() {
    with_docker(async |fixture| {
        let (char, block) = (EntryType::Char, EntryType::Block);
        let pipe = Tar::new().node("etc/passwd", EntryType::Fifo, (0, 0));
        let device = Tar::new().node("etc/passwd", block, (8, 0));
        let by_link = Tar::new().node("dev/own", char, (5, 1)).symlink("etc/passwd", "/dev/own");
        let attribute = Tar::new().attribute("trusted.overlay.redirect", "/").folder("x", 0o755);
        for bad in [pipe, device, by_link, attribute] {
            let image = TestImage::with(bad);
            let result = fixture.engine().prepare(&image.key(TENANT), &image).await;
            assert!(matches!(result, Err(EngineError::BadImage { .. })), "{result:?}");
        }
        // A name by which a whole tar is something compressed to whoever looks at its first bytes.
        let gzip: &[u8] = &[0x1f, 0x8b, 8, 4];
        for name in [gzip, b"BZh9", b"P*M\x18"] {
            let layer = Tar::new().entry(name, EntryType::Regular, "", 0o644, b"").bytes();
            let image = TestImage::new(vec![busybox(), layer], &json!({"Cmd": ["sh"]}));
            let result = fixture.engine().prepare(&image.key(TENANT), &image).await;
            assert!(
                matches!(&result, Err(EngineError::BadImage { reason }) if reason.contains("compressed")),
                "{result:?}"
            );
        }
        assert!(fixture.engine().images().await.unwrap().is_empty());
    });
}

#[test]
fn an_image_of_a_whole_system_runs() {
    with_docker(async |fixture| {
        let layer = Tar::new()
            .node("dev/console", EntryType::Char, (5, 1))
            .node("dev/sda", EntryType::Block, (8, 0))
            .symlink("dev/fd", "/proc/self/fd");
        let mut spec = fixture.script(&TestImage::with(layer), "ls /dev; id -u").await;
        container_of(&mut spec).user = Some("web".to_owned());
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.ends_with("33\n") && !said.contains("sda"), "{said}");
    });
}

#[test]
fn a_container_cannot_write_what_docker_gives_it() {
    with_docker(async |fixture| {
        let script = "for f in /etc/hosts /etc/hostname /etc/resolv.conf; do \
                      echo more >> $f && echo written; mount -o remount,rw $f && echo mounted; \
                      rm $f && echo removed; done; grep -c ' /etc/.* ro,' /proc/mounts";
        let (status, said) = fixture.run(script).await;
        assert_eq!(status, Some(0), "{said}");
        for done in ["written", "mounted", "removed"] {
            assert!(!said.contains(done), "{said}");
        }
        assert!(said.lines().any(|line| line == "3"), "{said}");
        assert!(fixture.files_of_names().is_empty(), "gone with the instance");
    });
}

#[test]
fn a_damaged_file_of_an_instance_is_about_that_one_alone() {
    with_docker(async |fixture| {
        let damaged = fixture.start("sleep 600").await;
        let whole = fixture.start("sleep 600").await;
        std::fs::write(fixture.reasons_file(&damaged), "{\"image\"").unwrap();
        fixture.reopen().await;
        assert_eq!(fixture.observe(&whole).await.phase, Phase::Running);
        assert!(fixture.engine().observe(&damaged).await.is_err());
        assert_eq!(dockerd::containers(&fixture.name()).lines().count(), 2);
        assert_eq!(fixture.engine().instances().await.unwrap().len(), 2);
        let last = fixture.engine().remove(&damaged).await.unwrap();
        assert_eq!(last, Some(Usage::default()), "nothing of it is known");
        assert_eq!(fixture.engine().instances().await.unwrap(), [whole]);
        assert_eq!(
            dockerd::containers(&fixture.name()),
            dockerd::container(&fixture.name(), &whole)
        );
    });
}

#[test]
fn containers_of_earlier_runs_go_where_one_runs() {
    with_docker(async |fixture| {
        let spec = fixture.script(&TestImage::busybox(), "sleep 600").await;
        fixture.engine().apply(&spec).await.unwrap();
        let (name, running) = (fixture.name(), dockerd::container(&fixture.name(), &spec.id));
        let engine = format!("roadstead.engine={name}");
        let instance = format!("roadstead.instance={}", spec.id);
        let image = dockerd::run(&["inspect", "--format", "{{.Image}}", &running]);
        dockerd::run(&["create", "--label", &engine, "--label", &instance, &image, "sleep", "600"]);
        assert_eq!(dockerd::containers(&name).lines().count(), 2);
        fixture.engine().apply(&spec).await.unwrap();
        assert_eq!(dockerd::containers(&name), running);
    });
}
