//! Deaths of the engine and of shims, at bad moments.

use std::{collections::BTreeSet, time::Duration};

use roadstead_core::ports::{FreezeReason, Phase};
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    fixture::{Fixture, address, container_of, with_embedded, with_engine},
    image::TestImage,
};

#[test]
fn a_new_engine_finds_the_instance_and_what_it_used() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "nc -ll -p 80 -e cat").await;
        container_of(&mut spec).ports = vec![80];
        let before = fixture.engine().apply(&spec).await.unwrap();
        echo(fixture, address(&before)).await;
        let usage = fixture.engine().usage(&spec.id).await.unwrap();
        fixture.reopen().await;
        assert_eq!(fixture.engine().instances().await.unwrap(), [spec.id]);
        assert_eq!(fixture.observe(&spec.id).await, before);
        assert_eq!(fixture.engine().apply(&spec).await.unwrap(), before);
        let after = fixture.engine().usage(&spec.id).await.unwrap();
        fixture.assert_network(after, 5, 5);
        assert!(after.cpu >= usage.cpu);
        echo(fixture, address(&before)).await;
    });
}

async fn echo(fixture: &Fixture, at: std::net::SocketAddr) {
    let mut stream = fixture.connect(at).await;
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn reasons_to_be_frozen_outlive_the_engine() {
    with_engine(async |fixture| {
        let id = fixture.start("sleep 600").await;
        fixture.engine().freeze(&id, &[FreezeReason::Debt].into()).await.unwrap();
        fixture.reopen().await;
        assert_eq!(fixture.observe(&id).await.phase, Phase::Frozen);
        fixture.engine().freeze(&id, &BTreeSet::new()).await.unwrap();
        assert_eq!(fixture.observe(&id).await.phase, Phase::Running);
    });
}

#[test]
fn a_reason_that_was_only_written_down_is_obeyed() {
    with_engine(async |fixture| {
        let id = fixture.start("sleep 600").await;
        // The engine writes reasons first; so a crash leaves them without the deed.
        let path = fixture.reasons_file(&id);
        fixture.engine().freeze(&id, &[FreezeReason::Debt].into()).await.unwrap();
        let reasons = std::fs::read(&path).unwrap();
        fixture.engine().freeze(&id, &BTreeSet::new()).await.unwrap();
        std::fs::write(&path, reasons).unwrap();
        fixture.reopen().await;
        assert_eq!(fixture.observe(&id).await.phase, Phase::Frozen);
    });
}

#[test]
fn an_instance_goes_on_without_its_shim_and_gets_a_new_one() {
    with_embedded(async |fixture| {
        let script = "trap 'echo asked; exit 5' TERM; echo ready; nc -ll -p 80 -e cat & \
                      while :; do sleep 0.05; done";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        container_of(&mut spec).ports = vec![80];
        let before = fixture.engine().apply(&spec).await.unwrap();
        echo(fixture, address(&before)).await;
        fixture.says(&spec.id, "ready").await;
        fixture.kill_shim().await;
        assert_eq!(fixture.observe(&spec.id).await, before, "at the same address");
        assert_eq!(fixture.shims().len(), 1);
        echo(fixture, address(&before)).await;
        let usage = fixture.engine().usage(&spec.id).await.unwrap();
        assert_eq!((usage.network_in, usage.network_out), (Some(10), Some(10)));
        assert_eq!(fixture.said(&spec.id).await, "ready\n");
    });
}

#[test]
fn how_it_ended_is_known_where_the_kernel_can_tell() {
    with_embedded(async |fixture| {
        let id = fixture
            .start("echo ready; while ! test -e /srv/end; do sleep 0.05; done; exit 9")
            .await;
        fixture.says(&id, "ready").await;
        fixture.kill_shim().await;
        fixture.observe(&id).await;
        assert_eq!(fixture.shims().len(), 1);
        kill_process(fixture.first_process(&id), Signal::KILL).unwrap();
        let Phase::Exited { status, .. } = fixture.ended(&id).await else { unreachable!() };
        let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let tells = (parts.next().unwrap(), parts.next().unwrap()) >= (6, 15);
        assert!(status == Some(137) || !tells && status.is_none(), "{status:?}");
        assert!(fixture.engine().usage(&id).await.unwrap().cpu.is_some());
    });
}

#[test]
fn an_instance_that_ended_without_its_shim_has_its_last_readings() {
    with_embedded(async |fixture| {
        let burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo done; sleep 600";
        let id = fixture.start(burn).await;
        fixture.says(&id, "done").await;
        let before = fixture.engine().usage(&id).await.unwrap();
        let first = fixture.first_process(&id);
        fixture.kill_shim().await;
        kill_process(first, Signal::KILL).unwrap();
        let Phase::Exited { status, out_of_memory } = fixture.ended(&id).await else { panic!() };
        assert!(matches!(status, None | Some(137)), "{status:?}");
        assert_eq!(out_of_memory, Some(false));
        let after = fixture.engine().usage(&id).await.unwrap();
        assert!(after.cpu >= before.cpu && before.cpu > Some(0), "{after:?} after {before:?}");
    });
}

#[test]
fn an_instance_without_a_shim_is_removed_like_any_other() {
    with_embedded(async |fixture| {
        let id = fixture.start("echo ready; sleep 600").await;
        fixture.says(&id, "ready").await;
        fixture.engine().freeze(&id, &[FreezeReason::Idle].into()).await.unwrap();
        fixture.kill_shim().await;
        assert!(fixture.engine().remove(&id).await.unwrap().is_some());
        fixture.assert_nothing_left();
    });
}

#[test]
fn a_start_that_was_killed_leaves_nothing_behind() {
    with_embedded(async |fixture| {
        // Killed at whatever point it has come to, again and again; the same points each time.
        let mut random = 0x5eed_u64;
        for round in 0..16 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let delay = Duration::from_millis(round * 6 + (random >> 33) % 6);
            let spec = fixture.script(&TestImage::busybox(), "sleep 600").await;
            let kill = async {
                let shim = fixture.until(async || fixture.shims().first().copied()).await;
                tokio::time::sleep(delay).await;
                let _ = kill_process(shim, Signal::KILL);
            };
            let (started, ()) = tokio::join!(fixture.engine().apply(&spec), kill);
            if started.is_err() {
                fixture.assert_nothing_left();
            }
            fixture.engine().apply(&spec).await.unwrap();
            fixture.engine().remove(&spec.id).await.unwrap();
            fixture.assert_nothing_left();
        }
    });
}
