//! A random history over every room of the store.

use crate::{
    Batch, Blob, Epoch, Store, Table, audit, facts, idmap, journal, leases, outbox, owned, sessions,
    testing::{Direct, Rng, now},
};
use std::sync::Arc;
use union::{CommandId, Kind, ObjectId, command::Revision};
use uuid::Uuid;

pub(super) fn vm(n: usize) -> ObjectId {
    ObjectId::new(Kind::Vm, Uuid::from_u128(n as u128 + 1))
}

pub(super) fn record(n: usize) -> audit::Record {
    audit::Record {
        at_ms: n as i64,
        principal: ["ann", "bob"][n % 2].into(),
        session: "s".into(),
        remote: "192.0.2.1".into(),
        verb: "PowerOn".into(),
        object: n.is_multiple_of(3).then(|| vm(n % 5)),
        command: None,
        verdict: "allowed".into(),
        detail: Blob(vec![7; n % 40]),
    }
}

pub(super) fn intent(n: usize) -> journal::Intent {
    journal::Intent {
        id: CommandId(Uuid::from_u128(n as u128)),
        digest: [n as u8; 32],
        verb: "Reconfigure".into(),
        object: vm(n),
        principal: "ann".into(),
        session: "s".into(),
        deadline_ms: 60_000,
        begun_ms: n as i64,
        body: Blob(vec![1; 100 + n]),
    }
}

/// The rooms over one store.
pub(super) struct Rooms {
    pub(super) store: Arc<Direct>,
    pub(super) ids: Vec<idmap::IdMap>,
    pub(super) journal: journal::Journal,
    pub(super) audit: audit::Audit,
    epoch: Epoch,
    count: usize,
}

impl Rooms {
    pub(super) fn open(store: &Arc<Direct>) -> Rooms {
        let shared = || -> Arc<dyn Store> { Arc::clone(store) as _ };
        let highest = now(store.get(Table::Meta, b"epoch")).unwrap();
        let epoch = Epoch(highest.map_or(1, |n| u64::from_le_bytes(n.try_into().unwrap())));
        let counted = idmap::Numbers::Counted;
        let ids = ["fleet", "host"]
            .map(|view| now(idmap::IdMap::open(shared(), "vsphere", view, counted)).unwrap());
        Rooms {
            store: Arc::clone(store),
            ids: ids.into(),
            journal: journal::Journal::new(shared()),
            audit: audit::Audit::new(shared()),
            epoch,
            count: 0,
        }
    }

    /// One step of the history. Refusals by a room are part of it; the store itself must not fail.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        self.count += 1;
        let (n, epoch) = (self.count, self.epoch);
        let shared: Arc<dyn Store> = Arc::clone(&self.store) as _;
        let ids = &self.ids[rng.below(2)];
        match rng.below(18) {
            0..=3 => {
                let wanted: Vec<_> = (0..=rng.below(4)).map(|_| (vm(rng.below(60)), "vm-{n}")).collect();
                now(ids.natives(&wanted, epoch)).unwrap();
            }
            4 => drop(now(ids.fix(vm(rng.below(60)), &format!("group-{}", rng.below(5)), epoch))),
            5 => now(ids.retire(vm(rng.below(60)), n as i64, epoch)).unwrap(),
            6 => drop(now(ids.lease("vm-{n}", "agent", 1 + rng.below(9) as u64, epoch)).unwrap()),
            7..=9 => {
                let mut also = Batch::new();
                audit::stage(&mut also, &record(n));
                let id = intent(rng.below(20)).id;
                now(self.journal.begin(intent(id.0.as_u128() as usize), also, epoch)).unwrap();
                let step = journal::Step::planned(vec![2; rng.below(300)], vec![3; rng.below(300)]);
                drop(now(self.journal.planned(id, Blob(vec![9]), vec![step], epoch)));
                drop(now(self.journal.sent(id, 0, n as i64, epoch)));
            }
            10 => drop(now(self.journal.answered(intent(rng.below(20)).id, 0, true, Blob(vec![4]), epoch))),
            11 => {
                let mut also = Batch::new();
                let item = outbox::Item { what: outbox::What::Outcome, body: Blob(vec![n as u8]), at_ms: 1 };
                outbox::stage(&mut also, &item);
                let end = [journal::End::Done, journal::End::Unknown][rng.below(2)];
                let settled = journal::Settled { end, outcome: Blob(vec![5]), at_ms: n as i64 };
                drop(now(self.journal.settle(intent(rng.below(20)).id, settled, also, epoch)));
            }
            12 => {
                let session = sessions::Session {
                    id: Uuid::from_u128(n as u128),
                    principal: "ann".into(),
                    protocol: "vsphere".into(),
                    view: "fleet".into(),
                    remote: "192.0.2.1".into(),
                    created_ms: n as i64,
                    active_ms: n as i64,
                    expires_ms: n as i64 + 10,
                    revoked_ms: 0,
                    bundle: "b".into(),
                    target: Blob::default(),
                    agents: vec!["east".into()],
                };
                let all = sessions::Sessions::new(shared);
                drop(now(all.begin(&format!("key {n}"), &session, Batch::new(), epoch)));
                now(all.expire(n as i64, epoch)).unwrap();
            }
            13 => {
                let revision = Revision { incarnation: 1, n: rng.below(n) as u64 };
                let fact = facts::Fact {
                    id: vm(rng.below(10)),
                    record: Blob(vec![6; rng.below(2_000)]),
                    config: revision,
                    runtime: revision,
                    owner: "agent".into(),
                    created_ms: 1,
                    modified_ms: n as i64,
                    gone_ms: 0,
                    target: "t".into(),
                    protocol: "sim".into(),
                };
                now(facts::Facts::new(shared).put(&[fact], epoch)).unwrap();
            }
            14 => {
                let value = [Some(&b"value"[..]), None][rng.below(2)];
                now(owned::Owned::new(shared).set(vm(rng.below(5)), "tag.a", value, epoch)).unwrap();
            }
            15 => {
                now(self.audit.prune(n as i64 - 20, epoch)).unwrap();
                let outbox = outbox::Outbox::new(shared);
                if let Some((seq, _)) = now(outbox.pending(0, 2)).unwrap().pop() {
                    now(outbox.acked(seq, epoch)).unwrap();
                }
            }
            16 => {
                now(leases::Leases::new(shared).grant("target", "agent", n as i64, epoch)).unwrap();
                self.epoch = Epoch(epoch.0 + 1);
            }
            _ => {
                // Several callers at once: one commit of the file.
                let batch = |k: usize| {
                    let mut batch = Batch::new();
                    batch.put(Table::User, format!("user {k}").as_bytes(), vec![8; 1_000 + k]);
                    batch.put(Table::User, format!("user {}", k + 1).as_bytes(), vec![9; n]);
                    (batch, epoch)
                };
                let group: Vec<_> = (0..=rng.below(3)).map(|_| batch(rng.below(30))).collect();
                assert!(self.store.group(&group).iter().all(Result::is_ok));
            }
        }
    }
}
