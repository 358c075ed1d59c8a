use super::*;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::sync::Arc;

const SCHEMA: &str = "\
# a comment
program 0x20008086 1
const MAX 4194304
struct thing
  name string<32>
  uuid opaque[16]
  id int
union param switch int: 1 int | 2 uint | 3 hyper | 4 uhyper | 5 double | 6 bool | 7 string<16>
struct all
  a int
  b uint
  c hyper
  d uhyper
  e double
  f bool
  g string<9>
  h opaque<9>
  i opaque[3]
  j char<5>
  k char[3]
  l thing
  m thing?
  n thing<4>
  o string<8><3>
  p string<8>?
  q param<6>
  r uhyper[2]
struct empty
proc 1 GET thing all
proc 2 NOTE all - event
proc 3 READ thing - readstream
";

fn schema() -> Schema {
    Schema::parse(SCHEMA).unwrap()
}

/// Values of a type.
fn value(ty: &Type) -> BoxedStrategy<XdrValue> {
    let bytes = |range: std::ops::RangeInclusive<usize>| {
        prop::collection::vec(any::<u8>(), range).prop_map(|v| XdrValue::Bytes(Arc::from(v)))
    };
    match ty {
        Type::Int => any::<i32>().prop_map(XdrValue::Int).boxed(),
        Type::Uint => any::<u32>().prop_map(XdrValue::Uint).boxed(),
        Type::Hyper => any::<i64>().prop_map(XdrValue::Hyper).boxed(),
        Type::Uhyper => any::<u64>().prop_map(XdrValue::Uhyper).boxed(),
        Type::Double => (-1.0e300..1.0e300).prop_map(XdrValue::Double).boxed(),
        Type::Bool => any::<bool>().prop_map(XdrValue::Bool).boxed(),
        Type::Text(max) => {
            let max = *max as usize;
            "[a-z é]{0,8}"
                .prop_filter("fits", move |t| t.len() <= max)
                .prop_map(|t| XdrValue::Text(Arc::from(t)))
                .boxed()
        }
        Type::Bytes(max) | Type::Chars(max) => bytes(0..=*max as usize).boxed(),
        Type::FixedBytes(n) | Type::FixedChars(n) => bytes(*n as usize..=*n as usize).boxed(),
        Type::Optional(of) => {
            prop::option::of(value(of)).prop_map(|v| XdrValue::Optional(v.map(Box::new))).boxed()
        }
        Type::Array(of, max) => {
            prop::collection::vec(value(of), 0..=*max as usize).prop_map(XdrValue::Array).boxed()
        }
        Type::FixedArray(of, n) => {
            prop::collection::vec(value(of), *n as usize..=*n as usize).prop_map(XdrValue::Array).boxed()
        }
        Type::Struct(of) => structure(of),
        Type::Union(of) => {
            let arms: Vec<_> = of
                .arms
                .iter()
                .map(|(d, ty)| {
                    let d = *d;
                    value(ty).prop_map(move |v| XdrValue::Union(d, Box::new(v))).boxed()
                })
                .collect();
            prop::strategy::Union::new(arms).boxed()
        }
    }
}

fn structure(of: &Arc<Struct>) -> BoxedStrategy<XdrValue> {
    let of = of.clone();
    let fields: Vec<_> = of.fields.iter().map(|f| value(&f.ty)).collect();
    fields.prop_map(move |fields| XdrValue::Struct(XdrStruct { of: of.clone(), fields })).boxed()
}

fn encoded(of: &Arc<Struct>, value: &XdrValue) -> BytesMut {
    let mut out = BytesMut::new();
    encode(of, value, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(value in structure(schema().structure("all").unwrap())) {
        let schema = schema();
        let all = schema.structure("all").unwrap();
        let bytes = encoded(all, &value);
        prop_assert_eq!(bytes.len() % 4, 0);
        let back = decode(all, &bytes).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(encoded(all, &back), bytes);
    }

    #[test]
    fn a_cut_payload_is_an_error(value in structure(schema().structure("all").unwrap()), cut in 1usize..64) {
        let schema = schema();
        let all = schema.structure("all").unwrap();
        let bytes = encoded(all, &value);
        let cut = bytes.len().saturating_sub(cut);
        prop_assert!(decode(all, &bytes[..cut]).is_err());
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let schema = schema();
        for name in ["all", "thing", "empty"] {
            let of = schema.structure(name).unwrap();
            if let Ok(value) = decode(of, &bytes) {
                let mut out = BytesMut::new();
                prop_assert!(encode(of, &value, &mut out).is_ok());
            }
        }
    }

    #[test]
    fn a_changed_byte_decodes_or_is_refused(
        value in structure(schema().structure("all").unwrap()), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let schema = schema();
        let all = schema.structure("all").unwrap();
        let mut bytes = encoded(all, &value);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _read = decode(all, &bytes);
    }

    #[test]
    fn packets_survive_any_split(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5), step in 1usize..70) {
        let mut stream = BytesMut::new();
        let header = Header { program: 7, version: 1, procedure: -3, kind: PacketKind::Stream, serial: 9, status: Status::Continue };
        for payload in &payloads {
            put_packet(&header, payload, &mut stream).unwrap();
        }
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for part in stream.chunks(step) {
            buffer.extend_from_slice(part);
            while let Some(packet) = take_packet(&mut buffer).unwrap() {
                prop_assert_eq!(packet.header, header);
                got.push(packet.payload.to_vec());
            }
        }
        prop_assert_eq!(got, payloads);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_bytes_are_packets_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = take_packet(&mut buffer) {}
    }

    #[test]
    fn any_text_is_a_schema_or_refused(text in "(program|struct|union|proc|const|  )[ -~\n]{0,80}") {
        let _read = Schema::parse(&text);
    }
}

#[test]
fn a_char_takes_four_bytes() {
    let schema = Schema::parse("struct model\n  name char[4]\n").unwrap();
    let of = schema.structure("model").unwrap();
    let bytes = [0, 0, 0, b'x', 0, 0, 0, b'8', 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x80];
    let value = decode(of, &bytes).unwrap();
    assert_eq!(value.get("name").unwrap().as_c_text().unwrap(), "x8");
    assert_eq!(&encoded(of, &value)[..], &bytes[..]);
    let error = decode(of, &[1; 16]).unwrap_err();
    assert!(matches!(error.what, DecodeFault::BadChar(_)));
}

#[test]
fn a_huge_count_allocates_nothing() {
    let schema = Schema::parse("struct list\n  items uhyper<4294967295>\n").unwrap();
    let error = decode(schema.structure("list").unwrap(), &[0xff; 12]).unwrap_err();
    assert_eq!(error.path, "items");
    assert!(matches!(error.what, DecodeFault::Truncated { needed, left: 8 } if needed > 30_000_000_000));
}

#[test]
fn a_count_above_the_bound_is_refused() {
    let schema = schema();
    let mut bytes = vec![0, 0, 0, 33];
    bytes.resize(200, b'a');
    let error = decode(schema.structure("thing").unwrap(), &bytes).unwrap_err();
    assert_eq!(error.to_string(), "byte 4, `name`: a count of 33 where 32 is the most");
}

#[test]
fn text_that_is_not_utf8_survives() {
    let schema = Schema::parse("struct t\n  s string<8>\n").unwrap();
    let of = schema.structure("t").unwrap();
    let bytes = [0, 0, 0, 2, 0xff, 0xfe, 0, 0];
    let value = decode(of, &bytes).unwrap();
    assert_eq!(value.get("s").unwrap().as_bytes().unwrap(), [0xff, 0xfe]);
    assert_eq!(&encoded(of, &value)[..], &bytes[..]);
}

#[test]
fn bytes_after_the_value_are_refused() {
    let schema = Schema::parse("struct n\n  n int\n").unwrap();
    let error = decode(schema.structure("n").unwrap(), &[0; 8]).unwrap_err();
    assert_eq!(error.what, DecodeFault::Trailing(4));
}

#[test]
fn a_record_fills_in_zeros_and_asks_for_the_rest() {
    let schema = schema();
    let thing = schema.structure("thing").unwrap();
    let missing = record(thing, vec![("name", XdrValue::text("a"))]).unwrap_err();
    assert_eq!(missing.to_string(), "struct `thing` needs field `uuid`");
    let uuid = XdrValue::Bytes(Arc::from([7; 16]));
    let value = record(thing, vec![("uuid", uuid), ("name", XdrValue::text("a"))]).unwrap();
    assert_eq!(value.get("id"), Some(&XdrValue::Int(0)));
    let unknown = record(thing, vec![("nom", XdrValue::text("a"))]).unwrap_err();
    assert_eq!(unknown.to_string(), "struct `thing` has no field `nom`; it has name, uuid, id");
}

#[test]
fn a_value_of_another_type_is_refused_with_its_path() {
    let schema = schema();
    let thing = schema.structure("thing").unwrap();
    let uuid = XdrValue::Bytes(Arc::from([7; 15]));
    let value = record(thing, vec![("uuid", uuid), ("name", XdrValue::text("a"))]).unwrap();
    let error = encode(thing, &value, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.to_string(), "field `uuid`: 15 is not 16");
}

#[test]
fn schema_errors_name_the_line() {
    for (text, line, word) in [
        ("struct a\n  x nothing\n", 2, "`nothing`"),
        ("struct a\n  x int\n  x int\n", 3, "twice"),
        ("struct a\n  x string\n", 2, "`string` needs"),
        ("struct a\nstruct b\n  x a<9>\n", 3, "no bytes"),
        ("what ever\n", 1, "`what`"),
        ("proc 1 A - -\n", 1, "program"),
        ("program 1 1\nproc 1 A b -\n", 2, "`b`"),
        ("program 1 1\nproc 1 A - -\nproc 1 B - -\n", 3, "`A` already"),
        ("  x int\n", 1, "outside"),
    ] {
        let error = Schema::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.message.contains(word), "{error}");
    }
}

#[test]
fn procedures_are_found_by_number_and_name() {
    let schema = schema();
    let get = schema.procedure(0x2000_8086, 1).unwrap();
    assert_eq!(schema.procedure_named("GET"), Some(get));
    assert_eq!(get.ret.as_ref().map(|s| &*s.name), Some("all"));
    assert_eq!(schema.procedure_named("NOTE").map(|p| p.kind), Some(ProcedureKind::Event));
    assert_eq!(schema.constant("MAX"), Some(4_194_304));
    assert_eq!(schema.procedures().count(), 3);
}

#[test]
fn a_packet_of_an_impossible_length_is_refused_at_once() {
    for length in [0u32, 27, 33_554_437, u32::MAX] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        assert!(matches!(take_packet(&mut buffer), Err(FrameError::Length { .. })));
    }
    let mut buffer = BytesMut::from(&33_554_436u32.to_be_bytes()[..]);
    assert_eq!(take_packet(&mut buffer), Ok(None));
    assert!(buffer.capacity() < 100);
}

#[test]
fn a_payload_above_the_limit_is_not_sent() {
    let header = Header {
        program: 1,
        version: 1,
        procedure: 1,
        kind: PacketKind::Call,
        serial: 0,
        status: Status::Ok,
    };
    let mut out = BytesMut::new();
    let payload = Bytes::from(vec![0; crate::limits::XDR_PACKET]);
    assert!(matches!(put_packet(&header, &payload, &mut out), Err(FrameError::Payload(_))));
    assert!(out.is_empty());
}
