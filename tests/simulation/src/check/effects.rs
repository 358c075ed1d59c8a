//! Effects: what the hypervisors' logs say, beside what clients were told.

use crate::{
    client::{Asked, End},
    metal::says,
    world::{VMS, World, vm},
};
use sim::task::Effect;
use std::collections::BTreeSet;
use union::{ObjectId, Value, command::Outcome};

/// Whether an effect is the one that a command is known by.
pub(super) fn is_of(effect: &Effect, asked: &Asked) -> bool {
    let text = |name| asked.field(name).and_then(Value::as_str).is_some_and(|text| says(effect, name, text));
    let verb = &*asked.command.verb;
    *effect.call == *verb
        && match verb {
            "Reconfigure" => text("description"),
            "RenameVm" => text("name"),
            "CreateVm" | "DestroyVm" => {
                asked.field("vm_id").and_then(Value::as_ref_id) == Some(effect.object)
            }
            _ => false,
        }
}

/// Commands of which one effect cannot be told from the next; and whether what was done had an effect, even when the answer to it was lost
/// and the VM was as it should be.
const ALIKE: [(&str, bool); 3] = [("Reset", true), ("PowerOn", false), ("PowerOff", false)];

/// At most one effect of each, exactly one of what was done, none of what was not.
pub(super) fn check(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    let log: Vec<Effect> = world.metals.iter().flat_map(|metal| metal.log()).collect();
    for asked in all {
        let verb = &*asked.command.verb;
        if !["Reconfigure", "RenameVm", "CreateVm", "DestroyVm"].contains(&verb) {
            continue;
        }
        let count = log.iter().filter(|effect| is_of(effect, asked)).count();
        let fits = match &asked.end {
            End::Known(Outcome::Done { already: false, .. }) => count == 1,
            End::Known(Outcome::Done { already: true, .. } | Outcome::Unknown { .. }) => count <= 1,
            End::Known(Outcome::Failed(_) | Outcome::Refused(_)) | End::Never => {
                // A VM is destroyed by the command after the one that failed, perhaps.
                count == 0 || (verb == "DestroyVm" && count == 1)
            }
        };
        // The first step of two says what the second will describe.
        let first = asked.field("description").and_then(Value::as_str).map_or(0, |text| {
            let mine = |effect: &&Effect| {
                says(effect, "change_version", text) && effect.object == asked.command.object
            };
            log.iter().filter(mine).count()
        });
        let refused = matches!(asked.end, End::Known(Outcome::Refused(_)) | End::Never);
        if !fits || first > 1 || (refused && first > 0) {
            what.push(format!(
                "{verb} {} ended {:?} and had {count} effects, {first} of its first step",
                asked.command.id, asked.end
            ));
        }
    }
    let vms: BTreeSet<ObjectId> = all.iter().map(|asked| asked.command.object).collect();
    for id in vms {
        for (verb, sure) in ALIKE {
            let of = |fits: fn(&End) -> bool| {
                let same = |a: &&&Asked| a.command.object == id && &*a.command.verb == verb && fits(&a.end);
                all.iter().filter(same).count()
            };
            let happened = log.iter().filter(|effect| effect.object == id && &*effect.call == verb).count();
            let done = of(|end| matches!(end, End::Known(Outcome::Done { already: false, .. })));
            let least = if sure { done } else { 0 };
            let most = of(|end| !matches!(end, End::Never | End::Known(Outcome::Refused(_))));
            if happened < least || happened > most {
                what.push(format!(
                    "{id} had {happened} of {verb}; {least} were done, at most {most} may have been"
                ));
            }
        }
    }
}

/// What a client was told last is what is true.
pub(super) fn machines(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    for (at, metal) in world.metals.iter().enumerate() {
        for n in 1..=VMS {
            let id = vm(at, n);
            let Some(machine) = metal.machine(id) else {
                what.push(format!("{id} is gone"));
                continue;
            };
            let mine = |a: &&&Asked| a.command.object == id && !a.forbidden;
            let (mut description, mut memory, mut power) =
                (Some(String::new()), Some(1_i64 << 30), Some(false));
            for one in all.iter().filter(mine) {
                let sure = !one.end.is_unknown();
                // The hypervisor did not let a step be taken back, and the client was told so.
                if matches!(&one.end, End::Known(Outcome::Failed(cause)) if cause.message.contains("stays in part"))
                {
                    memory = None;
                }
                if !sure || one.end.is_done() {
                    let text = |name| one.field(name).and_then(|v| v.as_str().map(str::to_owned));
                    match &*one.command.verb {
                        "PowerOn" => power = sure.then_some(true),
                        "PowerOff" => power = sure.then_some(false),
                        "Reconfigure" => {
                            description = sure.then(|| text("description").unwrap_or_default());
                            if let Some(bytes) = one.field("memory_bytes").and_then(Value::as_int) {
                                memory = sure.then_some(bytes);
                            }
                        }
                        _ => {}
                    }
                }
            }
            let wrong =
                |name: &str, told: String, is: String| format!("{id}: {name} should be {told}, it is {is}");
            if let Some(told) = description.filter(|told| *told != machine.description) {
                what.push(wrong("its description", told, machine.description.clone()));
            }
            if let Some(told) = memory.filter(|told| *told != machine.memory) {
                what.push(wrong("its memory", told.to_string(), machine.memory.to_string()));
            }
            if let Some(told) = power.filter(|told| *told != machine.on) {
                what.push(wrong("its power", told.to_string(), machine.on.to_string()));
            }
        }
    }
}
