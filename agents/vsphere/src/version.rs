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
