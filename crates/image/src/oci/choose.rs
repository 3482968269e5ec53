//! Which of the images in a layout is meant.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    ReadError,
    blobs::{Blobs, INDEX, MAX_DOCUMENT},
};
use crate::{
    DocumentError, Platform,
    document::{Description, beginning, is_index, is_manifest, parse, parse_manifest, shown},
};

/// The most indexes that are read, and images that are looked at, in one layout.
const MAX_INDEXES: usize = 32;
const MAX_CANDIDATES: usize = 1024;

/// The largest index that is read, in bytes. One of an image for many platforms has some ten kilobytes.
const MAX_INDEX: u64 = 1 << 20;

/// The most images that a message lists.
const MAX_LISTED: usize = 8;

/// The image that is meant.
pub(super) struct Chosen {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) description: Description,
}

/// The part of an index that is needed here. Nothing else of it is kept: it may hold any number of annotations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Vec<Entry>,
}

/// What an index names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<StatedPlatform>,
    artifact_type: Option<IgnoredAny>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct StatedPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Annotations {
    /// Where tools that build images note that a manifest describes another one.
    #[serde(rename = "vnd.docker.reference.type")]
    attestation: Option<IgnoredAny>,
    /// Where layouts keep the tags of images.
    #[serde(rename = "org.opencontainers.image.ref.name")]
    tag: Option<String>,
}

/// A manifest that may be the one of the image. Its texts are cut to what messages show.
struct Candidate {
    /// As the index writes it. A digest that is cut names nothing, as it did before.
    digest: String,
    size: u64,
    /// What the index says, if it says anything that can be.
    platform: Option<Platform>,
    tag: Option<String>,
}

/// Finds the image for `wanted`.
pub(super) fn choose(blobs: &Blobs, wanted: &Platform) -> Result<Chosen, ReadError> {
    let candidates = candidates(blobs)?;
    let (candidate, chosen) = match &*candidates {
        [] => return Err(ReadError::Empty),
        [only] => (only, load(blobs, only)?),
        several => pick(blobs, several, wanted)?,
    };
    // What the configuration says counts, whatever the index does.
    let platform = &chosen.description.platform;
    if platform == wanted {
        return Ok(chosen);
    }
    let candidates = list(&[(candidate, Some(platform.clone()))]);
    Err(ReadError::NoneFits { wanted: wanted.clone(), candidates })
}

/// The only one of several that fits.
fn pick<'a>(
    blobs: &Blobs,
    several: &'a [Candidate],
    wanted: &Platform,
) -> Result<(&'a Candidate, Chosen), ReadError> {
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    let mut read = None;
    for candidate in several {
        let mut platform = candidate.platform.clone();
        if platform.is_none() {
            // Signatures often have the form of an image, for no platform or without their blobs. They are no reason to
            // refuse the image beside them.
            let loaded = load(blobs, candidate).ok();
            platform = loaded.as_ref().map(|loaded| loaded.description.platform.clone());
            if platform.as_ref() == Some(wanted) {
                read = loaded;
            }
        }
        let fits = platform.as_ref() == Some(wanted);
        if fits { &mut fitting } else { &mut others }.push((candidate, platform));
    }
    match &*fitting {
        [(one, _)] => Ok((one, read.map_or_else(|| load(blobs, one), Ok)?)),
        [] => Err(ReadError::NoneFits { wanted: wanted.clone(), candidates: list(&others) }),
        _ => Err(ReadError::Ambiguous { wanted: wanted.clone(), candidates: list(&fitting) }),
    }
}

/// The manifests of all images, each once, through indexes of indexes. One index is in memory at a time.
fn candidates(blobs: &Blobs) -> Result<Vec<Candidate>, ReadError> {
    let mut candidates = Vec::new();
    let (mut known_images, mut known_indexes) = (HashSet::new(), HashSet::new());
    let mut indexes = VecDeque::new();
    let mut next = Some(parse_index(&blobs.document(INDEX, MAX_INDEX)?)?);
    while let Some(index) = next {
        for entry in index.manifests {
            let digest = beginning(&entry.digest).to_owned();
            if is_index(&entry.media_type) {
                if known_indexes.insert(digest.clone()) {
                    if known_indexes.len() > MAX_INDEXES {
                        return Err(too_many(MAX_INDEXES, "indexes"));
                    }
                    indexes.push_back((digest, entry.size));
                }
            } else if is_image(&entry) && known_images.insert(digest.clone()) {
                if candidates.len() == MAX_CANDIDATES {
                    return Err(too_many(MAX_CANDIDATES, "images"));
                }
                candidates.push(Candidate::new(digest, entry));
            }
        }
        let read = |(digest, size): (String, u64)| {
            parse_index(&blobs.described(&digest, size, MAX_INDEX)?)
        };
        next = indexes.pop_front().map(read).transpose()?;
    }
    Ok(candidates)
}

impl Candidate {
    fn new(digest: String, entry: Entry) -> Self {
        let platform = entry.platform.and_then(|stated| {
            Platform::new(&stated.os, &stated.architecture, stated.variant.as_deref())
        });
        let tag = entry.annotations.and_then(|annotations| annotations.tag);
        let tag = tag.map(|tag| beginning(&tag).to_owned());
        Self { digest, size: entry.size, platform, tag }
    }
}

/// Signatures and attestations stand beside images in an index, in the same form.
fn is_image(entry: &Entry) -> bool {
    let annotations = entry.annotations.as_ref();
    is_manifest(&entry.media_type)
        && entry.artifact_type.is_none()
        && annotations.is_none_or(|annotations| annotations.attestation.is_none())
}

fn parse_index(bytes: &[u8]) -> Result<Index, ReadError> {
    const WHAT: &str = "the image index";
    let index: Index = parse(WHAT, bytes)?;
    let kind = index.media_type.as_ref();
    if index.schema_version != 2 || kind.is_some_and(|kind| !is_index(kind)) {
        let reason = "it says to be something else".into();
        return Err(DocumentError::Invalid { what: WHAT, reason }.into());
    }
    Ok(index)
}

fn load(blobs: &Blobs, candidate: &Candidate) -> Result<Chosen, ReadError> {
    let manifest = blobs.described(&candidate.digest, candidate.size, MAX_DOCUMENT)?;
    let parsed = parse_manifest(&manifest)?;
    let named = parsed.config();
    let config = blobs.described(named.digest().as_ref(), named.size(), MAX_DOCUMENT)?;
    let description = Description::new(&parsed, &config)?;
    Ok(Chosen { manifest, config, description })
}

fn list(candidates: &[(&Candidate, Option<Platform>)]) -> String {
    let named = candidates.iter().take(MAX_LISTED).map(|(candidate, platform)| {
        let platform = match platform {
            Some(platform) => platform.to_string(),
            None => "an unknown platform".into(),
        };
        let digest = shown(&candidate.digest);
        match &candidate.tag {
            Some(tag) => format!("{platform} (`{}`, {digest})", shown(tag)),
            None => format!("{platform} ({digest})"),
        }
    });
    let listed = named.collect::<Vec<_>>().join(", ");
    match candidates.len().saturating_sub(MAX_LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

fn too_many(max: usize, things: &str) -> ReadError {
    let reason = format!("it holds more than {max} {things}");
    DocumentError::Unsupported { what: "the layout".into(), reason }.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use roadstead_crypto::sha256;
    use serde_json::{Value, json};

    use super::*;

    /// However long the texts of an index are and however often it names them, what is kept of it has a bound.
    #[test]
    fn little_is_kept_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("blobs/sha256")).unwrap();
        let entry = |kind: &str, digest: &str, size: usize| {
            let mut entry = json!({ "mediaType": kind, "digest": digest, "size": size });
            entry["annotations"] = json!({
                "org.opencontainers.image.ref.name": "long".repeat(10_000),
                "something.else": "long".repeat(10_000),
            });
            entry
        };
        let index = |manifests: Vec<Value>| {
            json!({ "schemaVersion": 2, "manifests": manifests }).to_string()
        };
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let nested = index(vec![entry(manifest, &"f".repeat(50_000), 1); 4]);
        let digest = format!("{:x}", sha256(nested.as_bytes()));
        fs::write(path("blobs/sha256").join(&digest), &nested).unwrap();
        let kind = "application/vnd.oci.image.index.v1+json";
        let named = entry(kind, &format!("sha256:{digest}"), nested.len());
        fs::write(path("index.json"), index(vec![named; 8])).unwrap();
        fs::write(path("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
            .unwrap();

        let candidates = candidates(&Blobs::open(folder.path()).unwrap()).unwrap();
        let [candidate] = &*candidates else { panic!("{} candidates", candidates.len()) };
        assert_eq!(candidate.digest, "f".repeat(128));
        assert_eq!(candidate.tag.as_deref(), Some(&*"long".repeat(32)));
    }
}
