//! Who may do what: users, logins, sessions, permissions, on union commands, so that every protocol obeys the same rules.
//!
//! ```text
//! secret     a password in memory: wiped when dropped, never shown
//! hash       argon2id, with the work set by configuration
//! limiter    wrong passwords per remote and name, and per remote: pure, in monotonic time
//! passwords  is it the right one: bounded work, bounded guesses
//! users      the users file of earlier versions, `users.toml`, imported once
//! first      the first administrator, from the environment or generated
//! verbs      what may be allowed: verbs and their groups
//! people     users, groups, roles, scopes, templates: pure
//! keys       a member's key pairs; `signed`: messages; `seal`: secrets; `grant`: what a session may do
//! pass       a login in the hands of a front; `passes`: those of an agent
//! refusals   what an agent's sessions were refused, for the audit
//! authority  the engine's room: logins, sessions, grants, the audit, what an administrator asks
//! summary    a command as the audit shows it
//! local      an authority and its one agent in one process
//! ```
//!
//! Limits: names 256 bytes, passwords 1,024 bytes, users 10,000, remembered remotes 4,096 and (remote, name) pairs
//! 4,096.
#![forbid(unsafe_code)]

pub mod authority;
pub mod first;
pub mod grant;
pub mod hash;
pub mod keys;
pub mod limiter;
pub mod local;
pub mod pass;
pub mod passes;
pub mod passwords;
pub mod people;
pub mod refusals;
pub mod seal;
pub mod secret;
pub mod signed;
pub mod summary;
pub mod users;
pub mod verbs;

pub use authority::Authority;
pub use first::FirstAdmin;
pub use grant::{Check, Grant, GrantError};
pub use hash::Cost;
pub use keys::{Keys, Public};
pub use limiter::Limits;
pub use local::Local;
pub use pass::{Applicant, Logins, Pass, Tree};
pub use passes::Passes;
pub use passwords::{LoginError, Passwords, Settings};
pub use people::{Change, Hashed, People, PeopleError, Scope, Who};
pub use secret::Secret;
pub use signed::{SignedError, Signer, Verifier};
pub use users::{Role, Users, UsersError};
