//! What an instance must not see, reach or become.

use super::{
    fixture::{container_of, with_engine},
    image::{Tar, TestImage},
};

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
        assert_eq!(value("Groups:"), "", "no group of the engine's user");
        assert_eq!(value("SigIgn:"), "0000000000000000", "no signal is ignored from the start");
    });
}

#[test]
fn privileged_calls_are_refused() {
    with_engine(async |fixture| {
        for attempt in [
            "mount -t tmpfs none /tmp",
            "umount /proc",
            "unshare -n true",
            "unshare -Ur true",
            "mknod /tmp/zero c 1 5",
            "mknod /dev/own b 8 0",
            "hostname other",
            "ip link set lo down",
            "echo 1 > /proc/sys/kernel/panic",
            "echo b > /proc/sysrq-trigger",
            "echo 1 > /sys/kernel/profiling",
            "ping -c 1 127.0.0.1",
            "chmod 777 /proc/1",
        ] {
            let (status, said) = fixture.run(attempt).await;
            assert_ne!(status, Some(0), "{attempt}: {said}");
        }
    });
}

#[test]
fn it_sees_only_itself() {
    with_engine(async |fixture| {
        let script = "echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/self/cgroup; ls /proc/self/fd | wc -l; \
                      cat /proc/net/route; cat /proc/net/dev; ls /sys/fs/cgroup; wc -c < /proc/kcore; cat /proc/self/mountinfo";
        let (_, said) = fixture.run(script).await;
        assert!(said.starts_with("1\n"), "the first process: {said}");
        assert!(!said.contains("roadstead-"), "no name of the machine: {said}");
        assert!(!said.contains("eth0") && said.contains(" lo:"), "{said}");
        assert!(!said.contains(&fixture.folder().display().to_string()), "{said}");
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
    with_engine(async |fixture| {
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
fn a_link_in_the_image_does_not_lead_to_the_machines_files() {
    with_engine(async |fixture| {
        // The engine itself reads and writes these before the container runs.
        let image = TestImage::with(
            Tar::new()
                .symlink("etc/passwd", "/proc/self/root/etc/passwd")
                .symlink("etc/hosts", "../../../../../../../../etc/roadstead-test")
                .symlink("work", "/../../../../../../tmp"),
        );
        let mut spec = fixture.script(&image, "cat /etc/hosts; pwd").await;
        container_of(&mut spec).working_dir = Some("/work/roadstead-made".to_owned());
        let (status, said) = fixture.run_spec(&spec).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("localhost"), "{said}");
        assert!(!std::path::Path::new("/etc/roadstead-test").exists());
        assert!(!std::path::Path::new("/tmp/roadstead-made").exists());
        container_of(&mut spec).user = Some("daemon".to_owned());
        assert!(fixture.engine().apply(&spec).await.is_err(), "a user of the machine");
    });
}
