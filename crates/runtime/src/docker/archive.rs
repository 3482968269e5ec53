//! An image as `docker load` takes it, written while it is sent.
//!
//! ```text
//! 0.tar, 1.tar ...    each layer once
//! config.json
//! manifest.json       what makes an image of them; comes last
//! ```
//!
//! An archive that was given up ends in an error, never in an end: Docker then forgets what came.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tar::Header;
use tokio::sync::mpsc;

const BLOCK: u64 = 512;

/// Pieces that wait to be sent.
const PIECES: usize = 4;

/// Whoever the archive went to does not take any more, and says why elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

enum Piece {
    Some(Bytes),
    End,
}

/// Where an archive is written. Dropped before [`Self::end`], it gives the archive up.
#[derive(Debug)]
pub(super) struct Writer {
    sender: mpsc::Sender<Piece>,
}

/// An empty archive, and what is sent of it.
pub(super) fn archive() -> (Writer, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let stream = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver: mpsc::Receiver<Piece> = receiver?;
        match receiver.recv().await {
            Some(Piece::Some(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    });
    (Writer { sender }, stream)
}

impl Writer {
    /// Begins a file of exactly `size` bytes, which [`Self::write`] adds and [`Self::fill`] ends.
    pub(super) async fn begin(&self, name: &str, size: u64) -> Result<(), Closed> {
        self.write(header(name, size)).await
    }

    pub(super) async fn write(&self, bytes: Bytes) -> Result<(), Closed> {
        self.sender.send(Piece::Some(bytes)).await.map_err(|_| Closed)
    }

    /// Fills the last block of a file of `size` bytes.
    pub(super) async fn fill(&self, size: u64) -> Result<(), Closed> {
        let padding = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0);
        self.write(vec![0; padding].into()).await
    }

    /// Writes a whole file.
    pub(super) async fn file(&self, name: &str, content: Vec<u8>) -> Result<(), Closed> {
        let size = content.len() as u64;
        self.begin(name, size).await?;
        self.write(content.into()).await?;
        self.fill(size).await
    }

    /// Says that this is all of it.
    pub(super) async fn end(self) -> Result<(), Closed> {
        self.write(Bytes::from_static(&[0; 1_024])).await?;
        self.sender.send(Piece::End).await.map_err(|_| Closed)
    }
}

/// The header of a file. `name` is short, and plain text.
fn header(name: &str, size: u64) -> Bytes {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_archive_is_a_tar_with_its_files_in_order() {
        let (writer, stream) = archive();
        let write = async move {
            writer.file("0.tar", vec![7; 700]).await.unwrap();
            writer.file("config.json", b"{}".to_vec()).await.unwrap();
            writer.file("empty", Vec::new()).await.unwrap();
            writer.end().await.unwrap();
        };
        let (pieces, ()) = tokio::join!(stream.collect::<Vec<_>>(), write);
        let bytes: Vec<u8> = pieces.into_iter().flat_map(Result::unwrap).collect();
        let mut tar = tar::Archive::new(&bytes[..]);
        let mut found = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().display().to_string(), content));
        }
        let expected =
            [("0.tar", vec![7; 700]), ("config.json", b"{}".to_vec()), ("empty", vec![])];
        assert_eq!(found, expected.map(|(name, content)| (name.to_owned(), content)));
    }

    #[tokio::test]
    async fn an_archive_that_is_given_up_ends_in_an_error() {
        let (writer, stream) = archive();
        let write = async move { writer.file("0.tar", vec![1]).await.unwrap() };
        let (pieces, ()) = tokio::join!(stream.collect::<Vec<_>>(), write);
        let (last, before) = pieces.split_last().unwrap();
        assert!(last.is_err() && before.iter().all(Result::is_ok));
    }
}
