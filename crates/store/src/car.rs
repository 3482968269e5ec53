//! The CAR format, version 1: a header with one root, then blocks, each with its length and its id.
//!
//! <https://ipld.io/specs/transport/car/carv1/>

use roadstead_types::Cid;

/// The header: its length as a varint, then the DAG-CBOR map `{roots: [root], version: 1}`.
pub(crate) fn header(root: &Cid) -> Vec<u8> {
    let id = root.to_bytes();
    let mut map = Vec::with_capacity(id.len() + 24);
    // A map of two; the text "roots"; an array of one; tag 42, a content id.
    map.extend_from_slice(b"\xa2\x65roots\x81\xd8\x2a");
    // Bytes: one that says "binary", then the id.
    let length = id.len() + 1;
    match u8::try_from(length) {
        Ok(short) if short < 24 => map.push(0x40 | short),
        Ok(short) => map.extend_from_slice(&[0x58, short]),
        Err(_) => unreachable!("an id holds at most 64 bytes of hash and three short varints"),
    }
    map.push(0);
    map.extend_from_slice(&id);
    map.extend_from_slice(b"\x67version\x01");
    let mut header = varint(map.len());
    header.extend_from_slice(&map);
    header
}

/// What stands before a block of this length: the length of id and block as a varint, and the id.
pub(crate) fn section(cid: &Cid, length: usize) -> Vec<u8> {
    let id = cid.to_bytes();
    let mut section = varint(id.len() + length);
    section.extend_from_slice(&id);
    section
}

/// Unsigned LEB128.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit into a byte");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use roadstead_types::content::{RAW, content_id};

    use super::*;
    use crate::block::digest;

    #[test]
    fn the_header_is_the_one_of_the_specification() {
        let cid = content_id(RAW, digest(b""));
        let mut expected = b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00".to_vec();
        expected.extend_from_slice(&cid.to_bytes());
        expected.extend_from_slice(b"\x67version\x01");
        assert_eq!(header(&cid), expected);
        let identity = b"\x19\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01";
        assert_eq!(header(&"bafkqaaa".parse().unwrap()), *identity.as_slice());
    }

    #[test]
    fn a_section_says_how_long_it_is() {
        let cid = content_id(RAW, digest(b"x"));
        assert_eq!(section(&cid, 1)[0], 37);
        assert_eq!(section(&cid, 92)[..3], [0x80, 0x01, 0x01]);
        assert_eq!(section(&cid, 1)[1..], cid.to_bytes());
    }
}
