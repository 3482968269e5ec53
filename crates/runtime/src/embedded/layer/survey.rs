//! Looks through a layer that somebody else lays out, and refuses what would not be laid out here.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
};

use super::{Archive, LayerError, Room, parts};

/// Checks the tar of `size` bytes that `layer` reads, to its very end: that it is one, that no name leads out of it, and
/// that what it makes is within the bounds of its size.
pub(crate) fn survey(layer: impl Read, size: u64) -> Result<(), LayerError> {
    let mut room = Room::of(size);
    let hasher = RandomState::new();
    // A digest of each name is enough: two that are taken for one are counted once.
    let mut known = HashSet::new();
    let mut archive = Archive::new(layer);
    while let Some(entry) = archive.next()? {
        room.take()?;
        let path = parts(&entry.path)?;
        for end in 1..path.len() {
            if known.insert(hasher.hash_one(&path[..end])) {
                room.take()?;
            }
        }
        known.insert(hasher.hash_one(&path[..]));
    }
    io::copy(&mut archive.into_rest(), &mut io::sink()).map_err(LayerError::reading)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    fn layer(names: impl IntoIterator<Item = String>) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for name in names {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn survey_of(layer: &[u8]) -> Result<(), LayerError> {
        survey(layer, layer.len() as u64)
    }

    #[test]
    fn what_is_no_layer_or_leads_out_is_refused() {
        survey_of(&layer(["a/b/c".to_owned(), "a/b/d".to_owned()])).unwrap();
        survey_of(&layer([])).unwrap();
        for bad in [layer(["../x".to_owned()]), layer(["a/../../x".to_owned()]), vec![7; 2_000]] {
            assert!(matches!(survey_of(&bad), Err(LayerError::Bad { .. })));
        }
        let whole = layer(["a".to_owned()]);
        assert!(survey_of(&whole[..512]).is_ok(), "the end may be missing");
        assert!(survey_of(&whole[..300]).is_err());
    }

    #[test]
    fn folders_that_are_only_implied_are_counted_once() {
        let deep = |number: u32| format!("{}{number}/x", "d/".repeat(40));
        survey_of(&layer((0..10_000).map(deep))).unwrap();
        let apart = |number: u32| format!("{number}/{}x", "d/".repeat(40));
        let result = survey_of(&layer((0..10_000).map(apart)));
        assert!(matches!(result, Err(LayerError::Bad { .. })), "{result:?}");
    }
}
