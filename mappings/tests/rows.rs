//! The mappings of this repository, on whatever a record may hold: what is shown is well formed by the native schema.
#![cfg(test)]

use mapping::{
    Bundle, NativeRef, NativeType, ObjectMap, Protocol, Reader, VersionIndex,
    tree::{Shown, Tree, Whole},
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock},
};
use union::{FieldType, Kind, MessageId, ObjectId, Record, Schema, Slot, Value, schema::FieldSchema};

static BUNDLE: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    Bundle::load(dir).unwrap_or_else(|report| panic!("{report}"))
});

/// Any object is there, with any facts.
struct World {
    objects: BTreeMap<Kind, Arc<Record>>,
    view: &'static str,
}

impl Reader for World {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.objects.get(&id.kind).cloned()
    }

    fn referring(&self, kind: Kind, _: Slot, _: ObjectId, out: &mut Vec<ObjectId>) {
        out.push(ObjectId::derived(kind, &["referring"]));
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        Some(NativeRef { ty: Arc::from(id.kind.message()), id: Arc::from(id.uuid.to_string()) })
    }

    fn view(&self) -> &str {
        self.view
    }
}

/// A value of a field's type, or nothing.
fn value(schema: &Arc<Schema>, field: &FieldSchema, depth: u32) -> BoxedStrategy<Value> {
    let one: BoxedStrategy<Value> = match &field.ty {
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Int32 => {
            prop_oneof![0i64..100, Just(i64::from(i32::MAX)), Just(-1i64)].prop_map(Value::Int).boxed()
        }
        FieldType::Int64 => {
            prop_oneof![0i64..1 << 40, Just(i64::MAX), Just(i64::MIN)].prop_map(Value::Int).boxed()
        }
        FieldType::Float => (0.0f64..10.0).prop_map(Value::Float).boxed(),
        FieldType::Str => {
            prop_oneof!["[a-z0-9:.-]{0,8}", "\\PC{0,5}", Just("dir".to_owned()), Just("netfs".to_owned())]
                .prop_map(Value::from)
                .boxed()
        }
        FieldType::Bytes => Just(Value::Bytes(Arc::from([1u8].as_slice()))).boxed(),
        FieldType::Enum(e) => {
            let numbers: Vec<i64> = e.values.iter().map(|(_, n)| *n).chain([99]).collect();
            proptest::sample::select(numbers).prop_map(Value::Int).boxed()
        }
        FieldType::Ref(kinds) => {
            let kind = kinds.first().copied().unwrap_or(Kind::Vm);
            (0u8..3).prop_map(move |n| Value::Ref(ObjectId::derived(kind, &[&n.to_string()]))).boxed()
        }
        FieldType::Message(id) if depth > 0 => record(schema, *id, depth - 1).prop_map(Value::record).boxed(),
        FieldType::Message(_) => Just(Value::Absent).boxed(),
    };
    let one =
        if field.repeated { proptest::collection::vec(one, 0..3).prop_map(Value::list).boxed() } else { one };
    prop_oneof![1 => Just(Value::Absent), 3 => one].boxed()
}

fn record(schema: &Arc<Schema>, message: MessageId, depth: u32) -> BoxedStrategy<Record> {
    let message = schema.get(message).unwrap().clone();
    let values: Vec<_> = message.fields.iter().map(|f| value(schema, f, depth)).collect();
    values
        .prop_map(move |values| {
            let mut record = message.record();
            for (field, value) in message.fields.iter().zip(values) {
                record.set(field.slot, value);
            }
            record
        })
        .boxed()
}

/// Fields in schema order, each as often as declared; no empty text where there is an enumeration.
fn well_formed(protocol: &Protocol, shown: &Shown, version: VersionIndex) {
    for inner in &shown.inside {
        well_formed(protocol, inner, version);
    }
    if shown.whole != Whole::Structure {
        return;
    }
    let def = protocol.native.lookup(&shown.ty).unwrap_or_else(|| panic!("no type {}", shown.ty));
    let mut at = 0;
    for inner in &shown.inside {
        let place = def.fields.iter().position(|f| *f.name == *inner.name);
        let place = place.unwrap_or_else(|| panic!("{} has no field {}", shown.ty, inner.name));
        assert!(place >= at, "{}: {} is out of order", shown.ty, inner.name);
        let field = &def.fields[place];
        assert!(field.list || place >= at, "{}: {} is there twice", shown.ty, inner.name);
        assert!(field.since <= version, "{}: {} is younger than the version", shown.ty, inner.name);
        at = if field.list { place } else { place + 1 };
        if let NativeType::Enum(id) = field.ty {
            let values = &protocol.native.get(id).unwrap().values;
            assert!(
                values.iter().any(|v| **v == *inner.text),
                "{}: `{}` is not a {}",
                inner.name,
                inner.text,
                inner.ty
            );
        }
    }
}

fn check(protocol: &Protocol, map: &ObjectMap, record: &Record, world: &World, version: VersionIndex) {
    let id = ObjectId::derived(Kind::Vm, &["shown"]);
    for selection in map.properties(version) {
        let mut tree = Tree::default();
        let wrote = map.render(selection, id, record, world, version, &mut tree);
        let shown = tree.shown();
        assert_eq!(shown.len(), usize::from(wrote), "{}.{}", map.native_type, selection.path());
        for shown in &shown {
            well_formed(protocol, shown, version);
        }
    }
}

#[test]
fn whatever_is_shown_is_well_formed() {
    let schema = BUNDLE.schema.clone();
    for protocol in BUNDLE.protocols() {
        let versions = protocol.native.versions().len();
        for map in protocol.objects() {
            let world = schema.messages().iter().filter_map(|m| m.kind.map(|kind| (kind, m.id)));
            let world: Vec<_> = world
                .map(|(kind, id)| record(&schema, id, 0).prop_map(move |r| (kind, Arc::new(r))))
                .collect();
            let strategy = (record(&schema, map.union, 2), world, 0..versions.max(1), any::<bool>());
            let mut runner = TestRunner::new(ProptestConfig {
                cases: 4,
                failure_persistence: None,
                ..ProptestConfig::default()
            });
            runner
                .run(&strategy, |(record, objects, version, fleet)| {
                    let world = World {
                        objects: objects.into_iter().collect(),
                        view: if fleet { "fleet" } else { "host" },
                    };
                    let version = VersionIndex(u16::try_from(version).unwrap());
                    check(protocol, map, &record, &world, version);
                    check(protocol, map, &record, &world, VersionIndex::NEWEST);
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("{}: {error}", map.native_type));
        }
    }
}

#[test]
fn the_mappings_have_no_errors_and_their_cases_hold() {
    let report = mapping::test(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(report.is_good(), "{report}");
}

/// Adds the required fields that a structure lacks.
fn missing(protocol: &Protocol, shown: &Shown, path: &str, out: &mut Vec<String>) {
    for inner in &shown.inside {
        missing(protocol, inner, &format!("{path}.{}", inner.name), out);
    }
    let def = protocol.native.lookup(&shown.ty).filter(|_| shown.whole == Whole::Structure);
    let required = def.iter().flat_map(|d| &d.fields).filter(|f| !f.optional && !f.list);
    let lacking = required.filter(|f| !shown.inside.iter().any(|i| *i.name == *f.name));
    out.extend(lacking.map(|f| format!("{path}.{} ({})", f.name, shown.ty)));
}

/// What every target knows of every object; anything else may be unset.
const IDENTITY: [&str; 11] = [
    "name",
    "uuid",
    "home",
    "home_pool_id",
    "cpu_count",
    "memory_bytes",
    "full_name",
    "version",
    "build",
    "root_folder_id",
    "method",
];

fn identity(message: &str) -> Record {
    let schema = &BUNDLE.schema;
    let message = schema.message(message).unwrap();
    let mut record = message.record();
    for field in message.fields.iter().filter(|f| IDENTITY.contains(&f.name.as_str())) {
        let value = match &field.ty {
            FieldType::Str if field.name == "method" => Value::str("PowerOnVM_Task"),
            FieldType::Str => Value::str("x"),
            FieldType::Ref(kinds) => Value::Ref(ObjectId::derived(kinds[0], &["x"])),
            _ => Value::Int(1 << 30),
        };
        record.set(field.slot, value);
    }
    record
}

#[test]
fn what_is_shown_has_its_required_fields_however_little_is_known() {
    let objects = Kind::ALL.iter().map(|kind| (*kind, Arc::new(identity(kind.message()))));
    let mut world = World { objects: objects.collect(), view: "fleet" };
    for view in ["fleet", "host"] {
        world.view = view;
        for protocol in BUNDLE.protocols() {
            for map in protocol.objects() {
                let record = identity(&BUNDLE.schema.get(map.union).unwrap().name);
                let mut lacking = Vec::new();
                for selection in map.properties(VersionIndex::NEWEST) {
                    let mut tree = Tree::default();
                    let id = ObjectId::derived(Kind::Vm, &["x"]);
                    map.render(selection, id, &record, &world, VersionIndex::NEWEST, &mut tree);
                    for shown in tree.shown() {
                        missing(protocol, &shown, &shown.name, &mut lacking);
                    }
                }
                assert_eq!(lacking, Vec::<String>::new(), "{} in {view}", map.native_type);
            }
        }
    }
}
