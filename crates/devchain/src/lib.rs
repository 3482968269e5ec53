//! An embedded Ethereum development chain
