//! The schema, version 1: which fields there are, what they default to, and what becomes of them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{ManifestContainer, VERSION, document, problem, quantity, reader};
use crate::{Container, Resources, Seconds, SecretText, Workload, rules};
use document::{Kind, Node, Value};
use problem::{Problems, shown};
use reader::{Fields, Item};

/// How many containers the list may hold so that each is looked at; one is what can run.
const MAX_CONTAINERS: usize = 16;

const DEFAULT_CPU: u64 = 250;
const DEFAULT_MEMORY: u64 = 64;
const DEFAULT_STORAGE: u64 = 64;
const DEFAULT_NETWORK: u64 = 1 << 20;
const DEFAULT_PIDS: u32 = 128;
const DEFAULT_GRACE: Seconds = Seconds(10);

/// The workload of a document. It counts only where no problem was noted.
pub(super) fn workload(root: Node, problems: &mut Problems) -> Workload<ManifestContainer> {
    let mut workload = Workload {
        name: String::new(),
        containers: Vec::new(),
        reservation: Resources {
            cpu: DEFAULT_CPU,
            memory: DEFAULT_MEMORY,
            storage: DEFAULT_STORAGE,
            network_in: DEFAULT_NETWORK,
            network_out: DEFAULT_NETWORK,
            accelerator: 0,
        },
        pids_limit: DEFAULT_PIDS,
    };
    let Some(mut fields) = (Item { path: String::new(), node: root }).fields(problems) else {
        return workload;
    };
    if !is_our_version(&mut fields, problems) {
        return workload;
    }
    if let Some(name) = fields.require("name", problems) {
        workload.name = name.text(rules::label, problems).unwrap_or_default();
    }
    if let Some(list) = fields.require("containers", problems) {
        workload.containers = containers(list, &workload.name, problems);
    }
    if let Some(item) = fields.take("resources") {
        resources(item, &mut workload.reservation, problems);
    }
    if let Some(limit) = fields.take("pids_limit") {
        let limit = limit.whole(rules::PIDS, problems).and_then(|limit| u32::try_from(limit).ok());
        workload.pids_limit = limit.unwrap_or_default();
    }
    fields.finish(problems);
    workload
}

/// Whether the rest of the document can be judged by this schema.
fn is_our_version(fields: &mut Fields, problems: &mut Problems) -> bool {
    let Some(version) = fields.require("version", problems) else { return true };
    match &version.node.value {
        Value::Scalar(Kind::Number, text) if text.parse() != Ok(VERSION) => {
            let what = format!("is {}; this build reads version {VERSION}", shown(text));
            version.wrong(problems, what);
            false
        }
        _ => {
            version.whole(VERSION..=VERSION, problems);
            true
        }
    }
}

fn containers(list: Item, workload: &str, problems: &mut Problems) -> Vec<ManifestContainer> {
    let (at, path) = (list.node.at, list.path.clone());
    let Some(items) = list.items(MAX_CONTAINERS, problems) else { return Vec::new() };
    if items.len() != 1 {
        let what =
            format!("holds {} containers; there is one container in this version", items.len());
        problems.add(at, &path, what);
    }
    items.into_iter().filter_map(|item| container(item, workload, problems)).collect()
}

fn container(item: Item, workload: &str, problems: &mut Problems) -> Option<ManifestContainer> {
    let mut fields = item.fields(problems)?;
    let name = fields.take("name").map(|name| name.text(rules::label, problems));
    let image = fields.require("image", problems);
    let image = image.and_then(|image| image.text(rules::path, problems));
    let container = Container {
        name: name.unwrap_or_else(|| Some(workload.to_owned())).unwrap_or_default(),
        command: fields.take("command").and_then(|list| command(list, problems)),
        args: fields.take("args").and_then(|list| words(list, problems)),
        env: fields.take("env").map(|item| environment(item, problems)).unwrap_or_default(),
        working_dir: fields
            .take("working_dir")
            .and_then(|path| path.text(rules::absolute, problems)),
        user: fields.take("user").and_then(|item| user(item, problems)),
        read_only: fields
            .take("read_only")
            .and_then(|item| item.boolean(problems))
            .unwrap_or_default(),
        ports: fields.take("ports").map(|list| ports(list, problems)).unwrap_or_default(),
        stop_grace_period: match fields.take("stop_grace_period") {
            Some(item) => grace(item, problems).unwrap_or_default(),
            None => DEFAULT_GRACE,
        },
    };
    fields.finish(problems);
    Some(ManifestContainer { image: image.unwrap_or_default(), container })
}

fn command(list: Item, problems: &mut Problems) -> Option<Vec<String>> {
    let (at, path) = (list.node.at, list.path.clone());
    let command = words(list, problems)?;
    if command.first().is_some_and(String::is_empty) {
        problems.add(at, &path, "must begin with the name of a program");
    }
    Some(command)
}

fn words(list: Item, problems: &mut Problems) -> Option<Vec<String>> {
    let rule = |text: &str| rules::word(text, rules::MAX_WORD);
    let (at, path) = (list.node.at, list.path.clone());
    let items = list.items(rules::MAX_WORDS, problems)?;
    if items.is_empty() {
        problems.add(at, &path, "must not be empty; leave it out to use the image's own");
    }
    Some(items.into_iter().filter_map(|item| item.text(rule, problems)).collect())
}

fn environment(item: Item, problems: &mut Problems) -> BTreeMap<String, SecretText> {
    let (at, path) = (item.node.at, item.path.clone());
    let Some(fields) = item.fields(problems) else { return BTreeMap::new() };
    let mut environment = BTreeMap::new();
    let mut size = 0;
    for (name, mut value) in fields.rest() {
        if let Err(what) = rules::variable(&name) {
            value.wrong(problems, what);
        }
        let wanted = "a text, a number, or true or false (`\"\"` for an empty text)";
        let Some(mut text) = value.written(wanted, problems) else { continue };
        if let Err(what) = rules::word(&text, rules::MAX_WORD) {
            value.wrong(problems, what);
        }
        size += name.len() + text.len();
        environment.insert(name, SecretText::new(std::mem::take(&mut *text)));
    }
    if environment.len() > rules::MAX_VARIABLES {
        let what =
            format!("has {} variables; the most is {}", environment.len(), rules::MAX_VARIABLES);
        problems.add(at, &path, what);
    }
    if size > rules::MAX_ENVIRONMENT {
        let what = format!("has {size} bytes in all; the most is {}", rules::MAX_ENVIRONMENT);
        problems.add(at, &path, what);
    }
    environment
}

/// A single id may be written as the number that it is.
fn user(mut item: Item, problems: &mut Problems) -> Option<String> {
    if let Value::Scalar(kind @ Kind::Number, _) = &mut item.node.value {
        *kind = Kind::Text;
    }
    item.text(rules::user, problems)
}

fn ports(list: Item, problems: &mut Problems) -> Vec<u16> {
    let mut ports = Vec::new();
    for item in list.items(rules::MAX_PORTS, problems).unwrap_or_default() {
        let port = item.whole(rules::PORT, problems).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        if ports.contains(&port) {
            item.wrong(problems, format!("{port} is listed twice"));
        }
        ports.push(port);
    }
    ports
}

fn grace(item: Item, problems: &mut Problems) -> Option<Seconds> {
    let wanted = "a time of at most 5m, such as `10s` or `1m30s`";
    let within = |seconds: &u32| rules::GRACE.contains(seconds);
    item.quantity(|text| quantity::seconds(text).filter(within), wanted, problems).map(Seconds)
}

fn resources(item: Item, reservation: &mut Resources<u64>, problems: &mut Problems) {
    let Some(mut fields) = item.fields(problems) else { return };
    if let Some(item) = fields.take("cpu") {
        let wanted =
            "an amount of CPU from 10m to 1024, exact to a thousandth, such as `250m` or `0.25`";
        let within = |value: &u64| rules::CPU.contains(value);
        let cpu =
            item.quantity(|text| quantity::thousandths(text).filter(within), wanted, problems);
        reservation.cpu = cpu.unwrap_or_default();
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let same = |bytes: u64| bytes;
    let Resources { memory, storage, network_in, network_out, .. } = reservation;
    let mut amount = |name, place: &mut u64, unit: fn(u64) -> u64, range, wanted| {
        let Some(item) = fields.take(name) else { return };
        *place = bytes(item, unit, range, wanted, problems).unwrap_or_default();
    };
    amount("memory", memory, mebibytes, rules::MEMORY, "4Mi to 16Ti");
    amount("storage", storage, mebibytes, rules::STORAGE, "1Mi to 1024Ti");
    amount("network_in", network_in, same, rules::NETWORK, "1 to 128Gi a second");
    amount("network_out", network_out, same, rules::NETWORK, "1 to 128Gi a second");
    fields.finish(problems);
}

fn bytes(
    item: Item,
    unit: fn(u64) -> u64,
    range: RangeInclusive<u64>,
    bounds: &str,
    problems: &mut Problems,
) -> Option<u64> {
    let wanted = format!("an amount of bytes, {bounds}, such as `64Mi`, `64M` or `67108864`");
    let read = |text: &str| quantity::bytes(text).map(unit).filter(|value| range.contains(value));
    item.quantity(read, &wanted, problems)
}
