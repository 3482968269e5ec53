//! The rules of the schema, one by one and many at once.

mod round_trip;

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{Resources, Seconds, SecretText};

const FULL: &str = r#"
version: 1
name: hello
containers:
  - name: web
    image: ./hello
    command: [/bin/serve, --all]
    args: ["--port", "8080"]
    env:
      GREETING: hello
      RELEASE: 1.10
      COUNT: 007
      DEBUG: true
      EMPTY: ""
    working_dir: /app
    user: "1000:1000"
    read_only: true
    ports: [8080, 8443]
    stop_grace_period: 1m30s
resources:
  cpu: 0.25
  memory: 100M
  storage: 1.5Gi
  network_in: 2Mi
  network_out: 1000
pids_limit: 64
"#;

const LEAST: &str = "version: 1\nname: hello\ncontainers: [{image: ./hello}]\n";

/// The problems of a document, one a line.
fn problems(text: &str) -> String {
    Manifest::parse(text).expect_err(text).to_string()
}

/// The problems of [`LEAST`] with more lines in its container.
fn of_container(lines: &str) -> String {
    problems(&container(lines))
}

fn container(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("version: 1\nname: hello\ncontainers:\n  - image: ./hello\n{lines}")
}

/// The problems of [`LEAST`] with one field of its resources.
fn of_resource(field: &str) -> String {
    problems(&format!("{LEAST}resources: {{{field}}}\n"))
}

fn parsed(text: &str) -> Manifest {
    Manifest::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_field_arrives() {
    let env = [
        ("GREETING", "hello"),
        ("RELEASE", "1.10"),
        ("COUNT", "007"),
        ("DEBUG", "true"),
        ("EMPTY", ""),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), SecretText::new(value.to_owned())));
    let expected = Workload {
        name: "hello".into(),
        containers: vec![ManifestContainer {
            image: "./hello".into(),
            container: Container {
                name: "web".into(),
                command: Some(vec!["/bin/serve".into(), "--all".into()]),
                args: Some(vec!["--port".into(), "8080".into()]),
                env: BTreeMap::from(env),
                working_dir: Some("/app".into()),
                user: Some("1000:1000".into()),
                read_only: true,
                ports: vec![8080, 8443],
                stop_grace_period: Seconds(90),
            },
        }],
        reservation: Resources {
            cpu: 250,
            memory: 96,
            storage: 1536,
            network_in: 2 << 20,
            network_out: 1000,
            accelerator: 0,
        },
        pids_limit: 64,
    };
    assert_eq!(parsed(FULL).workload, expected);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let workload = parsed(LEAST).workload;
    let expected = Resources {
        cpu: 250,
        memory: 64,
        storage: 64,
        network_in: 1 << 20,
        network_out: 1 << 20,
        accelerator: 0,
    };
    assert_eq!((workload.reservation, workload.pids_limit), (expected, 128));
    let expected = Container {
        name: "hello".into(),
        command: None,
        args: None,
        env: BTreeMap::new(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: Vec::new(),
        stop_grace_period: Seconds(10),
    };
    assert_eq!(workload.containers[0].container, expected);
}

#[test]
fn the_documentation_is_right() {
    let documentation = include_str!("../../../../docs/workload.md");
    let examples = documentation.split("```yaml\n").skip(1);
    let examples: Vec<_> = examples.map(|text| text.split_once("```").unwrap().0).collect();
    let [least, full] = examples.as_slice() else { panic!("two examples") };
    let (least, full) = (parsed(least).workload, parsed(full).workload);
    assert_eq!((least.reservation, least.pids_limit), (full.reservation, full.pids_limit));

    let told = documentation.split("```text\n").nth(1).unwrap().split_once("```").unwrap().0;
    let mistakes =
        format!("{}resources: {{memory: 64m}}\n", container("prots: [80]\nworking_dir: app"),);
    assert_eq!(problems(&mistakes), told.trim_end());
}

#[test]
fn json_is_read_as_well() {
    let document = json!({
        "version": 1,
        "name": "hello",
        "containers": [{ "image": "./h\u{e4}llo \u{1f600}/\"x\"", "env": { "A": 0.1, "B": "\n" } }],
        "resources": { "cpu": 0.25, "memory": 67_108_864 },
    });
    let compact = serde_json::to_string(&document).unwrap();
    let indented = serde_json::to_string_pretty(&document).unwrap();
    let escaped = escaped(&compact).replace('/', "\\/");
    let tabs = indented.replace("  ", "\t");
    for text in [&compact, &indented, &escaped, &tabs] {
        let workload = parsed(text).workload;
        assert_eq!(workload.containers[0].image, "./h\u{e4}llo \u{1f600}/\"x\"", "{text}");
        assert_eq!(&*workload.containers[0].container.env["A"], "0.1", "{text}");
        assert_eq!(&*workload.containers[0].container.env["B"], "\n", "{text}");
        assert_eq!((workload.reservation.cpu, workload.reservation.memory), (250, 64), "{text}");
    }
}

#[test]
fn many_mistakes_are_told_together_and_in_order() {
    let text = r#"
version: 1
name: Hello_World
containers:
  - image: 7
    prots: [80]
    ports: [80, 70000, "81", 80]
    command: []
    env:
      1ST: x
      NEXT:
      LIST: [1]
    working_dir: app
    read_only: yes
    stop_grace_period: 6m
    stop_grace_period: 10s
resources:
  cpu: 5m
  memory: 64m
  gpu: 1
pids_limit: 0
restart: always
"#;
    let expected = "\
name: must be 1 to 63 characters of a-z, 0-9 and `-`, and neither begin nor end with `-`
containers[0].image: must be a text (in quotes), not a number
containers[0].prots: is not a field of this version (did you mean `ports`?)
containers[0].ports[1]: must be a whole number from 1 to 65535, not `70000`
containers[0].ports[2]: must be a whole number from 1 to 65535, not a text
containers[0].ports[3]: 80 is listed twice
containers[0].command: must not be empty; leave it out to use the image's own
containers[0].env.1ST: is no name for a variable: 1 to 256 characters of A-Z, a-z, 0-9 and `_`, not a digit first
containers[0].env.NEXT: has no value; it must be a text, a number, or true or false (`\"\"` for an empty text)
containers[0].env.LIST: must be a text, a number, or true or false (`\"\"` for an empty text), not a list
containers[0].working_dir: must be an absolute path: it begins with `/`
containers[0].read_only: must be true or false, not a text
containers[0].stop_grace_period: must be a time of at most 5m, such as `10s` or `1m30s`, not `6m`
containers[0].stop_grace_period: is given twice
resources.cpu: must be an amount of CPU from 10m to 1024, exact to a thousandth, such as `250m` or `0.25`, not `5m`
resources.memory: must be an amount of bytes, 4Mi to 16Ti, such as `64Mi`, `64M` or `67108864`, not `64m`
resources.gpu: is not a field of this version (known here: cpu, memory, storage, network_in, network_out)
pids_limit: must be a whole number from 1 to 32768, not `0`
restart: is not a field of this version (known here: version, name, containers, resources, pids_limit)";
    assert_eq!(problems(text), expected);
}

#[test]
fn what_must_be_there_is_missed() {
    assert_eq!(
        problems("resources: {}"),
        "version: is missing\nname: is missing\ncontainers: is missing"
    );
    assert_eq!(
        problems("version: 1\nname: hello\ncontainers: [{}]"),
        "containers[0].image: is missing"
    );
    assert_eq!(problems(""), "is empty");
    assert_eq!(problems("# nothing\n"), "is empty");
    assert_eq!(problems("---\n"), "has no value; it must be a mapping (`name: value`)");
    assert_eq!(problems("[1]"), "must be a mapping (`name: value`), not a list");
}

#[test]
fn another_version_is_told_alone() {
    assert_eq!(problems("version: 2\npods: []"), "version: is 2; this build reads version 1");
    assert_eq!(
        problems(&LEAST.replace("version: 1", "version: \"1\"")),
        "version: must be a whole number from 1 to 1, not a text"
    );
}

#[test]
fn there_is_one_container() {
    let two = "version: 1\nname: hello\ncontainers: [{image: a}, {image: b, ports: [0]}]";
    assert_eq!(
        problems(two),
        "containers: holds 2 containers; there is one container in this version\n\
         containers[1].ports[0]: must be a whole number from 1 to 65535, not `0`"
    );
    let none = "version: 1\nname: hello\ncontainers: []";
    assert!(problems(none).starts_with("containers: holds 0 containers"));
    let many = format!("version: 1\nname: hello\ncontainers: [{}]", "{},".repeat(17));
    assert_eq!(problems(&many), "containers: has 17 elements; the most is 16");
}

#[test]
fn names_are_dns_labels() {
    for good in ["a", "0", "a-b", &"a".repeat(63)] {
        parsed(&LEAST.replace("name: hello", &format!("name: \"{good}\"")));
    }
    for bad in ["", "-a", "a-", "A", "a.b", "\u{e4}", &"a".repeat(64)] {
        let text = LEAST.replace("name: hello", &format!("name: \"{bad}\""));
        assert!(problems(&text).starts_with("name: must be 1 to 63"), "{bad}");
        assert!(of_container(&format!("name: \"{bad}\"")).starts_with("containers[0].name: "));
    }
}

#[test]
fn bounds_are_inclusive() {
    let resource = |field: &str| parsed(&format!("{LEAST}resources: {{{field}}}")).workload;
    assert_eq!(resource("cpu: 10m").reservation.cpu, 10);
    assert_eq!(resource("cpu: 1024").reservation.cpu, 1_024_000);
    assert_eq!(resource("memory: 4Mi").reservation.memory, 4);
    assert_eq!(resource("memory: 4194305").reservation.memory, 5);
    assert_eq!(resource("memory: 16Ti").reservation.memory, 16 << 20);
    assert_eq!(resource("storage: 1").reservation.storage, 1);
    assert_eq!(resource("storage: 1024Ti").reservation.storage, 1 << 30);
    assert_eq!(resource("network_in: 1").reservation.network_in, 1);
    assert_eq!(resource("network_out: 128Gi").reservation.network_out, 128 << 30);
    for beyond in [
        "cpu: 9m",
        "cpu: 1024.001",
        "cpu: 0.0105",
        "memory: 3Mi",
        "memory: 16.1Ti",
        "storage: 0",
        "storage: 1025Ti",
        "network_in: 0",
        "network_out: 129Gi",
        "memory: true",
        "memory: -1",
        "cpu: 1e3",
        "cpu: .inf",
    ] {
        assert!(of_resource(beyond).starts_with("resources."), "{beyond}");
    }
    let pids = |limit: &str| Manifest::parse(&format!("{LEAST}pids_limit: {limit}"));
    assert_eq!(pids("32768").unwrap().workload.pids_limit, 32_768);
    assert_eq!(pids("1").unwrap().workload.pids_limit, 1);
    for beyond in ["32769", "0", "-1", "1.0", "\"5\"", "99999999999999999999", "[]"] {
        pids(beyond).expect_err(beyond);
    }
    let grace = |time: &str| Manifest::parse(&container(&format!("stop_grace_period: {time}")));
    assert_eq!(
        grace("5m").unwrap().workload.containers[0].container.stop_grace_period,
        Seconds(300)
    );
    for beyond in ["5m1s", "10", "1h", "{}"] {
        grace(beyond).expect_err(beyond);
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let list = |name: &str, count: usize, word: &str| {
        container(&format!("{name}: [{}]", vec![word; count].join(",")))
    };
    let ports: Vec<_> = (1..=17).map(|port| port.to_string()).collect();
    parsed(&container(&format!("ports: [{}]", ports[..16].join(","))));
    assert_eq!(
        of_container(&format!("ports: [{}]", ports.join(","))),
        "containers[0].ports: has 17 elements; the most is 16"
    );
    for name in ["command", "args"] {
        parsed(&list(name, 256, "a"));
        let expected = format!("containers[0].{name}: has 257 elements; the most is 256");
        assert_eq!(problems(&list(name, 257, "a")), expected);
        parsed(&list(name, 1, &"a".repeat(32 << 10)));
        let expected = format!("containers[0].{name}[0]: is 32769 bytes long; the most is 32768");
        assert_eq!(problems(&list(name, 1, &"a".repeat((32 << 10) + 1))), expected);
    }
    let long = "a".repeat(4096);
    assert!(of_container(&format!("working_dir: /{long}")).contains("working_dir: is 4097 bytes"));
    let image = LEAST.replace("./hello", &long);
    assert_eq!(problems(&image), "containers[0].image: is 4096 bytes long; the most is 4095");
}

#[test]
fn an_environment_is_bounded() {
    let variables = |count: usize| {
        let lines: String = (0..count).map(|index| format!("  V{index}: x\n")).collect();
        container(&format!("env:\n{lines}"))
    };
    parsed(&variables(256));
    assert_eq!(problems(&variables(257)), "containers[0].env: has 257 variables; the most is 256");
    let long = |length: usize| container(&format!("env:\n  A: {}", "x".repeat(length)));
    parsed(&long(32 << 10));
    assert!(problems(&long((32 << 10) + 1)).starts_with("containers[0].env.A: is 32769 bytes"));
    let value = "x".repeat(22_000);
    assert_eq!(
        of_container(&format!("env: {{A: {value}, B: {value}, C: {value}}}")),
        "containers[0].env: has 66003 bytes in all; the most is 65536"
    );
    let name = "N".repeat(257);
    assert!(of_container(&format!("env: {{{name}: x}}")).contains("is no name for a variable"));
}

#[test]
fn nothing_holds_a_nul() {
    for line in [
        "command: [\"a\\0\"]",
        "args: [\"a\\0\"]",
        "env: {A: \"a\\0\"}",
        "working_dir: \"/a\\0\"",
        "user: \"a\\0\"",
    ] {
        assert!(of_container(line).starts_with("containers[0]."), "{line}");
    }
    assert!(problems(&LEAST.replace("./hello", "\"a\\0\"")).contains("NUL"));
    assert!(of_container("env: {\"A\\0\": a}").contains("is no name for a variable"));
    assert!(of_container("command: [\"\"]").contains("the name of a program"));
}

#[test]
fn users_are_names_or_ids() {
    for good in ["1000", "0:0", "\"1000:1000\"", "www-data", "a.b:c_d", "4294967294"] {
        let workload = parsed(&container(&format!("user: {good}"))).workload;
        let expected = good.trim_matches('"').to_owned();
        assert_eq!(workload.containers[0].container.user, Some(expected));
    }
    for bad in ["''", "'a:'", "':a'", "a:b:c", "4294967295", "-1", "../x", "a b", "true", "[]"] {
        assert!(of_container(&format!("user: {bad}")).starts_with("containers[0].user: "), "{bad}");
    }
}

#[test]
fn a_document_stays_small_whatever_is_in_it() {
    let comment = "#".repeat(Manifest::MAX_BYTES - LEAST.len());
    parsed(&format!("{LEAST}{comment}"));
    assert!(problems(&format!("{LEAST}{comment}#")).contains("the most is 262144"));
    assert_eq!(problems(&format!("[{}]", "1,".repeat(17_000))), "has more than 16384 values");
    for deep in ["[".repeat(1000), "{a: ".repeat(1000), "- ".repeat(1000), "? ".repeat(1000)] {
        assert!(problems(&deep).starts_with("line 1, column "), "{}", problems(&deep));
    }
    let (sixteen, flow) = ("- ".repeat(16), format!("{}{}", "[".repeat(16), "]".repeat(16)));
    for (allowed, refused) in [(&sixteen, format!("- {sixteen}")), (&flow, format!("[{flow}]"))] {
        assert_eq!(problems(allowed), "must be a mapping (`name: value`), not a list");
        assert!(problems(&refused).starts_with("line 1, column "), "{refused}");
    }
    // At most a hundred are told, and the rest is counted.
    let unknown: String = (0..150).map(|index| format!("unknown{index}: x\n")).collect();
    let error = Manifest::parse(&format!("{LEAST}{unknown}")).unwrap_err();
    assert_eq!(error.problems.len(), 101);
    assert_eq!(error.problems[100].to_string(), "and 50 more problems");
}

#[test]
fn what_yaml_can_do_and_a_manifest_cannot_is_named() {
    let anchor = "version: 1\nname: &n hello\ncontainers: [{image: *n, user: *missing}]";
    let expected = "\
name: has a YAML anchor, which a manifest cannot have; put a text that begins with `&` in quotes
containers[0].image: is a YAML alias, which a manifest cannot have; put a text that begins with `*` in quotes
containers[0].user: is a YAML alias, which a manifest cannot have; put a text that begins with `*` in quotes";
    assert_eq!(problems(anchor), expected);
    assert!(of_container("user: !!str 5").starts_with("containers[0].user: has a YAML tag"));
    assert!(of_container("<<: {user: a}").starts_with("containers[0][\"<<\"]: is not a field"));
    assert_eq!(problems(&format!("{LEAST}---\n{LEAST}")), "holds more than one document");
    assert!(problems(&format!("%YAML 1.2\n---\n{LEAST}")).starts_with("line 1, column 1: "));
    assert!(of_container("? [a]\n: b").contains("has a name that is a list or a mapping"));
    assert_eq!(
        problems(
            "{\"version\": 1, \"version\": 1, \"name\": \"a\", \"containers\": [{\"image\": \"b\"}]}"
        ),
        "version: is given twice"
    );
    assert!(problems("version: 1\n  name: x: y").starts_with("line 2, column "));
}

#[test]
fn no_message_repeats_a_secret_or_what_a_terminal_obeys() {
    let hidden = [
        "env: [PASSWORD=hunter2]",
        "env: {PASSWORD=hunter2}",
        "env: {PASSWORD=hunter2, PASSWORD=hunter2}",
        "env: PASSWORD=hunter2",
        "env: {PASSWORD: [hunter2]}",
        "env: {PASSWORD: *hunter2}",
        "env: {PASSWORD: &hunter2 x}",
        "env: {PASSWORD: !hunter2 x}",
        "env: {PASSWORD: \"hunter2\\0\"}",
    ];
    for line in hidden {
        let error = Manifest::parse(&container(line)).unwrap_err();
        assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
    }
    let evil = "\\e[31m\\u202e\\n";
    for text in [
        format!("{LEAST}\"{evil}\": x"),
        format!("{LEAST}resources: {{cpu: \"{evil}\"}}"),
        container(&format!("env: {{\"{evil}\": x}}")),
        format!("{LEAST}\u{7}: \u{1b}[31m"),
    ] {
        let message = problems(&text);
        assert!(!message.contains(['\u{1b}', '\u{202e}', '\u{7}', '\n']), "{message:?}");
    }
    let long = format!("{LEAST}{}: x", "k".repeat(1000));
    assert!(problems(&long).len() < 300);
}

/// The same JSON in ASCII.
fn escaped(json: &str) -> String {
    let unit = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    json.encode_utf16().map(unit).collect()
}
