//! Reasons to be frozen, as files have them.

use std::collections::BTreeSet;

use roadstead_core::ports::FreezeReason;

const REASONS: [(FreezeReason, &str); 2] =
    [(FreezeReason::Debt, "debt"), (FreezeReason::Idle, "idle")];

/// What a file says of these reasons.
pub(crate) fn names(reasons: &BTreeSet<FreezeReason>) -> Vec<String> {
    let known = REASONS.iter().filter(|(reason, _)| reasons.contains(reason));
    known.map(|(_, name)| (*name).to_owned()).collect()
}

/// The reasons that a file names.
pub(crate) fn of_names(names: &[String]) -> BTreeSet<FreezeReason> {
    let reason = |name: &String| REASONS.iter().find(|(_, known)| known == name);
    names.iter().filter_map(reason).map(|(reason, _)| *reason).collect()
}
