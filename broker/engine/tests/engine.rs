//! What the engine promises, with owners that say what a test wants.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "engine/agents.rs"]
mod agents;
#[path = "engine/bed.rs"]
mod bed;
#[path = "engine/commands.rs"]
mod commands;
#[path = "engine/folders.rs"]
mod folders;
#[path = "engine/recovery.rs"]
mod recovery;
#[path = "engine/rights.rs"]
mod rights;
