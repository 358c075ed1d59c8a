//! Lanes: the one place that orders commands to one object, and performs them.
#![forbid(unsafe_code)]

pub mod target;

pub use target::{NativeCall, Progress, Target, TargetError};
