//! Tests of the store as a whole.

mod crash;
mod file;
mod flips;
mod history;
mod model;
mod repairs;
mod rooms;
