//! The SOAP wire: reading a request, writing an answer.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]

use divan::{Bencher, black_box, counter::BytesCount};
use wire::{
    limits::SOAP,
    soap::{decode, encode::Encoder},
};

fn main() {
    divan::main();
}

const FETCH: &str = r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><Fetch xmlns="urn:vim25"><_this type="VirtualMachine">vm-17</_this><prop>name</prop></Fetch></soapenv:Body></soapenv:Envelope>"#;

/// A request as pyVmomi sends them.
#[divan::bench]
fn parse_small(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(FETCH.len())).bench_local(|| {
        black_box(decode(FETCH.as_bytes().to_vec(), &SOAP).map(|e| e.method().name().len())).unwrap()
    });
}

/// A ListView of five thousand members.
#[divan::bench(sample_count = 30)]
fn parse_large(bencher: Bencher<'_, '_>) {
    let members: String = (0..5_000).map(|n| format!(r#"<obj type="VirtualMachine">vm-{n}</obj>"#)).collect();
    let request = FETCH.replace("<prop>name</prop>", &members);
    bencher.counter(BytesCount::new(request.len())).bench_local(|| {
        black_box(decode(request.as_bytes().to_vec(), &SOAP).map(|e| e.method().name().len())).unwrap()
    });
}

/// A thousand elements with text that needs no escape, and with text that does.
#[divan::bench(args = ["a plain value", "a <value> & more"])]
fn encode_thousand(bencher: Bencher<'_, '_>, text: &str) {
    let mut buffer = Vec::new();
    bencher.bench_local(|| {
        let mut out = Encoder::reusing(std::mem::take(&mut buffer));
        out.response("Fetch", "urn:vim25", |out| {
            for _ in 0..1_000 {
                out.typed_leaf("val", "xsd:string", text);
            }
        });
        buffer = black_box(out.finish());
    });
}
