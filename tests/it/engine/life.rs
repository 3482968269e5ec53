//! Starting, ending and everything between, as the port says.

use std::collections::BTreeSet;

use roadstead_core::ports::{EngineError, FreezeReason, Phase, Usage};
use roadstead_types::{Seconds, SecretText};
use serde_json::json;

use super::{
    fixture::{container_of, refusal, spec, with_engine},
    image::{TestImage, busybox},
};

#[test]
fn an_instance_is_started_once_and_anew_when_it_has_ended() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let spec = fixture.script(&TestImage::busybox(), "echo once; sleep 600").await;
        assert_eq!(engine.observe(&spec.id).await.unwrap(), None);
        let observation = engine.apply(&spec).await.unwrap();
        assert_eq!(observation.phase, Phase::Running);
        fixture.says(&spec.id, "once").await;
        assert_eq!(engine.apply(&spec).await.unwrap(), observation);
        assert_eq!(fixture.said(&spec.id).await, "once\n");
        assert_eq!(engine.instances().await.unwrap(), [spec.id]);

        let ends = super::fixture::spec();
        let mut ends =
            roadstead_core::ports::InstanceSpec { containers: spec.containers.clone(), ..ends };
        container_of(&mut ends).command =
            Some(["sh", "-c", "echo x; exit 3"].map(str::to_owned).to_vec());
        engine.apply(&ends).await.unwrap();
        let ended = fixture.ended(&ends.id).await;
        assert_eq!(ended, Phase::Exited { status: Some(3), out_of_memory: Some(false) });
        assert!(fixture.observe(&ends.id).await.ports.is_empty());
        engine.apply(&ends).await.unwrap();
        fixture.ended(&ends.id).await;
        assert_eq!(fixture.said(&ends.id).await, "x\n", "the new start begins with nothing");
    });
}

#[test]
fn the_status_is_what_a_shell_would_say() {
    with_engine(async |fixture| {
        assert_eq!(fixture.run("exit 7").await.0, Some(7));
        assert_eq!(fixture.run("sh -c 'kill -9 $$'; exit $?").await.0, Some(137));
        assert_eq!(fixture.run("true").await.0, Some(0));
    });
}

#[test]
fn a_program_that_is_not_there_cannot_be_started_and_leaves_nothing() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let mut spec = fixture.script(&TestImage::busybox(), "").await;
        for program in ["nothing", "/bin/nothing", "/etc", "/etc/passwd"] {
            container_of(&mut spec).command = Some(vec![program.to_owned()]);
            let said = refusal(engine.apply(&spec).await);
            assert!(said.contains(program), "{said}");
            assert_eq!(engine.observe(&spec.id).await.unwrap(), None);
            fixture.assert_nothing_left();
        }
        container_of(&mut spec).command = None;
        let image = TestImage::new(vec![busybox()], &json!({}));
        spec.containers[0].0 = image.key(super::fixture::TENANT);
        engine.prepare(&spec.containers[0].0, &image).await.unwrap();
        let result = engine.apply(&spec).await;
        assert!(matches!(result, Err(EngineError::BadImage { .. })), "{result:?}");
        fixture.assert_nothing_left();
    });
}

#[test]
fn what_is_asked_for_and_cannot_be_done_is_refused() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let good = fixture.script(&TestImage::busybox(), "sleep 600").await;
        let mut two = good.clone();
        two.containers.push(two.containers[0].clone());
        let mut none = good.clone();
        none.limits.pids = 0;
        let mut named = good.clone();
        container_of(&mut named).name = "../x".to_owned();
        let mut ports = good.clone();
        container_of(&mut ports).ports = vec![0];
        for spec in [two, spec(), none, named, ports] {
            let result = engine.apply(&spec).await;
            assert!(matches!(result, Err(EngineError::Unsupported { .. })), "{result:?}");
        }
        fixture.assert_nothing_left();
    });
}

#[test]
fn the_container_gets_its_command_environment_folder_and_name() {
    with_engine(async |fixture| {
        let config = json!({"Entrypoint": ["sh", "-c"], "Env": ["A=image", "B=image"], "WorkingDir": "/made/here"});
        let image = TestImage::new(vec![busybox()], &config);
        let mut spec = fixture.script(&image, "").await;
        let container = container_of(&mut spec);
        container.command = None;
        container.args =
            Some(vec!["pwd; env; hostname; cat /etc/hosts /etc/resolv.conf".to_owned()]);
        container.env = [("B".to_owned(), SecretText::new("own = text".to_owned()))].into();
        container.name = "web-1".to_owned();
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "{said}");
        let lines: BTreeSet<_> = said.lines().collect();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        for line in ["/made/here", "A=image", "B=own = text", path, "HOME=/root", "web-1"] {
            assert!(lines.contains(line), "{line} is missing in {said}");
        }
        // To itself it is at its own address, which is no other with an engine that forwards.
        assert!(said.lines().any(|line| line.starts_with("127.0.0.1\tlocalhost")), "{said}");
        let own =
            |line: &str| line.starts_with(|c: char| c.is_ascii_digit()) && line.ends_with("web-1");
        assert!(said.lines().any(own), "{said}");
        assert!(!said.contains("CARGO"), "nothing of the machine's environment: {said}");
    });
}

#[test]
fn users_are_looked_up_in_the_image() {
    with_engine(async |fixture| {
        let image = TestImage::busybox();
        let mut spec =
            fixture.script(&image, "id -u; id -g; id -G; echo $HOME; echo to > /dev/stdout").await;
        for (user, said) in [
            (None, "0\n0\n0\n/root\nto\n"),
            (Some("web"), "33\n34\n34 60\n/srv\nto\n"),
            (Some("33:5"), "33\n5\n5\n/srv\nto\n"),
            (Some("1234:log"), "1234\n60\n60\n/\nto\n"),
        ] {
            container_of(&mut spec).user = user.map(str::to_owned);
            assert_eq!(fixture.run_spec(&spec).await, (Some(0), said.to_owned()), "{user:?}");
        }
        container_of(&mut spec).user = Some("nobody-knows".to_owned());
        assert!(refusal(fixture.engine().apply(&spec).await).contains("nobody-knows"));
    });
}

#[test]
fn a_request_to_stop_is_honoured_and_not_waited_for_for_ever() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
        let mut polite = fixture.script(&TestImage::busybox(), script).await;
        // Far longer than the test has.
        container_of(&mut polite).stop_grace_period = Seconds(100_000);
        engine.apply(&polite).await.unwrap();
        fixture.says(&polite.id, "ready").await;
        // Frozen, it could not answer.
        engine.freeze(&polite.id, &[FreezeReason::Debt].into()).await.unwrap();
        assert!(engine.remove(&polite.id).await.unwrap().is_some());

        let script = "trap '' TERM; echo ready; sleep 600";
        let mut deaf = fixture.script(&TestImage::busybox(), script).await;
        container_of(&mut deaf).stop_grace_period = Seconds(1);
        engine.apply(&deaf).await.unwrap();
        fixture.says(&deaf.id, "ready").await;
        assert!(engine.remove(&deaf.id).await.unwrap().is_some());
        assert_eq!(engine.remove(&deaf.id).await.unwrap(), None, "once more");
        fixture.assert_nothing_left();
    });
}

#[test]
fn the_image_names_the_signal() {
    with_engine(async |fixture| {
        let config = json!({"Cmd": ["sh"], "StopSignal": "SIGUSR1"});
        let image = TestImage::new(vec![busybox()], &config);
        let script = "trap 'exit 0' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let mut spec = fixture.script(&image, script).await;
        container_of(&mut spec).stop_grace_period = Seconds(100_000);
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "ready").await;
        assert!(fixture.engine().remove(&spec.id).await.unwrap().is_some());
    });
}

#[test]
fn an_instance_is_frozen_while_there_is_a_reason() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let id = fixture.start("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done").await;
        fixture.says(&id, "\n2\n").await;
        let phase = async || fixture.observe(&id).await.phase;
        let freeze = async |reasons: &[FreezeReason]| {
            engine.freeze(&id, &reasons.iter().copied().collect()).await.unwrap();
        };
        freeze(&[FreezeReason::Debt, FreezeReason::Idle]).await;
        assert_eq!(phase().await, Phase::Frozen);
        freeze(&[FreezeReason::Idle]).await;
        assert_eq!(phase().await, Phase::Frozen);
        let before = engine.usage(&id).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(engine.usage(&id).await.unwrap().cpu, before.cpu, "it does nothing");
        freeze(&[]).await;
        assert_eq!(phase().await, Phase::Running);
        let said = fixture.said(&id).await.len();
        fixture.until(async || (fixture.said(&id).await.len() > said).then_some(())).await;
    });
}

#[test]
fn what_is_not_there_is_absent() {
    with_engine(async |fixture| {
        let (engine, id) = (fixture.engine(), spec().id);
        assert!(engine.observe(&id).await.unwrap().is_none());
        assert!(matches!(engine.usage(&id).await, Err(EngineError::Absent { .. })));
        assert!(matches!(engine.logs(&id, 1).await, Err(EngineError::Absent { .. })));
        let freeze = engine.freeze(&id, &BTreeSet::new()).await;
        assert!(matches!(freeze, Err(EngineError::Absent { .. })));
        assert_eq!(engine.remove(&id).await.unwrap(), None);
        assert!(engine.instances().await.unwrap().is_empty());
    });
}

#[test]
fn usage_grows_and_outlives_the_end_but_not_a_new_start() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        // Waits for its standard input to be readable for ever once it has worked.
        let burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo done; sleep 600";
        let mut spec = fixture.script(&TestImage::busybox(), burn).await;
        engine.apply(&spec).await.unwrap();
        fixture.says(&spec.id, "done").await;
        let usage = engine.usage(&spec.id).await.unwrap();
        assert!(usage.cpu.unwrap() > 0, "{usage:?}");
        fixture.assert_network(usage, 0, 0);
        let last = engine.remove(&spec.id).await.unwrap().unwrap();
        assert!(last.cpu >= usage.cpu, "{last:?} after {usage:?}");

        let burn =
            burn.replace("sleep 600", "trap exit TERM; echo ready; while :; do sleep 0.05; done");
        container_of(&mut spec).command = Some(["sh", "-c", &burn].map(str::to_owned).to_vec());
        engine.apply(&spec).await.unwrap();
        fixture.says(&spec.id, "ready").await;
        let alive = engine.usage(&spec.id).await.unwrap();
        fixture.terminate(&spec.id);
        fixture.ended(&spec.id).await;
        let ended = engine.usage(&spec.id).await.unwrap();
        assert!(ended.cpu >= alive.cpu && alive.cpu > Some(0), "{ended:?} after {alive:?}");
        assert_eq!(engine.usage(&spec.id).await.unwrap(), ended);
        container_of(&mut spec).command = Some(["sleep", "600"].map(str::to_owned).to_vec());
        engine.apply(&spec).await.unwrap();
        let Usage { cpu, .. } = engine.usage(&spec.id).await.unwrap();
        assert!(cpu.unwrap() < ended.cpu.unwrap(), "{cpu:?} after {ended:?}");
    });
}

#[test]
fn output_is_kept_with_a_bound_and_the_newest_of_it() {
    with_engine(async |fixture| {
        let engine = fixture.engine();
        let id = fixture.start("yes 0123456789abcde | head -c 8000000; echo; echo the end").await;
        fixture.ended(&id).await;
        let all = engine.logs(&id, usize::MAX).await.unwrap();
        assert!(all.ends_with(b"\nthe end\n"));
        assert!((1 << 20..3 << 20).contains(&all.len()), "{}", all.len());
        assert_eq!(engine.logs(&id, 4).await.unwrap(), "end\n");
        assert!(engine.logs(&id, 0).await.unwrap().is_empty());
        let id = fixture.start("echo an error >&2").await;
        fixture.ended(&id).await;
        assert_eq!(fixture.said(&id).await, "an error\n");
    });
}
