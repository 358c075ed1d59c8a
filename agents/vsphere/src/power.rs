//! Power calls that are more than one command, or none.

use crate::{
    call::{Call, Reply},
    command::{self, Wanted},
    fault::{Answer, Fault},
    native::{Attempted, TaskResult},
};
use std::sync::Arc;
use union::{Command, CommandId, Origin};

/// The method whose command each machine of a `PowerOnMultiVM_Task` gets.
const EACH: &str = "PowerOnVM_Task";

/// `PowerOnMultiVM_Task`: a plan of one power-on for each machine, with a task of its own that ends when all have.
pub(crate) async fn power_on_multi(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let map = call.catalog().protocol().command(EACH).ok_or_else(|| Fault::not_supported(call.method))?;
    let machines = call.facts("vm")?;
    let (Some(first), Some(datacenter)) = (machines.first(), call.receiver.object()) else {
        return Err(Fault::invalid_argument("vm", "expected at least one virtual machine"));
    };
    let method: Arc<str> = Arc::from(call.method);
    let message =
        call.catalog().schema().message(&map.verb).ok_or_else(|| Fault::not_supported(call.method))?;
    let mut tickets = Vec::with_capacity(machines.len());
    let mut attempted = Attempted { tasks: Vec::with_capacity(machines.len()), refused: Vec::new() };
    for machine in &machines {
        let mut body = message.record();
        if let Some(field) = message.field("vm_id") {
            body.set(field.slot, *machine);
        }
        let wanted =
            Wanted { verb: &map.verb, schema: &map.schema, method: &map.method, object: *machine, body };
        match command::submit(call, wanted, lane::Reply::Task) {
            Ok(ticket) => {
                let reference = call.catalog().reference(*machine);
                attempted
                    .tasks
                    .extend(reference.zip(ticket.task.and_then(|task| call.catalog().reference(task))));
                tickets.push(ticket);
            }
            Err(fault) => attempted.refused.extend(call.catalog().reference(*machine).zip(Some(fault))),
        }
    }
    if tickets.is_empty()
        && let Some((_, fault)) = attempted.refused.pop()
    {
        return Err(fault);
    }
    let front = call.front;
    let now = front.clock.now_ms();
    let plan = Command {
        id: CommandId(front.ids.ordered_uuid(now)),
        verb: map.verb.clone(),
        schema: map.schema.clone(),
        object: datacenter,
        body: Arc::new(message.record()),
        principal: session.principal.clone(),
        session: session.id.clone(),
        deadline_ms: i64::MAX,
        origin: Origin {
            protocol: front.catalog.protocol().name.clone(),
            view: front.catalog.view().name().clone(),
            method,
        },
    };
    tracing::debug!(%datacenter, machines = machines.len(), first = %first, "a plan of power-ons");
    let tasks = front.tasks.clone();
    let task = tasks.create(&plan, false);
    front.results.lock().remember(task, TaskResult::Attempted(attempted));
    tokio::spawn(async move {
        tasks.active(task);
        for ticket in tickets {
            ticket.outcome().await;
        }
        // How each machine's own task ended is said by that task.
        tasks.done(task, None);
    });
    command::task(call, Some(task)).await
}

/// `AnswerVM`: no machine here ever asks a question.
pub(crate) fn answer(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    call.text("questionId")?;
    Err(Fault::invalid_argument("questionId", "the virtual machine has no question of this id"))
}
