//! End-to-end tests live in `it/`; the Solidity tests in `contracts/`.
