//! Against a private libvirtd: the whole crate, in the order of a target's life.

mod lane;
mod native;
mod rig;
mod target;
mod wire;
