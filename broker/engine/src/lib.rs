//! The transformation engine: commands whose lowering reads stored data, or whose object another agent owns.
#![forbid(unsafe_code)]
