//! The whole process in a thread, against real sockets on the loopback: names stand at 127.18.0.0/15
//! and resolve to 127.50.0.0/16, which the tests' ground does not take for the host's own.

mod bounds;
mod hellos;
mod local;
mod names_and_addresses;
mod proxies;
mod random;
mod told;
mod world;

pub(crate) use world::*;
