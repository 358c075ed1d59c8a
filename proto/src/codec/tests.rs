use super::*;
use crate::{id::Kind, schema::*};
use proptest::prelude::*;
use uuid::Uuid;

fn schema() -> Arc<Schema> {
    let ext = ExtField {
        message: "Vm".into(),
        name: "test.colour".into(),
        ty: ExtType::Str,
        repeated: false,
        runtime: false,
    };
    Schema::with_ext(&[ext]).unwrap()
}

#[test]
fn every_kind_has_its_message() {
    let schema = Schema::base();
    for kind in Kind::ALL {
        assert_eq!(schema.kind(*kind).name, kind.message());
        assert_eq!(schema.kind(*kind).kind, Some(*kind));
    }
}

#[test]
fn every_message_fits_a_slot_set() {
    for message in Schema::base().messages() {
        assert!(message.fields.len() <= MAX_SLOTS, "{}", message.name);
    }
}

#[test]
fn options_are_read_from_the_descriptors() {
    let schema = Schema::base();
    let vm = schema.kind(Kind::Vm);
    assert_eq!(vm.field("host_id").unwrap().ty, FieldType::Ref(vec![Kind::Host]));
    assert!(vm.field("power_state").unwrap().runtime);
    assert!(!vm.field("name").unwrap().runtime);
    assert!(matches!(vm.field("disks").unwrap().ty, FieldType::Message(_)));
    let on = schema.message("PowerOn").unwrap().command.clone().unwrap();
    assert_eq!(on.class, crate::command::Class::Idempotent);
    assert_eq!(on.on, Kind::Vm);
    assert_eq!(schema.enumeration("Operation").unwrap().name_of(on.operation), Some("STARTING"));
}

#[test]
fn generated_code_reads_what_the_codec_writes() {
    let schema = schema();
    let vm = schema.kind(Kind::Vm);
    let mut record = vm.record();
    record.set(vm.field("name").unwrap().slot, "web01");
    record.set(vm.field("power_state").unwrap().slot, i64::from(pb::PowerState::Running as i32));
    record.set(vm.field("ext.test.colour").unwrap().slot, "green");
    let message = pb::Vm::decode(encode(&schema, &record).as_slice()).unwrap();
    assert_eq!(message.name, "web01");
    assert_eq!(message.power_state(), pb::PowerState::Running);
    assert_eq!(Value::from_pb(&message.ext["test.colour"]), Value::str("green"));
    let back = decode(&schema, vm.id, &message.encode_to_vec()).unwrap();
    assert_eq!(back.get(vm.field("ext.test.colour").unwrap().slot), &Value::str("green"));
}

fn value(schema: Arc<Schema>, ty: FieldType, depth: u32) -> BoxedStrategy<Value> {
    match ty {
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        FieldType::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        FieldType::Float => (-1e9..1e9f64).prop_map(Value::Float).boxed(),
        FieldType::Str => ".{0,20}".prop_map(Value::from).boxed(),
        FieldType::Bytes => any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())).boxed(),
        FieldType::Enum(e) => (0..e.values.len() as i64).prop_map(Value::from).boxed(),
        FieldType::Ref(_) => {
            any::<u128>().prop_map(|u| Value::Ref(ObjectId::new(Kind::Host, Uuid::from_u128(u)))).boxed()
        }
        FieldType::Message(id) => record(schema, id, depth + 1).prop_map(Value::record).boxed(),
    }
}

fn record(schema: Arc<Schema>, id: MessageId, depth: u32) -> BoxedStrategy<Record> {
    let message = schema.get(id).unwrap().clone();
    let count = message.fields.len();
    let fields = if depth > 2 { Vec::new() } else { message.fields.clone() };
    let mut strategy = Just(Record::new(id, count)).boxed();
    for field in fields {
        let item = value(schema.clone(), field.ty.clone(), depth);
        let one = if field.repeated {
            proptest::collection::vec(item, 0..3).prop_map(Value::list).boxed()
        } else {
            item
        };
        let slot = field.slot;
        strategy = (strategy, proptest::option::weighted(0.3, one))
            .prop_map(move |(mut record, value)| {
                if let Some(value) = value.filter(|v| !v.is_absent()) {
                    record.set(slot, value);
                }
                record
            })
            .boxed();
    }
    strategy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_survives_the_bus(host in record(schema(), schema().kind(Kind::Host).id, 0)) {
        let schema = schema();
        prop_assert_eq!(decode(&schema, host.message(), &encode(&schema, &host)).unwrap(), host);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        let schema = schema();
        drop(decode(&schema, schema.kind(Kind::Vm).id, &bytes));
    }
}
