//! Cuts a stream where its content says so, so that bytes that move are still cut at the same places.
//!
//! FastCDC as published in 2020, normalised by two levels, with a gear table that only the publisher knows.

use fastcdc::v2020::cut_gear;
use zeroize::Zeroizing;

use crate::format::MAX_RAW;

/// The shortest chunk but for a stream's last.
pub(crate) const SHORTEST: usize = 64 << 10;

/// Where the strict mask gives way to the loose one.
const AVERAGE: usize = 256 << 10;

/// Before the average: 20 bits of the hash must be zero.
const STRICT_MASK: u64 = 0x0000_d917_4753_7000;

/// After it: 16 bits.
const LOOSE_MASK: u64 = 0x0000_d903_0353_7000;

/// Room for some average chunks, so that what is left over is seldom moved to the front.
const BUFFER: usize = 4 * MAX_RAW;

/// A buffer that takes bytes in any pieces and gives chunks.
pub(crate) struct Chunker {
    gear: Zeroizing<[u64; 256]>,
    /// The same numbers doubled: the algorithm takes two bytes a step.
    doubled: Zeroizing<[u64; 256]>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Chunker {
    pub(crate) fn new(gear: Zeroizing<[u64; 256]>) -> Self {
        let doubled = Zeroizing::new(gear.map(|number| number << 1));
        Self { gear, doubled, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// Where the next bytes of the stream go; [`Self::filled`] says how many. Never empty while [`Self::cut`] has
    /// nothing to give.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// The first bytes of [`Self::space`] were written.
    pub(crate) fn filled(&mut self, length: usize) {
        self.end += length;
    }

    /// The next chunk, or `None` while more bytes are needed to know where it ends. `last` says that no more will come.
    pub(crate) fn cut(&mut self, last: bool) -> Option<Vec<u8>> {
        let ready = &self.buffer[self.start..self.end];
        if ready.is_empty() || (!last && ready.len() < MAX_RAW) {
            return None;
        }
        let (_, length) = cut_gear(
            ready,
            SHORTEST,
            AVERAGE,
            MAX_RAW,
            STRICT_MASK,
            LOOSE_MASK,
            STRICT_MASK << 1,
            LOOSE_MASK << 1,
            &*self.gear,
            &*self.doubled,
        );
        let chunk = ready[..length].to_vec();
        self.start += length;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roadstead_crypto::{DedupeSecret, sha256};

    use super::*;

    fn gear(byte: u8) -> Zeroizing<[u64; 256]> {
        DedupeSecret::from_bytes(&[byte; 32]).unwrap().gear()
    }

    /// Bytes without a pattern, the same every time.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 32);
        let mut block = sha256(b"noise");
        while bytes.len() < length {
            bytes.extend_from_slice(block.as_slice());
            block = sha256(block.as_slice());
        }
        bytes.truncate(length);
        bytes
    }

    fn chunks(gear: Zeroizing<[u64; 256]>, mut bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(gear);
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let space = chunker.space();
            let length = space.len().min(bytes.len()).min(step);
            assert!(length > 0);
            space[..length].copy_from_slice(&bytes[..length]);
            chunker.filled(length);
            bytes = &bytes[length..];
            chunks.extend(std::iter::from_fn(|| chunker.cut(false)));
        }
        chunks.extend(std::iter::from_fn(|| chunker.cut(true)));
        chunks
    }

    #[test]
    fn the_masks_are_those_of_the_algorithm() {
        let masks = fastcdc::v2020::select_masks(AVERAGE, fastcdc::v2020::Normalization::Level2);
        assert_eq!(masks, (STRICT_MASK, LOOSE_MASK));
    }

    #[test]
    fn cuts_follow_the_content() {
        let bytes = noise(12 << 20);
        let before = chunks(gear(7), &bytes, usize::MAX);
        assert_eq!(before.concat(), bytes);
        assert!(before.iter().all(|chunk| chunk.len() <= MAX_RAW));
        assert!(before[..before.len() - 1].iter().all(|chunk| chunk.len() >= SHORTEST));

        let moved = [b"something new", &*bytes].concat();
        let after = chunks(gear(7), &moved, usize::MAX);
        let kept = after.iter().filter(|chunk| before.contains(chunk)).count();
        assert!(kept + 3 >= before.len(), "{kept} of {}", before.len());
    }

    #[test]
    fn two_secrets_cut_at_different_places() {
        let bytes = noise(4 << 20);
        let lengths = |byte| -> Vec<_> {
            chunks(gear(byte), &bytes, usize::MAX).iter().map(Vec::len).collect()
        };
        assert_ne!(lengths(7), lengths(8));
    }

    #[test]
    fn what_never_changes_is_cut_at_the_maximum() {
        let lengths: Vec<_> =
            chunks(gear(7), &vec![0; 3 * MAX_RAW + 5], 4096).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_RAW, MAX_RAW, MAX_RAW, 5]);
        assert!(chunks(gear(7), &[], 1).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn how_the_bytes_arrive_changes_nothing(
            length in 0_usize..5 << 20,
            step in 1_usize..6 << 20,
        ) {
            let bytes = noise(length);
            let step = step.max(1000);
            prop_assert_eq!(chunks(gear(7), &bytes, step), chunks(gear(7), &bytes, usize::MAX));
        }
    }
}
