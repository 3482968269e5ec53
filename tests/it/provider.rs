//! `roadstead provider`, as a user runs it: a process of its own, beside a market and a publisher.

mod command;
mod life;
mod stage;
