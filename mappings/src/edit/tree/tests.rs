//! The span tree: what it refuses and where its spans are.

use super::*;

fn defect(text: &str) -> Defect {
    match Tree::parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.defect,
    }
}

#[test]
fn refuses_what_is_not_a_plain_document() {
    for (text, expected) in [
        ("<!DOCTYPE a><a/>", Defect::Doctype),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", Defect::Doctype),
        ("\u{FEFF}<a/>", Defect::ByteOrderMark),
        ("<?xml version='1.0' encoding='UTF-16'?><a/>", Defect::Encoding),
        ("<a>\u{1}</a>", Defect::Character),
        ("<a>\u{FFFE}</a>", Defect::Character),
        ("<a>&x;</a>", Defect::Reference),
        ("<a>&#0;</a>", Defect::Reference),
        ("<a>&#+65;</a>", Defect::Reference),
        ("<a>& b</a>", Defect::Reference),
        ("<a b='&lt'/>", Defect::Reference),
        ("<a b='1' b='2'/>", Defect::DuplicateAttribute),
        ("<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>", Defect::DuplicateAttribute),
        ("<p:a/>", Defect::Namespace),
        ("<a p:b='1'/>", Defect::Namespace),
        ("<a xmlns:p=''/>", Defect::Namespace),
        ("<a xmlns:xmlns='u'/>", Defect::Namespace),
        ("<a:/>", Defect::Namespace),
        ("<a/><b/>", Defect::OutsideRoot),
        ("<a/>text", Defect::OutsideRoot),
        ("text<a/>", Defect::OutsideRoot),
        ("<![CDATA[x]]><a/>", Defect::OutsideRoot),
        ("<a></b>", Defect::Mismatch),
        ("</a>", Defect::Mismatch),
        ("<a>", Defect::Unfinished),
        ("", Defect::Unfinished),
        ("<a b='1", Defect::Unfinished),
        ("<a><!-- x", Defect::Unfinished),
        ("<a>]]></a>", Defect::Malformed),
        ("<a><!-- -- --></a>", Defect::Malformed),
        ("<a b=1/>", Defect::Malformed),
        ("<a b='1'c='2'/>", Defect::Malformed),
        ("<a b='<'/>", Defect::Malformed),
        ("<1a/>", Defect::Malformed),
        ("< a/>", Defect::Malformed),
        ("<a><?xml version='1.0'?></a>", Defect::Malformed),
        (" <?xml version='1.0'?><a/>", Defect::Malformed),
    ] {
        assert_eq!(defect(text), expected, "{text}");
    }
}

#[test]
fn says_where() {
    assert_eq!(
        Tree::parse("<a>\n  <b>&x;</b></a>").map(|_| ()),
        Err(ParseError { byte: 9, defect: Defect::Reference })
    );
    assert_eq!(
        Tree::parse("<a></b>").map_err(|e| e.to_string()).err().unwrap(),
        "an end tag that does not match its start tag (byte 3)"
    );
}

#[test]
fn keeps_its_limits() {
    let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert!(Tree::parse(&deep(MAX_DEPTH)).is_ok());
    assert_eq!(defect(&deep(MAX_DEPTH + 1)), Defect::TooDeep);
    let many = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
    assert!(Tree::parse(&many(MAX_ELEMENTS - 1)).is_ok());
    assert_eq!(defect(&many(MAX_ELEMENTS)), Defect::TooMany);
    assert_eq!(defect(&"<a>".repeat(MAX_BYTES / 3 + 1)), Defect::TooLarge);
    let attributes =
        |count: usize| format!("<a{}/>", (0..count).map(|n| format!(" b{n}=''")).collect::<String>());
    assert!(Tree::parse(&attributes(MAX_ATTRIBUTES)).is_ok());
    assert_eq!(defect(&attributes(MAX_ATTRIBUTES + 1)), Defect::TooManyAttributes);
}

#[test]
fn reads_text_as_xml_says() {
    let text = "<a b='1&#10;2\t3\n4&quot;&apos;'>x&amp;<![CDATA[<&]]>\r\ny&#xe9;</a>";
    let tree = Tree::parse(text).unwrap();
    let root = tree.root();
    assert_eq!(tree.content(root), "x&<&\ny\u{e9}");
    assert_eq!(tree.value(tree.attribute(root, "b").unwrap()), "1\n2 3 4\"'");
}

#[test]
fn spans_are_the_bytes() {
    let text = "<a>\n <p:b xmlns:p='urn:p'  c = \"d\" >e</p:b ><f/></a>";
    let tree = Tree::parse(text).unwrap();
    let children: Vec<Node> = tree.children(tree.root()).collect();
    let [b, f] = children.as_slice() else { panic!("two children") };
    assert_eq!((tree.local(*b), tree.namespace(*b)), ("b", "urn:p"));
    assert_eq!(tree.cut(tree.element(*b).span), "<p:b xmlns:p='urn:p'  c = \"d\" >e</p:b >");
    assert_eq!(tree.cut(tree.attribute(*b, "c").unwrap().whole), "  c = \"d\"");
    assert_eq!(tree.element(*b).close.map(|c| tree.cut(c)), Some("</p:b >"));
    assert_eq!(tree.cut(tree.element(*f).span), "<f/>");
    assert_eq!(tree.namespace(*f), "");
}
