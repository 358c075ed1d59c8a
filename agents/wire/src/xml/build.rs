//! Bytes -> tree.

use super::{
    Document, XmlCause, XmlError,
    escape::is_xml_char,
    tree::{Attr, NONE, Node, Piece},
};
use crate::limits::XmlLimits;
use quick_xml::{
    Reader,
    errors::{Error, IllFormedError},
    escape::resolve_predefined_entity,
    events::{BytesRef, BytesStart, Event},
};

const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Parses a document within `limits`.
pub fn parse(bytes: impl Into<Vec<u8>>, limits: &XmlLimits) -> Result<Document, XmlError> {
    let bytes = bytes.into();
    if bytes.len() > limits.bytes || bytes.len() >= NONE as usize {
        return Err(limit(limits.bytes, "bytes", limits.bytes));
    }
    let mut source = String::from_utf8(bytes)
        .map_err(|e| XmlError { position: e.utf8_error().valid_up_to(), cause: XmlCause::Encoding })?;
    if source.starts_with('\u{FEFF}') {
        source.drain(..'\u{FEFF}'.len_utf8());
    }
    if let Some((position, c)) = source.char_indices().find(|(_, c)| !is_xml_char(*c)) {
        return Err(malformed(position, format!("U+{:04X} is no XML character", u32::from(c))));
    }
    let mut build = Build::new(&source, limits);
    build.run()?;
    let Build { decoded, nodes, attributes, .. } = build;
    Ok(Document { decoded, nodes, attributes, source })
}

fn limit(position: usize, what: &'static str, limit: usize) -> XmlError {
    XmlError { position, cause: XmlCause::Limit { what, limit } }
}

fn malformed(position: usize, message: impl Into<String>) -> XmlError {
    XmlError { position, cause: XmlCause::Malformed(message.into()) }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}

/// An element whose end tag has not come yet.
struct Open {
    node: u32,
    last_child: u32,
    /// Declarations in scope before it.
    scope: usize,
    text: OpenText,
}

enum OpenText {
    None,
    /// One run of the document.
    Run(usize, usize),
    /// More than one run, or decoded text.
    Owned(String),
}

struct Build<'s> {
    source: &'s str,
    limits: &'s XmlLimits,
    decoded: String,
    nodes: Vec<Node>,
    attributes: Vec<Attr>,
    open: Vec<Open>,
    /// Prefix and namespace, innermost last.
    scope: Vec<(&'s str, Piece)>,
    /// The namespace that `xml:` always has, once it was used.
    xml: Piece,
    done: bool,
}

impl<'s> Build<'s> {
    fn new(source: &'s str, limits: &'s XmlLimits) -> Build<'s> {
        Build {
            source,
            limits,
            decoded: String::new(),
            nodes: Vec::new(),
            attributes: Vec::new(),
            open: Vec::new(),
            scope: Vec::new(),
            xml: Piece::Empty,
            done: false,
        }
    }

    fn run(&mut self) -> Result<(), XmlError> {
        let mut reader = Reader::from_str(self.source);
        let config = reader.config_mut();
        config.check_comments = true;
        config.allow_dangling_amp = false;
        loop {
            let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let event = reader.read_event().map_err(|error| refusal(at, error))?;
            match event {
                Event::Start(tag) => self.start(at, &tag)?,
                Event::Empty(tag) => {
                    self.start(at, &tag)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => self.text(at, &text)?,
                Event::CData(text) => self.decoded(at, &text)?,
                Event::GeneralRef(reference) => self.reference(at, &reference)?,
                Event::Decl(decl) => {
                    if at != 0 {
                        return Err(malformed(at, "an XML declaration stands only at the very beginning"));
                    }
                    match decl.encoding() {
                        None => {}
                        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => {}
                        Some(Ok(name)) if name.eq_ignore_ascii_case("us-ascii") => {}
                        Some(_) => return Err(XmlError { position: at, cause: XmlCause::Encoding }),
                    }
                }
                Event::DocType(_) => return Err(XmlError { position: at, cause: XmlCause::Doctype }),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.done => return Ok(()),
                Event::Eof => {
                    let open = self.open.last().and_then(|open| self.nodes.get(open.node as usize));
                    let name = open.map_or("", |node| self.of_source(node.name));
                    return Err(malformed(at, format!("the document ends inside <{name}>")));
                }
            }
        }
    }

    fn of_source(&self, piece: Piece) -> &'s str {
        match piece {
            Piece::Source(from, to) => self.source.get(from as usize..to as usize).unwrap_or_default(),
            Piece::Empty | Piece::Decoded(..) => "",
        }
    }

    /// Where `part`, a piece of the document, lies in it.
    fn place(&self, part: &str) -> (usize, usize) {
        let from = (part.as_ptr() as usize).saturating_sub(self.source.as_ptr() as usize);
        (from, from + part.len())
    }

    fn source_piece(&self, part: &str) -> Piece {
        let (from, to) = self.place(part);
        if part.is_empty() { Piece::Empty } else { Piece::Source(index(from), index(to)) }
    }

    fn decoded_piece(&mut self, text: &str) -> Piece {
        let from = self.decoded.len();
        self.decoded.push_str(text);
        if text.is_empty() { Piece::Empty } else { Piece::Decoded(index(from), index(self.decoded.len())) }
    }

    fn start(&mut self, at: usize, tag: &BytesStart<'s>) -> Result<(), XmlError> {
        if self.done {
            return Err(malformed(at, "a second outermost element"));
        }
        if self.open.len() >= self.limits.depth {
            return Err(limit(at, "elements inside each other", self.limits.depth));
        }
        if self.nodes.len() >= self.limits.elements {
            return Err(limit(at, "elements", self.limits.elements));
        }
        let scope = self.scope.len();
        let first_attribute = self.attributes.len();
        self.read_attributes(at, tag)?;
        self.resolve_attributes(at, first_attribute)?;
        let name = tag.name();
        let (prefix, local) = split(at, name.0, self.limits.name)?;
        let namespace = self.namespace(at, prefix, true)?;
        let node = Node {
            namespace,
            prefix: self.source_piece(prefix),
            name: self.source_piece(local),
            attributes: (index(first_attribute), index(self.attributes.len())),
            text: Piece::Empty,
            first_child: NONE,
            next: NONE,
            position: index(at),
        };
        let this = index(self.nodes.len());
        self.nodes.push(node);
        if let Some(parent) = self.open.last_mut() {
            if matches!(&parent.text, OpenText::Run(from, to) if is_blank(self.source.get(*from..*to))) {
                parent.text = OpenText::None;
            }
            let before = std::mem::replace(&mut parent.last_child, this);
            let of_parent = parent.node;
            match self.nodes.get_mut(before as usize) {
                Some(sibling) => sibling.next = this,
                None => {
                    if let Some(parent) = self.nodes.get_mut(of_parent as usize) {
                        parent.first_child = this;
                    }
                }
            }
        }
        self.open.push(Open { node: this, last_child: NONE, scope, text: OpenText::None });
        Ok(())
    }

    /// Declarations go to the scope, the others to the attribute table, still without their namespaces: a
    /// declaration may stand after its use.
    fn read_attributes(&mut self, at: usize, tag: &BytesStart<'s>) -> Result<(), XmlError> {
        let mut count = 0;
        let raw = tag.attributes_raw();
        if is_blank(Some(raw)) {
            return Ok(());
        }
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| malformed(at, error.to_string()))?;
            count += 1;
            if count > self.limits.attributes {
                return Err(limit(at, "attributes on one element", self.limits.attributes));
            }
            if self.attributes.len() >= self.limits.total_attributes {
                return Err(limit(at, "attributes", self.limits.total_attributes));
            }
            if attribute.value.len() > self.limits.value {
                return Err(limit(at, "bytes in an attribute's value", self.limits.value));
            }
            let (prefix, local) = split(at, attribute.key.0, self.limits.name)?;
            let value = self.attribute_value(at, &attribute.value)?;
            let declared = match (prefix, local) {
                ("", "xmlns") => Some(""),
                ("xmlns", prefix) => Some(prefix),
                _ => None,
            };
            let Some(declared) = declared else {
                // The key's prefix waits in `namespace`.
                let (namespace, name) = (self.source_piece(prefix), self.source_piece(local));
                self.attributes.push(Attr { namespace, name, value });
                continue;
            };
            let (from, to) = self.place(declared);
            let declared = self.source.get(from..to).filter(|_| !declared.is_empty()).unwrap_or("");
            let uri = self.piece(value);
            if matches!(declared, "xml" | "xmlns") || matches!(uri, XML | XMLNS) {
                return Err(malformed(at, "the names xml and xmlns cannot be declared"));
            }
            if uri.is_empty() && !declared.is_empty() {
                return Err(malformed(at, format!("the prefix \"{declared}\" is declared empty")));
            }
            if self.scope.len() >= self.limits.namespaces {
                return Err(limit(at, "namespace declarations in scope", self.limits.namespaces));
            }
            self.scope.push((declared, value));
        }
        Ok(())
    }

    fn resolve_attributes(&mut self, at: usize, first: usize) -> Result<(), XmlError> {
        for i in first..self.attributes.len() {
            let Some(attribute) = self.attributes.get(i).copied() else { continue };
            let namespace = match self.of_source(attribute.namespace) {
                "" => Piece::Empty,
                prefix => self.namespace(at, prefix, false)?,
            };
            let key = |a: &Attr| (self.of_source(a.name), self.piece(a.namespace));
            let this = (self.of_source(attribute.name), self.piece(namespace));
            if self.attributes.iter().skip(first).take(i - first).any(|earlier| key(earlier) == this) {
                return Err(malformed(at, format!("the attribute {} stands twice", this.0)));
            }
            if let Some(attribute) = self.attributes.get_mut(i) {
                attribute.namespace = namespace;
            }
        }
        Ok(())
    }

    fn piece(&self, piece: Piece) -> &str {
        match piece {
            Piece::Empty => "",
            Piece::Source(..) => self.of_source(piece),
            Piece::Decoded(from, to) => self.decoded.get(from as usize..to as usize).unwrap_or_default(),
        }
    }

    fn namespace(&mut self, at: usize, prefix: &str, element: bool) -> Result<Piece, XmlError> {
        if prefix.is_empty() && !element {
            return Ok(Piece::Empty);
        }
        if let Some((_, uri)) = self.scope.iter().rev().find(|(declared, _)| *declared == prefix) {
            return Ok(*uri);
        }
        match prefix {
            "" => Ok(Piece::Empty),
            "xml" => {
                if self.xml == Piece::Empty {
                    self.xml = self.decoded_piece(XML);
                }
                Ok(self.xml)
            }
            _ => Err(XmlError { position: at, cause: XmlCause::Prefix(prefix.to_owned()) }),
        }
    }

    fn attribute_value(&mut self, at: usize, raw: &str) -> Result<Piece, XmlError> {
        if raw.contains('<') {
            return Err(malformed(at, "< in an attribute's value"));
        }
        if !raw.contains(['&', '\t', '\n', '\r']) {
            return Ok(self.source_piece(raw));
        }
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(stop) = rest.find(['&', '\t', '\n', '\r']) {
            let (clean, tail) = rest.split_at_checked(stop).unwrap_or((rest, ""));
            value.push_str(clean);
            rest = if let Some(reference) = tail.strip_prefix('&') {
                let (name, after) =
                    reference.split_once(';').ok_or_else(|| malformed(at, "a reference without its ;"))?;
                resolve(at, name, &mut value)?;
                after
            } else {
                value.push(' ');
                tail.strip_prefix("\r\n").or_else(|| tail.get(1..)).unwrap_or("")
            };
        }
        value.push_str(rest);
        Ok(self.decoded_piece(&value))
    }

    fn text(&mut self, at: usize, text: &str) -> Result<(), XmlError> {
        let blank = is_blank(Some(text));
        let (from, to) = self.place(text);
        let Some(open) = self.open.last_mut() else {
            return if blank { Ok(()) } else { Err(malformed(at, "text outside the outermost element")) };
        };
        if text.contains("]]>") {
            return Err(malformed(at, "]]> in text"));
        }
        if blank && open.last_child != NONE {
            return Ok(());
        }
        if text.len() > self.limits.text {
            return Err(limit(at, "bytes of text in one element", self.limits.text));
        }
        if matches!(open.text, OpenText::None) && !text.contains('\r') {
            open.text = OpenText::Run(from, to);
            return Ok(());
        }
        self.decoded(at, text)
    }

    /// Appends text that is not one run of the document.
    fn decoded(&mut self, at: usize, text: &str) -> Result<(), XmlError> {
        let source = self.source;
        let Some(open) = self.open.last_mut() else {
            return Err(malformed(at, "text outside the outermost element"));
        };
        if let OpenText::Run(from, to) = open.text {
            open.text = OpenText::Owned(source.get(from..to).unwrap_or_default().to_owned());
        }
        if matches!(open.text, OpenText::None) {
            open.text = OpenText::Owned(String::new());
        }
        if let OpenText::Owned(held) = &mut open.text {
            if held.len() + text.len() > self.limits.text {
                return Err(limit(at, "bytes of text in one element", self.limits.text));
            }
            // Line ends are read as \n (XML 1.0, 2.11).
            let mut rest = text;
            while let Some((line, after)) = rest.split_once('\r') {
                held.push_str(line);
                held.push('\n');
                rest = after.strip_prefix('\n').unwrap_or(after);
            }
            held.push_str(rest);
        }
        Ok(())
    }

    fn reference(&mut self, at: usize, reference: &BytesRef<'_>) -> Result<(), XmlError> {
        let mut text = String::new();
        resolve(at, reference, &mut text)?;
        if text == "\r" {
            // A written-out carriage return is meant, and not read as a line end.
            self.decoded(at, "")?;
            if let Some(Open { text: OpenText::Owned(held), .. }) = self.open.last_mut() {
                held.push('\r');
            }
            return Ok(());
        }
        self.decoded(at, &text)
    }

    fn end(&mut self) {
        let Some(open) = self.open.pop() else { return };
        self.scope.truncate(open.scope);
        let text = match open.text {
            OpenText::None => Piece::Empty,
            OpenText::Run(from, to) => Piece::Source(index(from), index(to)),
            OpenText::Owned(text) => self.decoded_piece(&text),
        };
        if let Some(node) = self.nodes.get_mut(open.node as usize) {
            node.text = text;
        }
        self.done = self.open.is_empty();
    }
}

fn is_blank(text: Option<&str>) -> bool {
    text.unwrap_or_default().bytes().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
}

/// A name into prefix and local part.
fn split(at: usize, name: &str, longest: usize) -> Result<(&str, &str), XmlError> {
    if name.len() > longest {
        return Err(limit(at, "bytes in a name", longest));
    }
    let (prefix, local) = name.split_once(':').unwrap_or(("", name));
    let good = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{B7}'))
    };
    if good(local) && (good(prefix) || !name.contains(':')) {
        Ok((prefix, local))
    } else {
        Err(malformed(at, format!("\"{name}\" is no name")))
    }
}

/// Appends what `&name;` stands for.
fn resolve(at: usize, name: &str, out: &mut String) -> Result<(), XmlError> {
    let bad = || malformed(at, format!("&{name}; is no character"));
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix('x') {
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
            None if number.bytes().all(|b| b.is_ascii_digit()) => number.parse(),
            _ => return Err(bad()),
        };
        let c = code.ok().and_then(char::from_u32).filter(|c| is_xml_char(*c)).ok_or_else(bad)?;
        out.push(c);
        return Ok(());
    }
    let shown = || name.chars().take(32).collect();
    out.push_str(
        resolve_predefined_entity(name)
            .ok_or_else(|| XmlError { position: at, cause: XmlCause::Entity(shown()) })?,
    );
    Ok(())
}

fn refusal(at: usize, error: Error) -> XmlError {
    match error {
        Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => malformed(
            at,
            format!("expected </{expected}>, found </{}>", found.chars().take(64).collect::<String>()),
        ),
        Error::IllFormed(IllFormedError::UnmatchedEndTag(found)) => {
            malformed(at, format!("</{}> ends nothing", found.chars().take(64).collect::<String>()))
        }
        other => malformed(at, other.to_string()),
    }
}
