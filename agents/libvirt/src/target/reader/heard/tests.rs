//! A libvirt that a test plays: it answers by how its one domain stands when it is asked, and sends the answer when it may.

use super::*;
use crate::{
    inventory::Names,
    native::{
        REMOTE,
        api::{Api, NO_DOMAIN, uuid_value},
        connection::Connection,
        schema,
        uri::Uri,
    },
    target::reader::Extent,
    tests::{bundle, tables},
};
use bytes::BytesMut;
use inventory::{Change, Inventory, Observer};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Notify,
    task::JoinHandle,
};
use union::{
    Schema,
    command::Revision,
    pb::{PowerState, ToolsState},
};
use uuid::Uuid;
use wire::xdr::{self, Header, Packet, PacketKind, Status};

const STARTED: i32 = 2;
const STOPPED: i32 = 5;
const UUID: Uuid = Uuid::from_bytes([7; 16]);

/// How the domain stands: `virDomainState`, and whether it is persistent; `None`: there is none.
type Domain = Option<(i32, bool)>;

#[derive(Default)]
struct Played {
    domain: Mutex<Domain>,
    held: Mutex<bool>,
    /// A procedure that is answered when all others have been let go.
    slow: Mutex<Option<&'static str>>,
    /// Questions whose answers are held back.
    asked: Mutex<usize>,
    one_more: Notify,
    go: Notify,
}

impl Played {
    fn answer(&self, call: &Packet) -> (Status, BytesMut) {
        let schema = schema().unwrap();
        let procedure = schema.procedure(REMOTE, call.header.procedure).unwrap();
        let record = |of: &str, fields| xdr::record(schema.structure(of).unwrap(), fields).unwrap();
        let mut out = BytesMut::new();
        let Some((state, persistent)) = *self.domain.lock() else {
            let error =
                record("remote_error", vec![("code", XdrValue::Int(i32::try_from(NO_DOMAIN).unwrap()))]);
            xdr::encode(schema.structure("remote_error").unwrap(), &error, &mut out).unwrap();
            return (Status::Error, out);
        };
        let agent = if state == 1 { " state='connected'" } else { "" };
        let asked = procedure.args.as_ref().map(|of| xdr::decode(of, &call.payload).unwrap());
        let inactive = asked.and_then(|asked| asked.get("flags")?.as_int()) == Some(2);
        // One more processor waits for the next start.
        let cpus = if inactive || state == 5 { 2 } else { 1 };
        let xml = format!(
            "<domain type='test'><name>one</name><uuid>{UUID}</uuid><memory>1024</memory><vcpu>{cpus}</vcpu><os><type>hvm</type></os>\
             <devices><channel type='unix'><target name='org.qemu.guest_agent.0'{agent}/></channel></devices></domain>"
        );
        let fields = match procedure.name.trim_start_matches("REMOTE_PROC_") {
            "DOMAIN_LOOKUP_BY_UUID" => vec![("dom", domain())],
            "DOMAIN_GET_XML_DESC" => vec![("xml", XdrValue::text(&xml))],
            "DOMAIN_GET_STATE" => vec![("state", XdrValue::Int(state))],
            "DOMAIN_IS_PERSISTENT" => vec![("persistent", XdrValue::Int(persistent.into()))],
            _ => vec![],
        };
        let ret = procedure.ret.as_ref().unwrap();
        xdr::encode(ret, &xdr::record(ret, fields).unwrap(), &mut out).unwrap();
        (Status::Ok, out)
    }

    async fn serve(self: Arc<Played>, mut stream: DuplexStream) {
        let mut buffer = BytesMut::new();
        let (mut held, mut later) = (Vec::new(), Vec::new());
        loop {
            while let Some(call) = xdr::take_packet(&mut buffer).unwrap() {
                let schema = schema().unwrap();
                let procedure = schema.procedure(REMOTE, call.header.procedure).unwrap();
                let is_slow = self.slow.lock().is_some_and(|slow| procedure.name.ends_with(slow));
                let (status, payload) = self.answer(&call);
                let header = Header { kind: PacketKind::Reply, status, ..call.header };
                let mut out = BytesMut::new();
                xdr::put_packet(&header, &payload, &mut out).unwrap();
                if is_slow {
                    later.push(out);
                    continue;
                }
                held.push(out);
                *self.asked.lock() = held.len();
                self.one_more.notify_one();
            }
            if !*self.held.lock() {
                for answer in held.drain(..) {
                    stream.write_all(&answer).await.unwrap();
                }
                if self.slow.lock().is_none() {
                    for answer in later.drain(..) {
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            }
            tokio::select! {
                read = stream.read_buf(&mut buffer) => if read.unwrap() == 0 { return },
                () = self.go.notified() => {}
            }
        }
    }

    fn hold(&self) {
        *self.held.lock() = true;
        *self.asked.lock() = 0;
    }

    async fn until_asked(&self, questions: usize) {
        while *self.asked.lock() < questions {
            self.one_more.notified().await;
        }
    }

    fn let_go(&self) {
        *self.held.lock() = false;
        *self.slow.lock() = None;
        self.go.notify_one();
    }
}

fn domain() -> XdrValue {
    let fields = vec![("name", XdrValue::text("one")), ("uuid", uuid_value(UUID))];
    xdr::record(schema().unwrap().structure("remote_nonnull_domain").unwrap(), fields).unwrap()
}

/// Every power state that was shown, in order.
#[derive(Default)]
struct Shown(Mutex<Vec<i64>>);

impl Observer for Shown {
    fn changed(&self, changes: &[Change]) {
        let schema = bundle().schema.clone();
        let power = |c: &Change| get(&schema, c.new.as_ref()?, "power_state").as_int();
        let mut shown = self.0.lock();
        for state in changes.iter().filter_map(power) {
            if shown.last() != Some(&state) {
                shown.push(state);
            }
        }
    }
}

struct Scene {
    played: Arc<Played>,
    reader: Arc<Reader>,
    api: Api,
    vm: ObjectId,
    schema: Arc<Schema>,
}

impl Scene {
    /// With a domain that has been read.
    async fn new(domain: Domain) -> Scene {
        let bundle = bundle();
        let clock = Arc::new(union::clock::ManualClock::new(1_000));
        let inventory = Inventory::new(bundle.schema.clone(), 1, clock.clone());
        let uri = Arc::new(Uri::parse("test+unix:///default?socket=/nonexistent/sock", None).unwrap());
        let rows = bundle.document("libvirt").unwrap().clone();
        let reader = Reader::new("lab".to_owned(), uri, rows, Arc::new(tables()), inventory, clock);
        *reader.names.write() = Some(Names::new("lab", "host", "test:///default"));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (connection, _) = Connection::start(Box::new(ours), schema().unwrap());
        let played = Arc::new(Played { domain: Mutex::new(domain), ..Played::default() });
        tokio::spawn(Arc::clone(&played).serve(theirs));
        let api = Api { connection, patience: Duration::from_secs(60) };
        let vm = ObjectId::new(Kind::Vm, UUID);
        let scene = Scene { played, reader: Arc::new(reader), api, vm, schema: bundle.schema.clone() };
        scene.reader.set_api(Some(scene.api.clone()));
        scene.read(Extent::Whole).await;
        scene
    }

    async fn read(&self, extent: Extent) -> Revision {
        self.reader.reread(&self.api, self.vm, extent).await.unwrap().revision
    }

    fn reading(&self, extent: Extent) -> JoinHandle<Revision> {
        let (reader, api, vm) = (Arc::clone(&self.reader), self.api.clone(), self.vm);
        tokio::spawn(async move { reader.reread(&api, vm, extent).await.unwrap().revision })
    }

    fn stands(&self, domain: Domain) {
        *self.played.domain.lock() = domain;
    }

    fn hear(&self, event: i32, detail: i32) {
        let schema = schema().unwrap();
        let record = |of: &str, fields| xdr::record(schema.structure(of).unwrap(), fields).unwrap();
        let fields =
            vec![("dom", domain()), ("event", XdrValue::Int(event)), ("detail", XdrValue::Int(detail))];
        let msg = record("remote_domain_event_lifecycle_msg", fields);
        let body = record("remote_domain_event_callback_lifecycle_msg", vec![("msg", msg)]);
        let procedure =
            schema.procedure_named("REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE").unwrap().clone();
        self.reader.hear(&Event { procedure, body });
    }

    fn field(&self, name: &str) -> Value {
        let record = self.reader.inventory.record(self.vm);
        record.map_or(Value::Absent, |record| get(&self.schema, &record, name).clone())
    }

    fn power(&self) -> Option<PowerState> {
        let power = self.field("power_state").as_int()?;
        PowerState::try_from(i32::try_from(power).unwrap()).ok()
    }
}

#[tokio::test]
async fn a_start_and_a_stop_are_shown_when_they_are_told_with_what_goes_with_them() {
    let scene = Scene::new(Some((5, true))).await;
    assert_eq!(scene.power(), Some(PowerState::Stopped));
    let call = UnderWay::new(&scene.reader, scene.vm);
    scene.stands(Some((1, true)));
    scene.hear(STARTED, 0);
    assert_eq!((scene.power(), scene.field("boot_time_ms")), (Some(PowerState::Running), Value::Int(1_000)));
    drop(call);
    scene.read(Extent::Run).await;
    assert_eq!(scene.field("boot_time_ms"), Value::Int(1_000));
    assert_eq!(scene.field("tools"), Value::Int(ToolsState::ToolsRunning as i64));
    let used = scene.schema.slot(Kind::Vm, "memory_host_bytes").unwrap();
    scene.reader.inventory.apply(vec![Put::Slots(scene.vm, vec![(used, Value::Int(5))])]);
    let _call = UnderWay::new(&scene.reader, scene.vm);
    scene.stands(Some((5, true)));
    scene.hear(STOPPED, 1);
    let told = ["power_state", "boot_time_ms", "memory_host_bytes", "tools"].map(|field| scene.field(field));
    let stopped = Value::Int(PowerState::Stopped as i64);
    let off = Value::Int(ToolsState::ToolsNotRunning as i64);
    assert_eq!(told, [stopped, Value::Absent, Value::Absent, off]);
    let revision = scene.reader.inventory.revision();
    assert_eq!(scene.read(Extent::Run).await, revision, "the read finds nothing else");
}

#[tokio::test]
async fn a_read_that_began_before_an_event_does_not_take_its_word_back() {
    let scene = Scene::new(Some((5, true))).await;
    let shown = Arc::<Shown>::default();
    let _watch = scene.reader.inventory.observe(shown.clone());
    let call = UnderWay::new(&scene.reader, scene.vm);
    scene.played.hold();
    let read = scene.reading(Extent::Run);
    scene.played.until_asked(3).await;
    scene.stands(Some((1, true)));
    scene.hear(STARTED, 0);
    assert_eq!(scene.power(), Some(PowerState::Running));
    let told = scene.reader.inventory.revision();
    scene.played.let_go();
    assert!(read.await.unwrap() >= told);
    drop(call);
    let _call = UnderWay::new(&scene.reader, scene.vm);
    scene.played.hold();
    let read = scene.reading(Extent::Run);
    scene.played.until_asked(3).await;
    scene.stands(Some((5, true)));
    scene.hear(STOPPED, 0);
    scene.stands(Some((1, true)));
    scene.hear(STARTED, 0);
    scene.played.let_go();
    read.await.unwrap();
    let states = [PowerState::Running, PowerState::Stopped, PowerState::Running].map(|state| state as i64);
    assert_eq!(*shown.0.lock(), states);
}

#[tokio::test]
async fn a_domain_that_was_gone_and_is_told_to_run_is_not_removed_by_the_older_answer() {
    let scene = Scene::new(Some((5, true))).await;
    let _call = UnderWay::new(&scene.reader, scene.vm);
    scene.stands(None);
    scene.played.hold();
    let read = scene.reading(Extent::Run);
    scene.played.until_asked(3).await;
    scene.stands(Some((1, true)));
    scene.hear(STARTED, 0);
    scene.played.let_go();
    read.await.unwrap();
    assert_eq!(scene.power(), Some(PowerState::Running));
    scene.stands(None);
    scene.read(Extent::Run).await;
    assert!(scene.reader.inventory.record(scene.vm).is_none());
}

#[tokio::test]
async fn only_what_an_event_proves_of_a_machine_with_a_call_under_way_is_believed() {
    // The state that is shown, the event, and what is shown then.
    let (off, on, paused) = (5, 1, 3);
    for (state, persistent, event, detail, told) in [
        (off, true, STARTED, 0, PowerState::Running),
        (off, true, STARTED, 1, PowerState::Stopped), // migrated
        (off, true, STARTED, 2, PowerState::Stopped), // restored
        (off, true, STARTED, 3, PowerState::Stopped), // from a snapshot
        (off, true, 3, 0, PowerState::Stopped),       // suspended
        (off, true, 4, 0, PowerState::Stopped),       // resumed: on its way up
        (off, true, 99, 0, PowerState::Stopped),
        (on, true, STOPPED, 0, PowerState::Stopped),
        (on, true, STOPPED, 1, PowerState::Stopped),
        (on, true, STOPPED, 2, PowerState::Running),  // crashed
        (on, true, STOPPED, 3, PowerState::Running),  // migrated away
        (on, true, STOPPED, 4, PowerState::Running),  // saved
        (on, true, STOPPED, 5, PowerState::Running),  // failed
        (on, false, STOPPED, 1, PowerState::Running), // it is no more
        (on, true, 8, 0, PowerState::Running),        // crashed, and kept
        (paused, true, STARTED, 0, PowerState::Paused),
        (paused, true, STOPPED, 1, PowerState::Stopped),
    ] {
        let scene = Scene::new(Some((state, persistent))).await;
        let shown = scene.power();
        scene.hear(event, detail);
        assert_eq!(scene.power(), shown, "nobody waits for {event} {detail}");
        let call = UnderWay::new(&scene.reader, scene.vm);
        scene.reader.set_api(None);
        scene.hear(event, detail);
        assert_eq!(scene.power(), shown, "without a session {event} {detail} is old");
        scene.reader.set_api(Some(scene.api.clone()));
        drop(call);
        scene.read(Extent::Whole).await;
        let call = UnderWay::new(&scene.reader, scene.vm);
        scene.hear(event, detail);
        assert_eq!(scene.power(), Some(told), "{event} {detail} while it is {shown:?}");
        drop(call);
        scene.read(Extent::Run).await;
        let shown = scene.power();
        for (event, detail) in [(STARTED, 0), (STOPPED, 1)] {
            scene.hear(event, detail);
            assert_eq!(scene.power(), shown, "the call is over, and what it did has been read");
        }
    }
    assert!(UnderWay::new(&Scene::new(None).await.reader, ObjectId::new(Kind::Host, UUID)).is_none());
}

#[tokio::test]
async fn a_stop_shows_what_the_machine_is_defined_as_or_waits_for_the_read() {
    let cpus = |scene: &Scene| scene.field("cpu_count").as_int();
    let (on, off) = (Some(PowerState::Running), Some(PowerState::Stopped));
    let scene = Scene::new(Some((1, true))).await;
    assert_eq!((scene.power(), cpus(&scene)), (on, Some(1)));
    let call = UnderWay::new(&scene.reader, scene.vm);
    scene.stands(Some((5, true)));
    scene.hear(STOPPED, 1);
    assert_eq!((scene.power(), cpus(&scene)), (off, Some(2)));
    drop(call);
    scene.read(Extent::Run).await;
    // Another call, or anything else that is told, may have changed what it is defined as.
    for other in [true, false] {
        scene.stands(Some((1, true)));
        scene.read(Extent::Whole).await;
        assert_eq!((scene.power(), cpus(&scene)), (on, Some(1)));
        match other {
            true => drop(UnderWay::new(&scene.reader, scene.vm)),
            false => scene.hear(0, 1),
        }
        let call = UnderWay::new(&scene.reader, scene.vm);
        scene.stands(Some((5, true)));
        scene.hear(STOPPED, 1);
        assert_eq!(scene.power(), on);
        drop(call);
        scene.read(Extent::Run).await;
        assert_eq!((scene.power(), cpus(&scene)), (off, Some(2)));
    }
}

#[tokio::test]
async fn what_a_lane_waits_for_is_put_before_a_whole_read_has_ended() {
    let scene = Scene::new(Some((5, true))).await;
    let _call = UnderWay::new(&scene.reader, scene.vm);
    scene.stands(Some((1, true)));
    *scene.played.slow.lock() = Some("_LIST_ALL_SNAPSHOTS");
    let read = scene.reading(Extent::Whole);
    while scene.power() != Some(PowerState::Running) {
        tokio::task::yield_now().await;
    }
    assert!(!read.is_finished());
    assert_eq!(scene.field("tools"), Value::Int(ToolsState::ToolsRunning as i64));
    let early = scene.reader.inventory.revision();
    scene.played.let_go();
    assert!(read.await.unwrap() >= early);
    assert_eq!(scene.power(), Some(PowerState::Running));
}
