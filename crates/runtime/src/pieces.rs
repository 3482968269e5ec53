//! A layer on its way from whoever reads it to whoever works on it in a thread that may block.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::embedded::layer::LayerError;

/// Pieces of a layer that wait to be worked on.
const PIECES: usize = 4;

/// What goes from the reader of a layer to whoever works on it.
pub(crate) enum Piece {
    Some(Bytes),
    /// All was read and is what it should be.
    End,
}

/// A layer as a stream of bytes, bounded by the size that it is said to have.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    left: u64,
    ended: bool,
}

impl Pieces {
    /// Those of a layer of `size` bytes, and where they are put.
    pub(crate) fn new(size: u64) -> (mpsc::Sender<Piece>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (sender, Self { receiver, current: Bytes::new(), left: size, ended: false })
    }

    /// Waits for the news that the layer is what it should be.
    pub(crate) fn expect_end(&mut self) -> io::Result<()> {
        let more = io::copy(self, &mut io::sink())?;
        debug_assert_eq!(more, 0, "a layer is read to its end");
        Ok(())
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Piece::Some(piece)) => {
                    let length = piece.len() as u64;
                    self.left = self.left.checked_sub(length).ok_or_else(|| {
                        io::Error::other(LayerError::bad("it is longer than it is said to be"))
                    })?;
                    self.current = piece;
                }
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let piece = self.current.split_to(buffer.len().min(self.current.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}
