//! Mappings: data files that relate a vendor protocol to the union, checked and compiled.
#![forbid(unsafe_code)]

pub mod edit;
