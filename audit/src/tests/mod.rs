//! What a log promises, broken on purpose.

mod clocks;
mod consistency;
mod crash;
mod damage;
mod disk;
mod ledgers;
mod lines;
mod path;
mod random;
mod vectors;
mod witness;
mod world;
