//! What every engine must do, by the contract of its port.
//!
//! Each test runs once with each engine, but for those that are about one engine's own parts. It gets an engine with a
//! folder of its own and images made from the machine's static busybox. When it is over, however it ends, everything is
//! removed through the port, and nothing may be left: no process, no control group, no mount, no folder, and no
//! container, network or image with Docker. The tests ask through [`Engine`](roadstead_core::ports::Engine) alone, but
//! for what they do to shims and behind Docker's back.

mod crash;
mod docker;
mod dockerd;
mod fixture;
mod half_way;
mod image;
mod isolation;
mod life;
mod limits;
mod network;
mod prepare;
