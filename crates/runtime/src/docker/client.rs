//! What is asked of Docker's daemon, and how its answers are read. Any field of an answer may be missing.

use std::{collections::HashMap, net::IpAddr};

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

use crate::work::engine_failed;

/// Labels of whatever an engine makes: its own name, and the instance's id.
pub(super) const ENGINE_LABEL: &str = "roadstead.engine";
pub(super) const INSTANCE_LABEL: &str = "roadstead.instance";

/// The most characters of what Docker says that an error repeats.
const MAX_SAID: usize = 2_000;

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
    Live { paused: bool, address: Option<IpAddr>, written: Option<u64> },
    Ended { status: Option<i32>, out_of_memory: Option<bool> },
}

/// A container or a network of the engine, with the instance that it names.
pub(super) struct Labelled {
    pub(super) id: String,
    pub(super) instance: Option<InstanceId>,
}

/// Connects to the daemon at `host`, or where the environment says, and finds that it can do what is needed.
pub(super) async fn connect(host: Option<&str>) -> Result<(Docker, SystemInfo), EngineError> {
    let docker = match host {
        Some(host) => Docker::connect_with_host(host),
        None => Docker::connect_with_defaults(),
    };
    let docker = match docker {
        Ok(docker) => docker.negotiate_version().await,
        Err(error) => Err(error),
    };
    let docker = docker.map_err(unreachable)?;
    let info = docker.info().await.map_err(unreachable)?;
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
        let found = found.map_err(engine_failed("listing the containers"))?;
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
        let found = found.map_err(engine_failed("listing the networks"))?;
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
            let source: Box<dyn std::error::Error + Send + Sync> = match said(&error) {
                Some(said) if said.contains("address pool") => {
                    format!("{said}: widen default-address-pools in Docker's daemon.json").into()
                }
                _ => error.into(),
            };
            EngineError::Failed { operation: "making a network", source }
        });
        Ok(made?.id)
    }

    pub(super) async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        match self.docker.remove_network(network).await {
            Err(error) if !is_absent(&error) => Err(engine_failed("removing a network")(error)),
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

    pub(super) async fn start(&self, container: &str) -> Result<(), EngineError> {
        match self.docker.start_container(container, None).await {
            Ok(()) => Ok(()),
            Err(error) => {
                Err(refusal(&error).unwrap_or_else(|| engine_failed("starting a container")(error)))
            }
        }
    }

    /// Where a container stands, and what it has written where that is asked for. One that is gone has ended.
    pub(super) async fn look(&self, container: &str, size: bool) -> Result<Standing, EngineError> {
        let options = InspectContainerOptions { size };
        let found = match self.docker.inspect_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => {
                return Ok(Standing::Ended { status: None, out_of_memory: None });
            }
            found => found.map_err(engine_failed("looking at a container"))?,
        };
        let state = found.state.unwrap_or_default();
        if state.running == Some(true) {
            let networks = found.network_settings.and_then(|settings| settings.networks);
            let mut networks = networks.unwrap_or_default().into_values();
            let address = networks.find_map(|network| network.ip_address?.parse().ok());
            let written = found.size_rw.and_then(|size| size.try_into().ok());
            return Ok(Standing::Live { paused: state.paused == Some(true), address, written });
        }
        let was_started = state.status != Some(ContainerStateStatusEnum::CREATED);
        let status = state.exit_code.filter(|_| was_started).and_then(|code| code.try_into().ok());
        // Docker says so of each container in which anything was killed; the others may have gone on for long.
        let out_of_memory = state.oom_killed.map(|killed| killed && status == Some(KILLED));
        Ok(Standing::Ended { status, out_of_memory })
    }

    /// Sends a signal. Not an error where the container has ended.
    pub(super) async fn kill(&self, container: &str, signal: i32) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_string() };
        match self.docker.kill_container(container, Some(options)).await {
            Err(error) if !is_absent(&error) && status(&error) != Some(409) => {
                Err(engine_failed("stopping a container")(error))
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
            Err(error) => match self.look(container, false).await? {
                Standing::Live { paused: is, .. } if is != paused => {
                    Err(engine_failed("freezing a container")(error))
                }
                _ => Ok(()),
            },
        }
    }

    /// Kills and removes a container with what it wrote. Not an error where there is none.
    pub(super) async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.docker.remove_container(container, Some(options)).await {
            Err(error) if !is_absent(&error) => Err(engine_failed("removing a container")(error)),
            _ => Ok(()),
        }
    }

    /// What a container has used, as far as Docker says.
    pub(super) async fn usage(&self, container: &str) -> Result<Usage, EngineError> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut stats = self.docker.stats(container, Some(options));
        let read = match stats.next().await {
            Some(Err(error)) if is_absent(&error) => return Ok(Usage::default()),
            Some(read) => read.map_err(engine_failed("reading what a container uses"))?,
            None => return Ok(Usage::default()),
        };
        let cpu = read.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
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
        let options = LogsOptions { stdout: true, stderr: true, ..Default::default() };
        let mut output = self.docker.logs(container, Some(options));
        let mut newest = BytesMut::new();
        while let Some(piece) = output.next().await {
            match piece {
                Err(error) if is_absent(&error) => break,
                piece => newest.extend_from_slice(
                    &piece.map_err(engine_failed("reading the output"))?.into_bytes(),
                ),
            }
            if newest.len() > max.saturating_mul(2) {
                newest = newest.split_off(newest.len() - max);
            }
        }
        Ok(newest.split_off(newest.len().saturating_sub(max)).freeze())
    }
}

/// What a shell says of a process that was killed.
const KILLED: i32 = 137;

fn labelled(id: Option<String>, labels: Option<&HashMap<String, String>>) -> Option<Labelled> {
    let instance = labels.and_then(|labels| labels.get(INSTANCE_LABEL)?.parse().ok());
    Some(Labelled { id: id?, instance })
}

/// The status of an answer that is an error.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an answer that is an error says.
pub(super) fn said(error: &Error) -> Option<&str> {
    match error {
        Error::DockerResponseServerError { message, .. } => Some(message),
        _ => None,
    }
}

/// Whether what was asked about is not there, or about to go.
pub(super) fn is_absent(error: &Error) -> bool {
    match status(error) {
        Some(404) => true,
        Some(409) => said(error).is_some_and(|said| said.contains("already in progress")),
        _ => false,
    }
}

/// The error of a container that never starts like this; `None` where the machine may be at fault.
pub(super) fn refusal(error: &Error) -> Option<EngineError> {
    // What the runtime says once it is in the container, by its name for that in each version; and what Docker says of
    // users.
    const OF_CONTAINERS: [&str; 4] = [
        "starting container process caused",
        "unable to start container process",
        "unable to find user",
        "unable to find group",
    ];
    let said = said(error)?;
    let refuses = status(error) == Some(400) || OF_CONTAINERS.iter().any(|of| said.contains(of));
    refuses.then(|| EngineError::CannotStart { reason: said.chars().take(MAX_SAID).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn what_a_container_is_at_fault_for_is_told_from_what_the_machine_is() {
        let reason = |error: &Error| match refusal(error) {
            Some(EngineError::CannotStart { reason }) => Some(reason),
            _ => None,
        };
        let missing = "exec: \"x\": executable file not found in $PATH: unknown";
        assert_eq!(reason(&answer(400, missing)).unwrap(), missing);
        assert!(reason(&answer(500, "unable to find user x: no matching entries")).is_some());
        assert_eq!(
            reason(&answer(500, &"unable to find user ".repeat(1_000))).unwrap().len(),
            2_000
        );
        assert!(reason(&answer(500, "no space left on device")).is_none());
        assert!(reason(&Error::RequestTimeoutError).is_none());
    }

    #[test]
    fn what_is_going_is_gone() {
        assert!(is_absent(&answer(404, "no such container")));
        assert!(is_absent(&answer(409, "removal of container x is already in progress")));
        assert!(!is_absent(&answer(409, "container x is paused")));
    }

    #[test]
    fn requests_with_the_environment_of_containers_are_never_logged() {
        assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Info);
    }
}
