//! Calldata of a top-up, read back.

use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use roadstead_types::{JobId, TokenAmount};

use crate::Payment;

/// The job that a call of the payment contract adds to, and how much; `None` where it is another call.
pub fn top_up_of(input: &[u8]) -> Option<(JobId, TokenAmount)> {
    let call = Payment::topUpCall::abi_decode_validate(input).ok()?;
    let amount = TokenAmount::try_from(U256::from(call.amount)).ok()?;
    Some((JobId(call.job), amount))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn a_top_up_is_read_back_and_nothing_else_is_one() {
        let (job, amount) = (JobId(B256::repeat_byte(7)), TokenAmount::MAX);
        let call = Payment::topUpCall { job: job.0, amount: amount.into() }.abi_encode();
        assert_eq!(top_up_of(&call), Some((job, amount)));
        let withdraw = Payment::withdrawCall { to: Default::default(), amount: U256::from(1) };
        for other in [&withdraw.abi_encode()[..], &call[..call.len() - 1], &[]] {
            assert_eq!(top_up_of(other), None);
        }
    }
}
