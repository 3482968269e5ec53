//! What the Rust side signs is what the contract accepts.

use alloy::{
    primitives::{B256, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
    signers::SignerSync,
    sol_types::SolCall,
};
use roadstead_abi::{Payment, Revert, voucher_digest};
use roadstead_chain::Wallet;
use roadstead_publisher::{OpenRequest, open};
use roadstead_types::{Bill, JobId, JobStatus, Timestamp};

use crate::market::{EVERY_CHAIN, TestMarket, amount, signer};

#[tokio::test]
async fn job_ids_are_those_of_the_contract() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let client = market.foreign(&market.local.publisher);
        for salt in [0, 1, u64::MAX] {
            let terms = market.terms(salt);
            let call = Payment::jobIdCall { terms: (&terms).into() };
            let request = TransactionRequest::default()
                .to(market.local.market.contracts.payment)
                .input(call.abi_encode().into());
            let answer = client.call(request).await.unwrap();
            let id = Payment::jobIdCall::abi_decode_returns(&answer).unwrap();
            assert_eq!(JobId(id), ports.reader.job_id(&terms), "{chain}");
        }
    }
}

#[tokio::test]
async fn a_voucher_signed_here_settles_there() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let terms = market.terms(1);
        let request = OpenRequest {
            terms: terms.clone(),
            deposit: amount(1_000_000),
            source: Default::default(),
        };
        let job = open(&ports, request).await.unwrap().job;
        let opened = ports.reader.job(job).await.unwrap();
        market.pass(3_700).await;

        let bill = Bill {
            cumulative: amount(300_000),
            until: Timestamp(opened.paid_until.0 + 3_600),
            usage_root: B256::repeat_byte(7),
        };
        let payment = market.local.market.contracts.payment;
        let digest = voucher_digest(&market.local.market.domain(), job, &bill);
        let settle = |wallet: &Wallet| {
            let signature = signer(wallet).sign_hash_sync(&digest).unwrap();
            let call = Payment::settleCall {
                terms: (&terms).into(),
                bill: (&bill).into(),
                signature: signature.as_bytes().to_vec().into(),
                payOut: true,
            };
            TransactionRequest::default().to(payment).input(call.abi_encode().into())
        };

        // A client each: this one counts the nonce of a transaction that it could not send.
        let provider = || market.foreign(&market.local.provider);
        let forged = provider().send_transaction(settle(&market.local.provider)).await;
        let refused = forged.unwrap_err();
        let data = refused.as_error_resp().unwrap().as_revert_data().unwrap();
        assert!(Revert::decode(&data).to_string().starts_with("the voucher is not signed by"));

        let sent = provider().send_transaction(settle(&market.local.publisher)).await;
        assert!(sent.unwrap().get_receipt().await.unwrap().status(), "{chain}");
        let settled = ports.reader.job(job).await.unwrap();
        assert_eq!(settled.status(), JobStatus::Open);
        assert_eq!((settled.paid, settled.paid_until), (bill.cumulative, bill.until));
        let earned = ports.reader.token_balance(terms.provider).await.unwrap();
        assert_eq!(earned, U256::from(300_000));
    }
}
