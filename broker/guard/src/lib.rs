//! Who may do what: users, logins and authorization, on union commands, so that every protocol obeys the same rules.
//!
//! ```text
//! secret     a password in memory: wiped when dropped, never shown
//! hash       argon2id, with the work set by configuration
//! users      the users file, `users.toml`, mode 0600
//! limiter    wrong passwords per remote and name, and per remote: pure, in monotonic time
//! first      the first administrator, from the environment or generated
//! guard      login and authorize
//! ```
//!
//! A login's way: `limiter? -> a permit (2 hashes at a time, 64 waiting) -> limiter? -> hash -> record -> answer`.
//! An unknown name costs the same hash as a wrong password.
//!
//! Limits: names 256 bytes, passwords 1,024 bytes, users 10,000, remembered remotes 4,096 and (remote, name) pairs
//! 4,096.
#![forbid(unsafe_code)]

pub mod first;
mod guard;
pub mod hash;
pub mod limiter;
pub mod pass;
pub mod secret;
pub mod users;

pub use first::{FirstAdmin, first_admin};
pub use guard::{Guard, LoginError, Principal, Settings};
pub use hash::Cost;
pub use limiter::Limits;
pub use pass::{Applicant, Grant, Logins, Pass, Tree};
pub use secret::Secret;
pub use users::{Role, Users, UsersError};
