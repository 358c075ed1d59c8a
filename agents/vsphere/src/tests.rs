//! The front from a request's bytes to an answer's, over a hand-made inventory and the project's own mappings.

use crate::{
    front::{Around, Deps, Front},
    serve::{Common, build},
};
use ::inventory::{IdMap, Inventory, Layout, Put, Skeleton, Tasks, View};
use bytes::Bytes;
use http_body_util::BodyExt;
use lane::{Owner, rules::BundleRules};
use mapping::Bundle;
use std::{
    path::Path,
    sync::{Arc, LazyLock},
};
use tokio_util::sync::CancellationToken;
use union::{
    Clock, Ids, Kind, ObjectId, Record, Value,
    clock::{ManualClock, SeededIds},
    pb,
};
use uuid::Uuid;
use wire::xml::Document;

mod collector;
mod commands;
mod golden;
mod hostile;
mod logins;
mod model;
mod permission;
mod power;
mod strict;

/// The project's own mapping of this protocol and of the simplest target.
pub(crate) static BUNDLE: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings").canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for protocol in ["vsphere", "sim"] {
        std::os::unix::fs::symlink(all.join(protocol), dir.path().join(protocol)).unwrap();
    }
    Bundle::load(dir.path()).unwrap_or_else(|report| panic!("{report}"))
});

/// 2026-11-21T05:00:00Z
const NOW: i64 = 1_795_237_200_000;

/// Where clients are.
const REMOTE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 250));

/// A front with two hosts, a pool, a network and some machines.
pub(crate) struct Rig {
    pub(crate) front: Arc<Front>,
    pub(super) source: Arc<Inventory>,
    pub(super) tasks: Arc<Tasks>,
    pub(crate) clock: Arc<ManualClock>,
    pub(super) engine: Arc<logins::Engine>,
    pub(crate) common: Common,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) status: u16,
    pub(super) cookie: Option<String>,
    pub(crate) body: String,
}

pub(crate) fn id(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, Uuid::from_u128(n))
}

pub(super) fn record(kind: Kind, fields: &[(&str, Value)]) -> Record {
    let message = BUNDLE.schema.kind(kind);
    let mut record = message.record();
    for (name, value) in fields {
        record.set(message.field(name).unwrap_or_else(|| panic!("{kind} has no {name}")).slot, value.clone());
    }
    record
}

pub(super) fn vm(n: u128, name: &str, state: pb::PowerState) -> Put {
    let uuid = id(Kind::Vm, 0x100 + n);
    let disk = {
        let message = BUNDLE.schema.message("Disk").unwrap();
        let mut disk = message.record();
        for (name, value) in [
            ("id", Value::from("vda")),
            ("bus", Value::from(pb::Bus::Virtio as i32)),
            ("path", Value::from(format!("/srv/pool/{name}.qcow2"))),
            ("storage_pool_id", Value::Ref(id(Kind::StoragePool, 0x30))),
            ("size_bytes", Value::Int(1 << 30)),
            ("format", Value::from(pb::DiskFormat::Qcow2 as i32)),
        ] {
            disk.set(message.field(name).unwrap().slot, value);
        }
        Value::record(disk)
    };
    let nic = {
        let message = BUNDLE.schema.message("Nic").unwrap();
        let mut nic = message.record();
        for (name, value) in [
            ("id", Value::from(format!("52:54:00:00:00:{n:02x}"))),
            ("mac", Value::from(format!("52:54:00:00:00:{n:02x}"))),
            ("model", Value::from(pb::NicModel::NicVirtio as i32)),
            ("network_id", Value::Ref(id(Kind::Network, 0x40))),
            ("network", Value::from("default")),
            ("connected", Value::Bool(true)),
        ] {
            nic.set(message.field(name).unwrap().slot, value);
        }
        Value::record(nic)
    };
    Put::Whole(
        uuid,
        record(
            Kind::Vm,
            &[
                ("name", name.into()),
                ("uuid", uuid.uuid.to_string().into()),
                ("instance_uuid", uuid.uuid.to_string().into()),
                ("host_id", Value::Ref(id(Kind::Host, if n.is_multiple_of(2) { 1 } else { 2 }))),
                ("power_state", (state as i32).into()),
                ("connection", (pb::Connection::Connected as i32).into()),
                ("cpu_count", Value::Int(2)),
                ("memory_bytes", Value::Int(256 << 20)),
                ("arch", "x86_64".into()),
                ("acpi", Value::Bool(true)),
                ("home", name.into()),
                ("home_pool_id", Value::Ref(id(Kind::StoragePool, 0x30))),
                ("storage_pool_ids", Value::list([Value::Ref(id(Kind::StoragePool, 0x30))])),
                ("network_ids", Value::list([Value::Ref(id(Kind::Network, 0x40))])),
                ("disks", Value::list([disk])),
                ("nics", Value::list([nic])),
                ("guest_ip", format!("192.0.2.{n}").into()),
                ("guest_hostname", format!("{name}.example").into()),
            ],
        ),
    )
}

fn host(n: u128) -> Put {
    Put::Whole(
        id(Kind::Host, n),
        record(
            Kind::Host,
            &[
                ("name", format!("kvm{n}").into()),
                ("uuid", Uuid::from_u128(n).to_string().into()),
                ("vendor", "QEMU".into()),
                ("model", "pc".into()),
                ("cpu_model", "EPYC".into()),
                ("cpu_mhz", Value::Int(2_000)),
                ("cpu_packages", Value::Int(1)),
                ("cpu_cores", Value::Int(4)),
                ("cpu_threads", Value::Int(8)),
                ("numa_nodes", Value::Int(1)),
                ("memory_bytes", Value::Int(8 << 30)),
                ("arch", "x86_64".into()),
                ("management_ip", format!("192.0.2.{}", 200 + n).into()),
                ("connection", (pb::Connection::Connected as i32).into()),
                ("power_state", (pb::PowerState::Running as i32).into()),
                ("network_ids", Value::list([Value::Ref(id(Kind::Network, 0x40))])),
                ("storage_pool_ids", Value::list([Value::Ref(id(Kind::StoragePool, 0x30))])),
            ],
        ),
    )
}

pub(super) fn facts() -> Vec<Put> {
    let hosts = || Value::list([Value::Ref(id(Kind::Host, 1)), Value::Ref(id(Kind::Host, 2))]);
    vec![
        host(1),
        host(2),
        Put::Whole(
            id(Kind::StoragePool, 0x30),
            record(
                Kind::StoragePool,
                &[
                    ("name", "default".into()),
                    ("uuid", Uuid::from_u128(0x30).to_string().into()),
                    ("path", "/srv/pool".into()),
                    ("backing", "dir".into()),
                    ("capacity_bytes", Value::Int(10 << 30)),
                    ("available_bytes", Value::Int(7 << 30)),
                    ("active", Value::Bool(true)),
                    ("host_ids", hosts()),
                ],
            ),
        ),
        Put::Whole(
            id(Kind::Network, 0x40),
            record(
                Kind::Network,
                &[("name", "default".into()), ("active", Value::Bool(true)), ("host_ids", hosts())],
            ),
        ),
        vm(1, "web01", pb::PowerState::Running),
        vm(2, "db01", pb::PowerState::Stopped),
        vm(3, "spare", pb::PowerState::Suspended),
    ]
}

impl Rig {
    pub(crate) fn fleet() -> Rig {
        Rig::new("fleet", Layout::Fleet(Skeleton::default()))
    }

    pub(super) fn host() -> Rig {
        Rig::new("host", Layout::Host(id(Kind::Host, 2), Skeleton::default()))
    }

    fn new(view: &str, layout: Layout) -> Rig {
        Rig::with(view, layout, |tasks, source| {
            let clock = Arc::new(ManualClock::new(NOW));
            let rules = Arc::new(BundleRules::new(BUNDLE.clone()));
            let owner = Owner::new(rules, source.clone(), tasks, clock, lane::Limits::default());
            owner.adopt(Arc::new(power::Machines::new(source.clone())));
            owner
        })
    }

    /// A front whose commands are taken by what `commands` makes over the tasks and the facts.
    pub(super) fn with(
        view: &str,
        layout: Layout,
        commands: impl FnOnce(Arc<Tasks>, &Arc<Inventory>) -> Arc<dyn lane::Commands>,
    ) -> Rig {
        let clock = Arc::new(ManualClock::new(NOW));
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(7));
        let source = Inventory::new(BUNDLE.schema.clone(), 1, clock.clone());
        source.apply(facts());
        let tasks = Tasks::new(source.clone(), clock.clone(), ids.clone());
        let timer: Arc<dyn Clock> = clock.clone();
        let engine = logins::Engine::new(timer);
        let deps = Deps {
            bundle: BUNDLE.clone(),
            view: View::new(view, &source, layout),
            commands: commands(tasks.clone(), &source),
            logins: engine.clone(),
            tasks: tasks.clone(),
            clock: clock.clone(),
            ids,
        };
        let natives = Arc::new(IdMap::new("vsphere", view));
        let (common, bundle) = Common::new(deps, ::front::Limits::default(), natives);
        let front = build(&common, bundle, 1).unwrap();
        front.introduce("127.0.0.1:443", NOW);
        Rig { front, source, tasks, clock, engine, common }
    }

    /// Sends bytes as a client of version 8.0.3.0 would.
    pub(super) async fn send(&self, cookie: Option<&str>, action: &str, bytes: impl Into<Bytes>) -> Answer {
        let mut headers = http::HeaderMap::new();
        if let Some(cookie) = cookie {
            headers.insert(http::header::COOKIE, cookie.parse().unwrap());
        }
        let around = Around {
            action: Some(action).filter(|a| !a.is_empty()),
            agent: "test",
            remote: REMOTE,
            draining: CancellationToken::new(),
            thumbprint: None,
            session: self.front.session_of(&headers, REMOTE, "test").await.unwrap(),
        };
        let response = self.front.exchange(&around, bytes.into()).await;
        let cookie = response.headers().get(http::header::SET_COOKIE).map(|c| c.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, cookie, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Calls a method.
    pub(crate) async fn call(
        &self,
        cookie: Option<&str>,
        method: &str,
        this: (&str, &str),
        arguments: &str,
    ) -> Answer {
        let body = request(method, this, arguments);
        self.send(cookie, "urn:vim25/8.0.3.0", body).await
    }

    /// Logs in; returns the cookie as a client echoes it.
    pub(crate) async fn login(&self, user: &str) -> String {
        let manager =
            if self.front.catalog.view().host().is_some() { "ha-sessionmgr" } else { "SessionManager" };
        let arguments = format!("<userName>{user}</userName><password>secret</password>");
        let answer = self.call(None, "Login", ("SessionManager", manager), &arguments).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.cookie.unwrap()
    }
}

pub(super) fn request(method: &str, this: (&str, &str), arguments: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soapenv:Body>\
         <{method} xmlns=\"urn:vim25\"><_this type=\"{}\">{}</_this>{arguments}</{method}></soapenv:Body></soapenv:Envelope>",
        this.0, this.1
    )
}

impl Answer {
    /// The answer as a tree; every answer is well-formed.
    pub(super) fn tree(&self) -> Document {
        wire::xml::parse(
            self.body.clone(),
            &wire::limits::XmlLimits {
                bytes: 1 << 30,
                elements: 1 << 24,
                total_attributes: 1 << 24,
                ..wire::limits::SOAP
            },
        )
        .unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The type of the fault.
    pub(super) fn fault(&self) -> String {
        assert_eq!(self.status, 500, "{}", self.body);
        let tree = self.tree();
        let fault = tree.root().child("Body").unwrap().child("Fault").unwrap();
        let detail = fault.child("detail").unwrap().children().next().unwrap();
        let name = detail.xsi_type().unwrap().to_owned();
        assert_eq!(detail.name(), format!("{name}Fault"));
        assert!(!fault.child_text("faultstring").unwrap().is_empty());
        name
    }

    /// The texts of all elements called `name`, in order.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let tree = self.tree();
        let mut found = Vec::new();
        let mut open = vec![tree.root()];
        while let Some(element) = open.pop() {
            if element.name() == name {
                found.push(element.text().to_owned());
            }
            let mut children: Vec<_> = element.children().collect();
            children.reverse();
            open.extend(children);
        }
        found
    }

    /// The text of the first element called `name`.
    pub(crate) fn text(&self, name: &str) -> String {
        self.texts(name).into_iter().next().unwrap_or_else(|| panic!("no {name} in {}", self.body))
    }
}
