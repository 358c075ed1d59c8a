//! Mappings: data files that relate a vendor protocol to the union, checked and compiled.
#![forbid(unsafe_code)]

mod cel;
mod data;
pub mod edit;
mod flow;
mod lens;
pub mod reader;
pub mod report;
pub mod schema;

pub use lens::Class;
pub use reader::{Gap, NativeRef, Nothing, Reader};
pub use report::{Diagnostic, Report, Severity};
pub use schema::{NativeField, NativeSchema, NativeType, Primitive, VersionIndex};
