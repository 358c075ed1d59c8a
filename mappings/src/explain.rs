//! Why a property or a command is what it is: the rows behind it.

use crate::{
    command::{
        Argument, CommandMap, Effect, Form, GuardValue,
        device::DeviceEdit,
        effect::{Call, Devices, Undo},
    },
    load::Bundle,
    object::{ObjectMap, PathError},
    protocol::Protocol,
    render::{Deps, NodeKind},
    report::did_you_mean,
    schema::VersionIndex,
};
use std::{fmt::Write as _, path::Path};
use union::{Kind, MessageId, Schema, Slot, SlotSet};

/// Writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{ let _always = writeln!($out, $($arg)*); }};
}

/// Explains a native type (`VirtualMachine`), a property (`VirtualMachine.config.uuid`), a native command (`PowerOnVM_Task`) or a
/// union command (`PowerOn`).
pub fn explain(dir: &Path, what: &str) -> Result<String, String> {
    let bundle = Bundle::load(dir).map_err(|report| report.to_string())?;
    let mut out = String::new();
    let mut wrong = Vec::new();
    for protocol in bundle.protocols() {
        explain_in(protocol, &bundle, what, &mut out, &mut wrong);
    }
    if out.is_empty() && !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    if out.is_empty() {
        let mut names: Vec<&str> = bundle.schema.commands().map(|c| c.name.as_str()).collect();
        for protocol in bundle.protocols() {
            names.extend(protocol.objects().map(|m| &*m.native_type));
            names.extend(protocol.commands().map(|c| &*c.method));
        }
        let head = what.split('.').next().unwrap_or(what);
        let help = did_you_mean(head, names).map(|h| format!("; {h}")).unwrap_or_default();
        return Err(format!(
            "no mapping has a native type, a native command or a union command `{head}`{help}"
        ));
    }
    Ok(out)
}

fn explain_in(protocol: &Protocol, bundle: &Bundle, what: &str, out: &mut String, wrong: &mut Vec<String>) {
    let (head, path) = what.split_once('.').map_or((what, None), |(a, b)| (a, Some(b)));
    if let Some(map) = protocol.object(head)
        && let Err(error) = object(protocol, map, path, &bundle.schema, out)
    {
        wrong.push(format!("{} {head}: {error}", protocol.name));
    }
    if let Some((message, rows)) = protocol.items.get(head) {
        let message = bundle.schema.get(*message).map_or("?", |m| m.name.as_str());
        line!(out, "{} {head} makes items of lists of the union message {message}", protocol.name);
        for row in rows.iter().filter(|r| path.is_none_or(|p| within(&r.path, p))) {
            line!(out, "  {:52} = {}  [{}]  {}", row.path, row.text, row.class, row.at);
        }
    }
    for command in protocol.commands().filter(|c| *c.method == *what || *c.verb == *what) {
        self::command(protocol, command, &bundle.schema, out);
        for target in bundle.protocols().filter(|_| *command.method == *what) {
            if let Some(effect) = target.effect(&command.verb) {
                self::effect(target, effect, &bundle.schema, out);
            }
        }
    }
    if let Some(effect) = protocol.effect(what) {
        self::effect(protocol, effect, &bundle.schema, out);
    }
}

fn object(
    protocol: &Protocol,
    map: &ObjectMap,
    path: Option<&str>,
    union: &Schema,
    out: &mut String,
) -> Result<(), PathError> {
    let message = union.get(map.union).map_or("?", |m| m.name.as_str());
    let Some(path) = path else {
        line!(out, "{} {} shows the union message {message}", protocol.name, map.native_type);
        for row in map.rows() {
            line!(out, "  {:52} = {}  [{}]  {}", row.path, row.text, row.class, row.at);
        }
        return Ok(());
    };
    let selection = map.select(path, VersionIndex::NEWEST)?;
    line!(out, "{} {}.{path}", protocol.name, map.native_type);
    let since = protocol.native.versions().get(usize::from(selection.since.0)).map_or("the oldest", |v| v);
    line!(out, "  valid since version {since}");
    if !selection.is_mapped() {
        line!(out, "  no row shows it: it is always unset");
        return Ok(());
    }
    for row in map.rows().iter().filter(|r| within(&r.path, path)) {
        line!(out, "  row `{}` = `{}`  [{}]  {}", row.path, row.text, row.class, row.at);
        items(map, row, path, out);
    }
    deps(selection.deps(), map.union, union, out);
    Ok(())
}

/// Of a list's row: the rows of its items that the rest of the path names.
fn items(map: &ObjectMap, row: &crate::RowInfo, path: &str, out: &mut String) {
    let Some(NodeKind::List(list)) = map.compiled.node(row.node).map(|n| &n.kind) else { return };
    let depth = row.path.split('.').count();
    let rest: Vec<&str> = path.split('.').skip(depth).collect();
    for entry in &list.entries {
        let when = entry.when.as_ref().map(|w| format!(" when {}", w.text)).unwrap_or_default();
        let mut rows = String::new();
        let mut bodies = vec![entry.body];
        while let Some(body) = bodies.pop() {
            for node in
                map.compiled.body(body).iter().flat_map(|b| &b.children).filter_map(|n| map.compiled.node(*n))
            {
                if !rest.is_empty() && !within(&node.path, &rest.join(".")) {
                    continue;
                }
                match &node.kind {
                    NodeKind::Struct(variants) => bodies.extend(variants.iter().map(|v| v.body)),
                    _ => line!(rows, "      `{}` = `{}`  [{}]  {}", node.path, node.row, node.class, node.at),
                }
            }
        }
        if rest.is_empty() || !rows.is_empty() {
            line!(out, "    {}{when}", entry.place.item.concrete);
            out.push_str(&rows);
        }
    }
}

/// Whether one path, without its types and keys, is the other or contains it.
fn within(row: &str, path: &str) -> bool {
    let plain = |text: &str| -> Vec<String> {
        text.split('.').map(|p| p.split([':', '[']).next().unwrap_or(p).to_owned()).collect()
    };
    plain(row).iter().zip(plain(path).iter()).all(|(a, b)| a == b)
}

fn slots(set: SlotSet, message: MessageId, union: &Schema) -> String {
    let name = |slot: Slot| union.get(message).and_then(|m| m.field_at(slot)).map(|f| f.name.clone());
    set.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

fn deps(deps: &Deps, message: MessageId, union: &Schema, out: &mut String) {
    if !deps.own.is_empty() {
        line!(out, "  depends on {}", slots(deps.own, message, union));
    }
    for (slot, kind, set) in &deps.hops {
        let through = slots(SlotSet::of(*slot), message, union);
        line!(
            out,
            "  depends on {} of the {} that {through} names",
            slots(*set, union.kind(*kind).id, union),
            kind
        );
    }
    for (kind, slot) in &deps.reverse {
        line!(out, "  depends on every {kind} whose {} names it", field_name(*kind, *slot, union));
    }
}

fn field_name(kind: Kind, slot: Slot, union: &Schema) -> String {
    slots(SlotSet::of(slot), union.kind(kind).id, union)
}

fn command(protocol: &Protocol, command: &CommandMap, union: &Schema, out: &mut String) {
    line!(
        out,
        "{} {} on {} lifts to {}  {}",
        protocol.name,
        command.method,
        command.on_type,
        command.verb,
        command.at
    );
    line!(
        out,
        "  reply {:?}, class {:?}, depends on {}",
        command.reply,
        command.schema.class,
        command.dependence
    );
    for Argument { path, form, text, at } in &command.rows {
        let to = match form {
            Form::Value { to, .. } | Form::Named { to, .. } => to.name.to_string(),
            Form::Items { to, .. } | Form::Types { to, .. } => format!("{}, a list", to.name),
            Form::File { pool, file } => {
                let names: Vec<&str> = pool.iter().chain(file).map(|p| &*p.name).collect();
                names.join(" and ")
            }
        };
        line!(out, "  `{path}` = `{text}` -> {to}  {at}");
        if let Form::Items { types, .. } = form {
            for Argument { path, text, at, .. } in types.iter().flat_map(|t| &t.rows) {
                line!(out, "    `{path}` = `{text}`  {at}");
            }
        }
    }
    for edit in &command.edits {
        self::edit(edit, out);
    }
    for fresh in &command.fresh {
        let from = fresh.from.as_ref().map(|f| format!(", by `{f}` if that is given")).unwrap_or_default();
        line!(
            out,
            "  {} is a new {}{from}",
            slots(SlotSet::of(fresh.to), command.message, union),
            fresh.kind
        );
    }
    for (path, why) in &command.ignored {
        line!(out, "  `{path}` is left out: {why}");
    }
    for (slot, value) in &command.consts {
        line!(out, "  always {} = {value:?}", slots(SlotSet::of(*slot), command.message, union));
    }
    for guard in &command.guards {
        line!(out, "  refused with {} when {}  {}", guard.fault, guard.when.text, guard.at);
        for (name, value) in &guard.with {
            match value {
                GuardValue::Const(union::Value::Str(text)) => line!(out, "    {name} = {text}"),
                GuardValue::Const(value) => line!(out, "    {name} = {value:?}"),
                GuardValue::Field(field) => line!(out, "    {name} = {}", field.0.text),
            }
        }
    }
}

/// How the changes of a list are read.
fn edit(edit: &DeviceEdit, out: &mut String) {
    line!(out, "  `{}` changes the items that `{}` shows  {}", edit.path, edit.like, edit.at);
    for (ty, reads) in &edit.reads {
        line!(out, "    {ty}: its rows read backwards{}", if reads.rows.is_empty() { "" } else { ", and" });
        for row in &reads.rows {
            let when = row.when.as_ref().map(|w| format!(" when {}", w.text)).unwrap_or_default();
            line!(out, "      `{}` = `{}`{when}  {}", row.path, row.text, row.at);
        }
    }
    for (what, reasons) in [("nothing to add for", &edit.given), ("refused are changes of", &edit.refused)] {
        let mut whys: Vec<&str> = reasons.iter().map(|(_, why)| &**why).collect();
        whys.dedup();
        for why in whys {
            let types: Vec<&str> = reasons.iter().filter(|(_, w)| **w == *why).map(|(t, _)| &**t).collect();
            line!(out, "    {what} {}: {why}", types.join(", "));
        }
    }
}

fn call_line(call: &Call) -> String {
    let args: Vec<String> = call.args.iter().map(|(name, p)| format!("{name} = {}", p.text)).collect();
    let mut text = format!("{}({})", call.name, args.join(", "));
    if let Some(edit) = &call.edit {
        text.push_str(&format!(" with {} edited ({})", edit.argument, edit.form));
    }
    text
}

fn effect(protocol: &Protocol, effect: &Effect, union: &Schema, out: &mut String) {
    line!(out, "{} target: {}  {}", protocol.name, effect.verb, effect.at);
    if let Some(why) = &effect.refused {
        line!(out, "  refused: {why}");
    }
    if let Some(how) = &effect.emulated {
        line!(out, "  emulated: {how}");
    }
    for refuse in &effect.refuses {
        line!(out, "  refused as {} when {}  {}", refuse.code.as_str_name(), refuse.when.text, refuse.at);
        line!(out, "    {}", refuse.message);
    }
    for step in &effect.steps {
        let when = step.when.as_ref().map(|w| format!(" when {}", w.text)).unwrap_or_default();
        let each = step.each.as_ref().map(|e| format!(" for each of {}", e.text)).unwrap_or_default();
        line!(out, "  {}{each}{when}  [{:?}]  {}", call_line(&step.call), step.is, step.at);
        if let Some(edit) = &step.call.edit {
            for (field, program) in &edit.set {
                line!(out, "    {field} = {}", program.text);
            }
            match &edit.devices {
                Devices::None => {}
                Devices::List(list, _) => line!(out, "    changes of {}", list.text),
                Devices::Item(_) => line!(out, "    the change itself"),
            }
        }
        match &step.undo {
            Undo::Nothing => {}
            Undo::Call(undo) => line!(out, "    taken back by {}", call_line(undo)),
            Undo::Back => line!(out, "    taken back by the same call, its script turned back"),
        }
    }
    for own in &effect.own {
        line!(out, "  the broker keeps {} = {}  {}", own.name, own.value.text, own.at);
    }
    if let Some(appears) = &effect.appears {
        line!(out, "  makes {}", appears.text);
    }
    if let Some(vanishes) = &effect.vanishes {
        line!(out, "  removes {}", vanishes.text);
    }
    if let Some(expect) = &effect.expect {
        line!(out, "  is there when {}", expect.text);
    }
    line!(out, "  its calls depend on {}", effect.dependence());
    let reads = effect.reads();
    if !reads.is_empty() {
        line!(out, "  reads {}", slots(reads, union.kind(effect.on).id, union));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::testdata;

    fn says(what: &str) -> String {
        explain(&testdata(), what).unwrap()
    }

    #[test]
    fn explains_properties_row_by_row() {
        let text = says("Machine.config.hardware.memoryMB");
        assert!(text.contains("`config.hardware.memoryMB` = `memory_bytes | mib`  [partial]"), "{text}");
        assert!(text.contains("depends on memory_bytes"), "{text}");
        let text = says("Machine.config.hardware.device[2000].capacity");
        assert!(
            text.contains("Disk when item.bus != BUS_USB") && text.contains("`capacity` = `size_bytes`"),
            "{text}"
        );
        assert!(!text.contains("    Nic"), "{text}");
        assert!(says("Machine.picture").contains("no row shows it"));
        assert!(says("Machine.config.note").contains("valid since version 3.0"));
        assert!(explain(&testdata(), "Machine.nope").unwrap_err().contains("has no property `nope`"));
        assert!(says("Disk").contains("makes items of lists of the union message Disk"));
    }

    #[test]
    fn explains_commands_and_effects() {
        let text = says("Start_Task");
        for part in [
            "lifts to PowerOn",
            "reply Task, class Idempotent, depends on ids",
            "`this` = `vm_id | ref vm` -> vm_id",
            "refused with BadState when vm.power_state == RUNNING",
            "Resume(dom = cmd.vm_id, flags = 0) when vm.power_state == PAUSED  [Idempotent]",
            "is there when self.power_state == RUNNING",
            "reads power_state",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(says("StandbyGuest").contains("refused: it has no agent"));
    }

    #[test]
    fn explains_edits_and_plans() {
        let text = says("Change_Task");
        for part in [
            "depends on object",
            "`spec.order` = `boot (by type: CdOrder, DiskOrder)` -> boot, a list",
            "`spec.option` = `settings (a list of Option)` -> settings, a list",
            "`spec.device` changes the items that `config.hardware.device` shows",
            "Nic: its rows read backwards, and",
            "`label` = `the network of that name`",
            "refused are changes of Disk: disks stay",
            "`spec.uuid` is left out: it has one",
            "refused as INVALID_ARGUMENT when cmd.name == 'none'",
            "Define() with text edited (whole)",
            "changes of cmd.devices",
            "taken back by the same call, its script turned back",
            "taken back by Rename(dom = cmd.vm_id, name = self.name)",
            "the broker keeps settings = cmd.settings",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = says("Make_Task");
        assert!(text.contains("vm_id is a new vm, by `spec.uuid` if that is given"), "{text}");
        let text = says("DestroyVm");
        assert!(text.contains("Erase(path = item.path, at = index) for each of self.disks when"), "{text}");
        assert!(text.contains("removes cmd.vm_id"), "{text}");
    }

    #[test]
    fn suggests_what_may_have_been_meant() {
        let error = explain(&testdata(), "Machin").unwrap_err();
        assert!(error.contains("did you mean `Machine`?"), "{error}");
    }

    #[test]
    fn coverage_names_every_command_and_type() {
        let text = crate::coverage(&testdata()).unwrap();
        assert_eq!(text, crate::coverage(&testdata()).unwrap());
        let line = |name: &str| text.lines().find(|l| l.split_whitespace().next() == Some(name)).unwrap();
        assert_eq!(
            line("PowerOn").split_whitespace().collect::<Vec<_>>(),
            ["PowerOn", "local", "Start_Task", "local", "Resume+Create"]
        );
        assert_eq!(
            line("StandbyGuest").split_whitespace().collect::<Vec<_>>(),
            ["StandbyGuest", "-", "refused"]
        );
        assert_eq!(
            line("Reconfigure").split_whitespace().collect::<Vec<_>>(),
            ["Reconfigure", "engine", "Change_Task", "engine", "Rename+Define+(kept)"]
        );
        let folder = line("DestroyFolder").split_whitespace().collect::<Vec<_>>();
        assert_eq!(folder, ["DestroyFolder", "broker", "Remove", "-"]);
        assert!(line("Machine").contains("8 of 9") && line("Disk").contains("Disk"));
    }
}
