//! What the `sol!` macro makes of `abi/*.json`.

#![allow(
    clippy::all,
    clippy::use_self,
    reason = "generated; the documentation is in contracts/interfaces"
)]

use alloy_sol_types::sol;

sol!(
    #[derive(Debug, PartialEq, Eq)]
    Payment,
    "../../abi/Payment.json"
);
sol!(
    #[derive(Debug, PartialEq, Eq)]
    Registry,
    "../../abi/Registry.json"
);
sol!(
    #[derive(Debug, PartialEq, Eq)]
    TestToken,
    "../../abi/TestToken.json"
);
