//! Bytes -> envelope.

use super::ENVELOPE;
use crate::{
    limits::XmlLimits,
    xml::{Document, Element, XmlError, parse},
};

/// A request or an answer.
#[derive(Debug)]
pub struct Envelope {
    document: Document,
    header: Option<u32>,
    method: u32,
}

/// Why bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    /// Not acceptable as XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// XML, but no SOAP 1.1 envelope.
    #[error("expected {expected}, found {found}")]
    Shape {
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
}

impl Envelope {
    /// The header element, if there is one.
    pub fn header(&self) -> Option<Element<'_>> {
        Element::at(&self.document, self.header?)
    }

    /// The one element of the body: the method, or an answer.
    pub fn method(&self) -> Element<'_> {
        Element::at(&self.document, self.method).unwrap_or(self.document.root())
    }

    /// The whole document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The text of the header's child `name`, for example `vcSessionCookie`.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header()?.child_text(name)
    }
}

/// Decodes an envelope within `limits`.
pub fn decode(bytes: impl Into<Vec<u8>>, limits: &XmlLimits) -> Result<Envelope, SoapError> {
    let document = parse(bytes, limits)?;
    let (header, method) = parts(document.root())?;
    Ok(Envelope { document, header, method })
}

/// Where the header and the body's element are.
fn parts(root: Element<'_>) -> Result<(Option<u32>, u32), SoapError> {
    if !is(root, "Envelope") {
        return Err(shape("a SOAP 1.1 Envelope", root));
    }
    let (mut header, mut body) = (None, None);
    for child in root.children() {
        if is(child, "Header") && header.is_none() && body.is_none() {
            header = Some(child.index());
        } else if is(child, "Body") && body.is_none() {
            body = Some(child);
        } else {
            return Err(shape("one Header at most and then one Body in the Envelope", child));
        }
    }
    let Some(body) = body else { return Err(shape("a Body in the Envelope", root)) };
    let mut methods = body.children();
    let Some(method) = methods.next() else { return Err(shape("an element in the Body", body)) };
    if let Some(second) = methods.next() {
        return Err(shape("one element in the Body", second));
    }
    Ok((header, method.index()))
}

fn is(element: Element<'_>, name: &str) -> bool {
    element.name() == name && element.namespace() == ENVELOPE
}

fn shape(expected: &'static str, found: Element<'_>) -> SoapError {
    SoapError::Shape { expected, found: format!("<{}> in \"{}\"", found.name(), found.namespace()) }
}
