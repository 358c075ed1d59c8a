//! Packets: a length that counts itself, a header of 24 bytes, a payload. All words big-endian.
//!
//! ```text
//! u32 length | u32 program | u32 version | i32 procedure | i32 kind | u32 serial | i32 status | payload
//! ```
//! Source of the numbers: libvirt's `virnetprotocol.x`, as imported into the schema.

use crate::limits;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the length and the header.
const HEAD: usize = 28;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A client asks.
    Call,
    /// The server answers a call.
    Reply,
    /// An event, or a keepalive.
    Message,
    /// A part of a stream.
    Stream,
    /// A call with file descriptors.
    CallWithFds,
    /// A reply with file descriptors.
    ReplyWithFds,
    /// A hole in a sparse stream.
    StreamHole,
}

impl PacketKind {
    const ALL: [PacketKind; 7] = [
        PacketKind::Call,
        PacketKind::Reply,
        PacketKind::Message,
        PacketKind::Stream,
        PacketKind::CallWithFds,
        PacketKind::ReplyWithFds,
        PacketKind::StreamHole,
    ];
}

/// How a call went, or whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well; a stream ends.
    Ok,
    /// The payload is an error.
    Error,
    /// A stream goes on.
    Continue,
}

impl Status {
    const ALL: [Status; 3] = [Status::Ok, Status::Error, Status::Continue];
}

/// The head of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// Which procedure.
    pub procedure: i32,
    /// What the packet is.
    pub kind: PacketKind,
    /// Which call it belongs to.
    pub serial: u32,
    /// How it went.
    pub status: Status,
}

/// A whole packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its head.
    pub header: Header,
    /// What follows the head.
    pub payload: Bytes,
}

/// The bytes are no packet; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length below the header's or above the limit.
    #[error("a packet of {length} bytes: expected {HEAD} to {max}")]
    Length {
        /// What the bytes say.
        length: u32,
        /// The limit.
        max: usize,
    },
    /// No such kind of packet.
    #[error("a packet of kind {0}: expected 0 to 6")]
    Kind(i32),
    /// No such status.
    #[error("a packet of status {0}: expected 0 to 2")]
    Status(i32),
    /// A payload to send above the limit.
    #[error("a payload of {0} bytes is above the limit of {max}", max = limits::XDR_PACKET.saturating_sub(HEAD))]
    Payload(usize),
}

/// Takes a packet off the front of `buffer`; `None`: more bytes are needed.
///
/// # Errors
/// The bytes are no packet. Reserves nothing: what a length claims is not believed.
pub fn take_packet(buffer: &mut BytesMut) -> Result<Option<Packet>, FrameError> {
    let Some(length) = buffer.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) else { return Ok(None) };
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEAD..=limits::XDR_PACKET).contains(&size) {
        return Err(FrameError::Length { length, max: limits::XDR_PACKET });
    }
    if buffer.len() < size {
        return Ok(None);
    }
    let mut packet = buffer.split_to(size).freeze();
    packet.advance(4);
    let (program, version, procedure) = (packet.get_u32(), packet.get_u32(), packet.get_i32());
    let (kind, serial, status) = (packet.get_i32(), packet.get_u32(), packet.get_i32());
    let kind = usize::try_from(kind)
        .ok()
        .and_then(|k| PacketKind::ALL.get(k).copied())
        .ok_or(FrameError::Kind(kind))?;
    let status = usize::try_from(status)
        .ok()
        .and_then(|s| Status::ALL.get(s).copied())
        .ok_or(FrameError::Status(status))?;
    Ok(Some(Packet { header: Header { program, version, procedure, kind, serial, status }, payload: packet }))
}

/// Appends a packet to `out`.
///
/// # Errors
/// The payload is above the limit; nothing was appended.
pub fn put_packet(header: &Header, payload: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
    let size = payload.len().saturating_add(HEAD);
    let length = match u32::try_from(size) {
        Ok(length) if size <= limits::XDR_PACKET => length,
        _ => return Err(FrameError::Payload(payload.len())),
    };
    out.reserve(size);
    out.put_u32(length);
    out.put_u32(header.program);
    out.put_u32(header.version);
    out.put_i32(header.procedure);
    out.put_i32(header.kind as i32);
    out.put_u32(header.serial);
    out.put_i32(header.status as i32);
    out.put_slice(payload);
    Ok(())
}
