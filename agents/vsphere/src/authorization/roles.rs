//! Roles and privileges in the product's words: names and numbers are data, `[table.role]` and `[table.privilege]`.

use crate::inventory::Catalog;
use mapping::Constant;
use std::collections::{BTreeMap, BTreeSet};
use union::{Record, Value, pb};

/// One role, as the product shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its id.
    pub(crate) number: i64,
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) summary: String,
    /// Whether every installation has it.
    pub(crate) built_in: bool,
    pub(crate) privileges: Vec<String>,
}

/// What a role is called that holds for some kinds only.
pub(super) fn shown_name(role: &str, kinds: &[String]) -> String {
    match kinds {
        [] => role.to_owned(),
        kinds => format!("{role} [{}]", kinds.join(" ")),
    }
}

/// The number of a role without one of its own: made of its name, so that it is the same tomorrow. FNV-1a, 30 bits, above the product's own.
fn made_of(name: &str) -> i64 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash & 0x3fff_ffff) + 1_000
}

/// The number of a role by the name it is shown with.
pub(super) fn number(catalog: &Catalog, name: &str) -> i64 {
    let own = catalog.protocol().table("role").and_then(|own| own.get(name)?.int("number"));
    own.unwrap_or_else(|| made_of(name))
}

fn texts<'c>(catalog: &'c Catalog, table: &str) -> impl Iterator<Item = String> + use<'c> {
    let list = catalog.protocol().table(table).map(|table| table.list("privileges")).unwrap_or_default();
    list.iter().filter_map(|text| text.as_text().map(|text| text.to_string()))
}

/// The product's privileges that a union verb needs.
fn of_verb(constant: &Constant) -> Vec<String> {
    match constant {
        Constant::Text(text) => vec![text.to_string()],
        by_field => {
            let all = by_field.as_entries().iter().filter_map(|(_, text)| text.as_text());
            all.map(|text| text.to_string()).collect()
        }
    }
}

/// All privileges of the product that mean something here, ordered.
pub(crate) fn privileges(catalog: &Catalog) -> Vec<String> {
    let verbs = catalog.protocol().table("privilege").map(Constant::as_entries).unwrap_or_default();
    let of_verbs = verbs.iter().flat_map(|(_, constant)| of_verb(constant));
    let all: BTreeSet<String> =
        of_verbs.chain(texts(catalog, "reader")).chain(texts(catalog, "also")).collect();
    all.into_iter().collect()
}

/// The roles of a directory, as they are shown: also the product's own that are not in it, and each restricted to kinds as it is held.
pub(crate) fn roles(catalog: &Catalog, known: &pb::Directory) -> Vec<Shown> {
    let table = catalog.protocol().table("privilege");
    let mut by_name: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |name: String, verbs: &[String]| {
        let privileges = by_name.entry(name).or_default();
        for verb in verbs {
            match verb.as_str() {
                "*" => privileges.extend(self::privileges(catalog)),
                "Read" => privileges.extend(texts(catalog, "reader")),
                verb => privileges
                    .extend(table.and_then(|table| table.get(verb)).map(of_verb).unwrap_or_default()),
            }
        }
    };
    for (name, words) in guard::verbs::ROLES {
        let verbs = words.iter().filter_map(|word| guard::verbs::of_word(word)).flatten();
        add((*name).to_owned(), &verbs.map(str::to_owned).collect::<Vec<_>>());
    }
    for role in &known.roles {
        add(role.name.clone(), &role.verbs);
    }
    for scope in known.permissions.iter().filter_map(|permission| permission.scope.as_ref()) {
        add(shown_name(&scope.role, &scope.kinds), &scope.verbs);
    }
    let own = catalog.protocol().table("role");
    let text =
        |name: &str, field: &str| own.and_then(|own| own.get(name)?.text(field).map(|t| t.to_string()));
    let shown = by_name.into_iter().map(|(name, privileges)| Shown {
        number: number(catalog, &name),
        label: text(&name, "label").unwrap_or_else(|| name.clone()),
        summary: text(&name, "summary").unwrap_or_else(|| name.clone()),
        built_in: guard::verbs::ROLES.iter().any(|(known, _)| *known == name),
        privileges: privileges.into_iter().collect(),
        name: text(&name, "name").unwrap_or(name),
    });
    let mut shown: Vec<Shown> = shown.collect();
    shown.sort_by_key(|role| (!role.built_in, role.number));
    shown
}

/// A part of what the front says of itself, by its message's name.
fn part(catalog: &Catalog, message: &str, fields: Vec<(&str, Value)>) -> Option<Record> {
    let message = catalog.schema().message(message)?;
    let mut record = message.record();
    for (name, value) in fields {
        if let Some(field) = message.field(name) {
            record.set(field.slot, value);
        }
    }
    Some(record)
}

/// [`roles`] as the union has them.
pub(crate) fn role_records(catalog: &Catalog, known: &pb::Directory) -> Vec<Record> {
    let record = |role: Shown| {
        let privileges = Value::list(role.privileges.into_iter().map(Value::from));
        let fields = vec![
            ("number", Value::Int(role.number)),
            ("name", role.name.into()),
            ("label", role.label.into()),
            ("summary", role.summary.into()),
            ("built_in", Value::from(role.built_in)),
            ("privileges", privileges),
        ];
        part(catalog, "AccessRole", fields)
    };
    roles(catalog, known).into_iter().filter_map(record).collect()
}

/// [`privileges`] as the union has them.
pub(crate) fn privilege_records(catalog: &Catalog) -> Vec<Record> {
    let record = |id: String| {
        let (group, name) = id.rsplit_once('.').unwrap_or(("", &id));
        let fields = vec![("name", name.into()), ("group", group.into()), ("id", id.as_str().into())];
        part(catalog, "Privilege", fields)
    };
    privileges(catalog).into_iter().filter_map(record).collect()
}
