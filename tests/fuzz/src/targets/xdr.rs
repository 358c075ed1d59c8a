//! XDR: values of every procedure, packets, and schemas.

use crate::{runner::Target, targets::text};
use bytes::BytesMut;
use std::sync::{Arc, LazyLock};
use wire::xdr::{Schema, Struct, decode, encode, put_packet, take_packet};

const WORDS: &[&str] =
    &["\0\0\0\0", "\0\0\0\u{1}", "\0\0\0\u{4}", "test\0\0\0\0", "\u{7f}", " \0\u{80}\u{86}"];
const SCHEMA_WORDS: &[&str] = &[
    "program ", "const ", "struct ", "union ", "proc ", "\n", "\n  ", "string", "opaque", "int", "uint",
    "hyper", "<", ">", "[", "]", "*", "?", "4194304", "-1", "#",
];

/// The payloads of all procedures, by number.
static SHAPES: LazyLock<Vec<Arc<Struct>>> = LazyLock::new(|| {
    let schema = libvirt::native::schema().expect("the schema in the tree is good");
    let mut all: Vec<_> = schema.procedures().cloned().collect();
    all.sort_by_key(|p| (p.program, p.number));
    all.iter().flat_map(|p| [p.args.clone(), p.ret.clone()]).flatten().collect()
});

/// The first two bytes choose the payload, the others are it.
pub const VALUES: Target = Target {
    name: "xdr_decode",
    also: &[],
    dictionary: WORDS,
    feed: |input| {
        let Some((choice, bytes)) = input.split_first_chunk::<2>() else { return "no choice".to_owned() };
        let shape = SHAPES.get(usize::from(u16::from_be_bytes(*choice)) % SHAPES.len()).expect("in range");
        match decode(shape, bytes) {
            Err(error) => format!("{} {error}", shape.name),
            Ok(value) => {
                let mut once = BytesMut::new();
                encode(shape, &value, &mut once).expect("what was decoded encodes");
                let mut twice = BytesMut::new();
                let again = decode(shape, &once).expect("what was encoded decodes");
                encode(shape, &again, &mut twice).expect("and encodes again");
                assert_eq!(once, twice);
                shape.name.to_string()
            }
        }
    },
};

/// A stream of packets, cut where the bytes say.
pub const PACKETS: Target = Target {
    name: "xdr_packets",
    also: &[],
    dictionary: WORDS,
    feed: |input| {
        let mut buffer = BytesMut::from(input);
        let mut kinds = Vec::new();
        loop {
            let before = buffer.clone();
            match take_packet(&mut buffer) {
                Err(error) => return format!("{kinds:?} {error}"),
                Ok(None) => return format!("{kinds:?} and {}", buffer.len()),
                Ok(Some(packet)) => {
                    let mut again = BytesMut::new();
                    put_packet(&packet.header, &packet.payload, &mut again)
                        .expect("what was taken can be put");
                    assert!(before.starts_with(&again));
                    kinds.push(packet.header.kind);
                    kinds.truncate(3);
                }
            }
        }
    },
};

/// The compact schema text.
pub const SCHEMA: Target = Target {
    name: "xdr_schema",
    also: &[],
    dictionary: SCHEMA_WORDS,
    feed: |input| {
        let text = text(input);
        match Schema::parse(&text) {
            Ok(schema) => format!("{}", schema.procedures().count().min(1)),
            Err(error) => {
                assert!(error.line <= text.lines().count());
                error.message
            }
        }
    },
};
