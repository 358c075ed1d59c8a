//! Object cases: fields to properties, and back through every row that writes.

use super::{Case, pairs, text, world::World};
use crate::{
    command::read::union_record,
    data::Fields,
    lens::Class,
    object::ObjectMap,
    reader::NativeRef,
    render::{NodeKind, Walk},
    schema::VersionIndex,
    tree::Tree,
};
use std::sync::Arc;
use union::{Kind, ObjectId, Record};

impl Case<'_> {
    pub(super) fn object(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let ty = fields.need_str("type", self.findings);
        let view = fields.str("view", self.findings).map(|(t, _)| t.to_string());
        let id = fields.str("id", self.findings).map(|(t, s)| (t.clone(), s));
        let native = fields.str("native", self.findings).map(|(t, _)| t.clone());
        let values = fields.table("fields", self.findings);
        let shows = fields.table("shows", self.findings);
        let hides = fields.array("hides", self.findings);
        let others = fields.array("objects", self.findings);
        let version = self.version(fields);
        let gaps = fields.array("gaps", self.findings);
        let (name, _) = ty?;
        let protocol = self.protocol.clone();
        let Some(map) = protocol.object(name) else {
            return self.fail(format!("there is no [object.{name}]"));
        };
        let schema = self.bundle.schema.clone();
        let message = schema.get(map.union)?;
        let record = match values {
            Some(table) => union_record(&schema, message, table, self.findings),
            None => message.record(),
        };
        let id = match id {
            None => ObjectId::derived(message.kind.unwrap_or(Kind::Vm), &["case"]),
            Some((text, span)) => match text.parse() {
                Ok(id) => id,
                Err(_) => {
                    self.findings.error(span, format!("`{text}` is not an object id, `<kind>:<uuid>`"));
                    return None;
                }
            },
        };
        let view = view.or_else(|| protocol.views().next().map(ToString::to_string)).unwrap_or_default();
        let mut world = World::new(&protocol, &schema, &view);
        let own = NativeRef {
            ty: map.native_type.clone(),
            id: native.unwrap_or_else(|| Arc::from(id.to_string())),
        };
        world.add(id, Some(own), record.clone());
        world.read(others, self.bundle, self.findings);
        if !map.fits(id, &record, &world) {
            self.why.push(format!("the `when` of {name} does not hold for these fields"));
        }
        for (path, expected) in pairs(shows) {
            let found = self.shown(map, &path, version, id, &record, &world);
            let found = match found {
                None => "(unset)".to_owned(),
                Some((_, short)) if short == expected => short,
                Some((line, _)) => line,
            };
            let row = map
                .rows()
                .iter()
                .find(|r| r.path == path)
                .map(|r| format!(" (row `{}` at {})", r.text, r.at));
            self.same(&format!("{path}{}", row.unwrap_or_default()), &expected, &found);
        }
        for path in hides {
            let path = text(path);
            if let Some((found, _)) = self.shown(map, &path, version, id, &record, &world) {
                self.why.push(format!("{path}: expected nothing, found `{found}`"));
            }
        }
        self.back(map, version, id, &record, &world);
        let allowed: Vec<String> = gaps.iter().map(text).collect();
        for gap in world.gaps.take() {
            if !allowed.iter().any(|a| **a == *gap.path) {
                self.why.push(format!("{}: {}", gap.path, gap.why));
            }
        }
        Some(())
    }

    /// The property as one line, with the types of references and without; `None`: it is unset.
    fn shown(
        &mut self,
        map: &ObjectMap,
        path: &str,
        version: VersionIndex,
        id: ObjectId,
        record: &Record,
        world: &World,
    ) -> Option<(String, String)> {
        let selection = match map.select(path, version) {
            Ok(selection) => selection,
            Err(error) => return Some((error.to_string(), String::new())),
        };
        let mut tree = Tree::default();
        if !map.render(&selection, id, record, world, version, &mut tree) {
            return None;
        }
        tree.shown().first().map(|shown| (shown.line(), shown.short()))
    }

    /// Every row that writes, backwards: an iso row gives the very field, any row shows the same again.
    fn back(&mut self, map: &ObjectMap, version: VersionIndex, id: ObjectId, record: &Record, world: &World) {
        let walk = Walk::new(id, record, world, version);
        for row in map.rows().iter().filter(|r| r.writes.is_some()) {
            let Some(NodeKind::Leaf(leaf)) = map.compiled.node(row.node).map(|n| &n.kind) else { continue };
            let raw = leaf.raw(&walk);
            let Ok(shown) = leaf.chain.show(raw.clone(), 0) else { continue };
            if raw.is_absent() || shown.is_absent() {
                continue;
            }
            match leaf.chain.read(shown.clone().into_owned()) {
                Err(why) => self.why.push(format!(
                    "{} (row `{}` at {}): cannot be read back: {why}",
                    row.path, row.text, row.at
                )),
                Ok(read) if row.class == Class::Iso && read != *raw => {
                    let why = format!(
                        "{} (row `{}` at {}): {raw:?} came back as {read:?}",
                        row.path, row.text, row.at
                    );
                    self.why.push(why);
                }
                Ok(read) => {
                    let again = leaf.chain.show(std::borrow::Cow::Owned(read), 0);
                    if again.as_deref() != Ok(&*shown) {
                        let why = format!(
                            "{} (row `{}` at {}): shows {shown:?}, then {again:?}",
                            row.path, row.text, row.at
                        );
                        self.why.push(why);
                    }
                }
            }
        }
    }
}
