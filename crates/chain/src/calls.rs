//! Calls of the market as addresses and calldata.

use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolCall,
};
use roadstead_abi::{Payment, Registry, TestToken};
use roadstead_core::ports::Call;
use roadstead_types::Market;

/// Whom to call with what.
pub(crate) fn encode(market: &Market, call: &Call) -> (Address, Bytes) {
    let registry = market.contracts.registry;
    let payment = market.contracts.payment;
    let (to, data) = match call {
        Call::Register(registration) => {
            (registry, Registry::registerCall { registration: registration.into() }.abi_encode())
        }
        Call::UpdateRegistration(registration) => {
            (registry, Registry::updateCall { registration: registration.into() }.abi_encode())
        }
        Call::Approve { amount } => {
            let approve = TestToken::approveCall { spender: payment, value: (*amount).into() };
            (market.token.address, approve.abi_encode())
        }
        Call::Open { terms, deposit, source } => {
            let open = Payment::openCall {
                terms: terms.into(),
                deposit: (*deposit).into(),
                source: source.clone(),
            };
            (payment, open.abi_encode())
        }
        Call::TopUp { job, amount } => {
            let top_up = Payment::topUpCall { job: job.0, amount: (*amount).into() };
            (payment, top_up.abi_encode())
        }
        Call::ClaimStartFee(terms) => {
            let claim = Payment::claimStartFeeCall { terms: terms.into(), payOut: true };
            (payment, claim.abi_encode())
        }
        Call::Settle { terms, voucher } => {
            let settle = Payment::settleCall {
                terms: terms.into(),
                bill: (&voucher.bill).into(),
                signature: voucher.signature.0.into(),
                payOut: true,
            };
            (payment, settle.abi_encode())
        }
        Call::SettleAndClose { terms, voucher } => {
            let close = Payment::settleAndCloseCall {
                terms: terms.into(),
                bill: (&voucher.bill).into(),
                signature: voucher.signature.0.into(),
                payOut: true,
            };
            (payment, close.abi_encode())
        }
        Call::Decline(terms) => {
            (payment, Payment::declineCall { terms: terms.into() }.abi_encode())
        }
        Call::BeginClose(terms) => {
            (payment, Payment::beginCloseCall { terms: terms.into() }.abi_encode())
        }
        Call::Finalize(terms) => {
            (payment, Payment::finalizeCall { terms: terms.into() }.abi_encode())
        }
        Call::Withdraw { to, amount } => {
            (payment, Payment::withdrawCall { to: *to, amount: *amount }.abi_encode())
        }
    };
    (to, data.into())
}
