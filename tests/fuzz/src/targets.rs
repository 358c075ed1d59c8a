//! The decoders, each with the laws that hold for whatever it accepts.

mod documents;
mod mappings;
mod soap;
mod text;
mod xdr;

use crate::runner::Target;

/// All targets; each has its test in `tests.rs` and its corpus in `corpus/<name>/`.
pub const ALL: &[Target] = &[
    soap::DECODE,
    soap::XML,
    xdr::VALUES,
    xdr::PACKETS,
    xdr::SCHEMA,
    documents::RECORD,
    documents::DOMAIN,
    documents::DOMAIN_ROWS,
    mappings::BUNDLE,
    mappings::PATH,
    mappings::LIFT,
    text::SUBJECT,
    text::DATETIME,
    text::OBJECT_ID,
    text::LIBVIRT_URI,
    text::USERS,
];

/// The input as text, what is not UTF-8 replaced.
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}
