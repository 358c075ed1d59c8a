//! Reading a document into a [`Tree`], strictly: everything that XML 1.0 and its namespaces forbid and a document of a hypervisor never
//! needs is refused with its byte.

use super::{
    Attribute, Defect, Element, MAX_ATTRIBUTES, MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, NONE, Node, ParseError,
    Run, Span, Tree, VOID,
    names::{continues_name, is_space, starts_name},
};
use crate::edit::text;
use std::borrow::Cow;

const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

struct Declaration<'t> {
    prefix: &'t str,
    namespace: u16,
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    tree: Tree<'t>,
    /// The open elements, each with the declarations in force outside it.
    open: Vec<(Node, usize)>,
    declared: Vec<Declaration<'t>>,
    rooted: bool,
}

type Step<T> = Result<T, ParseError>;

fn wrong<T>(byte: usize, defect: Defect) -> Step<T> {
    Err(ParseError { byte, defect })
}

pub(super) fn parse(text: &str) -> Step<Tree<'_>> {
    if text.len() > MAX_BYTES {
        return wrong(MAX_BYTES, Defect::TooLarge);
    }
    if text.starts_with('\u{FEFF}') {
        return wrong(0, Defect::ByteOrderMark);
    }
    if let Some((byte, _)) = text.char_indices().find(|(_, c)| !text::is_char(*c)) {
        return wrong(byte, Defect::Character);
    }
    let tree = Tree {
        text,
        elements: Vec::new(),
        attributes: Vec::new(),
        runs: Vec::new(),
        namespaces: vec![Cow::Borrowed(""), Cow::Borrowed(XML)],
    };
    let mut parser = Parser {
        text,
        at: 0,
        tree,
        open: Vec::new(),
        declared: vec![Declaration { prefix: "xml", namespace: 1 }],
        rooted: false,
    };
    parser.declaration()?;
    while parser.at < text.len() {
        parser.item()?;
    }
    if !parser.rooted || !parser.open.is_empty() {
        return wrong(text.len(), Defect::Unfinished);
    }
    Ok(parser.tree)
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The byte after the next `mark`.
    fn past(&self, from: usize, mark: &str) -> Step<usize> {
        match self.text.get(from..).and_then(|rest| rest.find(mark)) {
            Some(offset) => Ok(from + offset + mark.len()),
            None => wrong(self.text.len(), Defect::Unfinished),
        }
    }

    fn spaces(&mut self) -> bool {
        let from = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        self.at > from
    }

    fn declaration(&mut self) -> Step<()> {
        let Some(rest) = self.text.strip_prefix("<?xml") else { return Ok(()) };
        if !rest.bytes().next().is_some_and(is_space) {
            return Ok(());
        }
        let end = self.past(5, "?>")?;
        let body = Span::new(5, end - 2).cut(self.text);
        let mut words = body.split_ascii_whitespace();
        let version = words.next().unwrap_or("");
        if !matches!(version, "version='1.0'" | "version=\"1.0\"") {
            return wrong(5, Defect::Malformed);
        }
        for word in words {
            let Some((name, value)) = word.split_once('=') else { return wrong(5, Defect::Malformed) };
            let value = value.trim_matches(['\'', '"']);
            match name {
                "encoding" if value.eq_ignore_ascii_case("utf-8") => {}
                "encoding" => return wrong(5, Defect::Encoding),
                "standalone" if matches!(value, "yes" | "no") => {}
                _ => return wrong(5, Defect::Malformed),
            }
        }
        self.at = end;
        Ok(())
    }

    fn item(&mut self) -> Step<()> {
        let rest = self.rest();
        if !rest.starts_with('<') {
            return self.run(rest.find('<').unwrap_or(rest.len()));
        }
        let from = self.at;
        if rest.starts_with("<!--") {
            let dashes = self.past(from + 4, "--")?;
            if self.text.as_bytes().get(dashes) != Some(&b'>') {
                return wrong(dashes - 2, Defect::Malformed);
            }
            self.note();
            self.at = dashes + 1;
        } else if rest.starts_with("<![CDATA[") {
            let end = self.past(from + 9, "]]>")?;
            let Some((owner, _)) = self.open.last().copied() else {
                return wrong(from, Defect::OutsideRoot);
            };
            self.add_run(Run { owner, span: Span::new(from, end), cdata: true });
            self.at = end;
        } else if rest.starts_with("<!DOCTYPE") {
            return wrong(from, Defect::Doctype);
        } else if rest.starts_with("<!") {
            return wrong(from, Defect::Malformed);
        } else if rest.starts_with("<?") {
            self.at = from + 2;
            let target = self.name()?.cut(self.text);
            let spaced = self.peek().is_some_and(is_space) || self.rest().starts_with("?>");
            if target.eq_ignore_ascii_case("xml") || target.contains(':') || !spaced {
                return wrong(from, Defect::Malformed);
            }
            self.at = self.past(self.at, "?>")?;
            self.note();
        } else if rest.starts_with("</") {
            self.end_tag()?;
        } else {
            self.start_tag()?;
        }
        Ok(())
    }

    fn note(&mut self) {
        if let Some((node, _)) = self.open.last()
            && let Some(element) = self.tree.elements.get_mut(node.0 as usize)
        {
            element.noted = true;
        }
    }

    fn run(&mut self, length: usize) -> Step<()> {
        let span = Span::new(self.at, self.at + length);
        let raw = span.cut(self.text);
        self.at = span.end;
        let Some((owner, _)) = self.open.last().copied() else {
            return match raw.bytes().position(|b| !is_space(b)) {
                None => Ok(()),
                Some(offset) => wrong(span.start + offset, Defect::OutsideRoot),
            };
        };
        if let Some(offset) = raw.find("]]>") {
            return wrong(span.start + offset, Defect::Malformed);
        }
        self.references(span)?;
        self.add_run(Run { owner, span, cdata: false });
        Ok(())
    }

    fn add_run(&mut self, run: Run) {
        let place = u32::try_from(self.tree.runs.len()).unwrap_or(u32::MAX);
        if let Some(owner) = self.tree.elements.get_mut(run.owner.0 as usize) {
            if owner.runs == 0 {
                owner.first_run = place;
            }
            owner.runs += 1;
        }
        self.tree.runs.push(run);
    }

    fn references(&self, span: Span) -> Step<()> {
        let mut from = span.start;
        while let Some(offset) = Span::new(from, span.end).cut(self.text).find('&') {
            let start = from + offset;
            let body = Span::new(start + 1, span.end).cut(self.text);
            let Some(length) = body.find(';') else { return wrong(start, Defect::Reference) };
            if text::reference(body.get(..length).unwrap_or("")).is_none() {
                return wrong(start, Defect::Reference);
            }
            from = start + length + 2;
        }
        Ok(())
    }

    /// A name here; the next byte is the one after it.
    fn name(&mut self) -> Step<Span> {
        let from = self.at;
        let rest = self.rest();
        match rest.chars().next() {
            None => return wrong(from, Defect::Unfinished),
            Some(c) if !starts_name(c) => return wrong(from, Defect::Malformed),
            Some(_) => {}
        }
        let length = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
        self.at = from + length;
        Ok(Span::new(from, self.at))
    }

    /// Prefix and local name.
    fn split(&self, name: Span) -> Step<(&'t str, Span)> {
        let text = name.cut(self.text);
        match text.split_once(':') {
            None => Ok(("", name)),
            Some((prefix, local)) => {
                if prefix.is_empty() || local.contains(':') || !local.starts_with(starts_name) {
                    return wrong(name.start, Defect::Namespace);
                }
                Ok((prefix, Span::new(name.start + prefix.len() + 1, name.end)))
            }
        }
    }

    fn resolve(&self, prefix: &str, byte: usize) -> Step<u16> {
        match self.declared.iter().rev().find(|d| d.prefix == prefix) {
            Some(declaration) => Ok(declaration.namespace),
            None if prefix.is_empty() => Ok(0),
            None => wrong(byte, Defect::Namespace),
        }
    }

    fn start_tag(&mut self) -> Step<()> {
        let from = self.at;
        if self.open.is_empty() && self.rooted {
            return wrong(from, Defect::OutsideRoot);
        }
        if self.open.len() >= MAX_DEPTH {
            return wrong(from, Defect::TooDeep);
        }
        if self.tree.elements.len() >= MAX_ELEMENTS {
            return wrong(from, Defect::TooMany);
        }
        self.at += 1;
        let name = self.name()?;
        let first = self.tree.attributes.len();
        let outside = self.declared.len();
        let empty = loop {
            let start = self.at;
            let spaced = self.spaces();
            match self.peek() {
                None => return wrong(self.text.len(), Defect::Unfinished),
                Some(b'>') => {
                    self.at += 1;
                    break false;
                }
                Some(b'/') => {
                    if !self.rest().starts_with("/>") {
                        return wrong(self.at, Defect::Malformed);
                    }
                    self.at += 2;
                    break true;
                }
                Some(_) if !spaced => return wrong(self.at, Defect::Malformed),
                Some(_) => self.attribute(start, first)?,
            }
        };
        let last = self.tree.attributes.len();
        self.unique(first)?;
        let (prefix, local) = self.split(name)?;
        if prefix == "xmlns" {
            return wrong(from, Defect::Namespace);
        }
        let namespace = self.resolve(prefix, name.start)?;
        let open = Span::new(from, self.at);
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let node = Node(index(self.tree.elements.len()));
        let parent = self.open.last().map_or(NONE, |(node, _)| *node);
        self.tree.elements.push(Element {
            name,
            local,
            namespace,
            parent,
            attributes: (index(first), index(last)),
            span: open,
            open,
            ..VOID
        });
        self.link(parent, node);
        self.rooted = true;
        if empty {
            self.declared.truncate(outside);
        } else {
            self.open.push((node, outside));
        }
        Ok(())
    }

    fn link(&mut self, parent: Node, node: Node) {
        let before = self.tree.element(parent).last;
        if let Some(element) = self.tree.elements.get_mut(parent.0 as usize) {
            element.last = node;
            if element.first == NONE {
                element.first = node;
            }
        }
        if let Some(element) = self.tree.elements.get_mut(before.0 as usize) {
            element.next = node;
        }
    }

    fn attribute(&mut self, start: usize, first: usize) -> Step<()> {
        let name = self.name()?;
        self.spaces();
        if self.peek() != Some(b'=') {
            return wrong(self.at, Defect::Malformed);
        }
        self.at += 1;
        self.spaces();
        let quote = match self.peek() {
            Some(b'\'') => '\'',
            Some(b'"') => '"',
            Some(_) => return wrong(self.at, Defect::Malformed),
            None => return wrong(self.at, Defect::Unfinished),
        };
        let from = self.at + 1;
        let Some(length) = self.text.get(from..).and_then(|rest| rest.find(quote)) else {
            return wrong(self.text.len(), Defect::Unfinished);
        };
        let value = Span::new(from, from + length);
        if let Some(offset) = value.cut(self.text).find('<') {
            return wrong(from + offset, Defect::Malformed);
        }
        self.references(value)?;
        self.at = value.end + 1;
        if self.tree.attributes.len() - first >= MAX_ATTRIBUTES {
            return wrong(name.start, Defect::TooManyAttributes);
        }
        self.tree.attributes.push(Attribute { name, value, whole: Span::new(start, self.at), quote });
        self.declare(name, value)
    }

    fn declare(&mut self, name: Span, value: Span) -> Step<()> {
        let full = name.cut(self.text);
        let prefix = match full.strip_prefix("xmlns:") {
            Some(prefix) => prefix,
            None if full == "xmlns" => "",
            None => return Ok(()),
        };
        let uri = text::decode_attribute(value.cut(self.text));
        let reserved = prefix == "xmlns" || uri == XMLNS || (prefix == "xml") != (uri == XML);
        if reserved || (uri.is_empty() && !prefix.is_empty()) || prefix.contains(':') {
            return wrong(name.start, Defect::Namespace);
        }
        if self.declared.len() > MAX_ATTRIBUTES {
            return wrong(name.start, Defect::TooManyAttributes);
        }
        let known = self.tree.namespaces.iter().position(|n| *n == uri);
        let namespace = known.unwrap_or(self.tree.namespaces.len());
        let Ok(namespace) = u16::try_from(namespace).map_err(|_| ()) else {
            return wrong(name.start, Defect::TooManyAttributes);
        };
        if known.is_none() {
            // Each look is linear, so the number of different namespaces is bounded as well.
            if self.tree.namespaces.len() > MAX_ATTRIBUTES {
                return wrong(name.start, Defect::TooManyAttributes);
            }
            self.tree.namespaces.push(uri);
        }
        self.declared.push(Declaration { prefix, namespace });
        Ok(())
    }

    /// No attribute twice, neither by its name nor by namespace and local name.
    fn unique(&self, first: usize) -> Step<()> {
        let attributes = self.tree.attributes.get(first..).unwrap_or(&[]);
        let mut prefixed: Vec<(u16, &str)> = Vec::new();
        for (index, attribute) in attributes.iter().enumerate() {
            let name = attribute.name.cut(self.text);
            let before = attributes.get(..index).unwrap_or(&[]);
            if before.iter().any(|other| other.name.cut(self.text) == name) {
                return wrong(attribute.name.start, Defect::DuplicateAttribute);
            }
            let (prefix, local) = self.split(attribute.name)?;
            if prefix.is_empty() || prefix == "xmlns" {
                continue;
            }
            let key = (self.resolve(prefix, attribute.name.start)?, local.cut(self.text));
            if prefixed.contains(&key) {
                return wrong(attribute.name.start, Defect::DuplicateAttribute);
            }
            prefixed.push(key);
        }
        Ok(())
    }

    fn end_tag(&mut self) -> Step<()> {
        let from = self.at;
        self.at += 2;
        let name = self.name()?;
        self.spaces();
        match self.peek() {
            Some(b'>') => self.at += 1,
            Some(_) => return wrong(self.at, Defect::Malformed),
            None => return wrong(self.at, Defect::Unfinished),
        }
        let Some((node, outside)) = self.open.pop() else { return wrong(from, Defect::Mismatch) };
        let opened = self.tree.element(node).name;
        if opened.cut(self.text) != name.cut(self.text) {
            return wrong(from, Defect::Mismatch);
        }
        self.declared.truncate(outside);
        if let Some(element) = self.tree.elements.get_mut(node.0 as usize) {
            element.close = Some(Span::new(from, self.at));
            element.span.end = self.at;
        }
        Ok(())
    }
}
