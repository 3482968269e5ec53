//! Which of the images in a layout is meant.

use std::collections::VecDeque;

use oci_spec::image::{Descriptor, ImageIndex};

use super::{
    ReadError,
    blobs::{Blobs, INDEX},
};
use crate::{
    DocumentError, Platform,
    document::{Description, is_index, is_manifest, parse, parse_manifest},
};

/// The most indexes that are read, and images that are looked at, in one layout.
const MAX_INDEXES: usize = 32;
const MAX_CANDIDATES: usize = 1024;

/// Where tools that build images note that a manifest describes another one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Where layouts keep the tags of images.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The longest tag that a message shows, in characters.
const MAX_TAG: usize = 128;

/// The image that is meant.
pub(super) struct Chosen {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) description: Description,
}

/// Finds the image for `wanted`, or the only one.
pub(super) fn choose(blobs: &Blobs, wanted: &Platform) -> Result<Chosen, ReadError> {
    let candidates = candidates(blobs)?;
    match &*candidates {
        [] => Err(ReadError::Empty),
        [only] => load(blobs, only),
        several => {
            let mut named = Vec::new();
            for candidate in several {
                named.push((candidate, platform(blobs, candidate)?));
            }
            let fitting: Vec<_> =
                named.iter().filter(|(_, platform)| platform.as_ref() == Some(wanted)).collect();
            match &*fitting {
                [(one, _)] => load(blobs, one),
                [] => Err(ReadError::NoneFits {
                    wanted: wanted.clone(),
                    candidates: list(named.iter()),
                }),
                _ => Err(ReadError::Ambiguous {
                    wanted: wanted.clone(),
                    candidates: list(fitting.into_iter()),
                }),
            }
        }
    }
}

/// The manifests of all images, each once, through indexes of indexes.
fn candidates(blobs: &Blobs) -> Result<Vec<Descriptor>, ReadError> {
    let mut indexes = VecDeque::from([parse_index(&blobs.document(INDEX)?)?]);
    let mut candidates: Vec<Descriptor> = Vec::new();
    let mut read = 0;
    while let Some(index) = indexes.pop_front() {
        for descriptor in index.manifests() {
            if is_index(descriptor.media_type()) {
                read += 1;
                if read > MAX_INDEXES {
                    return Err(too_many("the layout", MAX_INDEXES, "indexes"));
                }
                indexes.push_back(parse_index(&blobs.described(descriptor)?)?);
            } else if is_image(descriptor)
                && candidates.iter().all(|known| known.digest() != descriptor.digest())
            {
                if candidates.len() == MAX_CANDIDATES {
                    return Err(too_many("the layout", MAX_CANDIDATES, "images"));
                }
                candidates.push(descriptor.clone());
            }
        }
    }
    Ok(candidates)
}

/// Signatures and attestations stand beside images in an index, in the same form.
fn is_image(descriptor: &Descriptor) -> bool {
    let annotations = descriptor.annotations().as_ref();
    is_manifest(descriptor.media_type())
        && descriptor.artifact_type().is_none()
        && !annotations.is_some_and(|annotations| annotations.contains_key(ATTESTATION))
}

fn parse_index(bytes: &[u8]) -> Result<ImageIndex, ReadError> {
    const WHAT: &str = "the image index";
    let index: ImageIndex = parse(WHAT, bytes)?;
    let kind = index.media_type().as_ref();
    if index.schema_version() != 2 || kind.is_some_and(|kind| !is_index(kind)) {
        let reason = "it says to be something else".into();
        return Err(DocumentError::Invalid { what: WHAT, reason }.into());
    }
    Ok(index)
}

fn load(blobs: &Blobs, descriptor: &Descriptor) -> Result<Chosen, ReadError> {
    let manifest = blobs.described(descriptor)?;
    let config = blobs.described(parse_manifest(&manifest)?.config())?;
    let description = Description::new(&manifest, &config)?;
    Ok(Chosen { manifest, config, description })
}

/// What a candidate is for: by the index, or by its own configuration where the index does not say.
fn platform(blobs: &Blobs, candidate: &Descriptor) -> Result<Option<Platform>, ReadError> {
    let Some(named) = candidate.platform() else {
        return load(blobs, candidate).map(|chosen| Some(chosen.description.platform));
    };
    let (os, architecture) = (named.os().to_string(), named.architecture().to_string());
    Ok(Platform::new(&os, &architecture, named.variant().as_deref()))
}

fn list<'a>(candidates: impl Iterator<Item = &'a (&'a Descriptor, Option<Platform>)>) -> String {
    let named = candidates.map(|(descriptor, platform)| {
        let platform = match platform {
            Some(platform) => platform.to_string(),
            None => "an unknown platform".into(),
        };
        let tag = descriptor.annotations().as_ref().and_then(|annotations| annotations.get(TAG));
        let tag: Option<String> = tag.map(|tag| tag.chars().take(MAX_TAG).collect());
        match tag {
            Some(tag) => format!("{platform} ({tag:?}, {})", descriptor.digest()),
            None => format!("{platform} ({})", descriptor.digest()),
        }
    });
    named.collect::<Vec<_>>().join(", ")
}

fn too_many(what: &str, max: usize, things: &str) -> ReadError {
    let reason = format!("it holds more than {max} {things}");
    DocumentError::Unsupported { what: what.into(), reason }.into()
}
