//! Union records, and documents read and patched through mapping rows.

use crate::{runner::Target, targets::text};
use mapping::edit::{DocumentMap, Source, Tree};
use std::sync::{Arc, LazyLock};
use union::{Schema, codec};

const ROWS: &str = include_str!("../../../../mappings/libvirt/domain.toml");

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(Schema::base);
static DOMAIN_MAP: LazyLock<DocumentMap> =
    LazyLock::new(|| DocumentMap::load(&[source(ROWS)], &SCHEMA).expect("the rows in the tree are good"));

fn source(text: &str) -> Source<'_> {
    Source { name: "domain.toml", text }
}

/// The first byte chooses the message, the others are its protobuf.
pub const RECORD: Target = Target {
    name: "union_record",
    also: &[],
    dictionary: &["\u{a}", "\u{12}\u{4}", "vm:4c4c4544-0042-3510-8054-b7c04f4a5331", "\u{8}\u{1}", "\u{7f}"],
    feed: |input| {
        let Some((choice, bytes)) = input.split_first() else { return "no choice".to_owned() };
        let message =
            SCHEMA.messages().get(usize::from(*choice) % SCHEMA.messages().len()).expect("in range");
        match codec::decode(&SCHEMA, message.id, bytes) {
            Err(error) => error.to_string(),
            Ok(record) => {
                let once = codec::encode(&SCHEMA, &record);
                let again = codec::decode(&SCHEMA, message.id, &once).expect("what was encoded decodes");
                assert_eq!(once, codec::encode(&SCHEMA, &again));
                let set: Vec<_> =
                    message.fields.iter().filter(|f| *record.get(f.slot) != union::Value::Absent).collect();
                format!("{} {:?}", message.name, set.first().map(|f| f.slot))
            }
        }
    },
};

/// A domain's XML: what is read, put back, changes no byte.
pub const DOMAIN: Target = Target {
    name: "domain_xml",
    also: &["mappings/libvirt/cases"],
    dictionary: &[
        "<",
        "</",
        "/>",
        "<domain>",
        "</domain>",
        "<memory unit='KiB'>",
        "<disk type='file' device='disk'>",
        "<target dev='vda'/>",
        "<interface type='network'>",
        "&amp;",
        "&#10;",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?x?>",
        "<!DOCTYPE d>",
        " unit='TiB'",
        "\r",
        "xmlns:q='urn:q'",
        "q:",
    ],
    feed: |input| {
        let text = text(input);
        let tree = match Tree::parse(&text) {
            Ok(tree) => tree,
            Err(error) => return error.to_string(),
        };
        let got = DOMAIN_MAP.get(&tree);
        match DOMAIN_MAP.put(&text, &got.record) {
            Err(refusal) => refusal.to_string(),
            Ok(put) => {
                assert_eq!(put.text, text, "putting back what was read changed the document");
                format!("{} gaps", got.gaps.len().min(1))
            }
        }
    },
};

/// A file of rows: good, or every error said.
pub const DOMAIN_ROWS: Target = Target {
    name: "domain_rows",
    also: &["mappings/libvirt/domain.toml"],
    dictionary: &[
        "[",
        "]",
        "[[",
        "]]",
        "=",
        "\"",
        "{",
        "}",
        "list = ",
        "key = ",
        "like = ",
        "new = ",
        " | enum ",
        " | mib",
        "devices/disk",
        "[@device='disk']",
        "/@dev",
        "[object.domain.rows]",
        "\n",
        "dup = \"follow\"",
        "memory_bytes",
        "<a/>",
        "\\u0000",
    ],
    feed: |input| match DocumentMap::load(&[source(&text(input))], &SCHEMA) {
        Ok(_) => "good".to_owned(),
        Err(found) => {
            assert!(!found.is_empty());
            found.iter().map(|d| d.message.to_string()).take(3).collect()
        }
    },
};
