//! Tests of the event reader against a node whose chain can be reorganised at will.

mod events;
mod node;
