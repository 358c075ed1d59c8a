//! Answers read as the strictest known client reads them: no white space between elements, a type on every value that is open, the
//! concrete type on every item of an array, no empty enumeration, only properties that the negotiated version has.

use super::{BUNDLE, Rig};
use mapping::schema::{NativeType, TypeDef, VersionIndex};
use wire::xml::Element;

const PRIMITIVES: &[&str] = &[
    "string",
    "int",
    "long",
    "short",
    "byte",
    "boolean",
    "dateTime",
    "double",
    "float",
    "base64Binary",
    "anyURI",
];

/// Checks a value of a declared type; returns what is wrong.
fn value(element: Element<'_>, declared: &str, version: VersionIndex, path: &str, wrong: &mut Vec<String>) {
    let schema = &BUNDLE.protocol("vsphere").unwrap().native;
    let ty = element.xsi_type().unwrap_or(declared);
    if element.children().next().is_some() && !element.text().trim().is_empty() {
        wrong.push(format!("{path}: text between elements"));
    }
    if let Some(item) = ty.strip_prefix("ArrayOf") {
        for child in element.children() {
            let path = format!("{path}[{}]", child.name());
            if child.xsi_type().is_none() {
                wrong.push(format!("{path}: an item without its type"));
            }
            let lower = item.to_ascii_lowercase();
            let declared =
                PRIMITIVES.iter().find(|p| p.to_ascii_lowercase() == lower).copied().unwrap_or(item);
            value(child, declared, version, &path, wrong);
        }
        return;
    }
    if ty == "ManagedObjectReference" {
        if element.attribute("type").is_none_or(str::is_empty) || element.text().is_empty() {
            wrong.push(format!("{path}: a reference without type or id"));
        }
        return;
    }
    if PRIMITIVES.contains(&ty) {
        return;
    }
    let Some(def) = schema.lookup(ty) else {
        wrong.push(format!("{path}: no type {ty}"));
        return;
    };
    if !def.values.is_empty() {
        if !def.values.iter().any(|known| **known == *element.text()) {
            wrong.push(format!("{path}: {} is none of {ty}", element.text()));
        }
        return;
    }
    structure(element, def, version, path, wrong);
}

fn structure(
    element: Element<'_>,
    def: &TypeDef,
    version: VersionIndex,
    path: &str,
    wrong: &mut Vec<String>,
) {
    let schema = &BUNDLE.protocol("vsphere").unwrap().native;
    let mut last = 0;
    for child in element.children() {
        let path = format!("{path}.{}", child.name());
        let Some((at, field)) = def.fields.iter().enumerate().find(|(_, f)| &*f.name == child.name()) else {
            wrong.push(format!("{path}: {} has no such field", def.name));
            continue;
        };
        if at < last {
            wrong.push(format!("{path}: out of order"));
        }
        last = at;
        if field.since > version {
            wrong.push(format!("{path}: newer than the client"));
        }
        match field.ty {
            NativeType::Ref(_) => value(child, "ManagedObjectReference", version, &path, wrong),
            NativeType::Primitive(p) if p.name() == "anyType" => match child.xsi_type() {
                Some(ty) => value(child, ty, version, &path, wrong),
                None => wrong.push(format!("{path}: any type, and none said")),
            },
            NativeType::Primitive(p) => value(child, p.name(), version, &path, wrong),
            NativeType::Enum(ty) | NativeType::Data(ty) => {
                value(child, schema.name(ty), version, &path, wrong)
            }
        }
    }
    for field in def.fields.iter().filter(|f| !f.optional && f.since <= version) {
        if element.child(&field.name).is_none() && !field.list {
            wrong.push(format!("{path}: {} requires {}", def.name, field.name));
        }
    }
}

/// Reads every property of every object at a version.
async fn sweep(rig: &Rig, action: &str, version: VersionIndex) {
    let cookie = rig.login("admin").await;
    let catalog = &rig.front.catalog;
    let collector =
        if catalog.view().host().is_some() { "ha-property-collector" } else { "propertyCollector" };
    let mut objects: Vec<mapping::NativeRef> = Vec::new();
    for kind in catalog.tree().kinds() {
        objects.extend(catalog.inventory().ids(kind).into_iter().filter_map(|id| catalog.reference(id)));
    }
    objects.extend(catalog.singletons());
    assert!(objects.len() > 20);
    let mut wrong = Vec::new();
    for object in objects {
        let spec = format!(
            "<specSet><propSet><type>ManagedObject</type><all>true</all></propSet><objectSet><obj type=\"{}\">{}</obj></objectSet></specSet>",
            object.ty, object.id
        );
        let body = super::request("RetrieveProperties", ("PropertyCollector", collector), &spec);
        let answer = rig.send(Some(&cookie), action, body).await;
        assert_eq!(answer.status, 200, "{}: {}", object.id, answer.body);
        assert!(
            !answer.body.contains("> ") && !answer.body.contains(">\n"),
            "white space in {}",
            answer.body
        );
        let tree = answer.tree();
        let content =
            tree.root().child("Body").unwrap().children().next().unwrap().child("returnval").unwrap();
        for property in content.children_named("propSet") {
            let path = format!("{} {}", object.ty, property.child_text("name").unwrap());
            let val = property.child("val").unwrap();
            match val.xsi_type() {
                Some(ty) => value(val, ty, version, &path, &mut wrong),
                None => wrong.push(format!("{path}: a value without its type")),
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} at {action}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_property_reads_strictly() {
    let schema = &BUNDLE.protocol("vsphere").unwrap().native;
    for rig in [Rig::fleet(), Rig::host()] {
        for version in ["8.0.3.0", "7.0.0.0", "6.5", "2.5"] {
            let index = schema.version(version).unwrap();
            sweep(&rig, &format!("\"urn:vim25/{version}\""), index).await;
        }
    }
}
