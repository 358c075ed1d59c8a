use super::*;
use crate::limits::{SOAP, XmlLimits};

fn cause(text: &str) -> XmlCause {
    parse(text, &SOAP).map(|d| format!("{:?}", d.root())).unwrap_err().cause
}

fn malformed(text: &str) -> String {
    match cause(text) {
        XmlCause::Malformed(message) => message,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn reads_names_texts_and_attributes() {
    let document = parse(
        "<?xml version='1.0'?><a xmlns='urn:x' xmlns:p='urn:p' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' k=\"1\n2\">\n \
         <b p:k='&lt;&#65;&#x42;' xsi:type='xsd:int'> 7 </b><!-- note --><p:c xsi:nil='true'/>\n<d xmlns=''>x<![CDATA[<y>]]>&amp;z</d></a>",
        &SOAP,
    )
    .unwrap();
    let root = document.root();
    assert_eq!(
        (root.name(), root.namespace(), root.text(), root.attribute("k")),
        ("a", "urn:x", "", Some("1 2"))
    );
    let names: Vec<_> = root.children().map(|c| (c.prefix(), c.name(), c.namespace())).collect();
    assert_eq!(names, [("", "b", "urn:x"), ("p", "c", "urn:p"), ("", "d", "")]);
    let b = root.child("b").unwrap();
    assert_eq!((b.attribute_in("urn:p", "k"), b.xsi_type(), b.int()), (Some("<AB"), Some("int"), Some(7)));
    assert_eq!(b.attribute("k"), None);
    assert!(root.child("c").unwrap().is_nil());
    assert_eq!(root.child_text("d"), Some("x<y>&z"));
    assert_eq!(root.children_named("b").count(), 1);
    assert!(root.child("nothing").is_none());
}

#[test]
fn reads_values() {
    let document = parse(
        "<a><t>true</t><f> 0 </f><n>maybe</n><i>-12</i><big>99999999999999999999</big><d>1.5E3</d><inf>-INF</inf>\
         <nan>nan</nan><w>2026-11-21T05:00:00Z</w><b>aHlw\nZXI=</b><nb>!</nb></a>",
        &SOAP,
    )
    .unwrap();
    let child = |name| document.root().child(name).unwrap();
    assert_eq!((child("t").bool(), child("f").bool(), child("n").bool()), (Some(true), Some(false), None));
    assert_eq!((child("i").int(), child("big").int(), child("n").int()), (Some(-12), None, None));
    assert_eq!((child("d").float(), child("inf").float()), (Some(1500.0), Some(f64::NEG_INFINITY)));
    assert_eq!((child("nan").float(), child("n").float()), (None, None));
    assert_eq!(child("w").time(), crate::datetime::parse("2026-11-21T05:00:00Z"));
    assert_eq!((child("b").bytes(), child("nb").bytes()), (Some(b"hyper".to_vec()), None));
}

#[test]
fn line_ends_and_mixed_text() {
    let document = parse("<a>1\r\n2\r3&#13;4<b/> tail</a>", &SOAP).unwrap();
    assert_eq!(document.root().text(), "1\n2\n3\r4 tail");
}

#[test]
fn refuses_what_could_expand_or_hide() {
    assert_eq!(cause("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), XmlCause::Doctype);
    assert_eq!(cause("<a>&b;</a>"), XmlCause::Entity("b".into()));
    assert_eq!(cause("<a k='&nbsp;'/>"), XmlCause::Entity("nbsp".into()));
    assert_eq!(cause("<p:a/>"), XmlCause::Prefix("p".into()));
    assert_eq!(cause("<a p:k='1'/>"), XmlCause::Prefix("p".into()));
    assert_eq!(cause("<?xml version='1.0' encoding='utf-16'?><a/>"), XmlCause::Encoding);
    assert_eq!(
        parse(&b"<a>\xff</a>"[..], &SOAP).unwrap_err(),
        XmlError { position: 3, cause: XmlCause::Encoding }
    );
    assert_eq!(parse(&b"\xfe\xff\x00<\x00a"[..], &SOAP).unwrap_err().cause, XmlCause::Encoding);
    assert!(parse("\u{FEFF}<a/>", &SOAP).is_ok());
}

#[test]
fn refuses_what_is_not_well_formed() {
    for text in [
        "",
        "   ",
        "text",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/>text",
        "text<a/>",
        "<a",
        "<a k></a>",
        "<a k=1/>",
        "<a k='1' k='2'/>",
        "<a k='<'/>",
        "<1/>",
        "<a:/>",
        "<:a/>",
        "<a:b:c/>",
        "< a/>",
        "<a>]]></a>",
        "<a>&</a>",
        "<a>&#0;</a>",
        "<a>&#xFFFF;</a>",
        "<a>&#x110000;</a>",
        "<a>&#+65;</a>",
        "<a>&#x+41;</a>",
        "<a>&lt</a>",
        "<a>\u{1}</a>",
        "<a><!-- -- --></a>",
        "<a/><?xml version='1.0'?>",
        "<a xmlns:p=''/>",
        "<a xmlns:xml='urn:x'/>",
        "<a xmlns:p='urn:x' xmlns:q='urn:x' p:k='' q:k=''/>",
        "<a><![CDATA[</a>",
        "<![CDATA[x]]><a/>",
        "&lt;<a/>",
    ] {
        assert!(!malformed(text).is_empty(), "{text}");
    }
}

#[test]
fn holds_every_limit() {
    let small = XmlLimits {
        bytes: 400,
        depth: 3,
        elements: 5,
        attributes: 2,
        total_attributes: 3,
        name: 8,
        value: 10,
        text: 12,
        namespaces: 1,
    };
    let what = |text: &str| match parse(text, &small).map(|_| ()).unwrap_err().cause {
        XmlCause::Limit { what, .. } => what,
        other => panic!("{text}: {other:?}"),
    };
    assert!(parse("<a><b><c/></b></a>", &small).is_ok());
    assert_eq!(what(&format!("<a>{}</a>", " ".repeat(400))), "bytes");
    assert_eq!(what("<a><b><c><d/></c></b></a>"), "elements inside each other");
    assert_eq!(what("<a><b/><b/><b/><b/><b/></a>"), "elements");
    assert_eq!(what("<a k='' l='' m=''/>"), "attributes on one element");
    assert_eq!(what("<a k='' l=''><b k='' l=''/></a>"), "attributes");
    assert_eq!(what("<abcdefghi/>"), "bytes in a name");
    assert_eq!(what("<a abcdefghi=''/>"), "bytes in a name");
    assert_eq!(what("<a k='12345678901'/>"), "bytes in an attribute's value");
    assert_eq!(what("<a>1234567890123</a>"), "bytes of text in one element");
    assert_eq!(what("<a>1234567&amp;890123</a>"), "bytes of text in one element");
    assert_eq!(what("<a xmlns='u' xmlns:p='v'/>"), "namespace declarations in scope");
    assert!(parse("<a><b xmlns='u'/><b xmlns='u'/></a>", &small).is_ok());
}

#[test]
fn deep_documents_end_early() {
    let deep = "<a>".repeat(1_000_000);
    assert_eq!(cause(&deep), XmlCause::Limit { what: "elements inside each other", limit: 64 });
}

#[test]
fn says_where() {
    let error = parse("<a><b/>&x;</a>", &SOAP).unwrap_err();
    assert_eq!(error.position, 7);
    assert_eq!(
        error.to_string(),
        "XML refused at byte 7: the entity &x; is not defined; only lt, gt, amp, apos, quot and character references are"
    );
}
