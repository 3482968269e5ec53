//! Reading what a user names: never more than it may have, whatever its metadata say.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("it is larger than {most} bytes")]
    TooLarge { most: u64 },
}

/// The text in a file of at most so many bytes. It is wiped when dropped, for it may be a key that was named by mistake.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<Zeroizing<String>, FileError> {
    let capacity = usize::try_from(most).unwrap_or_default().saturating_add(1);
    // Large enough from the start: what a text leaves behind when it grows is not wiped.
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    let mut bounded = File::open(path)?.take(most.saturating_add(1));
    match bounded.read_to_string(&mut text) {
        // It may have been cut within a character.
        _ if bounded.limit() == 0 => Err(FileError::TooLarge { most }),
        Ok(_) => Ok(text),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_too_large_is_an_error_and_never_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "abcd").unwrap();
        assert_eq!(**read_text(&path, 4).unwrap(), *"abcd");
        assert!(matches!(read_text(&path, 3), Err(FileError::TooLarge { most: 3 })));
        fs::write(&path, "aé").unwrap();
        assert!(matches!(read_text(&path, 1), Err(FileError::TooLarge { .. })));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path, 4), Err(FileError::Unreadable(_))));
        let endless = Path::new("/dev/zero");
        assert!(matches!(read_text(endless, 1 << 10), Err(FileError::TooLarge { .. })));
    }
}
