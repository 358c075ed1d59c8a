use crate::{
    Conflict, LiftError, NativeArgs, NativeRef, NativeValue, Nothing, Resolve, StepKind, VersionIndex,
    testing::{World, demo, id, number, record},
};
use std::sync::Arc;
use union::{Kind, ObjectId, Value, command::Code};

struct Args(Vec<(&'static str, NativeValue)>);

impl NativeArgs for Args {
    fn get(&self, path: &str) -> Option<NativeValue> {
        self.0.iter().find(|(p, _)| *p == path).map(|(_, v)| v.clone())
    }
}

struct Ids;

impl Resolve for Ids {
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId> {
        (&*native.id == "vm-1").then(|| id(Kind::Vm, 1))
    }
}

fn machine(name: &str) -> NativeValue {
    NativeValue::Ref(NativeRef { ty: Arc::from("Machine"), id: Arc::from(name) })
}

#[test]
fn lifts_arguments_by_the_schema() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().command("Start_Task").unwrap();
    let record = map.lift(&Args(vec![("this", machine("vm-1"))]), &Ids, None).unwrap();
    assert_eq!(map.object(&record), Some(id(Kind::Vm, 1)));
    assert_eq!(
        map.lift(&Args(vec![]), &Ids, None).unwrap_err(),
        LiftError::Missing { path: Arc::from("this") }
    );
    assert!(matches!(
        map.lift(&Args(vec![("this", machine("vm-9"))]), &Ids, None),
        Err(LiftError::NoObject { .. })
    ));
    let text = NativeValue::Text("vm-1".into());
    assert!(matches!(map.lift(&Args(vec![("this", text)]), &Ids, None), Err(LiftError::BadValue { .. })));
}

#[test]
fn guards_name_the_native_fault_and_its_fields() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().command("Start_Task").unwrap();
    let command = bundle.schema.message("PowerOn").unwrap().record();
    let object = |fields: &[(&str, Value)]| record(&bundle.schema, "Vm", fields);
    let running = object(&[("power_state", number("PowerState", "RUNNING"))]);
    let cause = map.guard(&command, &running, &Nothing).unwrap_err();
    assert_eq!(
        (&*cause.fault, cause.code, &*cause.message),
        ("BadState", Code::InvalidState, "It runs already.")
    );
    assert_eq!(cause.arguments, [(Arc::from("existing"), Value::str("on"))]);
    let template = object(&[("template", Value::Bool(true))]);
    assert_eq!(map.guard(&command, &template, &Nothing).unwrap_err().code, Code::NotSupported);
    assert!(map.guard(&command, &object(&[]), &Nothing).is_ok());
}

#[test]
fn lowers_to_the_steps_whose_conditions_hold() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let command = record(&bundle.schema, "PowerOn", &[("vm_id", Value::Ref(id(Kind::Vm, 1)))]);
    let lowered = |state: &str| {
        let object = record(&bundle.schema, "Vm", &[("power_state", number("PowerState", state))]);
        protocol.effect("PowerOn").unwrap().lower(&command, &object, &Nothing).unwrap()
    };
    let calls = lowered("PAUSED");
    assert_eq!(calls.len(), 1);
    assert_eq!(&*calls[0].call, "Resume");
    assert_eq!(
        calls[0].args,
        [(Arc::from("dom"), Value::Ref(id(Kind::Vm, 1))), (Arc::from("flags"), Value::Int(0))]
    );
    assert_eq!(calls[0].is, StepKind::Idempotent);
    let created = lowered("STOPPED");
    assert_eq!(&*created[0].undo.as_ref().unwrap().call, "Destroy");
    assert!(lowered("RUNNING").is_empty(), "nothing to do");
    let any = record(&bundle.schema, "Vm", &[]);
    let reset = protocol.effect("Reset").unwrap().lower(&command, &any, &Nothing).unwrap();
    assert_eq!(reset[0].is, StepKind::Once, "by the command's class");
    let refused = protocol.effect("StandbyGuest").unwrap().lower(&command, &any, &Nothing).unwrap_err();
    assert_eq!(refused.code, Code::NotSupported);
    assert!(refused.message.contains("it has no agent"));
}

#[test]
fn finds_out_what_the_calls_are_made_of() {
    use crate::{Dependence, testing::edited_bundle};
    let bundle = demo();
    assert_eq!(bundle.protocol("demo").unwrap().effect("PowerOn").unwrap().dependence(), Dependence::Ids);
    let changed = edited_bundle(|text| text.replace("flags = 0", "flags = \"vm.cpu_count\""));
    assert_eq!(changed.protocol("demo").unwrap().effect("PowerOn").unwrap().dependence(), Dependence::Object);
}

#[test]
fn says_whether_the_effect_is_there() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let object = |state: &str| record(&bundle.schema, "Vm", &[("power_state", number("PowerState", state))]);
    let effect = protocol.effect("PowerOn").unwrap();
    let command = bundle.schema.message("PowerOn").unwrap().record();
    assert_eq!(effect.expect(&command, &object("RUNNING"), &Nothing), Some(true));
    assert_eq!(effect.expect(&command, &object("STOPPED"), &Nothing), Some(false));
    assert_eq!(protocol.effect("Reset").unwrap().expect(&command, &object("RUNNING"), &Nothing), None);
}

#[test]
fn conflicts_are_found_from_the_special_to_the_general() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    assert_eq!(protocol.conflict("PowerOn", "PowerOn"), Conflict::Satisfied);
    assert_eq!(protocol.conflict("PowerOn", "Reset"), Conflict::Queue);
    assert_eq!(protocol.conflict("Suspend", "PowerOff"), Conflict::Overtake);
    assert_eq!(protocol.conflict("Suspend", "Reset"), Conflict::Refuse { fault: Arc::from("BadState") });
}

#[test]
fn forms_ids_and_reads_constants_and_faults_by_view() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let template = record(&bundle.schema, "Vm", &[("template", Value::Bool(true))]);
    let plain = record(&bundle.schema, "Vm", &[]);
    let form = |view: &str, record| {
        protocol
            .id_form(view, "Machine", id(Kind::Vm, 1), record, &Nothing)
            .map(|f| f.text(5, uuid::Uuid::nil()))
    };
    assert_eq!(form("fleet", &template).unwrap(), "vm-5");
    assert_eq!(form("host", &template).unwrap(), "template-5");
    assert_eq!(form("host", &plain).unwrap(), "5");
    assert_eq!(form("nowhere", &plain), None);
    assert_eq!(&**protocol.constants("host").unwrap().text("about.name").unwrap(), "Host");
    assert_eq!(protocol.constants("fleet").unwrap().list("about.ports").len(), 2);
    assert_eq!(&*protocol.fault(Code::NotSupported).unwrap().fault, "Unsupported");
    assert!(protocol.fault(Code::Busy).is_none());
    assert_eq!(&**protocol.enum_text("power", 1).unwrap(), "on");
    let shows = protocol.show(id(Kind::Vm, 1), &plain, &World::default()).unwrap();
    assert_eq!(&*shows.native_type, "Machine");
    assert!(shows.select("name", VersionIndex::NEWEST).is_ok());
}

mod checker;
mod hostile;
