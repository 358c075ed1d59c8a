//! Bytes <-> native values. A wire form here knows no hypervisor, no union and no mapping.
//!
//! ```text
//! limits    every limit of every form, in one file
//! xml       a strict, bounded, borrowed element tree; escaping
//! soap      SOAP 1.1 envelopes: decode into the tree, encode without white space
//! datetime  xsd:dateTime <-> Unix milliseconds
//! xdr       XDR values by a schema given as text, and the packets that carry them
//! ```
#![forbid(unsafe_code)]

pub mod datetime;
pub mod limits;
pub mod soap;
pub mod xdr;
pub mod xml;
