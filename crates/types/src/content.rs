//! Content ids: what a block is called by anybody who speaks IPFS.

use alloy_primitives::B256;
use cid::{Cid, multihash::Multihash};

/// Multicodec of a block that is only bytes.
pub const RAW: u64 = 0x55;

/// Multicodec of a node of a UnixFS graph.
pub const DAG_PB: u64 = 0x70;

/// Multihash code of SHA-256.
pub const SHA2_256: u64 = 0x12;

/// The largest block that is taken, in bytes: what bitswap carries today. A larger one is refused wherever it comes
/// from. Blocks of up to 1 MiB are taken by every IPFS implementation, and none that is made here is larger.
pub const MAX_BLOCK: usize = 2 << 20;

/// The content id (version 1) of a block whose SHA-256 digest is `digest`.
pub fn content_id(codec: u64, digest: B256) -> Cid {
    let hash = Multihash::wrap(SHA2_256, digest.as_slice()).expect("32 bytes fit into a multihash");
    Cid::new_v1(codec, hash)
}

/// The SHA-256 digest inside a content id, or `None` where it is made with another hash.
pub fn digest_of(cid: &Cid) -> Option<B256> {
    let hash = cid.hash();
    (hash.code() == SHA2_256).then(|| B256::try_from(hash.digest()).ok())?
}

/// The written form of a content id, for fields: `#[serde(with = "content::text")]`.
pub mod text {
    use cid::Version;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::Cid;

    /// Writes the id as everybody writes it: version 1, in base 32.
    pub fn serialize<S: Serializer>(cid: &Cid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(cid)
    }

    /// Reads the written form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cid, D::Error> {
        let text = String::deserialize(deserializer)?;
        // One block has one name: neither another base nor the older version, which names the same block.
        let has_one_form = |cid: &Cid| cid.version() == Version::V1 && cid.to_string() == text;
        let cid = text.parse().ok().filter(has_one_form);
        cid.ok_or_else(|| D::Error::custom("not a content id of version 1 in base 32"))
    }
}

#[cfg(test)]
mod tests {
    use cid::multibase::Base;

    use super::*;

    #[test]
    fn a_field_holds_the_written_form() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Field {
            #[serde(with = "text")]
            root: Cid,
        }
        let field = Field { root: content_id(RAW, B256::ZERO) };
        let json = serde_json::to_string(&field).unwrap();
        assert_eq!(json, format!(r#"{{"root":"{}"}}"#, field.root));
        assert_eq!(serde_json::from_str::<Field>(&json).unwrap(), field);
        let id = content_id(DAG_PB, B256::ZERO);
        let older = Cid::new_v0(*id.hash()).unwrap();
        let base58 = id.to_string_of_base(Base::Base58Btc).unwrap();
        let upper = id.to_string_of_base(Base::Base32Upper).unwrap();
        let path = format!("/ipfs/{id}");
        for other in ["bafk".into(), older.to_string(), base58, upper, path] {
            let json = format!(r#"{{"root":"{other}"}}"#);
            assert!(serde_json::from_str::<Field>(&json).is_err(), "{other}");
        }
    }

    #[test]
    fn an_empty_raw_block_is_called_as_everywhere() {
        // SHA-256 of nothing; the id is what Kubo prints for an empty raw leaf.
        let digest = "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest: B256 = digest.parse().unwrap();
        let cid = content_id(RAW, digest);
        assert_eq!(cid.to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
        assert_eq!(digest_of(&cid), Some(digest));
    }
}
