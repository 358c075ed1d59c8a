//! Every limit of the link, in one place.

use std::time::Duration;

/// Commands of one agent that are under way at the engine; one more is answered Busy at once.
pub const IN_FLIGHT: usize = 1_024;
/// Commands of one agent's fronts that are under way in its own lanes; one more is answered Busy at once.
pub const LOCAL: usize = 4_096;
/// Commands under way, at the engine or in the own lanes, that are taken on however late the process is with its work. A session alone has
/// two thirds of them.
pub const FLOOR: usize = 96;
/// How many more may be under way after each beat that came in time, until it is [`IN_FLIGHT`] and [`LOCAL`] again.
pub const STEP: usize = 2;
/// Commands of the engine that an agent answers at a time; one more is answered Busy at once.
pub const ANSWERED: usize = 1_024;
/// Other requests of the engine that an agent answers at a time.
pub const ASIDE: usize = 256;
/// Sessions whose use is remembered until the engine is told.
pub const SESSIONS: usize = 65_536;
/// Commands that were asked about and never seen, which are refused from then on.
pub const BARRED: usize = 65_536;
/// Outcomes that wait to be written; with more, commands wait for the store before they begin.
pub const OUTCOMES: usize = 4_096;
/// Outcomes written together.
pub const TOGETHER: usize = 64;
/// Entries of the outbox; with more, mutations are refused until the engine has taken some.
pub const OUTBOX: usize = 262_144;
/// Entries of the outbox, and bytes of them, in one message.
pub const HANDED: (usize, usize) = (256, 512 << 10);
/// Logins that wait for the engine at a time.
pub const LOGINS: usize = 64;
/// Logouts that wait for the engine.
pub const LOGOUTS: usize = 4_096;
/// Keys that no session has, remembered for [`NO_SESSION`].
pub const NO_SESSIONS: usize = 4_096;
/// Bytes of a bundle's packed files.
pub const BUNDLE: usize = 32 << 20;

/// How often it is measured how late the process is with its work, while many commands are under way.
pub const PULSE: Duration = Duration::from_millis(10);
/// How late it may be before fewer commands are taken on.
pub const LATE: Duration = Duration::from_millis(10);
/// How long what an agent has to hand in waits for company.
pub const GATHER: Duration = Duration::from_millis(10);
/// How often an agent shows that it is there.
pub const BEAT: Duration = Duration::from_secs(2);
/// How long a short question to the engine may take.
pub const SHORT: Duration = Duration::from_secs(1);
/// How long a question that makes the engine hash or write may take.
pub const LONG: Duration = Duration::from_secs(10);
/// How long after a command's deadline its answer is waited for.
pub const ANSWER: Duration = Duration::from_secs(2);
/// How long after its deadline a command whose answer was lost is asked about.
pub const SETTLE: Duration = Duration::from_secs(7);
/// How often a command that is waited for is asked about, should its answer have been lost.
pub const ASK_AGAIN: Duration = Duration::from_secs(15);
/// The first and the longest pause between two questions about one command, and between two tries to reach the engine.
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a front waits until its replica holds what the engine says is done.
pub const REACHED: Duration = Duration::from_secs(10);
/// How long a key that no session has is refused without asking.
pub const NO_SESSION: Duration = Duration::from_secs(5);
/// How often the use of sessions is told, and their grants looked through.
pub const USED: Duration = Duration::from_secs(20);
/// How long after its feed was missed (three beats long nothing came, or changes were lost) an agent may take to be in sync again before
/// it counts as lost.
pub const LOST: Duration = Duration::from_secs(2);
