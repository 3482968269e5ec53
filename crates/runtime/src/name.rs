//! The name of an engine: by it what the engine makes is known outside of its folder.

use std::{fmt::Write as _, io, path::Path};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::files::{FileError, failed, read_bounded, write_json};

/// The name that `path` keeps, which is made up once.
pub(crate) fn own_name(path: &Path) -> Result<String, FileError> {
    if let Some(known) = read_bounded(path, 64)? {
        let known = serde_json::from_slice(&known).map_err(io::Error::from);
        return known.map_err(failed("understand", path));
    }
    let mut random = [0_u8; 8];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(failed("name", path))?;
    let mut name = "roadstead-".to_owned();
    for byte in random {
        // Writing to a text does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    write_json(path, &name)?;
    Ok(name)
}
