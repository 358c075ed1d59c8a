//! The tree and how it is read.

use super::XSI;
use crate::datetime;
use base64::Engine;
use std::fmt;

/// A piece of text: of the document itself, or of what was decoded beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Piece {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes of the document.
    Source(u32, u32),
    /// Bytes of the decoded text.
    Decoded(u32, u32),
}

/// No element.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Node {
    pub namespace: Piece,
    pub prefix: Piece,
    pub name: Piece,
    pub attributes: (u32, u32),
    pub text: Piece,
    pub first_child: u32,
    pub next: u32,
    pub position: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attr {
    pub namespace: Piece,
    pub name: Piece,
    pub value: Piece,
}

/// A parsed document.
#[derive(Default)]
pub struct Document {
    pub(super) source: String,
    pub(super) decoded: String,
    pub(super) nodes: Vec<Node>,
    pub(super) attributes: Vec<Attr>,
}

impl Document {
    /// The outermost element.
    pub fn root(&self) -> Element<'_> {
        Element { document: self, index: 0 }
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn piece(&self, piece: Piece) -> &str {
        let (text, from, to) = match piece {
            Piece::Empty => return "",
            Piece::Source(from, to) => (&self.source, from, to),
            Piece::Decoded(from, to) => (&self.decoded, from, to),
        };
        text.get(from as usize..to as usize).unwrap_or_default()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A document may hold a password: only its shape is shown.
        f.debug_struct("Document")
            .field("bytes", &self.source.len())
            .field("elements", &self.nodes.len())
            .finish()
    }
}

/// One element of a document.
#[derive(Clone, Copy)]
pub struct Element<'d> {
    document: &'d Document,
    index: u32,
}

/// One attribute of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'d> {
    /// Its namespace; empty: none.
    pub namespace: &'d str,
    /// Its name without the prefix.
    pub name: &'d str,
    /// Its value, references resolved, white space normalised as XML says.
    pub value: &'d str,
}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name())
    }
}

impl<'d> Element<'d> {
    fn node(self) -> Option<&'d Node> {
        self.document.nodes.get(self.index as usize)
    }

    fn piece(self, of: impl Fn(&Node) -> Piece) -> &'d str {
        self.node().map_or("", |node| self.document.piece(of(node)))
    }

    /// The element at `index` of the same document, as [`Element::index`] gave it.
    pub fn at(document: &'d Document, index: u32) -> Option<Element<'d>> {
        ((index as usize) < document.nodes.len()).then_some(Element { document, index })
    }

    /// Its place in the document, in the order of start tags from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// The document it is of.
    pub fn document(self) -> &'d Document {
        self.document
    }

    /// Its name without the prefix.
    pub fn name(self) -> &'d str {
        self.piece(|node| node.name)
    }

    /// Its prefix; empty: none.
    pub fn prefix(self) -> &'d str {
        self.piece(|node| node.prefix)
    }

    /// Its namespace; empty: none.
    pub fn namespace(self) -> &'d str {
        self.piece(|node| node.namespace)
    }

    /// Where its start tag begins, in bytes.
    pub fn position(self) -> usize {
        self.node().map_or(0, |node| node.position as usize)
    }

    /// Its own text. Of an element with children: without the white space between them.
    pub fn text(self) -> &'d str {
        self.piece(|node| node.text)
    }

    /// Its attributes, namespace declarations left out.
    pub fn attributes(self) -> impl Iterator<Item = Attribute<'d>> + use<'d> {
        let document = self.document;
        let (from, to) = self.node().map_or((0, 0), |node| node.attributes);
        document.attributes.get(from as usize..to as usize).unwrap_or_default().iter().map(move |a| {
            Attribute {
                namespace: document.piece(a.namespace),
                name: document.piece(a.name),
                value: document.piece(a.value),
            }
        })
    }

    /// The value of its attribute `name` that has no namespace.
    pub fn attribute(self, name: &str) -> Option<&'d str> {
        self.attribute_in("", name)
    }

    /// The value of its attribute `name` in `namespace`.
    pub fn attribute_in(self, namespace: &str, name: &str) -> Option<&'d str> {
        self.attributes().find(|a| a.name == name && a.namespace == namespace).map(|a| a.value)
    }

    /// Its `xsi:type` without the prefix.
    pub fn xsi_type(self) -> Option<&'d str> {
        let value = self.attribute_in(XSI, "type")?.trim_ascii();
        Some(value.rsplit_once(':').map_or(value, |(_, local)| local))
    }

    /// Whether it says `xsi:nil="true"`.
    pub fn is_nil(self) -> bool {
        matches!(self.attribute_in(XSI, "nil"), Some("true" | "1"))
    }

    /// Its children, in order.
    pub fn children(self) -> impl Iterator<Item = Element<'d>> + use<'d> {
        let document = self.document;
        let first = self.node().map_or(NONE, |node| node.first_child);
        std::iter::successors(Element::at(document, first), |child| Element::at(document, child.node()?.next))
    }

    /// Its first child called `name`.
    pub fn child(self, name: &str) -> Option<Element<'d>> {
        self.children().find(|child| child.name() == name)
    }

    /// Its children called `name`, in order.
    pub fn children_named<'n>(self, name: &'n str) -> impl Iterator<Item = Element<'d>> + use<'d, 'n> {
        self.children().filter(move |child| child.name() == name)
    }

    /// The text of its first child called `name`.
    pub fn child_text(self, name: &str) -> Option<&'d str> {
        self.child(name).map(Element::text)
    }

    /// Its text as `xsd:boolean`.
    pub fn bool(self) -> Option<bool> {
        match self.text().trim_ascii() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Its text as a decimal integer; also with the `+` that XML Schema allows.
    pub fn int(self) -> Option<i64> {
        self.text().trim_ascii().parse().ok()
    }

    /// Its text as `xsd:double`.
    pub fn float(self) -> Option<f64> {
        match self.text().trim_ascii() {
            "INF" => Some(f64::INFINITY),
            "-INF" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            // Rust also reads `inf`, `infinity` and `nan`, which XML Schema does not know.
            text if text.bytes().any(|b| b.is_ascii_alphabetic() && !b.eq_ignore_ascii_case(&b'e')) => None,
            text => text.parse().ok(),
        }
    }

    /// Its text as `xsd:dateTime`, Unix milliseconds.
    pub fn time(self) -> Option<i64> {
        datetime::parse(self.text())
    }

    /// Its text as `xsd:base64Binary`, white space in it ignored.
    pub fn bytes(self) -> Option<Vec<u8>> {
        let text: Vec<u8> = self.text().bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}
