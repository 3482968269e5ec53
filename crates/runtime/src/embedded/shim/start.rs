//! From an order to a running container.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
};

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, Signal, kill_process, set_dumpable_behavior},
    thread::set_thread_groups,
};
use zeroize::Zeroizing;

use super::{
    ShimError, executor::Launcher, forward, io_failed, network, output, root::Root,
    root::write_private, seccomp::Filters, spec, user,
};
use crate::{
    embedded::{
        control_group::{ControlGroup, Hierarchies},
        order::Order,
        process::ProcessId,
        run::{RunFolder, State},
    },
    files::{failed, read_all},
};

/// The most bytes that a program which does not start may say about that.
const MAX_REFUSAL: u64 = 4_096;

/// How gladly the kernel kills this process where memory is short.
const ADJUSTMENT: &str = "/proc/self/oom_score_adj";

/// A container that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) state: State,
    /// On its first process.
    pub(super) handle: OwnedFd,
    /// Whether the first process is a child of this one, which then must wait for it.
    pub(super) is_child: bool,
    /// With the port of the container that each stands for.
    pub(super) listeners: Vec<(TcpListener, u16)>,
    /// What the container writes.
    pub(super) output: File,
    pub(super) group: ControlGroup,
}

/// Starts what `order` says in `folder`. After an error nothing of it is left but files in `folder`.
pub(super) fn start(folder: &RunFolder, order: &Order) -> Result<Started, ShimError> {
    // The library leaves these to the container where it has none of its own.
    set_thread_groups(&[]).map_err(io_failed("leave the groups"))?;
    let listeners = forward::listen(&order.ports)?;
    let root = Root::mount(&folder.private(), order)?;
    let user = prepare(&root, order)?;
    root.check_mount_points(spec::MOUNT_POINTS)?;
    // The container's first process inherits what is open, and a folder that is leads out of its root.
    let bundle = root.close();
    output::make(folder, user.user, user.group)?;
    let filters = Filters::compile()?;
    let (refusal, refuse) = pipe_with(PipeFlags::CLOEXEC).map_err(io_failed("make a pipe"))?;
    let config = bundle.join("config.json");
    write_private(&config, Zeroizing::new(spec::spec(order, &user).to_string()).as_bytes())?;
    let group = ControlGroup::new(Hierarchies::read()?, &order.control_group);
    let started = build(folder, &bundle, order, Launcher::new(filters, refuse)).and_then(|built| {
        let clean = || {
            // It holds the container's secrets, and nobody reads it again.
            fs::remove_file(&config).map_err(failed("remove", &config))?;
            restore(&built.adjustment)
        };
        run(folder, built.container, clean, refusal, listeners, group.clone())
    });
    if started.is_err() {
        // Nothing of it may wait for ever, and the first error says more than one of these.
        let _ = group.remove();
    }
    started
}

/// Puts into the root what the container expects there.
fn prepare(root: &Root, order: &Order) -> Result<user::User, ShimError> {
    let read = |path: &str| Ok::<_, ShimError>(root.read(path)?.unwrap_or_default());
    let user = user::find(&order.user, &read("/etc/passwd")?, &read("/etc/group")?)?;
    root.make_folder(&order.working_dir)?;
    let host = &order.hostname;
    root.replace("/etc", "hostname", &format!("{host}\n"))?;
    let hosts = format!("127.0.0.1\tlocalhost {host}\n::1\tlocalhost {host}\n");
    root.replace("/etc", "hosts", &hosts)?;
    // No name server is within reach. A missing file would mean one at the loopback address.
    root.replace("/etc", "resolv.conf", "# This container reaches no name server.\n")?;
    Ok(user)
}

fn build(
    folder: &RunFolder,
    bundle: &Path,
    order: &Order,
    launcher: Launcher,
) -> Result<Built, ShimError> {
    let state = bundle.join("state");
    fs::create_dir(&state).map_err(failed("create", &state))?;
    let null = Path::new("/dev/null");
    let stdin = File::open(null).map_err(failed("open", null))?;
    let adjustment = Path::new(ADJUSTMENT);
    let adjustment = fs::read(adjustment).map_err(failed("read", adjustment))?;
    let container = ContainerBuilder::new(order.id.clone(), SyscallType::default())
        .with_root_path(state)?
        .with_executor(launcher)
        .with_stdin(stdin)
        .with_stdout(output::open_for_container(folder)?)
        .with_stderr(output::open_for_container(folder)?)
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .build()?;
    Ok(Built { container, adjustment })
}

/// A container that waits, and what the library changed of this process while it made it.
struct Built {
    container: Container,
    adjustment: Vec<u8>,
}

/// Makes this process what it was before the library changed it together with the container.
fn restore(adjustment: &[u8]) -> Result<(), ShimError> {
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(io_failed("be dumpable again"))?;
    let path = Path::new(ADJUSTMENT);
    Ok(fs::write(path, adjustment).map_err(failed("write", path))?)
}

/// Starts a container that waits. After an error, that of `clean` too, its process is gone.
fn run(
    folder: &RunFolder,
    mut container: Container,
    clean: impl FnOnce() -> Result<(), ShimError>,
    refusal: OwnedFd,
    listeners: Vec<(TcpListener, u16)>,
    group: ControlGroup,
) -> Result<Started, ShimError> {
    let number = container.pid().and_then(|number| Pid::from_raw(number.as_raw()));
    let gone = || io_failed("watch the container")(io::Error::from(io::ErrorKind::NotFound));
    let number = number.ok_or_else(gone)?;
    let done = (|| {
        clean()?;
        let init = ProcessId::of(number).ok_or_else(gone)?;
        let handle = init.open().map_err(io_failed("watch the container"))?.ok_or_else(gone)?;
        network::enter(init)?;
        network::bring_loopback_up().map_err(io_failed("bring the loopback device up"))?;
        let output = output::open(folder)?;
        let cpu_at_start = group.cpu().ok_or_else(|| {
            io_failed("read the control group")(io::Error::from(io::ErrorKind::NotFound))
        })?;
        container.start()?;
        let said = read_all(File::from(refusal), MAX_REFUSAL);
        let said = said.map_err(io_failed("wait for the program"))?;
        if !said.is_empty() {
            return Err(ShimError::cannot_start(String::from_utf8_lossy(&said)));
        }
        let state = State { init, cpu_at_start, ports: forward::addresses(&listeners)? };
        folder.write_state(&state)?;
        Ok(Started { state, handle, is_child: true, listeners, output, group })
    })();
    if done.is_err() {
        // It is our child, so the number still means it.
        let _ = kill_process(number, Signal::KILL);
        let _ = rustix::process::waitpid(Some(number), rustix::process::WaitOptions::empty());
    }
    done
}
