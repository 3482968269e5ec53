//! Messages on a stream: one JSON value each way, ended by the end of its direction.

use std::{io, sync::Arc, time::Duration};

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};
use roadstead_core::protocol::MAX_MESSAGE;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Semaphore, TryAcquireError},
    time::timeout,
};

/// From the opening of a stream to the end of its question: who stalls must not hold a stream for long.
const READ_TIME: Duration = Duration::from_secs(10);

/// What a message may have without counting as large. Nearly all are smaller.
const PLAIN_MESSAGE: usize = 4 << 10;

/// The most large messages that are read at once, from all peers together.
const MAX_LARGE: usize = 128;

/// Why a message is not sent or not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// The other end would not read it.
    #[error("the message has {0} bytes; at most {MAX_MESSAGE} are sent")]
    TooLong(usize),
    /// It is no JSON of the protocol.
    #[error("the message is malformed")]
    Malformed(#[from] serde_json::Error),
}

pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE { Err(MessageError::TooLong(bytes.len())) } else { Ok(bytes) }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Moves messages as bytes; what they mean is judged apart from the network.
#[derive(Clone, Debug)]
pub(crate) struct MessageCodec {
    large: Arc<Semaphore>,
}

impl MessageCodec {
    async fn read(&self, stream: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        let mut permit = None;
        loop {
            let length = message.len();
            message.resize(length + PLAIN_MESSAGE, 0);
            let read = stream.read(&mut message[length..]).await?;
            message.truncate(length + read);
            if read == 0 {
                break;
            }
            if message.len() > MAX_MESSAGE {
                let reason = format!("a message of more than {MAX_MESSAGE} bytes came");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            if message.len() > PLAIN_MESSAGE && permit.is_none() {
                permit = Some(self.large.try_acquire().map_err(too_many)?);
            }
        }
        if message.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(message)
    }
}

impl Default for MessageCodec {
    fn default() -> Self {
        Self { large: Arc::new(Semaphore::new(MAX_LARGE)) }
    }
}

impl Codec for MessageCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        timeout(READ_TIME, self.read(stream)).await?
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&message).await
    }
}

fn too_many(_: TryAcquireError) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "too many large messages are being read")
}

#[cfg(test)]
mod tests {
    use futures_util::io::Cursor;
    use proptest::prelude::*;
    use roadstead_core::protocol::{Request, Response};

    use super::*;

    #[tokio::test]
    async fn a_message_is_read_up_to_the_bound_and_no_further() {
        let codec = MessageCodec::default();
        for (length, fits) in [(1, true), (MAX_MESSAGE, true), (MAX_MESSAGE + 1, false)] {
            let read = codec.read(&mut Cursor::new(vec![b' '; length])).await;
            assert_eq!(read.is_ok_and(|message| message.len() == length), fits, "{length}");
        }
        let nothing = codec.read(&mut Cursor::new([])).await.unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn only_so_many_large_messages_are_read_at_once() {
        let codec = MessageCodec { large: Arc::new(Semaphore::new(1)) };
        let other = codec.large.try_acquire().unwrap();
        codec.read(&mut Cursor::new([b' '; PLAIN_MESSAGE])).await.unwrap();
        let large = vec![b' '; PLAIN_MESSAGE + 1];
        let refused = codec.read(&mut Cursor::new(&large)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        drop(other);
        codec.read(&mut Cursor::new(&large)).await.unwrap();
        codec.read(&mut Cursor::new(&large)).await.expect("the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stalls_is_not_waited_for() {
        let mut codec = MessageCodec::default();
        let mut stream = Cursor::new(*b"\"prof").chain(Stalled);
        let protocol = StreamProtocol::new("/test");
        let error = codec.read_request(&protocol, &mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    struct Stalled;

    impl AsyncRead for Stalled {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Pending
        }
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        // Two quotes and the name of the variant stand around the text.
        let frame = encode(&Response::Profile(String::new())).unwrap().len();
        let profile = |length| encode(&Response::Profile("x".repeat(length)));
        assert_eq!(profile(MAX_MESSAGE - frame).unwrap().len(), MAX_MESSAGE);
        assert!(matches!(
            profile(MAX_MESSAGE - frame + 1),
            Err(MessageError::TooLong(length)) if length == MAX_MESSAGE + 1
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let read = decode::<Request>(&bytes);
            prop_assert!(matches!(read, Ok(Request::Profile) | Err(MessageError::Malformed(_))));
        }
    }
}
