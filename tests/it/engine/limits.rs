//! What an instance may use at most.

use roadstead_core::ports::Phase;
use rustix::process::{Resource, getrlimit};

use super::{
    fixture::{Kind, container_of, with_embedded, with_engine},
    image::TestImage,
};

#[test]
fn a_memory_bomb_is_killed_and_reported() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "").await;
        // The end of a file without lines is the whole file.
        let bomb = ["tail", "-n", "1", "/dev/zero"].map(str::to_owned).to_vec();
        container_of(&mut spec).command = Some(bomb);
        spec.limits.memory = 32;
        fixture.engine().apply(&spec).await.unwrap();
        let ended = fixture.ended(&spec.id).await;
        assert_eq!(ended, Phase::Exited { status: Some(137), out_of_memory: Some(true) });
    });
}

#[test]
fn a_fork_bomb_is_held() {
    with_engine(async |fixture| {
        let many = "1 ".repeat(200);
        let script = format!("(for i in {many}; do sleep 600 & done); echo held; exec sleep 600");
        let mut spec = fixture.script(&TestImage::busybox(), &script).await;
        spec.limits.pids = 20;
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "held").await;
        assert!(fixture.said(&spec.id).await.contains("can't fork"));
        let peak: u64 = fixture.group_file(&spec.id, "pids.current").unwrap().parse().unwrap();
        assert!(peak <= 20, "{peak}");
        assert_eq!(fixture.group_file(&spec.id, "pids.max").unwrap(), "20");
    });
}

#[test]
fn a_full_storage_is_no_space_left() {
    with_embedded(async |fixture| {
        let script = "dd if=/dev/zero of=/srv/fill bs=1M count=64; echo status $?; \
                      stat -c %s /srv/fill; echo still here";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        spec.limits.storage = 8;
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
        assert!(said.contains("still here"), "{said}");
        let written = said.lines().find_map(|line| line.parse::<u64>().ok()).unwrap();
        assert!(written <= 8 << 20, "{written}");
    });
}

#[test]
fn storage_does_not_take_from_memory() {
    with_engine(async |fixture| {
        let script = "dd if=/dev/zero of=/srv/fill bs=1M count=30 && echo written && sleep 600";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        (spec.limits.memory, spec.limits.storage) = (16, 32);
        fixture.engine().apply(&spec).await.unwrap();
        fixture.says(&spec.id, "written").await;
    });
}

#[test]
fn the_kernel_is_told_the_limits() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "sleep 600").await;
        (spec.limits.cpu, spec.limits.memory, spec.limits.storage) = (250, 48, 16);
        fixture.engine().apply(&spec).await.unwrap();
        let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        // With the embedded engine what is written counts as memory.
        let memory = if fixture.is(Kind::Embedded) { 48 + 16_u64 } else { 48 };
        let memory = (memory << 20).to_string();
        let read = |file: &str| fixture.group_file(&spec.id, file).unwrap();
        if unified {
            assert_eq!(read("cpu.max"), "25000 100000");
            assert_eq!((read("memory.max"), read("memory.swap.max")), (memory, "0".to_owned()));
        } else {
            let cpu = (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"));
            assert_eq!(cpu, ("25000".to_owned(), "100000".to_owned()));
            assert_eq!(read("memory.limit_in_bytes"), memory);
            // Not every kernel counts swap.
            let swap = fixture.group_file(&spec.id, "memory.memsw.limit_in_bytes");
            assert!(swap.is_none_or(|swap| swap == memory));
        }
    });
}

#[test]
fn a_process_dumps_no_memory_and_gets_little_of_what_users_share() {
    with_engine(async |fixture| {
        let (_, said) = fixture.run("cat /proc/self/limits").await;
        let own = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(1 << 20);
        let files = format!("{:<26}{:<21}{own} ", "Max open files", own.min(1 << 16));
        // Docker may not be able to raise its own limit.
        assert!(said.contains(&files) || fixture.is(Kind::Docker), "{files:?}: {said}");
        for (limit, most) in [
            ("Max core file size", "1"),
            ("Max msgqueue size", "262144"),
            ("Max pending signals", "1024"),
            ("Max locked memory", "65536"),
        ] {
            let line = said.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
            let hard = line.split_whitespace().nth(1);
            assert_eq!(hard, Some(most), "{limit}: {said}");
        }
    });
}

#[test]
fn a_flood_of_output_keeps_the_shim_from_nothing() {
    with_embedded(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "exec cat /dev/zero").await;
        container_of(&mut spec).ports = vec![80];
        fixture.engine().apply(&spec).await.unwrap();
        let shim = fixture.shims()[0];
        let read = || {
            let text = std::fs::read_to_string(format!("/proc/{shim}/io")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
            line.unwrap().parse::<u64>().unwrap()
        };
        let (before, start) = (read(), std::time::Instant::now());
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let copied = read() - before;
        // Of a second that has begun, too.
        let most = (start.elapsed().as_secs() + 2) * (5 << 20);
        assert!(copied > 1 << 20 && copied < most, "{copied}");
    });
}

#[test]
fn a_root_that_is_only_read_cannot_be_written() {
    with_engine(async |fixture| {
        let script =
            "echo x > /srv/x; echo $?; echo x > /tmp/x; echo $?; echo x > /dev/shm/x; echo $?";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        container_of(&mut spec).read_only = true;
        let (_, said) = fixture.run_spec(&spec).await;
        let statuses: Vec<_> = said.lines().filter(|line| line.len() == 1).collect();
        assert_eq!(statuses, ["1", "1", "0"], "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
    });
}
