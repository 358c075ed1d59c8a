//! Tests of the store as a whole.

mod crash;
mod flips;
mod history;
mod model;
mod repairs;
