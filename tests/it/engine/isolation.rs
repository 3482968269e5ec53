//! What an instance must not see, reach or become.

use std::{fs, io::Write, os::fd::AsRawFd, process::Command};

use super::{
    fixture::{Kind, container_of, refusal, with_embedded, with_engine},
    image::{Tar, TestImage},
};
use crate::command::binary;

#[test]
fn it_has_no_capability_and_can_gain_none() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "").await;
        // Not by a shell, which sets its own signals.
        let command = ["cat", "/proc/self/status"].map(str::to_owned).to_vec();
        container_of(&mut spec).command = Some(command);
        let (_, said) = fixture.run_spec(&spec).await;
        let value = |key: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {said}")).trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".to_owned(), "2".to_owned()));
        // Docker names root's own group once more.
        let groups = if fixture.is(Kind::Embedded) { "" } else { "0" };
        assert_eq!(value("Groups:"), groups, "no group of the engine's user");
        assert_eq!(value("SigIgn:"), "0000000000000000", "no signal is ignored from the start");
    });
}

#[test]
fn nothing_of_the_engines_own_process_is_passed_on() {
    with_embedded(async |fixture| {
        let first = "umask 077; export OWN=1; \
                     exec env --ignore-signal --block-signal setpriv --groups 4,20";
        fixture.reopen_after(first).await;
        let mut spec = fixture.script(&TestImage::busybox(), "").await;
        let command = ["cat", "/proc/self/status"].map(str::to_owned).to_vec();
        container_of(&mut spec).command = Some(command);
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "the shim hears of the end: {said}");
        let none = "0000000000000000";
        let (blocked, ignored) = (format!("SigBlk:\t{none}"), format!("SigIgn:\t{none}"));
        for line in ["Groups:\t ", &blocked, &ignored, "Umask:\t0022"] {
            assert!(said.lines().any(|known| known == line), "{line:?} is missing in {said}");
        }
        assert!(!fixture.run("env").await.1.contains("OWN"));
        fixture.reopen().await;
        fixture.start("sleep 600").await;
        let environment = fs::read(format!("/proc/{}/environ", fixture.shims()[0])).unwrap();
        assert_eq!(String::from_utf8_lossy(&environment), "", "of the shim");
    });
}

#[test]
fn privileged_calls_are_refused() {
    with_engine(async |fixture| {
        let (denied, read_only) = ("Operation not permitted", "Read-only file system");
        for (attempt, refusal) in [
            ("mount -t tmpfs none /tmp", "permission denied"),
            ("umount /proc", denied),
            ("unshare -n true", denied),
            ("unshare -Ur true", denied),
            ("mknod /tmp/zero c 1 5", denied),
            ("mknod /dev/own b 8 0", denied),
            ("hostname other", denied),
            ("ip link set lo down", denied),
            ("echo 1 > /proc/sys/kernel/panic", read_only),
            // Where it is not refused, it only prints a help. Not every kernel has it.
            (
                "echo h > /proc/sysrq-trigger",
                if fs::exists("/proc/sysrq-trigger").unwrap() { read_only } else { "nonexistent" },
            ),
            ("echo 1 > /sys/kernel/profiling", read_only),
            ("ping -c 1 127.0.0.1", "permission denied"),
            ("chmod 777 /proc/1", denied),
        ] {
            let (status, said) = fixture.run(attempt).await;
            assert_ne!(status, Some(0), "{attempt}: {said}");
            assert!(said.to_lowercase().contains(&refusal.to_lowercase()), "{attempt}: {said}");
        }
    });
}

#[test]
fn it_sees_only_itself() {
    with_engine(async |fixture| {
        let secrets = ["kcore", "kpageflags", "slabinfo", "vmallocinfo", "interrupts"];
        let sizes = secrets.map(|name| format!("wc -c 2>&1 < /proc/{name};")).concat();
        // Each part after a line of its own; what is listed is counted by the shell itself.
        let script = format!(
            "echo $$; set -- /proc/[0-9]*; echo $#; set -- /proc/self/fd/*; echo $#; \
             set -- /sys/fs/cgroup/*; echo \"$*\"; \
             echo routes; cat /proc/net/route; echo devices; cat /proc/net/dev; \
             echo sizes; {sizes} echo groups; cat /proc/self/cgroup /proc/self/mountinfo"
        );
        let (_, said) = fixture.run(&script).await;
        let part = |from: &str, to: &str| {
            let (_, rest) = said.split_once(from).unwrap();
            rest.split_once(to).unwrap().0.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        // The first process alone; its standard streams and the folder that is being listed; nothing.
        let first: Vec<_> = said.lines().take(4).collect();
        assert_eq!(first, ["1", "1", "4", "/sys/fs/cgroup/*"], "{said}");
        if fixture.is(Kind::Embedded) {
            assert_eq!(part("routes\n", "devices\n").len(), 1, "a heading alone: {said}");
            let devices = part("devices\n", "sizes\n");
            assert!(devices.len() == 3 && devices[2].contains(" lo:"), "{said}");
        }
        for size in part("sizes\n", "groups\n") {
            assert!(size == "0" || size.contains("no such file"), "{size}: {said}");
        }
        // Docker mounts the files of its names from the engine's folder, which its list of mounts says.
        let names = |line: &&str| fixture.is(Kind::Docker) && line.contains("/engine/names/");
        let (mounted, rest): (Vec<_>, Vec<_>) = said.lines().partition(names);
        assert_eq!(mounted.len(), if fixture.is(Kind::Docker) { 3 } else { 0 }, "{said}");
        let rest = rest.join("\n");
        assert!(!rest.contains("roadstead-"), "no name of the machine: {rest}");
        assert!(!rest.contains(&fixture.folder().display().to_string()), "{rest}");
    });
}

#[test]
fn no_descriptor_is_passed_on() {
    with_engine(async |fixture| {
        let (_, said) = fixture.run("exec ls /proc/self/fd").await;
        // The fourth is the folder that is being listed.
        assert_eq!(said, "0\n1\n2\n3\n");
    });
}

#[test]
fn set_user_id_is_taken_off() {
    with_embedded(async |fixture| {
        let busybox = std::fs::read("/bin/busybox").unwrap();
        let image = TestImage::with(Tar::new().file("bin/su", 0o6755, busybox));
        let script = "stat -c %a /bin/su; stat -f -c %t / > /dev/null; grep ' / ' /proc/mounts";
        let mut spec = fixture.script(&image, script).await;
        container_of(&mut spec).user = Some("web".to_owned());
        let (_, said) = fixture.run_spec(&spec).await;
        assert!(said.starts_with("755\n"), "{said}");
        assert!(said.contains("nosuid") && said.contains("nodev"), "{said}");
    });
}

#[test]
fn set_user_id_gains_nothing() {
    with_engine(async |fixture| {
        let busybox = std::fs::read("/bin/busybox").unwrap();
        let image = TestImage::with(Tar::new().file("srv/id", 0o6755, busybox));
        let mut spec = fixture.script(&image, "exec /srv/id -u").await;
        container_of(&mut spec).user = Some("web".to_owned());
        assert_eq!(fixture.run_spec(&spec).await, (Some(0), "33\n".to_owned()));
    });
}

#[test]
fn a_link_in_the_image_does_not_lead_to_the_machines_files() {
    with_engine(async |fixture| {
        // The engine itself reads and writes these before the container runs.
        let image = TestImage::with(
            Tar::new()
                .symlink("etc/passwd", "/proc/self/root/etc/passwd")
                .symlink("etc/hosts", "../../../../../../../../etc/roadstead-test")
                .symlink("data", "/../../../../../../tmp"),
        );
        let mut spec = fixture.script(&image, "cat /etc/hosts; pwd").await;
        container_of(&mut spec).working_dir = Some("/data/roadstead-made".to_owned());
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("localhost"), "{said}");
        assert!(!std::path::Path::new("/etc/roadstead-test").exists());
        assert!(!std::path::Path::new("/tmp/roadstead-made").exists());
        container_of(&mut spec).user = Some("daemon".to_owned());
        assert!(fixture.engine().apply(&spec).await.is_err(), "a user of the machine");
    });
}

#[test]
fn no_descriptor_leads_out_of_the_root() {
    with_engine(async |fixture| {
        let numbers = 3..=if fixture.is(Kind::Embedded) { 64 } else { 12 };
        let links = numbers.clone().fold(Tar::new(), |tar, number| {
            let target = format!("/proc/self/fd/{number}");
            tar.folder(&target[1..], 0o755).symlink(&format!("link{number}"), &target)
        });
        let spec = fixture.script(&TestImage::with(links), "echo out").await;
        for number in numbers {
            let folder = format!("/proc/self/fd/{number}");
            let mut at_once = spec.clone();
            container_of(&mut at_once).working_dir = Some(folder.clone());
            let mut by_link = spec.clone();
            container_of(&mut by_link).working_dir = Some(format!("/link{number}"));
            let mut program = spec.clone();
            let path = format!("{folder}/../../../../../../../bin/busybox");
            container_of(&mut program).command =
                Some([&path, "echo", "out"].map(str::to_owned).to_vec());
            for spec in [at_once, by_link, program] {
                let started = fixture.engine().apply(&spec).await;
                assert!(started.is_err(), "{:?}", spec.containers[0].1);
            }
        }
    });
}

#[test]
fn a_link_where_something_is_mounted_is_refused() {
    with_embedded(async |fixture| {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("ptmx"), "of the machine").unwrap();
        let target = outside.path().to_str().unwrap();
        for place in ["dev", "proc", "sys", "dev/pts", "dev/shm"] {
            for target in [target.to_owned(), format!("../../../../../..{target}")] {
                let name = outside.path().strip_prefix("/").unwrap().to_str().unwrap();
                let layer = Tar::new().folder(name, 0o755).symlink(place, &target);
                let spec = fixture.script(&TestImage::with(layer), "true").await;
                let reason = refusal(fixture.engine().apply(&spec).await);
                assert!(reason.contains(place) && reason.contains("no folder"), "{reason}");
            }
        }
        let left = fs::read_dir(outside.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["ptmx"]);
    });
}

#[test]
fn the_program_that_a_container_comes_from_cannot_be_written() {
    with_embedded(async |fixture| {
        // Its own, which nobody runs when the instance is gone.
        let copy = fixture.folder().with_file_name("copy");
        fs::copy(binary(), &copy).unwrap();
        fixture.reopen_after(&format!("exec {} \"$@\"; :", copy.display())).await;
        let id = fixture.start("sleep 600").await;
        // As the container's first process has it before its program starts.
        let kept = fs::File::open(format!("/proc/{}/exe", fixture.shims()[0])).unwrap();
        fixture.engine().remove(&id).await.unwrap();
        fixture.until(async || fixture.shims().is_empty().then_some(())).await;
        let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let opened = fs::File::options().write(true).open(path);
        let written = opened.and_then(|mut program| program.write_all(b"other"));
        assert!(written.is_err());
        assert!(fs::read(&copy).unwrap() == fs::read(binary()).unwrap());
    });
}

#[test]
fn what_the_machine_unmounts_is_not_held() {
    with_embedded(async |fixture| {
        let shared = fixture.folder().with_file_name("shared");
        let inner = shared.join("inner");
        fs::create_dir(&shared).unwrap();
        let run = |line: &str| {
            let done =
                Command::new("sh").args(["-ec", line]).arg("sh").args([&shared, &inner]).status();
            assert!(done.unwrap().success(), "{line}");
        };
        run("mount -t tmpfs shared $1; mount --make-shared $1; mkdir $2; mount -t tmpfs inner $2");
        fixture.start("sleep 600").await;
        let mounts = format!("/proc/{}/mountinfo", fixture.shims()[0]);
        let shims = || fs::read_to_string(&mounts).unwrap();
        let held_before = shims().contains(inner.to_str().unwrap());
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        run("umount $2");
        let held = shims().contains(inner.to_str().unwrap());
        run("umount $1");
        assert!(held_before && !held);
        assert!(!host.contains("overlay roadstead"), "what the shim mounts is seen outside");
        assert!(shims().contains("overlay roadstead"));
    });
}

#[test]
fn what_a_shim_keeps_for_itself_is_not_swapped_out() {
    with_embedded(async |fixture| {
        fixture.start("sleep 600").await;
        let shim = fixture.shims()[0];
        let mounts = fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap();
        let private = mounts.lines().find(|line| line.contains("/private ")).unwrap();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let can = (parts.next().unwrap(), parts.next().unwrap()) >= (6, 4);
        assert_eq!(private.contains("noswap"), can, "{private}");
        let name = fs::read_to_string(format!("/proc/{shim}/comm")).unwrap();
        assert_eq!(name, "roadstead\n");
    });
}
