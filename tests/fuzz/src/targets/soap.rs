//! SOAP and XML.

use crate::runner::Target;
use wire::{
    limits::{SOAP, XmlLimits},
    soap::{Encoder, decode},
    xml::{self, Element},
};

const WORDS: &[&str] = &[
    "<",
    ">",
    "</",
    "/>",
    "<a>",
    "</a>",
    "<a/>",
    "&",
    ";",
    "&lt;",
    "&amp;",
    "&#0;",
    "&#x41;",
    "&#xD800;",
    "&bomb;",
    "<!DOCTYPE a [<!ENTITY bomb \"&bomb;&bomb;\">]>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?xml version='1.0'?>",
    "encoding='utf-16'",
    " xmlns=\"urn:vim25\"",
    " xmlns:p=\"urn:p\"",
    "p:",
    "xsi:type=\"xsd:string\"",
    "xsi:nil=\"true\"",
    " a=\"\"",
    " a='b'",
    "\u{FEFF}",
    "\0",
    "\r\n",
    "\u{FFFE}",
    "soapenv:Body",
    "soapenv:Header",
    "ArrayOfString",
    "2026-11-21T05:00:00Z",
    "INF",
    "NaN",
    "-0",
];

/// An envelope decodes, is read in every way, and encodes to what decodes the same.
pub const DECODE: Target = Target {
    name: "soap_decode",
    also: &[],
    dictionary: WORDS,
    feed: |input| match decode(input, &SOAP) {
        Err(error) => error.to_string(),
        Ok(envelope) => {
            let mut out = Encoder::new();
            out.envelope();
            write(envelope.method(), &mut out);
            out.envelope_end();
            let again = decode(out.finish(), &SOAP).expect("what was encoded decodes");
            same(envelope.method(), again.method());
            format!("{:?}", envelope.header().map(|h| h.children().count()))
        }
    },
};

/// Any document, within limits small enough to be reached.
pub const XML: Target = Target {
    name: "xml_tree",
    also: &[],
    dictionary: WORDS,
    feed: |input| {
        let small = XmlLimits {
            bytes: 64 << 10,
            depth: 8,
            elements: 64,
            attributes: 8,
            total_attributes: 32,
            name: 32,
            value: 64,
            text: 256,
            namespaces: 4,
        };
        match xml::parse(input, &small) {
            Err(error) => {
                assert!(error.position <= input.len());
                error.to_string()
            }
            Ok(document) => {
                let all = walk(document.root(), 1);
                assert!(all <= 64);
                format!("{all} elements")
            }
        }
    },
};

/// Reads everything there is to read; counts the elements.
fn walk(element: Element<'_>, depth: usize) -> usize {
    assert!(depth <= 8 && !element.name().is_empty() && element.name().len() + element.prefix().len() <= 32);
    assert!(element.text().len() <= 256 && element.attributes().count() <= 8);
    read(element);
    1 + element.children().map(|child| walk(child, depth + 1)).sum::<usize>()
}

fn read(element: Element<'_>) {
    let values = (element.bool(), element.int(), element.float(), element.time(), element.is_nil());
    assert!(element.bytes().is_none_or(|bytes| bytes.len() <= element.text().len()), "{values:?}");
    assert!(element.xsi_type().is_none_or(|t| !t.contains(':')));
}

fn write(element: Element<'_>, out: &mut Encoder) {
    let names: Vec<String> = (0..element.attributes().count()).map(|n| format!("a{n}")).collect();
    let attributes: Vec<_> =
        names.iter().map(String::as_str).zip(element.attributes().map(|a| a.value)).collect();
    out.open_with(element.name(), &attributes);
    let mut children = element.children().peekable();
    if children.peek().is_none() {
        out.text(element.text());
    }
    children.for_each(|child| write(child, out));
    out.close(element.name());
}

fn same(a: Element<'_>, b: Element<'_>) {
    read(a);
    assert_eq!(a.name(), b.name());
    assert!(a.attributes().map(|a| a.value).eq(b.attributes().map(|b| b.value)));
    assert_eq!(a.children().count(), b.children().count());
    if a.children().next().is_none() {
        assert_eq!(a.text(), b.text());
    }
    a.children().zip(b.children()).for_each(|(a, b)| same(a, b));
}
