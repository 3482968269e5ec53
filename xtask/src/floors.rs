//! The floors of the workspace: which crate may use which.
//!
//! The tables are data, [`violations`] is a pure function over them and over the dependencies that the
//! manifests declare, and a test applies it to this workspace.

use Floor::{Fakes, Number, Top};

/// Where a crate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Uses only crates with lower numbers.
    Number(u8),
    /// Fakes for tests: uses anything, others use it only as a dev-dependency.
    Fakes,
    /// Uses anything, nobody uses it.
    Top,
}

/// Every crate of the workspace, from the bottom to the top.
const FLOORS: [(&str, Floor); 18] = [
    ("roadstead-types", Number(1)),
    ("roadstead-crypto", Number(2)),
    ("roadstead-abi", Number(2)),
    ("roadstead-core", Number(3)),
    ("roadstead-chain", Number(4)),
    ("roadstead-devchain", Number(4)),
    ("roadstead-store", Number(4)),
    ("roadstead-image", Number(4)),
    ("roadstead-net", Number(4)),
    ("roadstead-runtime", Number(4)),
    ("roadstead-journal", Number(4)),
    ("roadstead-publisher", Number(5)),
    ("roadstead-provider", Number(5)),
    ("roadstead-devnet", Number(6)),
    ("roadstead-cli", Number(7)),
    ("roadstead-testkit", Fakes),
    ("roadstead-e2e", Top),
    ("xtask", Top),
];

/// Heavy dependencies, and the only crates that may name them. Crates that exist for tests may as well. A name
/// stands for its family: `alloy` is also every `alloy-*`.
const HEAVY: [(&[&str], &[&str]); 10] = [
    (&["revm"], &["roadstead-devchain"]),
    (&["alloy"], &["roadstead-chain", "roadstead-devchain"]),
    (&["libp2p"], &["roadstead-net"]),
    (&["bollard", "libcontainer"], &["roadstead-runtime"]),
    (&["ipfs-api"], &["roadstead-store"]),
    (&["rusqlite"], &["roadstead-journal"]),
    (&["rustls", "hyper-rustls"], &["roadstead-store"]),
    (&["aes-gcm", "blake3", "hpke"], &["roadstead-crypto"]),
    (&["foundry-compilers"], &["xtask"]),
    (&["clap", "comfy-table", "indicatif"], &["roadstead-cli", "xtask"]),
];

/// Members of heavy families that are light: data types without client, network or machine.
const LIGHT: [&str; 3] = ["alloy-primitives", "alloy-sol-types", "libp2p-identity"];

/// Crates that exist for tests.
const FOR_TESTS: [&str; 2] = ["roadstead-testkit", "roadstead-e2e"];

/// A crate of the workspace and what its manifest asks for.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) uses: Vec<Use>,
}

/// One dependency as a manifest declares it.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) name: String,
    /// Whether only the tests of the crate see it.
    pub(crate) dev: bool,
}

/// What the tables forbid, a sentence each.
pub(crate) fn violations(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for user in crates {
        let Some(from) = floor(&user.name) else {
            found.push(format!("{} is not in the table of floors", user.name));
            continue;
        };
        for used in &user.uses {
            if let Some(to) = floor(&used.name)
                && !may_use(from, to, used.dev)
            {
                found.push(format!("{} ({from:?}) uses {} ({to:?})", user.name, used.name));
            }
            if let Some(owners) = owners(&used.name)
                && !owners.contains(&user.name.as_str())
                && !FOR_TESTS.contains(&user.name.as_str())
            {
                let owners = owners.join(" and ");
                found.push(format!("{} uses {}, which belongs to {owners}", user.name, used.name));
            }
        }
    }
    found
}

fn may_use(from: Floor, to: Floor, dev: bool) -> bool {
    match (from, to) {
        (_, Top) => false,
        (Fakes | Top, _) => true,
        (Number(_), Fakes) => dev,
        (Number(from), Number(to)) => to < from,
    }
}

fn floor(name: &str) -> Option<Floor> {
    FLOORS.iter().find(|(package, _)| *package == name).map(|(_, floor)| *floor)
}

fn owners(name: &str) -> Option<&'static [&'static str]> {
    if LIGHT.contains(&name) {
        return None;
    }
    let heavy = |family: &&str| in_family(name, family);
    HEAVY.iter().find(|(families, _)| families.iter().any(heavy)).map(|(_, owners)| *owners)
}

fn in_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};
    use cargo_metadata::{DependencyKind, MetadataCommand};

    use super::*;

    fn workspace() -> Result<Vec<Crate>> {
        let metadata = MetadataCommand::new()
            .manifest_path(crate::root()?.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo metadata")?;
        let crates = metadata.workspace_packages().into_iter().map(|package| Crate {
            name: package.name.to_string(),
            uses: package
                .dependencies
                .iter()
                .map(|dependency| Use {
                    name: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                })
                .collect(),
        });
        Ok(crates.collect())
    }

    fn found(user: &str, used: &str, dev: bool) -> Vec<String> {
        let uses = vec![Use { name: used.to_owned(), dev }];
        violations(&[Crate { name: user.to_owned(), uses }])
    }

    #[test]
    fn every_crate_of_this_workspace_stands_on_its_floor() {
        let crates = workspace().unwrap();
        assert!(crates.iter().any(|known| known.name == "xtask"), "no crates were read");
        let found = violations(&crates);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn a_crate_may_use_lower_floors_only() {
        assert!(found("roadstead-core", "roadstead-types", false).is_empty());
        assert_eq!(found("roadstead-core", "roadstead-chain", false).len(), 1, "upwards");
        assert_eq!(found("roadstead-store", "roadstead-image", false).len(), 1, "sideways");
        assert_eq!(found("roadstead-chain", "roadstead-devchain", true).len(), 1, "in tests, too");
    }

    #[test]
    fn fakes_are_for_tests_and_nobody_uses_the_top() {
        assert!(found("roadstead-provider", "roadstead-testkit", true).is_empty());
        assert_eq!(found("roadstead-provider", "roadstead-testkit", false).len(), 1);
        assert_eq!(found("roadstead-cli", "xtask", true).len(), 1);
        assert!(found("roadstead-e2e", "roadstead-cli", true).is_empty());
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_found() {
        assert_eq!(found("roadstead-surprise", "serde", false).len(), 1);
    }

    #[test]
    fn a_heavy_dependency_stays_with_its_owner() {
        assert!(found("roadstead-devchain", "revm", false).is_empty());
        assert!(found("roadstead-e2e", "alloy", true).is_empty());
        assert_eq!(found("roadstead-provider", "alloy", false).len(), 1);
        assert_eq!(found("roadstead-provider", "alloy", true).len(), 1, "in tests, too");
        assert_eq!(found("xtask", "revm", false).len(), 1);
    }

    #[test]
    fn a_family_is_as_heavy_as_its_head_but_for_the_light_ones() {
        assert_eq!(found("roadstead-provider", "alloy-rpc-types-eth", false).len(), 1);
        assert_eq!(found("roadstead-provider", "revm-interpreter", false).len(), 1);
        assert_eq!(found("roadstead-core", "libp2p-kad", false).len(), 1);
        for light in LIGHT {
            assert!(found("roadstead-core", light, false).is_empty(), "{light}");
        }
        assert!(found("roadstead-core", "alloyed", false).is_empty());
    }
}
