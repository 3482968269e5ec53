//! Values that do not show themselves: they are wiped when dropped, and `Debug` prints none of them.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A text that only the container may see, such as the value of an environment variable.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text over.
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl Deref for SecretText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(…)")
    }
}

/// The key of one sealed chunk: 32 bytes that belong to exactly one plaintext.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ChunkKey([u8; Self::LENGTH]);

impl ChunkKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// Takes the bytes of a key over.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for ChunkKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ChunkKey(…)")
    }
}

impl Serialize for ChunkKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(alloy_primitives::hex::encode(self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for ChunkKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut key = Self([0; Self::LENGTH]);
        // One key has one name. The decoder alone would take a prefix and upper case as well.
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.bytes().all(is_digit)
            && alloy_primitives::hex::decode_to_slice(text.as_bytes(), &mut key.0).is_ok()
        {
            return Ok(key);
        }
        Err(D::Error::custom("not the 64 lower-case hexadecimal digits of a key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SecretText::new("hunter2".into())), "SecretText(…)");
        assert_eq!(format!("{:?}", ChunkKey::new([7; 32])), "ChunkKey(…)");
    }

    #[test]
    fn a_key_has_one_written_form() {
        let key = ChunkKey::new([0xab; 32]);
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(text, format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<ChunkKey>(&text).unwrap(), key);
        let digits = "ab".repeat(32);
        for other in [
            "abab".into(),
            digits.to_uppercase(),
            format!("0x{digits}"),
            format!("{digits}ab"),
            format!("{}g", &digits[1..]),
        ] {
            assert!(serde_json::from_str::<ChunkKey>(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }
}
