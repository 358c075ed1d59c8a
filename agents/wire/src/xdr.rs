//! XDR (RFC 4506) with libvirt's additions, driven by a schema given as text, and the packets that carry it.
//!
//! ```text
//! schema   the compact text form -> types, structs, procedures
//! value    a value tree; structs know their fields' names
//! decode   bytes -> value, every length checked against what is left before anything is allocated
//! encode   value -> bytes, checked against the type
//! frame    u32 length, 24-byte header, payload; sans-IO, for clients and servers
//! ```
//!
//! The form of a schema is told in the head of the schema files. Limits are in [`crate::limits`].

mod decode;
mod encode;
mod frame;
mod schema;
mod value;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, DecodeFault, decode};
pub use encode::{EncodeError, encode, record};
pub use frame::{FrameError, Header, Packet, PacketKind, Status, put_packet, take_packet};
pub use schema::{Field, Procedure, ProcedureKind, Schema, SchemaError, Struct, Type, Union};
pub use value::{XdrStruct, XdrValue};
