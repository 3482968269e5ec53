//! What an image runs on.

use std::{env::consts, fmt};

use serde::Serialize;

/// The longest part of a platform's name, in bytes.
const MAX_PART: usize = 64;

/// An operating system and a processor, by the names of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Checks the names: 1 to 64 letters, digits, dots, dashes and underscores each. `None` where one is anything else.
    /// Variants that mean the plain architecture are left out: `v8` of `arm64`, `v1` of `amd64`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let variant = variant.filter(|variant| {
            !matches!((architecture, *variant), (_, "") | ("arm64", "v8") | ("amd64", "v1"))
        });
        [Some(os), Some(architecture), variant].into_iter().flatten().all(is_name).then(|| Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        })
    }

    /// Linux on the processor of this machine.
    pub fn host() -> Self {
        let architecture = match consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// The operating system, such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The processor, such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the processor, such as `v7` of `arm`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }
}

fn is_name(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_PART).contains(&part.len()) && part.bytes().all(allowed)
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_that_say_nothing_are_left_out() {
        let plain = Platform::new("linux", "arm64", None).unwrap();
        assert_eq!(Platform::new("linux", "arm64", Some("v8")).unwrap(), plain);
        assert_eq!(Platform::new("linux", "arm64", Some("")).unwrap(), plain);
        let arm = Platform::new("linux", "arm", Some("v7")).unwrap();
        assert_eq!(arm.to_string(), "linux/arm/v7");
    }

    #[test]
    fn names_that_could_harm_a_terminal_are_refused() {
        assert!(Platform::new("linux\x1b[2J", "amd64", None).is_none());
        assert!(Platform::new("linux", "", None).is_none());
        assert!(Platform::new("linux", &"a".repeat(MAX_PART + 1), None).is_none());
        assert!(Platform::new("linux", "arm", Some("v7/..")).is_none());
    }
}
