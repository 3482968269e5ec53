//! What survives being written and read, and what any text does.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// A valid document as JSON, and what it means.
fn documents() -> impl Strategy<Value = (Json, Workload<ManifestContainer>)> {
    let label = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    // What YAML can hold without escapes, and what JSON always escapes.
    let word = "[\\x01-\\x7e\u{a0}-\u{ff}\u{4e00}\u{1f600}]{1,20}";
    let words = || proptest::option::of(proptest::collection::vec(word, 1..4));
    let container = (
        (label, word, words(), words()),
        proptest::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,12}", word, 0..5),
        proptest::option::of(word.prop_map(|path| format!("/{path}"))),
        proptest::option::of("([a-z_][a-z0-9_-]{0,8}|[0-9]{1,9})(:[0-9]{1,9})?"),
        any::<bool>(),
        proptest::collection::btree_set(1_u16.., 0..5),
        0_u32..=300,
    );
    let resources =
        (10_u64..=1_024_000, 4_u64..=1 << 24, 1_u64..=1 << 30, 1_u64..=1 << 37, 1_u64..=1 << 37);
    (label, container, resources, 1_u32..=32_768).prop_map(
        |(name, (basics, env, working_dir, user, read_only, ports, grace), amounts, pids)| {
            let (own_name, image, command, args) = basics;
            let (cpu, memory, storage, network_in, network_out) = amounts;
            let reservation =
                Resources { cpu, memory, storage, network_in, network_out, accelerator: 0 };
            let mut container = json!({
                "name": own_name, "image": image, "env": env, "read_only": read_only,
                "ports": ports, "stop_grace_period": format!("{}m{}s", grace / 60, grace % 60),
            });
            for (field, value) in [
                ("command", json!(command)),
                ("args", json!(args)),
                ("working_dir", json!(working_dir)),
                ("user", json!(user)),
            ] {
                if !value.is_null() {
                    container[field] = value;
                }
            }
            let document = json!({
                "version": 1, "name": name, "containers": [container], "pids_limit": pids,
                "resources": {
                    "cpu": format!("{cpu}m"), "memory": format!("{memory}Mi"),
                    "storage": storage << 20, "network_in": network_in,
                    "network_out": network_out.to_string(),
                },
            });
            let env = env.into_iter().map(|(name, value)| (name, SecretText::new(value)));
            let container = Container {
                name: own_name,
                command,
                args,
                env: env.collect(),
                working_dir,
                user,
                read_only,
                ports: ports.into_iter().collect(),
                stop_grace_period: Seconds(grace),
            };
            let containers = vec![ManifestContainer { image, container }];
            (document, Workload { name, containers, reservation, pids_limit: pids })
        },
    )
}

proptest! {
    #[test]
    fn a_valid_manifest_survives_json_and_yaml((document, workload) in documents()) {
        let json = serde_json::to_string_pretty(&document).unwrap();
        for text in [escaped(&json), json, serde_saphyr::to_string(&document).unwrap()] {
            let read = Manifest::parse(&text);
            prop_assert_eq!(read.as_ref().map(|read| &read.workload), Ok(&workload), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}|[-:?{}\\[\\],&*!#|>'\"%@ \\na1~.]{0,200}") {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused(at in 0..FULL.len(), length in 0_usize..40, put in "[-:?{}\\[\\],&*!#|>'\"%@ \\n\\ta1~.]{0,8}") {
        let end = (at + length).min(FULL.len());
        let _ = Manifest::parse(&format!("{}{put}{}", &FULL[..at], &FULL[end..]));
    }
}
