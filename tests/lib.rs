//! Nothing but a place for `it/`, the end-to-end tests in Rust, and `contracts/`, the tests in Solidity.
