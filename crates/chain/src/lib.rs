//! The connection to an Ethereum chain: transactions, and events with their cursor
