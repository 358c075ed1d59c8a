//! What is mapped and what is not, as text that changes only when the mappings do.

use crate::{load::Bundle, protocol::Protocol, report::Report};
use std::{fmt::Write as _, path::Path};
use union::Schema;

/// The coverage of a mapping directory.
///
/// ```text
/// commands   the union's commands by protocol: how a front lifts them, what a target does with them
/// objects    by native type: rows by class, properties shown of those the schema has
/// ```
pub fn coverage(dir: &Path) -> Result<String, Report> {
    let bundle = Bundle::load(dir)?;
    let mut out = String::new();
    commands(&bundle, &mut out);
    for protocol in bundle.protocols() {
        objects(protocol, &bundle.schema, &mut out);
    }
    Ok(out)
}

/// A table with its columns aligned.
fn table(rows: &[Vec<String>], out: &mut String) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _always = write!(line, "{text:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn commands(bundle: &Bundle, out: &mut String) {
    let fronts: Vec<_> = bundle.protocols().filter(|p| p.commands().next().is_some()).collect();
    let targets: Vec<_> = bundle.protocols().filter(|p| p.effects().next().is_some()).collect();
    let mut rows = vec![vec!["command".to_owned()]];
    if let Some(head) = rows.first_mut() {
        head.extend(fronts.iter().map(|p| format!("{} front", p.name)));
        head.extend(targets.iter().map(|p| format!("{} target", p.name)));
    }
    for command in bundle.schema.commands() {
        let mut row = vec![command.name.clone()];
        // What no target lowers is the broker's own business.
        let own = !targets.iter().any(|p| p.effect(&command.name).is_some());
        row.extend(fronts.iter().map(|p| lifted(p, &command.name, own)));
        row.extend(targets.iter().map(|p| lowered(p, &command.name)));
        rows.push(row);
    }
    out.push_str("# commands: by the front that lifts them, by the target that performs them; - is absent, (kept) are facts of the broker,\n# broker what no target needs to know\n");
    table(&rows, out);
}

fn lifted(protocol: &Protocol, verb: &str, own: bool) -> String {
    let commands = protocol.commands().filter(|c| &*c.verb == verb);
    let texts: Vec<String> = commands
        .map(|c| {
            let route = match c.dependence {
                _ if own => "broker",
                crate::Dependence::Object => "engine",
                _ => "local",
            };
            format!("{route} {}", c.method)
        })
        .collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

fn lowered(protocol: &Protocol, verb: &str) -> String {
    match protocol.effect(verb) {
        None => "-".to_owned(),
        Some(effect) if effect.refused.is_some() => "refused".to_owned(),
        Some(effect) if effect.emulated.is_some() => "emulated".to_owned(),
        Some(effect) => {
            let mut calls: Vec<&str> = effect.steps.iter().map(|s| &*s.call.name).collect();
            calls.dedup();
            let route = if effect.needs_engine() { "engine" } else { "local" };
            let kept = if effect.own.is_empty() { "" } else { "(kept)" };
            calls.extend(Some(kept).filter(|kept| !kept.is_empty()));
            format!("{route} {}", calls.join("+"))
        }
    }
}

fn objects(protocol: &Protocol, union: &Schema, out: &mut String) {
    if protocol.objects().next().is_none() {
        return;
    }
    let head =
        ["type", "shows", "properties", "rows", "iso", "quotient", "partial", "render-only", "left out"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut tables: Vec<_> = protocol.rows().collect();
    tables.sort_by_key(|(name, ..)| (*name).clone());
    for (name, message, table) in tables {
        let count = |class| table.iter().filter(|r| r.class == class).count();
        let fields = protocol.native.lookup(name).map_or(&[][..], |t| &t.fields);
        let begins = |row: &str, name: &str| row.split(['.', ':']).next() == Some(name);
        let mapped = fields.iter().filter(|f| table.iter().any(|r| begins(&r.path, &f.name))).count();
        let left_out = protocol.unmapped.get(name).map_or(0, std::collections::BTreeMap::len);
        rows.push(vec![
            name.to_string(),
            union.get(message).map(|m| m.name.clone()).unwrap_or_default(),
            format!("{mapped} of {}", fields.len()),
            table.len().to_string(),
            count(crate::Class::Iso).to_string(),
            count(crate::Class::Quotient).to_string(),
            count(crate::Class::Partial).to_string(),
            count(crate::Class::RenderOnly).to_string(),
            left_out.to_string(),
        ]);
    }
    out.push_str(&format!(
        "\n# {}: native types, the union message each shows, properties at the top that are shown, rows by class\n",
        protocol.name
    ));
    table(&rows, out);
}
