//! Union commands through the lane and the effect table to a real libvirt.

use super::{
    bundle,
    rig::{Rig, bios_guest},
    target::{Bench, config},
};
use crate::target::Status;
use lane::{
    Owner, Rules,
    owner::{Limits, Reply},
    rules::BundleRules,
};
use std::{fs, sync::Arc};
use union::{
    Clock, Command, CommandId, Ids, Kind, ObjectId, Origin, Value,
    clock::{SystemClock, SystemIds},
    command::{Code, Outcome},
    pb::PowerState,
};

pub struct Commands {
    pub bench: Bench,
    pub owner: Arc<Owner>,
}

impl Commands {
    pub async fn start(rig: &Rig) -> Commands {
        Commands::start_on(&rig.qemu()).await
    }

    pub async fn start_on(uri: &str) -> Commands {
        let bundle = bundle();
        let bench = Bench::start(config(uri)).await;
        let clock = Arc::new(SystemClock::new());
        let tasks = inventory::Tasks::new(bench.inventory.clone(), clock.clone(), Arc::new(SystemIds));
        let rules = Arc::new(BundleRules::new(bundle));
        let owner = Owner::new(rules, bench.inventory.clone(), tasks, clock, Limits::default());
        owner.adopt(bench.target.clone());
        Commands { bench, owner }
    }

    async fn perform(&self, verb: &str, vm: ObjectId) -> Outcome {
        self.perform_within(verb, vm, 60_000).await
    }

    async fn perform_within(&self, verb: &str, vm: ObjectId, ms: i64) -> Outcome {
        let command = self.command(verb, vm, &[("vm_id", Value::Ref(vm))], ms);
        self.owner.submit(command, Reply::Task).unwrap().outcome().await
    }

    /// Asks for a VM's command with more than its id.
    pub async fn ask(&self, verb: &str, vm: ObjectId, fields: &[(&str, Value)]) -> Outcome {
        let mut all = vec![("vm_id", Value::Ref(vm))];
        all.extend(fields.iter().cloned());
        self.owner.submit(self.command(verb, vm, &all, 60_000), Reply::Task).unwrap().outcome().await
    }

    /// Makes a VM as the engine does, by a plan.
    pub async fn create(&self, folder: ObjectId, fields: &[(&str, Value)]) -> Outcome {
        let command = self.command("CreateVm", folder, fields, 60_000);
        let inventory = &self.bench.inventory;
        let none = inventory.schema().kind(Kind::Folder).record();
        let plan = BundleRules::new(bundle()).lower("libvirt", &command, &none, inventory).unwrap();
        self.owner.submit_planned(command, plan, Reply::Task).unwrap().outcome().await
    }

    fn command(&self, verb: &str, object: ObjectId, fields: &[(&str, Value)], ms: i64) -> Command {
        let schema = self.bench.inventory.schema();
        let message = schema.message(verb).unwrap();
        let mut body = message.record();
        for (field, value) in fields {
            body.set(message.field(field).unwrap().slot, value.clone());
        }
        Command {
            id: CommandId(SystemIds.uuid()),
            verb: verb.into(),
            schema: message.command.clone().unwrap(),
            object,
            body: Arc::new(body),
            principal: "tester".into(),
            session: "".into(),
            deadline_ms: SystemClock::new().now_ms() + ms,
            origin: Origin { protocol: "test".into(), view: "".into(), method: verb.into() },
        }
    }

    pub async fn done(&self, verb: &str, vm: ObjectId, state: PowerState) {
        match self.perform(verb, vm).await {
            Outcome::Done { revision, already: false, .. } => {
                assert!(self.bench.inventory.revision() >= revision);
                assert_eq!(self.bench.power(vm), Some(state as i64), "after {verb}");
            }
            other => panic!("{verb}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn power_commands_have_their_effect() {
    let rig = Rig::start();
    rig.define(&bios_guest("eight"));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("eight");
    for (verb, state) in [
        ("PowerOn", PowerState::Running),
        ("Reset", PowerState::Running),
        ("RebootGuest", PowerState::Running),
        ("ShutdownGuest", PowerState::Running),
        ("Pause", PowerState::Paused),
        ("Unpause", PowerState::Running),
        ("Pause", PowerState::Paused),
        ("PowerOn", PowerState::Running),
        ("Suspend", PowerState::Suspended),
        ("PowerOn", PowerState::Running),
        ("Suspend", PowerState::Suspended),
        ("PowerOff", PowerState::Stopped),
        ("PowerOn", PowerState::Running),
        ("PowerOff", PowerState::Stopped),
    ] {
        commands.done(verb, vm, state).await;
    }
    let again = commands.perform("PowerOff", vm).await;
    assert!(matches!(again, Outcome::Done { already: true, .. }), "{again:?}");
    assert_eq!(commands.bench.field(vm, "ext.libvirt.asleep"), Value::Bool(false));
}

#[tokio::test]
async fn what_libvirt_refuses_fails_with_its_words() {
    let rig = Rig::start();
    rig.define(&bios_guest("nine"));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("nine");
    let Outcome::Failed(cause) = commands.perform("Reset", vm).await else { panic!() };
    assert_eq!((cause.code, cause.native_code), (Code::InvalidState, 55), "{cause}");
    commands.done("PowerOn", vm, PowerState::Running).await;
    // No agent listens in a BIOS.
    let Outcome::Failed(cause) = commands.perform("StandbyGuest", vm).await else { panic!() };
    assert!(cause.native_code != 0, "{cause}");
}

#[tokio::test]
async fn a_dead_libvirt_fails_commands_and_other_libvirts_go_on() {
    let (mut dead, alive) = (Rig::start(), Rig::start());
    dead.define(&bios_guest("ten"));
    alive.define(&bios_guest("eleven"));
    let (first, second) = (Commands::start(&dead).await, Commands::start(&alive).await);
    dead.kill();
    let ten = first.bench.vm("ten");
    let Outcome::Failed(cause) = first.perform("PowerOn", ten).await else { panic!() };
    assert_eq!(cause.code, Code::Unreachable, "{cause}");
    second.done("PowerOn", second.bench.vm("eleven"), PowerState::Running).await;
    dead.launch();
    first.bench.until("healed", |b| b.target.status() == Status::InStep).await;
    first.done("PowerOn", ten, PowerState::Running).await;
}

#[tokio::test]
async fn a_hanging_guest_meets_the_deadline_and_holds_up_nobody() {
    let rig = Rig::start();
    let disk = rig.images().join("loose.img");
    fs::write(&disk, vec![0; 4096]).unwrap();
    let device = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='vda' bus='virtio'/><readonly/></disk></devices>",
        disk.display()
    );
    rig.define(&bios_guest("hung").replace("</devices>", &device));
    rig.define(&bios_guest("well"));
    let commands = Commands::start(&rig).await;
    let (hung, well) = (commands.bench.vm("hung"), commands.bench.vm("well"));
    commands.done("PowerOn", hung, PowerState::Running).await;
    assert_eq!(commands.bench.field(hung, "storage_provisioned_bytes"), Value::Int(4096));
    rig.signal_guest("hung", "STOP");
    let suspended = commands.perform_within("Suspend", hung, 1_000).await;
    assert!(!matches!(suspended, Outcome::Done { .. }), "{suspended:?}");
    commands.done("PowerOn", well, PowerState::Running).await;
    commands.done("Suspend", well, PowerState::Suspended).await;
    assert_eq!(commands.bench.field(hung, "storage_provisioned_bytes"), Value::Int(4096));
    commands.done("PowerOff", hung, PowerState::Stopped).await;
}
