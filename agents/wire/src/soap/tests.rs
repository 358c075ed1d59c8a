use super::{encode::Encoder, *};
use crate::{limits::SOAP, xml::XmlCause};
use proptest::prelude::*;

const PYVMOMI: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Header><vcSessionCookie>abc</vcSessionCookie></soapenv:Header>
<soapenv:Body><Fetch xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this><prop>content</prop></Fetch></soapenv:Body>
</soapenv:Envelope>"#;

#[test]
fn reads_a_client_request() {
    let envelope = decode(PYVMOMI, &SOAP).unwrap();
    assert_eq!(envelope.header_text("vcSessionCookie"), Some("abc"));
    let method = envelope.method();
    assert_eq!((method.name(), method.namespace()), ("Fetch", "urn:vim25"));
    let this = method.child("_this").unwrap();
    assert_eq!((this.attribute("type"), this.text()), (Some("ServiceInstance"), "ServiceInstance"));
    assert_eq!(method.child_text("prop"), Some("content"));
    assert!(!format!("{envelope:?}").contains("abc"));
}

#[test]
fn refuses_other_shapes() {
    let in_body = |body: &str| {
        format!("<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\">{body}</e:Envelope>")
    };
    for text in [
        "<Envelope/>".to_owned(),
        "<e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\"><e:Body><a/></e:Body></e:Envelope>"
            .into(),
        in_body(""),
        in_body("<e:Body/>"),
        in_body("<e:Body><a/><b/></e:Body>"),
        in_body("<e:Body><a/></e:Body><e:Body><a/></e:Body>"),
        in_body("<e:Body><a/></e:Body><e:Header/>"),
        in_body("<e:Header/><e:Header/><e:Body><a/></e:Body>"),
        in_body("<Body><a/></Body>"),
    ] {
        assert!(matches!(decode(text.clone(), &SOAP), Err(SoapError::Shape { .. })), "{text}");
    }
    let doctype = format!("<!DOCTYPE a>{}", in_body("<e:Body><a/></e:Body>"));
    assert!(matches!(decode(doctype, &SOAP), Err(SoapError::Xml(e)) if e.cause == XmlCause::Doctype));
}

#[test]
fn writes_answers() {
    let mut out = Encoder::reusing(vec![1, 2, 3]);
    out.envelope();
    out.response("PowerOnVM_Task", "urn:vim25", |out| {
        out.open_with("returnval", &[("type", "Task")]);
        out.text("task-1");
        out.close("returnval");
    });
    out.envelope_end();
    assert_eq!(
        String::from_utf8(out.finish()).unwrap(),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
         <PowerOnVM_TaskResponse xmlns=\"urn:vim25\"><returnval type=\"Task\">task-1</returnval>\
         </PowerOnVM_TaskResponse></soapenv:Body></soapenv:Envelope>"
    );
    let mut out = Encoder::new();
    out.response("Logout", "urn:vim25", |_| {});
    assert_eq!(out.finish(), b"<LogoutResponse xmlns=\"urn:vim25\"/>");
}

#[test]
fn writes_faults() {
    let mut out = Encoder::new();
    out.fault("ServerFaultCode", "No <such> thing", "NotFoundFault", "urn:vim25", "NotFound", |out| {
        out.leaf("obj", "vm-1");
    });
    assert_eq!(
        String::from_utf8(out.finish()).unwrap(),
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>No &lt;such&gt; thing</faultstring>\
         <detail><NotFoundFault xmlns=\"urn:vim25\" xsi:type=\"NotFound\"><obj>vm-1</obj></NotFoundFault></detail>\
         </soapenv:Fault>"
    );
    let mut out = Encoder::new();
    out.fault("ClientFaultCode", "what", "", "", "", |_| {});
    assert_eq!(
        out.finish(),
        b"<soapenv:Fault><faultcode>ClientFaultCode</faultcode><faultstring>what</faultstring></soapenv:Fault>"
    );
}

#[test]
fn writes_values() {
    let mut out = Encoder::new();
    for value in [0.0, 1.5, -2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        out.float(value);
        out.raw(" ");
    }
    out.bool(true);
    out.int(i64::MIN);
    out.bytes(b"hyper");
    out.bytes(b"");
    out.time(0);
    let mark = out.mark();
    out.leaf("gone", "text");
    out.rollback(mark);
    assert_eq!(
        String::from_utf8(out.finish()).unwrap(),
        "0 1.5 -2 INF -INF NaN true-9223372036854775808aHlwZXI=1970-01-01T00:00:00.000Z"
    );
}

/// A tree to write and read back.
#[derive(Clone, Debug)]
struct Tree {
    name: String,
    attributes: Vec<(String, String)>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Text(String),
    Children(Vec<Tree>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,20}", "\\PC{0,20}", "[ \t\r\n<>&'\"\u{EFFF}\u{F000}\u{FFFD}]{0,10}"]
}

fn tree() -> impl Strategy<Value = Tree> {
    let name =
        || "[A-Za-z_][A-Za-z0-9_.-]{0,8}".prop_filter("reserved", |n| !n.to_lowercase().starts_with("xml"));
    let attributes = move || {
        prop::collection::btree_map(name(), text(), 0..4).prop_map(|map| map.into_iter().collect::<Vec<_>>())
    };
    let leaf = (name(), attributes(), text()).prop_map(|(name, attributes, text)| Tree {
        name,
        attributes,
        content: Content::Text(text),
    });
    leaf.prop_recursive(4, 40, 5, move |inner| {
        (name(), attributes(), prop::collection::vec(inner, 1..5)).prop_map(|(name, attributes, children)| {
            Tree { name, attributes, content: Content::Children(children) }
        })
    })
}

fn write(tree: &Tree, out: &mut Encoder) {
    let attributes: Vec<_> = tree.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    out.open_with(&tree.name, &attributes);
    match &tree.content {
        Content::Text(text) => out.text(text),
        Content::Children(children) => children.iter().for_each(|child| write(child, out)),
    }
    out.close(&tree.name);
}

fn same(tree: &Tree, element: crate::xml::Element<'_>) -> Result<(), TestCaseError> {
    prop_assert_eq!(element.name(), &tree.name);
    let attributes: Vec<_> = element.attributes().map(|a| (a.name.to_owned(), a.value.to_owned())).collect();
    prop_assert_eq!(&attributes, &tree.attributes);
    match &tree.content {
        Content::Text(text) => prop_assert_eq!(element.text(), text),
        Content::Children(children) => {
            prop_assert_eq!(element.children().count(), children.len());
            for (child, element) in children.iter().zip(element.children()) {
                same(child, element)?;
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn round_trip(tree in tree()) {
        let mut out = Encoder::new();
        out.envelope_with("<a/>");
        write(&tree, &mut out);
        out.envelope_end();
        let envelope = decode(out.finish(), &SOAP).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(envelope.header().is_some_and(|h| h.child("a").is_some()));
        same(&tree, envelope.method())?;
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(bytes, &SOAP).is_err());
    }

    #[test]
    fn damaged_requests_are_safe(at in 0..PYVMOMI.len(), byte: u8, cut in 0..PYVMOMI.len()) {
        let mut bytes = PYVMOMI.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(envelope) = decode(bytes.clone(), &SOAP) {
            prop_assert!(!envelope.method().name().is_empty());
        }
        bytes.truncate(cut);
        prop_assert!(decode(bytes, &SOAP).is_err());
    }
}
