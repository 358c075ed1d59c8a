use super::*;
use crate::{reader::Nothing, report::Findings};
use proptest::prelude::*;
use union::Schema;

fn vm(fields: &[(&str, Value)]) -> Record {
    let schema = Schema::base();
    let message = schema.kind(Kind::Vm);
    let mut record = message.record();
    for (name, value) in fields {
        record.set(message.field(name).unwrap().slot, value.clone());
    }
    record
}

fn program(text: &str) -> Result<Program, String> {
    let schema = Schema::base();
    let mut findings = Findings::default();
    let file = findings.file("x", text);
    let scope = Scope::object(schema.kind(Kind::Vm).id);
    let span = crate::report::Span { file, start: 0, end: text.len() };
    compile(&Arc::from(text), span, &scope, &schema, &mut findings)
        .ok_or_else(|| findings.report().to_string())
}

fn value(text: &str, fields: &[(&str, Value)]) -> Value {
    let record = vm(fields);
    let program = program(text).unwrap();
    let id = ObjectId::new(Kind::Vm, uuid());
    program.eval(&Frame::object(id, &record, &Nothing)).into_owned()
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

#[test]
fn computes() {
    assert_eq!(value("1 + 2 * 3 - 4 % 3", &[]), Value::Int(6));
    assert_eq!(
        value("self.memory_bytes / 1048576", &[("memory_bytes", Value::Int(4 << 30))]),
        Value::Int(4096)
    );
    assert_eq!(value("'a' + self.name + string(2)", &[("name", Value::str("b"))]), Value::str("ab2"));
    let running = Schema::base().enumeration("PowerState").unwrap().number("RUNNING").unwrap();
    let fields = [("power_state", Value::Int(running))];
    assert_eq!(value("self.power_state == RUNNING ? 'on' : 'off'", &fields), Value::str("on"));
    assert_eq!(value("self.power_state in [STOPPED, SUSPENDED]", &fields), Value::Bool(false));
    assert_eq!(
        value("RUNNING == self.power_state && PowerState.RUNNING == self.power_state", &fields),
        Value::Bool(true)
    );
}

#[test]
fn compares_ends_paths_and_ids() {
    let path = |text: &str| [("name", Value::str(text))];
    assert_eq!(value("ends_with(self.name, 'Guest64')", &path("debian11_64Guest")), Value::Bool(false));
    assert_eq!(value("ends_with(self.name, 'Guest')", &path("debian11_64Guest")), Value::Bool(true));
    assert_eq!(value("ends_with(self.name, 'Guest')", &[]), Value::Bool(false));
    for (name, good) in [
        ("web 01", true),
        ("ä%2f", true),
        ("", false),
        ("a/b", false),
        ("a\\b", false),
        ("a\nb", false),
        ("\u{85}", false),
        (" ", false),
        (".", false),
        ("..", false),
        ("...", true),
    ] {
        assert_eq!(value("is_name(self.name)", &path(name)), Value::Bool(good), "{name:?}");
    }
    assert_eq!(value("is_name(self.name)", &path(&"ö".repeat(80))), Value::Bool(true));
    assert_eq!(value("is_name(self.name)", &path(&"ö".repeat(81))), Value::Bool(false));
    assert_eq!(value("is_name(self.name)", &[]), Value::Bool(false));
    for (text, good) in [
        ("5025d6a8-0000-4000-8000-000000000001", true),
        ("00000000-0000-0000-0000-000000000000", false),
        ("nonsense", false),
        ("", false),
    ] {
        assert_eq!(value("is_uuid(self.name)", &path(text)), Value::Bool(good), "{text:?}");
    }
    assert_eq!(value("below(self.name, '/pool/')", &path("/pool/iso/a.iso")), Value::str("iso/a.iso"));
    assert_eq!(value("below(self.name, '/pool')", &path("/pool2/a.iso")), Value::Absent);
    assert_eq!(value("below(self.name, '/pool')", &path("/pool/")), Value::Absent);
    assert_eq!(value("below(self.name, '/pool')", &[]), Value::Absent);
    let host = ObjectId::new(Kind::Host, uuid());
    let fields = [("host_id", Value::Ref(host))];
    assert_eq!(value("uuid(self.host_id)", &fields), Value::from(uuid().to_string()));
    assert_eq!(value("uuid(self.host_id)", &[]), Value::Absent);
}

#[test]
fn unset_equals_nothing_and_makes_arithmetic_unset() {
    assert_eq!(value("self.cpu_count != 1", &[]), Value::Bool(true));
    assert_eq!(value("self.cpu_count == 1 || self.cpu_count < 1", &[]), Value::Bool(false));
    assert_eq!(value("self.cpu_count + 1", &[]), Value::Absent);
    assert_eq!(value("!self.template", &[]), Value::Bool(true));
    assert_eq!(value("has(self.name)", &[]), Value::Bool(false));
    assert_eq!(value("size(self.disks)", &[]), Value::Int(0));
}

#[test]
fn overflow_and_division_by_zero_are_unset() {
    assert_eq!(value("9223372036854775807 + 1", &[]), Value::Absent);
    assert_eq!(value("1 / 0", &[]), Value::Absent);
    assert_eq!(value("1 % 0", &[]), Value::Absent);
}

#[test]
fn reports_what_is_wrong_and_where() {
    let cases = [
        ("self.power_state == RUNING", "did you mean `RUNNING`?"),
        ("self.memory_bytes == 'x'", "cannot compare a 64-bit integer with text"),
        ("self.memory_hotadd", "did you mean `memory_hot_add`?"),
        ("self.name && true", "expected true or false"),
        ("1 +", "expected a value, found the end"),
        ("self.name + 1", "`string(x)` makes text of a number"),
        ("sel.name", "did you mean `self`?"),
        ("hass(self.name)", "did you mean `has`?"),
        ("below(self.name)", "`below` takes two arguments, 1 are given"),
        ("has(self.name, self.name)", "`has` takes one argument, 2 are given"),
        ("ends_with(self.name, 1)", "`ends_with` needs two texts"),
        ("uuid(self.name)", "`uuid` cannot be asked of text"),
        ("self.name->uuid", "`->` needs one reference"),
    ];
    for (text, expected) in cases {
        let error = program(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn refuses_what_is_too_long_or_too_deep() {
    let long = program(&format!("1{}", " + 1".repeat(300))).unwrap_err();
    assert!(long.contains("at most 512 words and signs"), "{long}");
    let deep = program(&format!("{}1{}", "(".repeat(100), ")".repeat(100))).unwrap_err();
    assert!(deep.contains("nested deeper than 64"), "{deep}");
    assert!(program(&format!("1{}", " + 1".repeat(200))).is_ok());
}

#[test]
fn knows_what_it_reads() {
    let reads = program("self.host_id->name == self.name").unwrap().reads;
    let schema = Schema::base();
    let slot = |name| schema.slot(Kind::Vm, name).unwrap();
    assert!(reads.item.contains(slot("host_id")) && reads.item.contains(slot("name")));
    assert_eq!(reads.hops.len(), 1);
    assert_eq!(reads.hops[0].2, Kind::Host);
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in ".{0,60}") {
        let _ignored = program(&text).is_ok();
    }

    #[test]
    fn never_panics_on_words(words in proptest::collection::vec(
        prop_oneof![Just("self"), Just("."), Just("name"), Just("("), Just(")"), Just("&&"), Just("!"), Just("-"), Just("1"),
            Just("'x'"), Just("in"), Just("["), Just("]"), Just("?"), Just(":"), Just("has"), Just("->"), Just("=="), Just("+")], 0..40)) {
        let text = words.join(" ");
        if let Ok(program) = program(&text) {
            let record = vm(&[]);
            let _ignored = program.eval(&Frame::object(ObjectId::new(Kind::Vm, uuid()), &record, &Nothing));
        }
    }
}
