//! Mappings: data files that relate a vendor protocol to the union, checked and compiled.
//!
//! ```text
//! schema    the vendor's types            data, report     files with places; what is wrong with them
//! table     rows as written               lens, cel, flow  what stands between two fields, and its types
//! compile   rows checked and resolved     load             a directory -> Bundle, or every error at once
//! object    properties by path            render           slots -> native values, in schema order
//! command   lift, guard, lower            protocol         ids, faults, conflicts, constants
//! pack      a bundle's files in one piece
//! ```
//! The format is described in `mappings/README.md`.
#![forbid(unsafe_code)]

mod calls;
pub mod cases;
mod cel;
pub mod command;
mod compile;
mod coverage;
mod data;
pub mod edit;
mod explain;
mod flow;
mod lens;
mod load;
pub mod object;
pub mod pack;
pub mod protocol;
pub mod reader;
pub mod render;
pub mod report;
pub mod schema;
pub mod sharing;
mod table;
#[cfg(test)]
mod testing;
pub mod tree;

pub use cases::{TestReport, test};
pub use command::{
    CommandMap, Dependence, Effect, LiftError, NativeArgs, NativeCall, NativeValue, Reply, Resolve, StepKind,
};
pub use compile::RowInfo;
pub use coverage::coverage;
pub use explain::explain;
pub use lens::Class;
pub use load::{Bundle, check};
pub use object::{ObjectMap, PathError, Selection};
pub use pack::{Pack, PackError, fits};
pub use protocol::{Conflict, Constant, FaultMap, FaultValue, IdForm, Protocol};
pub use reader::{Gap, NativeRef, Nothing, Reader};
pub use render::{Deps, Emit, FieldMeta, Role, ValueKind};
pub use report::{Diagnostic, Report, Severity};
pub use schema::{NativeField, NativeSchema, NativeType, Primitive, VersionIndex};
