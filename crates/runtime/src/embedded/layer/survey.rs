//! Looks through the layers of an image that somebody else lays out, and refuses what would not be laid out here.
//!
//! What is passed on though it would not be laid out here, and why that is harmless:
//!
//! - Set-user-id, set-group-id and file capabilities: containers can gain nothing by them.
//! - Devices in `dev`, which images have that are made of whole systems: something else is mounted there, and a container
//!   may use only the devices that it is given. Whoever lays out looks users up in files of the image with more rights
//!   than that, so these must not be links where there is a device, nor may a link lead to where anything is put.
//! - Extended attributes for users, lists of who may access, and others that only say something to a program.
//!
//! Refused is what whoever lays out would take for something else than the tar that is looked through, what would hang
//! it, and attributes by which the kernel lays file systems over each other or labels for its own modules.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
};

use super::{
    Archive, LayerError, Room,
    archive::{Entry, Kind},
    parts,
};
use crate::image::shown;

/// How compressed files begin, which would be unpacked on the way: gzip, bzip2, xz and Zstandard.
const COMPRESSED: [&[u8]; 4] =
    [&[0x1f, 0x8b, 0x08], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];

/// How a frame begins that Zstandard skips, after a first byte whose upper half is 5.
const SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Bytes that tell whether a file is compressed.
const START: usize = 6;

/// Where users are looked up before a container runs.
const USERS: [&[&[u8]]; 3] = [&[b"etc"], &[b"etc", b"passwd"], &[b"etc", b"group"]];

/// What was seen of the layers of one image.
#[derive(Default)]
pub(crate) struct Survey {
    hasher: RandomState,
    /// Digests of the names of symbolic links.
    links: HashSet<u64>,
    /// Whether there is a device.
    devices: bool,
    /// What must not be where there is one.
    deceptive: Option<String>,
}

impl Survey {
    /// Checks the tar of `size` bytes that `layer` reads, to its very end: that it is one, and nothing else to anybody,
    /// that no name leads out of it, that what it makes is within the bounds of its size and harmless.
    pub(crate) fn layer(&mut self, mut layer: impl Read, size: u64) -> Result<(), LayerError> {
        let mut start = Vec::new();
        let read = (&mut layer).take(START as u64).read_to_end(&mut start);
        read.map_err(LayerError::reading)?;
        if is_compressed(&start) {
            return Err(LayerError::bad("it looks compressed"));
        }
        let mut room = Room::of(size);
        // A digest of each name is enough: two that are taken for one are counted once.
        let mut known = HashSet::new();
        let mut archive = Archive::new(start.chain(layer));
        while let Some(entry) = archive.next()? {
            room.take()?;
            let path = parts(&entry.path)?;
            for end in 1..path.len() {
                if known.insert(self.hasher.hash_one(&path[..end])) {
                    room.take()?;
                }
            }
            known.insert(self.hasher.hash_one(&path[..]));
            self.look(&entry, &path)?;
        }
        io::copy(&mut archive.into_rest(), &mut io::sink()).map_err(LayerError::reading)?;
        Ok(())
    }

    /// Checks what only all layers together tell.
    pub(crate) fn end(self) -> Result<(), LayerError> {
        match self.deceptive {
            Some(reason) if self.devices => {
                Err(LayerError::bad(format!("there is a device, and {reason}")))
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, entry: &Entry, path: &[&[u8]]) -> Result<(), LayerError> {
        let name = || shown(path.join(&b'/'));
        for (attribute, _) in &entry.attributes {
            let kernel = attribute.starts_with(b"trusted.") || attribute.starts_with(b"security.");
            if kernel && attribute != b"security.capability" {
                let attribute = shown(attribute);
                return Err(LayerError::bad(format!("{} has the attribute {attribute}", name())));
            }
        }
        match entry.kind {
            Kind::Fifo => return Err(LayerError::bad(format!("{} is a named pipe", name()))),
            Kind::Other => return Err(LayerError::bad(format!("{} is of no known kind", name()))),
            Kind::Device => {
                if path.len() < 2 || path[0] != b"dev" {
                    return Err(LayerError::bad(format!("{} is a device outside of dev", name())));
                }
                self.devices = true;
            }
            Kind::File | Kind::Folder | Kind::Symlink | Kind::HardLink => {}
        }
        let is_link = matches!(entry.kind, Kind::Symlink | Kind::HardLink);
        if is_link && USERS.contains(&path) {
            self.deceptive.get_or_insert_with(|| format!("{} is a link", name()));
        }
        let target = if entry.kind == Kind::HardLink { parts(&entry.link)? } else { Vec::new() };
        if self.leads_on(path) || self.leads_on(&target) {
            self.deceptive.get_or_insert_with(|| format!("{} is put behind a link", name()));
        }
        if entry.kind == Kind::Symlink {
            self.links.insert(self.hasher.hash_one(path));
        }
        Ok(())
    }

    /// Whether there is a symbolic link on the way to a name.
    fn leads_on(&self, path: &[&[u8]]) -> bool {
        (1..path.len()).any(|end| self.links.contains(&self.hasher.hash_one(&path[..end])))
    }
}

fn is_compressed(start: &[u8]) -> bool {
    let is_skipped = start.first().is_some_and(|first| first >> 4 == 5)
        && start.get(1..).is_some_and(|rest| rest.starts_with(&SKIPPED));
    is_skipped || COMPRESSED.iter().any(|magic| start.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    type Named<'a> = (&'a [u8], EntryType, &'a str);

    fn header(name: &[u8], kind: EntryType, link: &str, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o4755);
        header.set_cksum();
        header
    }

    fn layer(names: impl IntoIterator<Item = String>) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for name in names {
            builder.append(&header(name.as_bytes(), EntryType::Regular, "", 0), &b""[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn survey_of(layer: &[u8]) -> Result<(), LayerError> {
        let mut survey = Survey::default();
        survey.layer(layer, layer.len() as u64)?;
        survey.end()
    }

    fn survey_of_image(layers: &[&[Named<'_>]]) -> Result<(), LayerError> {
        let mut survey = Survey::default();
        for entries in layers {
            let mut builder = Builder::new(Vec::new());
            for (name, kind, link) in *entries {
                builder.append(&header(name, *kind, link, 0), &b""[..]).unwrap();
            }
            let bytes = builder.into_inner().unwrap();
            survey.layer(&bytes[..], bytes.len() as u64)?;
        }
        survey.end()
    }

    #[test]
    fn what_would_be_unpacked_is_refused() {
        let starts: [&[u8]; 7] = [
            &[0x1f, 0x8b, 0x08, 0x04],
            b"BZh9",
            &[0xfd, b'7', b'z', b'X', b'Z'],
            &[0x28, 0xb5, 0x2f, 0xfd],
            &[0x50, 0x2a, 0x4d, 0x18],
            &[0x5f, 0x2a, 0x4d, 0x18],
            &[0x1f, 0x8b, 0x08],
        ];
        for start in starts {
            let result = survey_of_image(&[&[(start, EntryType::Regular, "")]]);
            assert!(
                matches!(&result, Err(LayerError::Bad { reason }) if reason.contains("compressed")),
                "{start:?}: {result:?}"
            );
        }
        for start in [&b"BZ"[..], &[0x1f, 0x8b], &[0x60, 0x2a, 0x4d, 0x18], b"P*M"] {
            survey_of_image(&[&[(start, EntryType::Regular, "")]]).unwrap();
        }
    }

    #[test]
    fn what_would_hang_or_deceive_is_refused() {
        use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
        let device: Named<'_> = (b"dev/console", Char, "");
        let users: Named<'_> = (b"etc/passwd", Symlink, "/srv/passwd");
        let good: [&[&[Named<'_>]]; 5] = [
            &[&[device, (b"./dev/sda", Block, ""), (b"etc/passwd", Regular, "")]],
            &[&[users, (b"etc/group", Link, "etc/passwd")]],
            &[&[(b"bin", Symlink, "usr/bin"), (b"bin/sh", Regular, "")]],
            &[&[device, (b"bin", Symlink, "usr/bin"), (b"usr/bin/sh", Link, "usr/bin/dash")]],
            &[&[(b"bin/su", Regular, "")]],
        ];
        for layers in good {
            survey_of_image(layers).unwrap();
        }
        let bad: [&[&[Named<'_>]]; 13] = [
            &[&[(b"etc/passwd", Fifo, "")]],
            &[&[(b"srv/deep/pipe", Fifo, "")]],
            &[&[(b"x", EntryType::new(b'?'), "")]],
            &[&[(b"etc/passwd", Char, "")]],
            &[&[(b"dev", Char, "")]],
            &[&[(b"srv/sda", Block, "")]],
            &[&[device, users]],
            &[&[users], &[device]],
            &[&[device], &[users]],
            &[&[device, (b"etc", Symlink, "dev")]],
            &[&[device, (b"etc/group", Link, "dev/console")]],
            &[&[(b"dev", Symlink, "etc"), (b"dev/passwd", Char, "")]],
            &[&[
                device,
                (b"etc", Directory, ""),
                (b"x", Symlink, "dev"),
                (b"y", Link, "x/console"),
            ]],
        ];
        for layers in bad {
            let result = survey_of_image(layers);
            assert!(matches!(result, Err(LayerError::Bad { .. })), "{layers:?}: {result:?}");
        }
    }

    #[test]
    fn attributes_of_the_kernel_are_refused() {
        let survey_of = |attribute: &str| {
            let key = format!("SCHILY.xattr.{attribute}");
            let mut builder = Builder::new(Vec::new());
            builder.append_pax_extensions([(&*key, &b"y"[..])]).unwrap();
            builder.append(&header(b"x", EntryType::Directory, "", 0), &b""[..]).unwrap();
            survey_of(&builder.into_inner().unwrap())
        };
        for good in ["user.note", "security.capability", "system.posix_acl_access"] {
            survey_of(good).unwrap();
        }
        for bad in ["trusted.overlay.redirect", "security.selinux", "security.capability2"] {
            let result = survey_of(bad);
            assert!(matches!(result, Err(LayerError::Bad { .. })), "{bad}: {result:?}");
        }
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
