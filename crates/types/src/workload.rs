//! What is to run: containers with their limits, without where their images are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use serde::{Deserialize, Serialize};

use crate::{Problem, Resources, Seconds, SecretText, rules};

/// Containers that run together and share one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload<C> {
    /// A DNS label.
    pub name: String,
    /// The containers; `C` adds to each what is known of its image.
    pub containers: Vec<C>,
    /// What is reserved: CPU in thousandths of a core, memory and storage in MiB, network in bytes a second,
    /// accelerators in thousandths.
    pub reservation: Resources<u64>,
    /// The most processes and threads at once.
    pub pids_limit: u32,
}

/// How one container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// A DNS label, unique in the workload.
    pub name: String,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments. With a `command` alone the image's arguments are dropped.
    pub args: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, SecretText>,
    /// Replaces the image's working folder; absolute.
    pub working_dir: Option<String>,
    /// Replaces the image's user: `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Whether the root file system cannot be written.
    pub read_only: bool,
    /// TCP ports that can be called from outside.
    pub ports: Vec<u16>,
    /// Between the request to stop and the kill.
    pub stop_grace_period: Seconds,
}

impl<C> Workload<C> {
    /// Checks what a workload from elsewhere must keep to, whoever wrote it: the bounds that a manifest has. `container`
    /// finds the part of `C` that they are about. How many containers there may be is for the engine to say.
    pub fn check(&self, container: impl Fn(&C) -> &Container) -> Result<(), Problem> {
        within("name", rules::label(&self.name))?;
        let bounds = [
            ("reservation.cpu", self.reservation.cpu, rules::CPU),
            ("reservation.memory", self.reservation.memory, rules::MEMORY),
            ("reservation.storage", self.reservation.storage, rules::STORAGE),
            ("reservation.network_in", self.reservation.network_in, rules::NETWORK),
            ("reservation.network_out", self.reservation.network_out, rules::NETWORK),
            ("pids_limit", u64::from(self.pids_limit), rules::PIDS),
        ];
        for (path, value, bounds) in bounds {
            if !bounds.contains(&value) {
                let what = format!("is {value}; it must be {} to {}", bounds.start(), bounds.end());
                return Err(Problem { path: path.into(), what });
            }
        }
        for (index, each) in self.containers.iter().map(container).enumerate() {
            each.check().map_err(|Problem { path, what }| Problem {
                path: format!("containers[{index}].{path}"),
                what,
            })?;
        }
        Ok(())
    }
}

impl Container {
    fn check(&self) -> Result<(), Problem> {
        within("name", rules::label(&self.name))?;
        for (path, words) in [("command", &self.command), ("args", &self.args)] {
            let words = words.as_deref().unwrap_or_default();
            within(path, at_most(words.len(), rules::MAX_WORDS))?;
            for word in words {
                within(path, rules::word(word, rules::MAX_WORD))?;
            }
        }
        within("env", at_most(self.env.len(), rules::MAX_VARIABLES))?;
        let mut environment = 0usize;
        for (name, value) in &self.env {
            within("env", rules::variable(name))?;
            within("env", rules::word(value, rules::MAX_WORD))?;
            environment = environment.saturating_add(name.len()).saturating_add(value.len());
        }
        within("env", at_most(environment, rules::MAX_ENVIRONMENT))?;
        if let Some(folder) = &self.working_dir {
            within("working_dir", rules::absolute(folder))?;
        }
        if let Some(user) = &self.user {
            within("user", rules::user(user))?;
        }
        within("ports", at_most(self.ports.len(), rules::MAX_PORTS))?;
        let distinct: BTreeSet<_> = self.ports.iter().collect();
        if distinct.len() != self.ports.len() || self.ports.contains(&0) {
            within("ports", Err("must be different from each other and from 0".into()))?;
        }
        within("stop_grace_period", at_most(self.stop_grace_period.0, *rules::GRACE.end()))
    }
}

fn within(path: &str, judged: Result<(), String>) -> Result<(), Problem> {
    judged.map_err(|what| Problem { path: path.into(), what })
}

fn at_most<N: PartialOrd + Display>(found: N, most: N) -> Result<(), String> {
    if found <= most { Ok(()) } else { Err(format!("is or has {found}; the most is {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload<Container> {
        let container = Container {
            name: "web".into(),
            command: Some(vec!["/web".into()]),
            args: None,
            env: BTreeMap::from([("KEY".into(), SecretText::new("value".into()))]),
            working_dir: Some("/".into()),
            user: Some("web:web".into()),
            read_only: false,
            ports: vec![80, 443],
            stop_grace_period: Seconds(300),
        };
        let reservation = Resources {
            cpu: 10,
            memory: 4,
            storage: 1,
            network_in: 1,
            network_out: 1,
            accelerator: 0,
        };
        Workload { name: "web".into(), containers: vec![container], reservation, pids_limit: 1 }
    }

    #[test]
    fn what_a_manifest_could_not_say_is_found_with_its_path() {
        workload().check(|container| container).unwrap();
        type Change = fn(&mut Workload<Container>, &mut Container);
        let changes: [(&str, Change); 20] = [
            ("name", |workload, _| workload.name = "Web".into()),
            ("reservation.cpu", |workload, _| workload.reservation.cpu = 9),
            ("reservation.memory", |workload, _| workload.reservation.memory = 3),
            ("reservation.storage", |workload, _| workload.reservation.storage = 0),
            ("reservation.network_in", |workload, _| workload.reservation.network_in = 0),
            ("reservation.network_out", |workload, _| workload.reservation.network_out = 1 << 60),
            ("pids_limit", |workload, _| workload.pids_limit = 0),
            ("containers[0].name", |_, container| container.name.clear()),
            ("containers[0].command", |_, container| {
                container.command = Some(vec!["".into(); 257])
            }),
            ("containers[0].command", |_, container| container.command = Some(vec!["\0".into()])),
            ("containers[0].args", |_, container| container.args = Some(vec!["x".repeat(1 << 16)])),
            ("containers[0].env", |_, container| {
                container.env.insert("A=B".into(), SecretText::default());
            }),
            ("containers[0].env", |_, container| {
                container.env.insert("A".into(), SecretText::new("\0".into()));
            }),
            ("containers[0].env", |_, container| {
                let value = |n| (format!("N{n}"), SecretText::new("x".repeat(30_000)));
                container.env.extend((0..3).map(value));
            }),
            ("containers[0].env", |_, container| {
                container.env.extend((0..256).map(|n| (format!("N{n}"), SecretText::default())));
            }),
            ("containers[0].working_dir", |_, container| container.working_dir = Some("a".into())),
            ("containers[0].user", |_, container| container.user = Some("4294967295".into())),
            ("containers[0].ports", |_, container| container.ports = vec![80, 80]),
            ("containers[0].ports", |_, container| container.ports = (0..16).collect()),
            ("containers[0].ports", |_, container| container.ports = (1..=17).collect()),
        ];
        for (path, change) in changes {
            let mut workload = workload();
            let mut container = workload.containers.remove(0);
            change(&mut workload, &mut container);
            workload.containers.push(container);
            let problem = workload.check(|container| container).unwrap_err();
            assert_eq!(problem.path, path, "{problem}");
        }
        let mut slow = workload();
        slow.containers[0].stop_grace_period = Seconds(301);
        let problem = slow.check(|container| container).unwrap_err();
        assert_eq!(problem.path, "containers[0].stop_grace_period");
    }
}
