//! The two documents of an image, its manifest and its configuration, and whether they fit each other.
//!
//! Who reads an image from disk and who opens a sealed one ask the same questions here.

use alloy_primitives::B256;
use oci_spec::image::{Descriptor, ImageManifest};
use roadstead_crypto::sha256;
use roadstead_types::ImageId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Platform, format::MAX_LAYERS};

/// The most characters of somebody else's text that a message shows.
const MAX_SHOWN: usize = 128;

/// Why the documents of an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not the JSON that it should be. What stands there instead is not quoted: it may be as long as the document.
    #[error("{what} cannot be read at line {line}, column {column}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It has its form, but says what cannot be.
    #[error("{what} makes no sense: {reason}")]
    Invalid {
        /// Which document.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A kind of image or layer that is unknown, or that nobody may pass on.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// Which part.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// How the tar of a layer is packed where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip, any number of members (RFC 1952).
    Gzip,
    /// Zstandard, any number of frames (RFC 8878).
    Zstd,
}

/// A layer as the documents name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLayer {
    /// SHA-256 digest of the blob.
    pub digest: B256,
    /// Bytes of the blob.
    pub size: u64,
    /// How the blob holds its tar.
    pub compression: LayerCompression,
    /// SHA-256 digest of the tar.
    pub diff_id: B256,
}

/// What the two documents say.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) image: ImageId,
    pub(crate) platform: Platform,
    pub(crate) layers: Vec<SourceLayer>,
}

const MANIFEST: &str = "the image manifest";
const CONFIG: &str = "the image configuration";

/// The part of a configuration that is needed here. Everything else is for whoever runs the image.
#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

impl Description {
    /// Reads the configuration. The manifest names it by its digest, which is checked; whether the manifest is the
    /// right one is for the caller.
    pub(crate) fn new(manifest: &ImageManifest, config: &[u8]) -> Result<Self, DocumentError> {
        check_config(manifest.config(), config)?;
        let config: Config = parse(CONFIG, config)?;
        let variant = config.variant.as_deref();
        let platform = Platform::new(&config.os, &config.architecture, variant);
        let platform =
            platform.ok_or_else(|| invalid(CONFIG, "it names no platform that exists"))?;
        if config.rootfs.kind != "layers" {
            return Err(invalid(CONFIG, "its root file system does not consist of layers"));
        }
        let (blobs, diff_ids) = (manifest.layers(), config.rootfs.diff_ids);
        if blobs.len() > MAX_LAYERS {
            let reason =
                format!("{} layers; {MAX_LAYERS} is the most that engines take", blobs.len());
            return Err(DocumentError::Unsupported { what: "the image".into(), reason });
        }
        if blobs.len() != diff_ids.len() {
            let (blobs, named) = (blobs.len(), diff_ids.len());
            let reason = format!("it names {named} layers, the manifest has {blobs}");
            return Err(invalid(CONFIG, reason));
        }
        let layers = blobs.iter().zip(&diff_ids);
        let layers = layers.map(|(blob, diff_id)| source_layer(blob, sha256_of(diff_id)?));
        Ok(Self {
            image: ImageId(sha256_of(manifest.config().digest().as_ref())?),
            platform,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads a manifest without its configuration.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest, DocumentError> {
    let manifest: ImageManifest = parse(MANIFEST, bytes)?;
    if manifest.schema_version() != 2 {
        return Err(invalid(MANIFEST, format!("schema version {}", manifest.schema_version())));
    }
    match manifest.media_type() {
        Some(kind) if !is_manifest(kind.as_ref()) => {
            let kind = shown(kind.as_ref());
            Err(invalid(MANIFEST, format!("it calls itself `{kind}`")))
        }
        _ => Ok(manifest),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Malformed {
        what,
        line: error.line(),
        column: error.column(),
    })
}

/// The beginning of somebody else's text, as much of it as is kept for messages.
pub(crate) fn beginning(text: &str) -> &str {
    text.char_indices().nth(MAX_SHOWN).map_or(text, |(end, _)| &text[..end])
}

/// Somebody else's text as messages show it: not all of a long one, and nothing that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let beginning = beginning(text);
    let more = if beginning.len() < text.len() { "…" } else { "" };
    format!("{}{more}", beginning.escape_debug())
}

/// Whether this media type is an image manifest: of OCI, or of Docker (version 2, schema 2).
pub(crate) fn is_manifest(kind: &str) -> bool {
    matches!(
        kind,
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// Whether this media type is a list of manifests.
pub(crate) fn is_index(kind: &str) -> bool {
    matches!(
        kind,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// The digest that every name must have here: SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_of(digest: &str) -> Result<B256, DocumentError> {
    let digits = digest.strip_prefix("sha256:");
    digits.and_then(of_digits).ok_or_else(|| DocumentError::Unsupported {
        what: format!("`{}`", shown(digest)),
        reason: "only SHA-256 digests are known".into(),
    })
}

/// The digest that these 64 digits stand for. It has one written form: in lower case, without a prefix.
pub(crate) fn of_digits(digits: &str) -> Option<B256> {
    digits.parse().ok().filter(|digest: &B256| format!("{digest:x}") == digits)
}

fn check_config(named: &Descriptor, config: &[u8]) -> Result<(), DocumentError> {
    let known = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    if !known.contains(&named.media_type().as_ref()) {
        return Err(DocumentError::Unsupported {
            what: "what the manifest describes".into(),
            reason: format!("it is no image but `{}`", shown(named.media_type().as_ref())),
        });
    }
    if usize::try_from(named.size()) != Ok(config.len()) {
        return Err(invalid(CONFIG, "it has another size than the manifest says"));
    }
    if sha256_of(named.digest().as_ref())? != sha256(config) {
        return Err(invalid(CONFIG, "it has another digest than the manifest says"));
    }
    Ok(())
}

fn source_layer(blob: &Descriptor, diff_id: B256) -> Result<SourceLayer, DocumentError> {
    let unsupported = |reason| DocumentError::Unsupported {
        what: format!("layer {}", shown(blob.digest().as_ref())),
        reason,
    };
    let kind = blob.media_type().as_ref();
    if kind.contains("nondistributable") || kind.contains(".foreign.") {
        return Err(unsupported("it is marked as not to be distributed".into()));
    }
    let compression = match kind {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => LayerCompression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => LayerCompression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LayerCompression::Zstd,
        _ => return Err(unsupported(format!("unknown kind `{}`", shown(kind)))),
    };
    let digest = sha256_of(blob.digest().as_ref())?;
    Ok(SourceLayer { digest, size: blob.size(), compression, diff_id })
}

fn invalid(what: &'static str, reason: impl Into<String>) -> DocumentError {
    DocumentError::Invalid { what, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

    fn config() -> Value {
        json!({
            "architecture": "amd64", "os": "linux", "config": { "Env": null },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "2".repeat(64))] },
        })
    }

    fn manifest(config: &Value) -> Value {
        let config = config.to_string();
        json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{:x}", sha256(config.as_bytes())),
                "size": config.len(),
            },
            "layers": [{ "mediaType": LAYER, "digest": format!("sha256:{}", "1".repeat(64)), "size": 9 }],
        })
    }

    fn describe(manifest: &Value, config: &Value) -> Result<Description, DocumentError> {
        Description::new(
            &parse_manifest(manifest.to_string().as_bytes())?,
            config.to_string().as_bytes(),
        )
    }

    #[test]
    fn documents_that_fit_are_read() {
        let config = config();
        let read = describe(&manifest(&config), &config).unwrap();
        assert_eq!(read.image.0, sha256(config.to_string().as_bytes()));
        assert_eq!(read.platform.to_string(), "linux/amd64");
        let layer = SourceLayer {
            digest: B256::repeat_byte(0x11),
            size: 9,
            compression: LayerCompression::None,
            diff_id: B256::repeat_byte(0x22),
        };
        assert_eq!(read.layers, [layer]);
    }

    #[test]
    fn docker_and_compressed_layers_are_known() {
        let config = config();
        for (kind, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip", LayerCompression::Gzip),
            ("application/vnd.oci.image.layer.v1.tar+zstd", LayerCompression::Zstd),
            ("application/vnd.docker.image.rootfs.diff.tar", LayerCompression::None),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", LayerCompression::Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", LayerCompression::Zstd),
        ] {
            let mut manifest = manifest(&config);
            manifest["layers"][0]["mediaType"] = kind.into();
            assert_eq!(describe(&manifest, &config).unwrap().layers[0].compression, expected);
        }
    }

    #[test]
    fn layers_that_must_not_be_passed_on_are_named() {
        let config = config();
        for kind in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            let mut manifest = manifest(&config);
            manifest["layers"][0]["mediaType"] = kind.into();
            let error = describe(&manifest, &config).unwrap_err();
            assert!(error.to_string().contains("not to be distributed"), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = config();
        type Change = fn(&mut Value, &mut Value);
        let changes: [(&str, Change); 11] = [
            ("schema", |manifest, _| manifest["schemaVersion"] = 1.into()),
            ("calls itself", |manifest, _| manifest["mediaType"] = LAYER.into()),
            ("another size", |manifest, _| manifest["config"]["size"] = 7.into()),
            ("another digest", |_, config| config["os"] = "Linux".into()),
            ("no image", |manifest, _| manifest["config"]["mediaType"] = LAYER.into()),
            ("unknown kind", |manifest, _| manifest["layers"][0]["mediaType"] = "x".into()),
            ("cannot be read", |manifest, _| manifest["layers"][0]["size"] = (-1).into()),
            ("cannot be read", |manifest, _| manifest["layers"][0]["digest"] = "sha256:00".into()),
            ("only SHA-256", |manifest, _| {
                manifest["layers"][0]["digest"] = format!("sha512:{}", "1".repeat(128)).into();
            }),
            ("the manifest has 0", |manifest, _| manifest["layers"] = json!([])),
            ("128 layers", |manifest, _| {
                let layer = manifest["layers"][0].clone();
                manifest["layers"] = vec![layer; 128].into();
            }),
        ];
        for (expected, change) in changes {
            let (mut manifest, mut config) = (manifest(&good), good.clone());
            change(&mut manifest, &mut config);
            let error = describe(&manifest, &config).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_digest_has_one_written_form() {
        let digits = "ab".repeat(32);
        assert_eq!(sha256_of(&format!("sha256:{digits}")).unwrap(), B256::repeat_byte(0xab));
        for other in [
            digits.clone(),
            format!("sha256:0x{digits}"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256:{}", &digits[1..]),
            format!("sha512:{digits}{digits}"),
        ] {
            assert!(sha256_of(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn what_others_wrote_is_shown_in_parts() {
        assert_eq!(shown("v1.2-rc"), "v1.2-rc");
        assert_eq!(shown("\u{1b}[2J\n\u{202e}"), "\\u{1b}[2J\\n\\u{202e}");
        assert_eq!(shown(&"é".repeat(128)), "é".repeat(128));
        assert_eq!(shown(&"é".repeat(129)), format!("{}…", "é".repeat(128)));
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 4] = [
            ("platform", |config| config["os"] = "\u{1b}[2J".into()),
            ("consist of layers", |config| config["rootfs"]["type"] = "ostree".into()),
            ("only SHA-256", |config| config["rootfs"]["diff_ids"][0] = "sha256:zz".into()),
            ("cannot be read", |config| config["rootfs"] = Value::Null),
        ];
        for (expected, change) in changes {
            let mut config = config();
            change(&mut config);
            let error = describe(&manifest(&config), &config).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }
}
