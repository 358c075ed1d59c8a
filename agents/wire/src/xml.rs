//! A strict, bounded XML element tree.
//!
//! The tree keeps the document's text once; names, values and texts are ranges of it, except those that held
//! references, CDATA or comments, which are kept decoded beside it. Elements are small copyable handles.
//!
//! Refused: other encodings than UTF-8, DOCTYPE, entities other than the five and character references, undeclared
//! prefixes, duplicate attributes, anything past [`crate::limits::XmlLimits`], anything that is not well-formed.
//! Text between the children of an element is kept when it is more than white space; comments and processing
//! instructions are dropped.

mod build;
pub mod escape;
mod tree;

#[cfg(test)]
mod tests;

pub use build::parse;
pub use tree::{Attribute, Document, Element};

/// The namespace of `xsi:type` and `xsi:nil`.
pub const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// The namespace of `xsd:string` and the other built-in types.
pub const XSD: &str = "http://www.w3.org/2001/XMLSchema";

/// Why a document was refused, and the byte at which that was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("XML refused at byte {position}: {cause}")]
pub struct XmlError {
    /// Offset into the document.
    pub position: usize,
    /// What is wrong.
    pub cause: XmlCause,
}

/// What can be wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlCause {
    /// Not UTF-8.
    #[error("expected UTF-8")]
    Encoding,
    /// A document type declaration.
    #[error("a DOCTYPE is not allowed here")]
    Doctype,
    /// A reference to an entity that is not one of XML's own five.
    #[error("the entity &{0}; is not defined; only lt, gt, amp, apos, quot and character references are")]
    Entity(String),
    /// Past a limit.
    #[error("more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A prefix that no `xmlns:` in scope declares.
    #[error("the prefix \"{0}\" is not declared")]
    Prefix(String),
    /// Not well-formed.
    #[error("not well-formed: {0}")]
    Malformed(String),
}
