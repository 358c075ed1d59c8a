//! Envelope -> bytes.
//!
//! Rules (the strictest known client fails on each): no white space between elements; the prefixes `soapenv`, `xsd`
//! and `xsi` literally; booleans as words; what is unset is left out by rolling back to a mark.
//!
//! The hot path writes start and end tags as fragments that were escaped once, when a mapping was loaded
//! ([`fragment`]); nothing here allocates except the buffer as it grows.

use crate::{datetime, xml::escape};
use base64::Engine;
use std::io::Write;

const OPEN: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
    "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"",
    " xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"",
    " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">",
);
const BODY: &str = "<soapenv:Body>";
const CLOSE: &str = "</soapenv:Body></soapenv:Envelope>";

/// Builds pieces of markup once, for [`Encoder::raw`].
pub mod fragment {
    use crate::xml::escape::attribute_string;

    /// `<name>`
    pub fn open(name: &str) -> Box<str> {
        format!("<{name}>").into()
    }

    /// `<name xsi:type="type">`; `r#type` with its prefix where it has one (`xsd:string`).
    pub fn open_typed(name: &str, r#type: &str) -> Box<str> {
        format!("<{name} xsi:type=\"{}\">", attribute_string(r#type)).into()
    }

    /// `</name>`
    pub fn close(name: &str) -> Box<str> {
        format!("</{name}>").into()
    }
}

/// A place in an encoder's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// Writes one document, front to back.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// An encoder that writes into `buffer` after clearing it: a buffer may be used again and again.
    pub fn reusing(mut buffer: Vec<u8>) -> Encoder {
        buffer.clear();
        Encoder { out: buffer }
    }

    /// Everything up to the inside of the body.
    pub fn envelope(&mut self) {
        self.raw(OPEN);
        self.raw(BODY);
    }

    /// Like `envelope`, with `header` (markup) inside a header.
    pub fn envelope_with(&mut self, header: &str) {
        for part in [OPEN, "<soapenv:Header>", header, "</soapenv:Header>", BODY] {
            self.raw(part);
        }
    }

    /// The ends of body and envelope.
    pub fn envelope_end(&mut self) {
        self.raw(CLOSE);
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// The bytes written so far.
    pub fn written(&self) -> &[u8] {
        &self.out
    }

    /// Markup as it is.
    pub fn raw(&mut self, markup: &str) {
        self.out.extend_from_slice(markup.as_bytes());
    }

    /// Bytes of an encoder's earlier output, for example a cached rendering.
    pub fn raw_bytes(&mut self, markup: &[u8]) {
        self.out.extend_from_slice(markup);
    }

    /// `<name>`
    pub fn open(&mut self, name: &str) {
        for part in ["<", name, ">"] {
            self.raw(part);
        }
    }

    /// `<name xmlns="namespace">`
    pub fn open_in(&mut self, name: &str, namespace: &str) {
        self.tag(name, &[("xmlns", namespace)], ">");
    }

    /// `<name xsi:type="type">`
    pub fn open_typed(&mut self, name: &str, r#type: &str) {
        self.tag(name, &[("xsi:type", r#type)], ">");
    }

    /// `<name a="…" b="…">`
    pub fn open_with(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes, ">");
    }

    /// `<name a="…" b="…"/>`
    pub fn empty_with(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes, "/>");
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        self.raw("<");
        self.raw(name);
        for (key, value) in attributes {
            for part in [" ", key, "=\""] {
                self.raw(part);
            }
            escape::attribute(value, &mut self.out);
            self.raw("\"");
        }
        self.raw(end);
    }

    /// `</name>`
    pub fn close(&mut self, name: &str) {
        for part in ["</", name, ">"] {
            self.raw(part);
        }
    }

    /// Text, escaped.
    pub fn text(&mut self, text: &str) {
        escape::text(text, &mut self.out);
    }

    /// An attribute's value, escaped; the caller writes the quotes.
    pub fn attribute_value(&mut self, value: &str) {
        escape::attribute(value, &mut self.out);
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A decimal integer.
    pub fn int(&mut self, value: i64) {
        self.raw(itoa::Buffer::new().format(value));
    }

    /// `xsd:double`.
    pub fn float(&mut self, value: f64) {
        match value {
            f64::INFINITY => self.raw("INF"),
            f64::NEG_INFINITY => self.raw("-INF"),
            value if value.is_nan() => self.raw("NaN"),
            // Writing into a Vec cannot fail.
            value => write!(self.out, "{value}").unwrap_or_default(),
        }
    }

    /// `xsd:dateTime`, from Unix milliseconds.
    pub fn time(&mut self, ms: i64) {
        self.raw(datetime::format(ms).as_str());
    }

    /// `xsd:base64Binary`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let engine = base64::engine::general_purpose::STANDARD;
        let from = self.out.len();
        self.out.resize(from + bytes.len().div_ceil(3) * 4, 0);
        let written = self.out.get_mut(from..).and_then(|space| engine.encode_slice(bytes, space).ok());
        self.out.truncate(from + written.unwrap_or(0));
    }

    /// `<name>text</name>`
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// `<name>1</name>`
    pub fn int_leaf(&mut self, name: &str, value: i64) {
        self.open(name);
        self.int(value);
        self.close(name);
    }

    /// `<name>true</name>`
    pub fn bool_leaf(&mut self, name: &str, value: bool) {
        self.open(name);
        self.bool(value);
        self.close(name);
    }

    /// `<name>2026-…Z</name>`
    pub fn time_leaf(&mut self, name: &str, ms: i64) {
        self.open(name);
        self.time(ms);
        self.close(name);
    }

    /// `<name xsi:type="type">text</name>`
    pub fn typed_leaf(&mut self, name: &str, r#type: &str, text: &str) {
        self.open_typed(name, r#type);
        self.text(text);
        self.close(name);
    }

    /// `<methodResponse xmlns="namespace">`, or the empty element when nothing is answered.
    pub fn response(&mut self, method: &str, namespace: &str, content: impl FnOnce(&mut Encoder)) {
        for part in ["<", method, "Response xmlns=\""] {
            self.raw(part);
        }
        escape::attribute(namespace, &mut self.out);
        self.raw("\"");
        let before = self.mark();
        self.raw(">");
        let inside = self.mark();
        content(self);
        if self.mark() == inside {
            self.rollback(before);
            self.raw("/>");
        } else {
            for part in ["</", method, "Response>"] {
                self.raw(part);
            }
        }
    }

    /// A fault: `faultcode`, `faultstring`, and in `detail` one element `element` of `namespace` whose `xsi:type` is
    /// `r#type` and whose content is `content`. Without `detail` (an empty `element`) the fault has none.
    pub fn fault(
        &mut self,
        code: &str,
        message: &str,
        element: &str,
        namespace: &str,
        r#type: &str,
        content: impl FnOnce(&mut Encoder),
    ) {
        self.raw("<soapenv:Fault>");
        self.leaf("faultcode", code);
        self.leaf("faultstring", message);
        if !element.is_empty() {
            self.raw("<detail>");
            self.tag(element, &[("xmlns", namespace), ("xsi:type", r#type)], ">");
            content(self);
            self.close(element);
            self.raw("</detail>");
        }
        self.raw("</soapenv:Fault>");
    }

    /// Where the output stands.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }

    /// Takes back everything since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.out.truncate(mark.0);
    }
}

impl Mark {
    /// The offset in bytes, for callers that keep their own marks.
    pub fn offset(self) -> usize {
        self.0
    }

    /// The mark at `offset`.
    pub fn at(offset: usize) -> Mark {
        Mark(offset)
    }
}
