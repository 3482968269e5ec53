//! What is asked of Docker's daemon, and how its answers are read. Any field of an answer may be missing.

use std::{collections::HashMap, env, io, net::IpAddr, time::Duration};

use bollard::{
    Docker,
    errors::Error,
    models::{ContainerCreateBody, ContainerStateStatusEnum, NetworkCreateRequest, SystemInfo},
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
        ListContainersOptions, ListNetworksOptions, LogsOptions, RemoveContainerOptions,
        StatsOptions,
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use roadstead_core::{
    ports::{EngineError, Usage},
    with_causes,
};
use roadstead_types::InstanceId;
use tokio::time::{sleep, timeout};

use super::answers::{docker_failed, is_absent, is_going, said, status};
use crate::work::engine_failed;

/// Labels of whatever an engine makes: its own name, and the instance's id.
pub(super) const ENGINE_LABEL: &str = "roadstead.engine";
pub(super) const INSTANCE_LABEL: &str = "roadstead.instance";

/// Where Docker's daemon listens unless it is told otherwise.
const USUAL_HOST: &str = "unix:///var/run/docker.sock";

/// How long the daemon may take to say what it is.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long it may take for all of an answer that comes in pieces.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How long it may take to do with a container what it has begun to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often that is looked at.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// What to do where Docker is not there.
const HOW_TO_REACH: &str = "start Docker's daemon on this machine and let this user use its socket, or name \
                            the socket in DOCKER_HOST, as in unix:///var/run/docker.sock";

/// The daemon, as one engine sees it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) docker: Docker,
    /// The engine's name.
    pub(super) name: String,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Live { paused: bool, address: Option<IpAddr> },
    Ended { status: Option<i32>, out_of_memory: Option<bool> },
}

/// A container or a network of the engine, with the instance that it names.
pub(super) struct Labelled {
    pub(super) id: String,
    pub(super) instance: Option<InstanceId>,
}

/// The daemon that the environment names, else the one at Docker's usual socket.
#[expect(
    clippy::disallowed_methods,
    reason = "it is Docker's setting, and all its clients find it there"
)]
pub(super) fn usual_host() -> String {
    let named = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    named.unwrap_or_else(|| USUAL_HOST.to_owned())
}

/// Connects to the daemon at `host`, and finds that it can do what is needed.
pub(super) async fn connect(host: &str) -> Result<(Docker, SystemInfo), EngineError> {
    if !is_here(host) {
        let reason = format!("{host} is no address of this machine, which alone calls containers");
        return Err(EngineError::Unusable { reason: format!("{reason}: {HOW_TO_REACH}") });
    }
    let connect = async {
        let docker = Docker::connect_with_host(host)?.negotiate_version().await?;
        let info = docker.info().await?;
        Ok((docker, info))
    };
    let connected = timeout(CONNECT_TIME, connect).await;
    let (docker, info) =
        connected.unwrap_or(Err(Error::RequestTimeoutError)).map_err(unreachable)?;
    let options = info.security_options.as_deref().unwrap_or_default();
    let has = |wanted: &str| options.iter().any(|option| option.split(',').any(|o| o == wanted));
    let reason = if info.os_type.as_deref() != Some("linux") {
        "Docker's daemon runs no Linux containers: use one that does"
    } else if !has("name=seccomp") || has("profile=unconfined") {
        "Docker's daemon filters no system calls: start it with a seccomp profile, on a kernel with seccomp"
    } else if has("name=rootless") || info.operating_system.as_deref() == Some("Docker Desktop") {
        "this machine cannot call the containers of a rootless or virtual Docker: use one that runs as root, here"
    } else {
        return Ok((docker, info));
    };
    Err(EngineError::Unusable { reason: reason.to_owned() })
}

/// Whether an address leads nowhere else, as far as it can be understood at all.
fn is_here(host: &str) -> bool {
    let Some(rest) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) else {
        return true;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !authority.contains('@') && (is_loopback || name == "localhost")
}

fn unreachable(error: Error) -> EngineError {
    let reason = match &error {
        Error::SocketNotFoundError(path) => format!("there is no socket {path}"),
        Error::UnsupportedURISchemeError { uri } => {
            format!("{uri} is neither a socket nor a plain HTTP address of this machine")
        }
        error => format!("Docker's daemon cannot be reached ({})", with_causes(error)),
    };
    EngineError::Unusable { reason: format!("{reason}: {HOW_TO_REACH}") }
}

impl Client {
    /// The labels of what belongs to an instance, or to none.
    pub(super) fn labels(&self, instance: Option<&InstanceId>) -> HashMap<String, String> {
        let engine = (ENGINE_LABEL.to_owned(), self.name.clone());
        let instance = instance.map(|id| (INSTANCE_LABEL.to_owned(), id.to_string()));
        [engine].into_iter().chain(instance).collect()
    }

    /// What finds whatever has these labels.
    pub(super) fn filters(&self, instance: Option<&InstanceId>) -> HashMap<String, Vec<String>> {
        let labels = self.labels(instance).into_iter();
        let labels = labels.map(|(name, value)| format!("{name}={value}")).collect();
        [("label".to_owned(), labels)].into()
    }

    /// The containers of the engine, or those of one instance alone, whatever became of them.
    pub(super) async fn containers(
        &self,
        instance: Option<&InstanceId>,
    ) -> Result<Vec<Labelled>, EngineError> {
        let filters = Some(self.filters(instance));
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let found = self.docker.list_containers(Some(options)).await;
        let found = found.map_err(docker_failed("listing the containers"))?;
        let labelled = found.into_iter().filter_map(|one| labelled(one.id, one.labels.as_ref()));
        Ok(labelled.collect())
    }

    /// Likewise the networks.
    pub(super) async fn networks(
        &self,
        instance: Option<&InstanceId>,
    ) -> Result<Vec<Labelled>, EngineError> {
        let options = ListNetworksOptions { filters: Some(self.filters(instance)) };
        let found = self.docker.list_networks(Some(options)).await;
        let found = found.map_err(docker_failed("listing the networks"))?;
        let labelled = found.into_iter().filter_map(|one| labelled(one.id, one.labels.as_ref()));
        Ok(labelled.collect())
    }

    /// The network of an instance, which leads nowhere; made where it is not there.
    pub(super) async fn network(&self, id: &InstanceId) -> Result<String, EngineError> {
        if let Some(known) = self.networks(Some(id)).await?.into_iter().next() {
            return Ok(known.id);
        }
        let request = NetworkCreateRequest {
            name: format!("{}-{id}", self.name),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            attachable: Some(false),
            labels: Some(self.labels(Some(id))),
            ..Default::default()
        };
        let made = self.docker.create_network(request).await.map_err(|error| {
            let operation = "making a network";
            match said(&error) {
                Some(said) if said.contains("address pool") => engine_failed(operation)(
                    "Docker has no room for more networks: widen default-address-pools in its daemon.json",
                ),
                _ => docker_failed(operation)(error),
            }
        });
        Ok(made?.id)
    }

    pub(super) async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        match self.docker.remove_network(network).await {
            Err(error) if !is_absent(&error) => Err(docker_failed("removing a network")(error)),
            _ => Ok(()),
        }
    }

    /// Makes a container. Returns its id.
    pub(super) async fn create(
        &self,
        name: String,
        body: ContainerCreateBody,
    ) -> Result<String, Error> {
        let options = CreateContainerOptions { name: Some(name), ..Default::default() };
        Ok(self.docker.create_container(Some(options), body).await?.id)
    }

    pub(super) async fn start(&self, container: &str) -> Result<(), Error> {
        self.docker.start_container(container, None).await
    }

    /// Where a container stands. One that is gone has ended.
    pub(super) async fn look(&self, container: &str) -> Result<Standing, EngineError> {
        let options = InspectContainerOptions { size: false };
        let found = match self.docker.inspect_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => {
                return Ok(Standing::Ended { status: None, out_of_memory: None });
            }
            found => found.map_err(docker_failed("looking at a container"))?,
        };
        let state = found.state.unwrap_or_default();
        if state.running == Some(true) {
            let networks = found.network_settings.and_then(|settings| settings.networks);
            let mut networks = networks.unwrap_or_default().into_values();
            let address = networks.find_map(|network| network.ip_address?.parse().ok());
            return Ok(Standing::Live { paused: state.paused == Some(true), address });
        }
        let was_started = state.status != Some(ContainerStateStatusEnum::CREATED);
        let status = state.exit_code.filter(|_| was_started).and_then(|code| code.try_into().ok());
        // Docker says so of each container in which anything was killed; the others may have gone on for long.
        let out_of_memory = state.oom_killed.map(|killed| killed && status == Some(KILLED));
        Ok(Standing::Ended { status, out_of_memory })
    }

    /// How many bytes a container has written, as far as Docker says. Takes as long as it has files.
    pub(super) async fn written(&self, container: &str) -> Result<Option<u64>, EngineError> {
        let options = InspectContainerOptions { size: true };
        match self.docker.inspect_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => Ok(None),
            found => {
                let found = found.map_err(docker_failed("looking through a container"))?;
                Ok(found.size_rw.and_then(|size| size.try_into().ok()))
            }
        }
    }

    /// Sends a signal. Not an error where the container has ended.
    pub(super) async fn kill(&self, container: &str, signal: i32) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_string() };
        match self.docker.kill_container(container, Some(options)).await {
            Err(error) if !is_absent(&error) && status(&error) != Some(409) => {
                Err(docker_failed("stopping a container")(error))
            }
            _ => Ok(()),
        }
    }

    /// Freezes or thaws. Says nothing of a container that stands so already, or has ended.
    pub(super) async fn pause(&self, container: &str, paused: bool) -> Result<(), EngineError> {
        let done = if paused {
            self.docker.pause_container(container).await
        } else {
            self.docker.unpause_container(container).await
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => match self.look(container).await? {
                Standing::Live { paused: is, .. } if is != paused => {
                    Err(docker_failed("freezing a container")(error))
                }
                _ => Ok(()),
            },
        }
    }

    /// Kills and removes a container with what it wrote, and waits until it is gone. Not an error where there is none.
    pub(super) async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.docker.remove_container(container, Some(options)).await {
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) if is_going(&error) => {
                let gone = timeout(PATIENCE, self.gone(container)).await;
                gone.unwrap_or_else(|_| Err(took_too_long("waiting until a container is gone")))
            }
            removed => removed.map_err(docker_failed("removing a container")),
        }
    }

    async fn gone(&self, container: &str) -> Result<(), EngineError> {
        let options = InspectContainerOptions { size: false };
        loop {
            match self.docker.inspect_container(container, Some(options.clone())).await {
                Err(error) if status(&error) == Some(404) => return Ok(()),
                found => found.map_err(docker_failed("looking at a container"))?,
            };
            sleep(POLL).await;
        }
    }

    /// What a container has used, as far as Docker says.
    pub(super) async fn usage(&self, container: &str) -> Result<Usage, EngineError> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut stats = self.docker.stats(container, Some(options));
        let operation = "reading what a container uses";
        let next = timeout(BODY_TIME, stats.next()).await;
        let read = match next.map_err(|_| took_too_long(operation))? {
            Some(Err(error)) if is_absent(&error) => return Ok(Usage::default()),
            Some(read) => read.map_err(docker_failed(operation))?,
            None => return Ok(Usage::default()),
        };
        let cpu = read.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
        // Nothing runs without it: Docker shows a zero of what it could not read, and of what has just ended.
        let cpu = cpu.filter(|nanoseconds| *nanoseconds > 0);
        let networks: Vec<_> = read.networks.unwrap_or_default().into_values().collect();
        let sum = |bytes: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks
                .iter()
                .map(bytes)
                .reduce(|one, more| Some(one?.saturating_add(more?)))
                .flatten()
        };
        Ok(Usage {
            cpu: cpu.map(|nanoseconds| nanoseconds / 1_000_000),
            network_in: sum(|network| network.rx_bytes),
            network_out: sum(|network| network.tx_bytes),
        })
    }

    /// The newest output, at most `max` bytes; none of a container that is gone.
    pub(super) async fn logs(&self, container: &str, max: usize) -> Result<Bytes, EngineError> {
        let read = timeout(BODY_TIME, self.newest_output(container, max)).await;
        read.unwrap_or_else(|_| Err(took_too_long(READING_OUTPUT)))
    }

    async fn newest_output(&self, container: &str, max: usize) -> Result<Bytes, EngineError> {
        let options = LogsOptions { stdout: true, stderr: true, ..Default::default() };
        let mut output = self.docker.logs(container, Some(options));
        let mut newest = BytesMut::new();
        while let Some(piece) = output.next().await {
            match piece {
                Err(error) if is_absent(&error) => break,
                piece => newest
                    .extend_from_slice(&piece.map_err(docker_failed(READING_OUTPUT))?.into_bytes()),
            }
            if newest.len() > max.saturating_mul(2) {
                newest = newest.split_off(newest.len() - max);
            }
        }
        Ok(newest.split_off(newest.len().saturating_sub(max)).freeze())
    }
}

const READING_OUTPUT: &str = "reading the output";

/// What a shell says of a process that was killed.
const KILLED: i32 = 137;

fn labelled(id: Option<String>, labels: Option<&HashMap<String, String>>) -> Option<Labelled> {
    let instance = labels.and_then(|labels| labels.get(INSTANCE_LABEL)?.parse().ok());
    Some(Labelled { id: id?, instance })
}

pub(super) fn took_too_long(operation: &'static str) -> EngineError {
    engine_failed(operation)(io::Error::from(io::ErrorKind::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_elsewhere_is_told_from_one_here() {
        for here in [
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "http://127.1.2.3",
            "tcp://[::1]:2375/",
            "tcp://localhost:2375",
            "ssh://refused-elsewhere",
        ] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [
            "tcp://10.0.0.1:2375",
            "tcp://0.0.0.0:2375",
            "http://docker.example",
            "tcp://localhost.example:2375",
            "tcp://127.0.0.1@docker.example",
            "tcp://[2001:db8::1]:2375",
            "tcp://",
        ] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn requests_with_the_environment_of_containers_are_never_logged() {
        assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Info);
    }
}
