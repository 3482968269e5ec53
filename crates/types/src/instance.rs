//! The unit that an engine runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::JobId;

/// One running copy of a job's workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// Whose.
    pub job: JobId,
    /// Which copy, counted from 0.
    pub index: u16,
}

impl InstanceId {
    /// The first copy of a job.
    pub const fn first(job: JobId) -> Self {
        Self { job, index: 0 }
    }
}

/// `<64 hexadecimal digits>-<index>`, which is also a valid name of a file, a container and a control group.
impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{}", self.job.0, self.index)
    }
}

/// Not the written form of an instance's id.
#[derive(Debug, thiserror::Error)]
#[error("not <64 hexadecimal digits>-<index>")]
pub struct InvalidInstanceId;

impl std::str::FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceId> {
        let (job, index) = text.split_once('-').ok_or(InvalidInstanceId)?;
        let parsed = Self {
            job: job.parse().map_err(|_| InvalidInstanceId)?,
            index: index.parse().map_err(|_| InvalidInstanceId)?,
        };
        // One instance has one name: no upper case, no prefix, no leading zeros.
        if parsed.to_string() == text { Ok(parsed) } else { Err(InvalidInstanceId) }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn an_id_has_one_written_form() {
        let id = InstanceId { job: JobId(B256::repeat_byte(0xab)), index: 3 };
        let text = id.to_string();
        assert_eq!(text, format!("{}-3", "ab".repeat(32)));
        assert_eq!(text.parse::<InstanceId>().unwrap(), id);
        for other in [text.to_uppercase(), format!("0x{text}"), text.replace("-3", "-03")] {
            assert!(other.parse::<InstanceId>().is_err(), "{other}");
        }
    }
}
