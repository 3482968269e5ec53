//! Bindings of the contracts, EIP-712 structs and reverts as typed errors
