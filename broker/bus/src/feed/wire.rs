//! The messages of a feed, protobuf. Written by hand: five fields need no generator.

use bytes::Bytes;
use prost::Message;

use crate::limits::FEED_OVERHEAD;

/// A key with its value, or without: then it is gone.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Item {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// Changes under one sequence number; without any it is a beat, and `seq` is the last one used.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Delta {
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<Item>,
}

/// Asks for the page after a key; without one, for the first.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PageRequest {
    #[prost(string, optional, tag = "1")]
    pub after: Option<String>,
}

/// Items in key order as of `seq`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Page {
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<Item>,
    #[prost(bool, tag = "4")]
    pub last: bool,
}

/// The bytes an item takes in a message, at most: its parts and the tags and lengths around them.
pub(super) fn weight(key: &str, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + 32
}

/// Whether an item of this weight fits a message of `max` bytes.
pub(super) fn fits(weight: usize, max: usize) -> bool {
    weight.saturating_add(FEED_OVERHEAD) <= max
}
