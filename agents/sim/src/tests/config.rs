//! VMs made, changed and removed, by plans as the engine makes them.

use super::*;
use union::{
    pb::DeviceOp,
    plan::{Script, ScriptChange, Step},
};

fn call(name: &str, args: &[(&str, Value)]) -> NativeCall {
    let args = args.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
    NativeCall { call: name.into(), args, is: StepKind::Once, undo: None, script: None }
}

fn one(object: ObjectId, call: NativeCall) -> Plan {
    Plan { steps: vec![Step { object, call }], ..Plan::default() }
}

fn part(message: &str, fields: &[(&str, Value)]) -> Record {
    let schema = Schema::base();
    let message = schema.message(message).expect("a message");
    let mut record = message.record();
    for (name, value) in fields {
        record.set(message.field(name).expect("a field").slot, value.clone());
    }
    record
}

impl World {
    async fn plan(&self, verb: &str, object: ObjectId, plan: Plan) -> Outcome {
        let schema = Schema::base();
        let message = schema.message(verb).expect("a command");
        let mut body = message.record();
        if let Some(host) = message.field("host_id").filter(|_| verb == "CreateVm") {
            body.set(host.slot, self.inventory.ids(Kind::Host)[0]);
        }
        let command = Command {
            id: CommandId(self.ids.uuid()),
            verb: Arc::from(verb),
            schema: message.command.clone().expect("a command"),
            object,
            body: Arc::new(body),
            principal: Arc::from("ann"),
            session: Arc::from("s"),
            deadline_ms: self.inventory.clock().now_ms() + 5_000,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M".into() },
        };
        match self.owner.submit_planned(command, plan, Reply::Task) {
            Ok(ticket) => ticket.outcome().await,
            Err(cause) => Outcome::Refused(cause),
        }
    }

    async fn reconfigure(&self, vm: ObjectId, args: &[(&str, Value)]) -> Outcome {
        self.plan("Reconfigure", vm, one(vm, call("Reconfigure", args))).await
    }

    fn vm(&self, vm: ObjectId, field: &str) -> Value {
        self.inventory.record(vm).expect("there").get(slot(Kind::Vm, field)).clone()
    }
}

fn code(outcome: &Outcome) -> Option<Code> {
    match outcome {
        Outcome::Failed(cause) | Outcome::Refused(cause) => Some(cause.code),
        _ => None,
    }
}

fn setting(key: &str, value: &str) -> Value {
    Value::record(part("Setting", &[("key", key.into()), ("value", value.into())]))
}

#[tokio::test(start_paused = true)]
async fn a_vm_is_made_configured_started_and_removed() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let (folder, host) = (ObjectId::new(Kind::Folder, w.ids.uuid()), w.inventory.ids(Kind::Host)[0]);
    let vm = ObjectId::new(Kind::Vm, w.ids.uuid());
    let body =
        part("Vm", &[("name", "new".into()), ("cpu_count", 2.into()), ("memory_bytes", (1i64 << 31).into())]);
    let args = [
        ("vm_id", vm.into()),
        ("vm", Value::record(body)),
        ("host_id", host.into()),
        ("folder_id", folder.into()),
    ];
    let make = || Plan { appears: Some(vm), ..one(vm, call("CreateVm", &args)) };
    let Outcome::Done { result, .. } = w.plan("CreateVm", folder, make()).await else { panic!("made") };
    assert_eq!(result, Some(vm));
    assert_eq!((w.vm(vm, "name"), w.vm(vm, "cpu_current")), ("new".into(), Value::Int(2)));
    assert_eq!((w.vm(vm, "host_id"), w.vm(vm, "folder_id")), (host.into(), folder.into()));
    assert_eq!(w.vm(vm, "uuid"), vm.uuid.to_string().into());
    assert_eq!(code(&w.plan("CreateVm", folder, make()).await), Some(Code::Duplicate));
    let outcome = w.plan("RenameVm", vm, one(vm, call("RenameVm", &[("name", "web".into())]))).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(w.vm(vm, "name"), "web".into());
    assert!(matches!(w.ask(vm, "PowerOn").await, Outcome::Done { .. }));
    let drop = || Plan { vanishes: Some(vm), ..one(vm, call("DestroyVm", &[])) };
    assert_eq!(code(&w.plan("DestroyVm", vm, drop()).await), Some(Code::InvalidState));
    assert!(matches!(w.ask(vm, "PowerOff").await, Outcome::Done { .. }));
    assert!(matches!(w.plan("DestroyVm", vm, drop()).await, Outcome::Done { .. }));
    assert!(w.inventory.record(vm).is_none());
    let said: Vec<String> = w.sim.effects().iter().map(|e| format!("{} {}", e.call, e.said)).collect();
    assert_eq!(said, ["CreateVm ", "RenameVm name=web", "PowerOn ", "PowerOff ", "DestroyVm "]);
}

#[tokio::test(start_paused = true)]
async fn what_a_running_guest_cannot_take_is_refused() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "db01");
    let gib = |n: i64| Value::Int(n << 30);
    let off = [("cpu_count", 4.into()), ("memory_bytes", gib(8)), ("memory_hot_add", true.into())];
    assert!(matches!(w.reconfigure(vm, &off).await, Outcome::Done { .. }));
    assert_eq!((w.vm(vm, "cpu_current"), w.vm(vm, "memory_current_bytes")), (Value::Int(4), gib(8)));
    w.ask(vm, "PowerOn").await;
    assert!(matches!(w.reconfigure(vm, &[("memory_bytes", gib(16))]).await, Outcome::Done { .. }));
    for (field, value) in [("memory_bytes", gib(4)), ("cpu_count", 8.into()), ("firmware", 2.into())] {
        assert_eq!(code(&w.reconfigure(vm, &[(field, value)]).await), Some(Code::InvalidState), "{field}");
    }
    assert!(matches!(w.reconfigure(vm, &[("description", "a note".into())]).await, Outcome::Done { .. }));
    assert_eq!(code(&w.reconfigure(vm, &[("wings", 2.into())]).await), Some(Code::InvalidArgument));
    assert_eq!((w.vm(vm, "memory_bytes"), w.vm(vm, "description")), (gib(16), "a note".into()));
}

#[tokio::test(start_paused = true)]
async fn settings_merge_and_devices_change_by_their_id() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "web01");
    let set = |all: &[(&str, &str)]| {
        let settings = Value::list(all.iter().map(|(k, v)| setting(k, v)));
        let w = &w;
        async move { w.reconfigure(vm, &[("settings", settings)]).await }
    };
    let (first, second) = (set(&[("a", "1"), ("b", "2")]), set(&[("a", ""), ("c", "3")]));
    assert!(matches!((first.await, second.await), (Outcome::Done { .. }, Outcome::Done { .. })));
    assert_eq!(w.vm(vm, "settings"), Value::list([setting("b", "2"), setting("c", "3")]));
    let change = |op: DeviceOp, list: &str, key: &str, field: &str, item: Record, clear: &[&str]| {
        let clear = Value::list(clear.iter().map(|c| Value::from(*c)));
        let change = part(
            "DeviceChange",
            &[
                ("op", (op as i32).into()),
                ("list", list.into()),
                ("key", key.into()),
                (field, Value::record(item)),
                ("clear", clear),
            ],
        );
        let w = &w;
        async move { w.reconfigure(vm, &[("devices", Value::list([Value::record(change)]))]).await }
    };
    let items = |list: &str| w.vm(vm, list).items().to_vec();
    let of = |item: &Value, message: &str, field: &str| {
        let schema = Schema::base();
        let slot = schema.message(message).and_then(|m| m.field(field)).expect("a field").slot;
        item.as_record().expect("a part").get(slot).clone()
    };
    let disc = part("Cdrom", &[("path", "/iso/a.iso".into())]);
    change(DeviceOp::DeviceAdd, "cdroms", "", "cdrom", disc, &[]).await;
    assert_eq!(of(&items("cdroms")[0], "Cdrom", "id"), "sda".into());
    change(DeviceOp::DeviceEdit, "cdroms", "sda", "cdrom", part("Cdrom", &[]), &["path"]).await;
    assert!(of(&items("cdroms")[0], "Cdrom", "path").is_absent());
    let network = w.inventory.ids(Kind::Network).pop().expect("one");
    let mac = of(&items("nics")[0], "Nic", "id");
    let nic = part("Nic", &[("network_id", network.into())]);
    change(DeviceOp::DeviceEdit, "nics", mac.as_str().expect("text"), "nic", nic, &[]).await;
    let name = w.inventory.record(network).expect("there").get(slot(Kind::Network, "name")).clone();
    assert_eq!(of(&items("nics")[0], "Nic", "network"), name);
    assert_eq!(w.vm(vm, "network_ids").items()[0], network.into());
    let count = items("nics").len();
    let gone =
        change(DeviceOp::DeviceRemove, "nics", mac.as_str().expect("text"), "nic", part("Nic", &[]), &[]);
    assert!(matches!(gone.await, Outcome::Done { .. }));
    assert_eq!((items("nics").len(), w.vm(vm, "nic_count")), (count - 1, Value::from(count as i64 - 1)));
    let nobody = change(DeviceOp::DeviceRemove, "nics", "nobody", "nic", part("Nic", &[]), &[]).await;
    assert_eq!(code(&nobody), Some(Code::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn a_script_says_the_same_and_the_target_tells_whether_it_is_so() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "db01");
    let changes = vec![
        ScriptChange::Set { field: "description".into(), value: "scripted".into() },
        ScriptChange::Add { list: "cdroms".into(), item: Arc::new(part("Cdrom", &[("id", "sdb".into())])) },
    ];
    let script = Script { argument: "xml".into(), form: "inactive".into(), changes };
    let edit = NativeCall { script: Some(Arc::new(script)), ..call("Reconfigure", &[]) };
    let soon = || Instant::now() + Duration::from_secs(5);
    assert_eq!(w.sim.effective(vm, &edit, soon()).await, Ok(Some(false)));
    for (fate, count) in [(Fate::LoseRequest, 0), (Fate::LoseReply, 1)] {
        w.sim.script("Reconfigure", fate);
        let outcome = w.plan("Reconfigure", vm, one(vm, edit.clone())).await;
        assert_eq!(matches!(outcome, Outcome::Done { .. }), count == 1, "{fate:?}: {outcome:?}");
        assert_eq!(w.sim.effects().len(), count, "never sent twice");
    }
    assert_eq!(w.vm(vm, "description"), "scripted".into());
    let set = call("Reconfigure", &[("description", "scripted".into())]);
    assert_eq!(w.sim.effective(vm, &set, soon()).await, Ok(Some(true)));
    assert_eq!(w.sim.effective(vm, &call("PowerOn", &[]), soon()).await, Ok(Some(false)));
    assert_eq!(w.sim.effective(vm, &call("Reset", &[]), soon()).await, Ok(None));
    let other = ObjectId::new(Kind::Vm, w.ids.uuid());
    assert_eq!(w.sim.effective(other, &call("CreateVm", &[]), soon()).await, Ok(Some(false)));
    assert_eq!(w.sim.effective(other, &call("DestroyVm", &[]), soon()).await, Ok(Some(true)));
}

#[tokio::test(start_paused = true)]
async fn a_world_outlives_its_agent() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "db01");
    w.ask(vm, "PowerOn").await;
    let truth = Arc::clone(w.sim.world());
    drop(w);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_700_000_000_000));
    let inventory = Inventory::new(Schema::base(), 2, clock);
    let next = crate::attach("s", truth, &inventory);
    assert_eq!(power_of(&inventory.record(vm).expect("there")), PowerState::Running as i64);
    next.meddle(vm, "PowerOff").expect("it runs");
    assert_eq!(power_of(&inventory.record(vm).expect("there")), PowerState::Stopped as i64);
    assert_eq!(next.effects().len(), 1);
}

/// The facts of an inventory, as whoever plans reads them.
struct Facts<'a>(&'a Inventory);

impl mapping::Reader for Facts<'_> {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.0.record(id)
    }

    fn referring(&self, kind: Kind, slot: union::Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.0.referring(kind, slot, to, out);
    }

    fn native_ref(&self, _: ObjectId) -> Option<mapping::NativeRef> {
        None
    }

    fn view(&self) -> &str {
        ""
    }
}

impl World {
    /// A command as the mapping plans it.
    async fn mapped(&self, verb: &str, object: ObjectId, fields: &[(&str, Value)]) -> Outcome {
        let body = part(verb, fields);
        let effect = bundle().protocol("sim").expect("there").effect(verb).expect("an effect").clone();
        let around = Facts(&self.inventory);
        let record = self.inventory.record(object);
        let record = record.unwrap_or_else(|| Arc::new(Schema::base().kind(object.kind).record()));
        match effect.plan(&body, object, &record, &around) {
            Ok(plan) => self.plan(verb, object, plan).await,
            Err(cause) => Outcome::Refused(cause),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_mapping_plans_every_change() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let (host, network) = (w.inventory.ids(Kind::Host)[0], w.inventory.ids(Kind::Network)[0]);
    let folder = ObjectId::new(Kind::Folder, w.ids.uuid());
    let vm = ObjectId::new(Kind::Vm, w.ids.uuid());
    let nic = Value::record(part("Nic", &[("network_id", network.into())]));
    let wanted = part("Vm", &[("name", "new".into()), ("cpu_count", 2.into()), ("nics", Value::list([nic]))]);
    let fields = [
        ("vm_id", vm.into()),
        ("host_id", host.into()),
        ("folder_id", folder.into()),
        ("vm", Value::record(wanted)),
    ];
    let done =
        |outcome: Outcome| assert!(matches!(outcome, Outcome::Done { already: false, .. }), "{outcome:?}");
    done(w.mapped("CreateVm", folder, &fields).await);
    assert_eq!((w.vm(vm, "host_id"), w.vm(vm, "cpu_count")), (host.into(), Value::Int(2)));
    assert_eq!(
        (w.vm(vm, "nics").items().len(), w.vm(vm, "network_ids").items()[0].clone()),
        (1, network.into())
    );
    let of = ("vm_id", Value::from(vm));
    done(w.mapped("Reconfigure", vm, &[of.clone(), ("memory_bytes", (1i64 << 31).into())]).await);
    assert_eq!(w.vm(vm, "memory_current_bytes"), Value::Int(1 << 31));
    done(w.mapped("RenameVm", vm, &[of.clone(), ("name", "web".into())]).await);
    assert_eq!(w.vm(vm, "name"), "web".into());
    done(w.mapped("MarkAsTemplate", vm, std::slice::from_ref(&of)).await);
    done(w.mapped("DestroyVm", vm, &[of]).await);
    assert!(w.inventory.record(vm).is_none());
}
