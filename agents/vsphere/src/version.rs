//! Which version of the schema a client speaks.
//!
//! ```text
//! SOAPAction   "urn:vim25/6.5" | urn:vim25/9.1.0.0 | "" | absent
//! known id     that version             newer than ours    our newest
//! unknown id   the newest below it      absent or empty    our newest advertised to old clients: the oldest
//! ```

use mapping::schema::{NativeSchema, VersionIndex};

/// The version a request is answered in.
pub(crate) fn negotiate(action: Option<&str>, schema: &NativeSchema, newest: VersionIndex) -> VersionIndex {
    let action = action.unwrap_or_default().trim().trim_matches('"');
    let Some(id) = action.rsplit_once('/').map(|(_, id)| id).filter(|id| !id.is_empty()) else {
        return VersionIndex(0);
    };
    if let Some(known) = schema.version(id) {
        return known.min(newest);
    }
    let asked = parts(id);
    let below = schema.versions().iter().zip(0u16..).filter(|(known, _)| parts(known) <= asked).last();
    below.map_or(VersionIndex(0), |(_, index)| VersionIndex(index)).min(newest)
}

/// `6.7.1` as numbers; anything that is no number counts as 0.
fn parts(id: &str) -> Vec<u32> {
    id.split('.')
        .map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0))
        .collect()
}

/// `vimServiceVersions.xml`.
pub(crate) fn document(schema: &NativeSchema, newest: VersionIndex) -> String {
    let versions = schema.versions();
    let newest = usize::from(newest.0).min(versions.len().saturating_sub(1));
    let mut text = String::from(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<namespaces version=\"1.0\">\n <namespace>\n",
        "  <name>urn:vim25</name>\n"
    ));
    if let Some(version) = versions.get(newest) {
        text.push_str(&format!("  <version>{version}</version>\n"));
    }
    text.push_str("  <priorVersions>\n");
    for version in versions.iter().take(newest).rev() {
        text.push_str(&format!("   <version>{version}</version>\n"));
    }
    text.push_str("  </priorVersions>\n </namespace>\n</namespaces>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::BUNDLE;

    #[test]
    fn negotiates() {
        let schema = &BUNDLE.protocol("vsphere").unwrap().native;
        let index = |id: &str| schema.version(id).unwrap();
        let newest = index("8.0.3.0");
        for (action, expected) in [
            (Some("\"urn:vim25/6.5\""), "6.5"),
            (Some("urn:vim25/8.0.3.0"), "8.0.3.0"),
            (Some("urn:vim25/9.1.0.0"), "8.0.3.0"),
            (Some("urn:vim25/77.0"), "8.0.3.0"),
            (Some("urn:vim25/6.6"), "6.5"),
            (Some("urn:vim25/0.1"), "2.0"),
            (Some("urn:vim25/x"), "2.0"),
            (Some("\"\""), "2.0"),
            (Some("urn:vim25"), "2.0"),
            (None, "2.0"),
        ] {
            assert_eq!(negotiate(action, schema, newest), index(expected), "{action:?}");
        }
    }

    #[test]
    fn lists_what_is_older() {
        let schema = &BUNDLE.protocol("vsphere").unwrap().native;
        let text = document(schema, schema.version("8.0.3.0").unwrap());
        assert!(text.contains("<name>urn:vim25</name>\n  <version>8.0.3.0</version>"));
        assert!(text.contains("<version>6.5</version>") && text.contains("<version>2.5u2</version>"));
        assert!(!text.contains("9.0.0.0") && text.matches("<namespace>").count() == 1);
        wire::xml::parse(text, &wire::limits::SOAP).unwrap();
    }
}
