//! The two kinds of bus, with the same handles on both.

use std::sync::Arc;
use std::time::Duration;

use bus::child::{ChildConfig, ChildState, NatsChild};
use bus::{Bus, Link, MemoryHub, NatsBus, Pattern, Permissions, Subject};
use bytes::Bytes;
use union::clock::SystemIds;

/// Long enough never to be the reason why a test passes.
pub const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
pub const SHORT: Duration = Duration::from_millis(100);

pub enum Bed {
    Memory(MemoryHub),
    Nats { child: Box<NatsChild>, _dir: tempfile::TempDir },
}

impl Bed {
    pub fn memory() -> Self {
        Bed::Memory(MemoryHub::new())
    }

    pub async fn nats() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ChildConfig::new(dir.path(), 0);
        match NatsChild::start(&config, &SystemIds).await {
            Ok(child) => Bed::Nats { child: Box::new(child), _dir: dir },
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn connect(&self) -> Arc<dyn Bus> {
        match self {
            Bed::Memory(hub) => Arc::new(hub.connect(Permissions::all())),
            Bed::Nats { child, .. } => Arc::new(NatsBus::connect(&child.options("test")).await.unwrap()),
        }
    }

    pub async fn connect_monitor(&self) -> Arc<dyn Bus> {
        match self {
            Bed::Memory(hub) => Arc::new(hub.connect(Permissions::monitor())),
            Bed::Nats { child, .. } => {
                let options = child.monitor().options("monitor");
                Arc::new(NatsBus::connect(&options).await.unwrap())
            }
        }
    }

    /// Takes the link away, without a word.
    pub fn break_link(&self) {
        match self {
            Bed::Memory(hub) => hub.set_up(false),
            Bed::Nats { child, .. } => match child.state() {
                ChildState::Ready { pid } => kill_outright(pid),
                other => panic!("{other:?}"),
            },
        }
    }

    /// Waits until `bus` is back; the child is restarted by its supervisor.
    pub async fn mend_link(&self, bus: &dyn Bus) {
        if let Bed::Memory(hub) = self {
            hub.set_up(true);
        }
        while bus.status().link != Link::Connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn kill_outright(pid: u32) {
    signal("-KILL", pid);
}

pub fn signal(name: &str, pid: u32) {
    let status = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

pub fn subject(id: &str) -> Subject {
    Subject::task("lab1", id).unwrap()
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

pub fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
