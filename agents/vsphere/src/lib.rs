//! The vSphere front: this installation as a vCenter Server (`fleet`) or as one ESXi host (`host`), to unmodified clients.
//!
//! The way of a call, each step a room:
//!
//! ```text
//! front::Listener  connection, TLS, admission
//! generation.rs    the bundle that the request's session speaks by
//! front.rs         route ─▶ read ─▶ decode ─▶ negotiate (version.rs) ─▶ authenticate (session.rs) ─▶ find (inventory.rs, made.rs)
//!                  ─▶ does the caller see it? (permission.rs)
//! methods.rs       ─▶ dispatch: one table of type and method
//!                     ├─ property_collector/   reading, once and as it changes
//!                     ├─ views, search, task, events, service, browser, authorization
//!                     └─ command.rs            everything with a command row: lift ─▶ authorize ─▶ lane::Commands
//! native.rs        ◀─ encode: the mapping's values as SOAP;   fault.rs: causes as vim faults
//! folder.rs        GET /folder/…vmx (vmx.rs): a VM's configuration file, for clients that read that
//! ```
//!
//! What differs between the two views is data in the mapping files. [`front::serve`] starts a front; dropping or draining what it returns ends it.
#![forbid(unsafe_code)]

mod authorization;
mod browser;
mod call;
mod command;
mod environment;
mod events;
mod fault;
mod folder;
pub mod front;
mod generation;
mod history;
mod inventory;
mod keeper;
mod limits;
mod made;
mod methods;
pub mod native;
mod permission;
mod power;
mod property_collector;
mod search;
mod serve;
mod service;
mod session;
mod target;
mod task;
mod tree;
mod version;
mod views;
mod views_api;
mod vmx;

#[cfg(test)]
mod tests;
