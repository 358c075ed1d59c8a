//! The span tree: a document as elements that know their bytes.
//!
//! A [`Tree`] borrows its text and changes nothing. Every element keeps the spans of itself, its start tag, its end tag and its name;
//! every attribute those of itself (with the white space before it), its name and its value; every run of text its own. That is what
//! [`put`](super::DocumentMap::put) needs to replace bytes and leave all others alone.
//!
//! Limits: 8 MiB, 64 levels, 100,000 elements, 256 attributes on an element, 256 namespace declarations in force.

mod names;
mod parse;

use super::text;
use std::borrow::Cow;

/// Most bytes in a document.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most levels of elements.
pub const MAX_DEPTH: usize = 64;
/// Most elements.
pub const MAX_ELEMENTS: usize = 100_000;
/// Most attributes on one element, and most namespace declarations in force at one place.
pub const MAX_ATTRIBUTES: usize = 256;

/// Bytes of a document, `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The place before `byte`, holding nothing.
    pub(crate) fn at(byte: usize) -> Span {
        Span { start: byte, end: byte }
    }

    /// The bytes themselves.
    pub fn cut(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or("")
    }
}

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{defect} (byte {byte})")]
pub struct ParseError {
    /// Where, from 0.
    pub byte: usize,
    /// What is wrong there.
    pub defect: Defect,
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// A document type declaration, which could define entities.
    #[error("a document type declaration is not accepted")]
    Doctype,
    /// A byte order mark.
    #[error("a byte order mark is not accepted")]
    ByteOrderMark,
    /// A declared encoding other than UTF-8.
    #[error("the encoding must be UTF-8")]
    Encoding,
    /// A character that XML does not allow.
    #[error("a character that XML does not allow")]
    Character,
    /// A prefix without declaration, or a declaration that may not be.
    #[error("a namespace prefix that is not declared, or declared wrongly")]
    Namespace,
    /// A reference to an unknown entity, or a malformed one.
    #[error("a reference that is neither one of XML's five nor a character's number")]
    Reference,
    /// The same attribute twice.
    #[error("an attribute given twice")]
    DuplicateAttribute,
    /// A second root element, or text outside the root.
    #[error("content outside the root element")]
    OutsideRoot,
    /// An end tag that does not match.
    #[error("an end tag that does not match its start tag")]
    Mismatch,
    /// More than [`MAX_DEPTH`] levels.
    #[error("more than {MAX_DEPTH} levels of elements")]
    TooDeep,
    /// More than [`MAX_ELEMENTS`] elements.
    #[error("more than {MAX_ELEMENTS} elements")]
    TooMany,
    /// More than [`MAX_ATTRIBUTES`] attributes or declarations.
    #[error("more than {MAX_ATTRIBUTES} attributes or namespace declarations")]
    TooManyAttributes,
    /// More than [`MAX_BYTES`].
    #[error("more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The document ends inside something.
    #[error("the document ends too early")]
    Unfinished,
    /// Not XML.
    #[error("not well-formed XML")]
    Malformed,
}

/// An element of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node(u32);

const NONE: Node = Node(u32::MAX);

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute {
    /// The qualified name.
    pub name: Span,
    /// Between the quotes.
    pub value: Span,
    /// With the white space before it and the closing quote.
    pub whole: Span,
    /// The quote in use.
    pub quote: char,
}

/// One run of text, or one CDATA section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    owner: Node,
    /// With the CDATA marks.
    pub span: Span,
    /// A CDATA section.
    pub cdata: bool,
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub name: Span,
    local: Span,
    namespace: u16,
    pub parent: Node,
    first: Node,
    last: Node,
    next: Node,
    attributes: (u32, u32),
    pub span: Span,
    pub open: Span,
    /// `None` for `<a/>`.
    pub close: Option<Span>,
    runs: u32,
    first_run: u32,
    /// Holds a comment or a processing instruction.
    noted: bool,
}

/// A parsed document.
#[derive(Debug)]
pub struct Tree<'t> {
    text: &'t str,
    elements: Vec<Element>,
    attributes: Vec<Attribute>,
    runs: Vec<Run>,
    /// Namespace 0 is none.
    namespaces: Vec<Cow<'t, str>>,
}

impl<'t> Tree<'t> {
    /// Reads a document.
    ///
    /// # Errors
    /// The first defect and its byte; see [`Defect`].
    pub fn parse(text: &'t str) -> Result<Tree<'t>, ParseError> {
        parse::parse(text)
    }

    /// The text it was read from.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Never: a document has a root.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The name of the root element.
    pub fn root_name(&self) -> &'t str {
        self.local(self.root())
    }

    pub(crate) fn root(&self) -> Node {
        Node(0)
    }

    pub(crate) fn element(&self, node: Node) -> &Element {
        self.elements.get(node.0 as usize).unwrap_or(&VOID)
    }

    pub(crate) fn cut(&self, span: Span) -> &'t str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    pub(crate) fn local(&self, node: Node) -> &'t str {
        self.cut(self.element(node).local)
    }

    /// The namespace, empty for none.
    pub(crate) fn namespace(&self, node: Node) -> &str {
        self.namespaces.get(usize::from(self.element(node).namespace)).map_or("", |n| n.as_ref())
    }

    pub(crate) fn children(&self, node: Node) -> Children<'_, 't> {
        Children { tree: self, next: self.element(node).first }
    }

    pub(crate) fn attributes(&self, node: Node) -> &[Attribute] {
        let (from, to) = self.element(node).attributes;
        self.attributes.get(from as usize..to as usize).unwrap_or(&[])
    }

    /// The attribute called `name`, which has no prefix.
    pub(crate) fn attribute(&self, node: Node, name: &str) -> Option<&Attribute> {
        self.attributes(node).iter().find(|a| self.cut(a.name) == name)
    }

    pub(crate) fn value(&self, attribute: &Attribute) -> Cow<'t, str> {
        text::decode_attribute(self.cut(attribute.value))
    }

    /// The element's text, its children's not included.
    pub(crate) fn content(&self, node: Node) -> Cow<'t, str> {
        let mut runs = self.runs(node);
        let Some(first) = runs.next() else { return Cow::Borrowed("") };
        let mut all = self.run(first);
        for run in runs {
            all.to_mut().push_str(&self.run(run));
        }
        all
    }

    pub(crate) fn runs(&self, node: Node) -> impl Iterator<Item = &Run> {
        let element = self.element(node);
        let from = if element.runs == 0 { self.runs.len() } else { element.first_run as usize };
        // Runs of children lie between the runs of their parent, in document order.
        let rest = self.runs.get(from..).unwrap_or(&[]);
        rest.iter().filter(move |run| run.owner == node).take(element.runs as usize)
    }

    fn run(&self, run: &Run) -> Cow<'t, str> {
        let raw = self.cut(run.span);
        if run.cdata {
            let inner = raw.strip_prefix("<![CDATA[").and_then(|r| r.strip_suffix("]]>")).unwrap_or("");
            text::lines(inner)
        } else {
            text::decode_text(raw)
        }
    }

    /// The one run that is all its content, if its text may be replaced: no child, comment, processing instruction or second run.
    /// `Ok(None)`: it is empty.
    pub(crate) fn sole_run(&self, node: Node) -> Result<Option<Run>, ()> {
        let element = self.element(node);
        if element.noted || element.first != NONE || element.runs > 1 {
            return Err(());
        }
        Ok(self.runs(node).next().copied())
    }

    /// Whether it has child elements.
    pub(crate) fn has_children(&self, node: Node) -> bool {
        self.element(node).first != NONE
    }

    /// Whether it holds a comment or a processing instruction.
    pub(crate) fn is_noted(&self, node: Node) -> bool {
        self.element(node).noted
    }

    /// Whether its own text is more than white space.
    pub(crate) fn has_text(&self, node: Node) -> bool {
        self.runs(node).any(|run| run.cdata || !self.cut(run.span).trim_ascii().is_empty())
    }
}

/// The child elements of an element, in order.
pub(crate) struct Children<'a, 't> {
    tree: &'a Tree<'t>,
    next: Node,
}

impl Iterator for Children<'_, '_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        if self.next == NONE {
            return None;
        }
        let node = self.next;
        self.next = self.tree.element(node).next;
        Some(node)
    }
}

const NOWHERE: Span = Span { start: 0, end: 0 };
static VOID: Element = Element {
    name: NOWHERE,
    local: NOWHERE,
    namespace: 0,
    parent: NONE,
    first: NONE,
    last: NONE,
    next: NONE,
    attributes: (0, 0),
    span: NOWHERE,
    open: NOWHERE,
    close: None,
    runs: 0,
    first_run: 0,
    noted: false,
};

#[cfg(test)]
mod tests;
