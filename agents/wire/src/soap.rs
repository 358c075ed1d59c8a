//! SOAP 1.1 envelopes.
//!
//! ```text
//! decode   bytes -> Envelope: an optional header and the one element of the body
//! encode   calls -> bytes: no white space between elements, fixed prefixes, pre-escaped fragments
//! ```

pub mod decode;
pub mod encode;

#[cfg(test)]
mod tests;

pub use decode::{Envelope, SoapError, decode};
pub use encode::{Encoder, Mark, fragment};

/// The namespace of SOAP 1.1 envelopes.
pub const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// The content type of requests and answers.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";
