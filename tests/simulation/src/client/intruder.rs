//! One who may only read, and tries everything: at a front, and as an agent that somebody else has taken over, past it.

use super::{Asked, End, History, alive, ask_engine, command, front, perform, resume};
use crate::{
    authority::ADMIN,
    net::ToEngine,
    world::{World, bundle, vm},
};
use link::{Verb, engine::ask, router::Route};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use union::{Value, command::Outcome, pb};

/// Tries until there is peace.
pub async fn run(world: Arc<World>, mut history: History) -> History {
    while !world.is_peace() {
        sleep(world.rng.ms(300, 2_500)).await;
        let object = vm(usize::from(world.rng.chance(500)), 1);
        let mut fields = vec![("vm_id", Value::Ref(object))];
        let verb = match world.rng.below(4) {
            0 => "Reset",
            1 => "MarkAsTemplate",
            2 => "PowerOff",
            _ => {
                let token = format!("intruder {}", world.rng.next());
                fields.push(("description", Value::from(token)));
                "Reconfigure"
            }
        };
        if world.rng.chance(500) {
            perform(&world, &mut history, verb, object, fields).await;
        } else {
            past_the_front(&world, &mut history, verb, object, fields).await;
        }
    }
    history
}

/// An agent that asks the engine for what only its fronts refuse, in another's name, or in another's session, with the grant of one who may
/// only read.
async fn past_the_front(
    world: &World,
    history: &mut History,
    verb: &str,
    object: union::ObjectId,
    fields: Vec<(&'static str, Value)>,
) {
    let Some((name, up)) = front(world) else { return };
    let Some(Some(pass)) = resume(&up, &history.login).await else { return };
    let admin = Arc::from(ADMIN);
    let who = match world.rng.below(3) {
        0 => (&pass.principal, &pass.session),
        1 => (&admin, &pass.session),
        _ => (&admin, &world.logins.root.session),
    };
    let Some(command) = command(world, who, verb, object, &fields) else { return };
    let submission = pb::Submission {
        envelope: Some(command.to_pb(&bundle().schema, "")),
        grant: Some(pass.now().signed.clone()),
    };
    let engine = ToEngine { net: Arc::clone(&world.net), agent: name, life: Arc::clone(&up.life) };
    let asked = Verb::Command { kind: object.kind, verb: Arc::from(verb) };
    let said = alive(&up, ask::<pb::Outcome>(&engine, &asked, &submission, Duration::from_secs(2))).await;
    let end = match said {
        Some(Ok(outcome)) => Outcome::from_pb(&bundle().schema, &outcome).ok().map(End::Known),
        Some(Err(link::LinkError::Refused(cause))) => Some(End::Known(Outcome::Refused(cause))),
        Some(Err(_)) | None => None,
    };
    let mut end = end;
    while end.is_none() {
        sleep(Duration::from_millis(200)).await;
        end = ask_engine(world, command.id).await;
    }
    let Some(end) = end else { return };
    let route = Route::Engine;
    let (found, revoked, forbidden, task) = (true, false, true, None);
    history.asked.push(Asked { command, fields, end, found, revoked, forbidden, route, task });
}
