//! End-to-end tests: the built command as a user runs it, and the clients' libraries on real chains.
//!
//! What is about a chain runs on each of [`market::EVERY_CHAIN`], the embedded one and Foundry's anvil. A part that is
//! missing fails the test and says how to install it. Everything listens on port 0 and is gone when the test ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod cast;
mod command;
mod commands;
mod daemon;
mod demo;
mod devnet;
mod engine;
mod hosting;
mod image;
mod intents;
mod market;
mod market_life;
mod metering;
mod process;
mod provider;
mod publisher;
mod rent;
mod scripts;
mod voucher;
