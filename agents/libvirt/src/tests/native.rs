//! The client alone.

use super::rig::{Rig, bios_guest};
use crate::{
    native::{
        call::CallError,
        connection::{Connection, Event, Keepalive},
        schema,
        uri::Uri,
    },
    session::{self, OpenError},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};
use wire::xdr::XdrValue;

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(uri: &str) -> Result<(Connection, mpsc::Receiver<Event>), OpenError> {
    let uri = Uri::parse(uri, None).unwrap();
    session::open(&uri, schema().unwrap(), Keepalive::default(), PATIENCE).await
}

async fn call(
    connection: &Connection,
    name: &str,
    args: Vec<(&str, XdrValue)>,
) -> Result<XdrValue, CallError> {
    connection.call(name, args, Instant::now() + PATIENCE).await
}

async fn domain(connection: &Connection, name: &str) -> XdrValue {
    let args = vec![("name", XdrValue::text(name))];
    let found = call(connection, "DOMAIN_LOOKUP_BY_NAME", args).await.unwrap();
    found.get("dom").unwrap().clone()
}

async fn state(connection: &Connection, dom: &XdrValue) -> i64 {
    let args = vec![("dom", dom.clone())];
    let state = call(connection, "DOMAIN_GET_STATE", args).await.unwrap();
    state.get("state").and_then(XdrValue::as_int).unwrap()
}

#[test]
fn the_imported_schema_has_every_procedure() {
    let schema = schema().unwrap();
    assert_eq!(schema.procedures().count(), 443);
    assert_eq!(schema.procedure_named("REMOTE_PROC_CONNECT_OPEN").unwrap().number, 1);
    assert_eq!(schema.procedure(crate::native::KEEPALIVE, 1), None);
}

#[tokio::test]
async fn every_transport_reaches_the_test_driver_and_qemu() {
    let rig = Rig::start();
    let (test, _events) = open(&rig.over_tcp("test", "default")).await.unwrap();
    let args = vec![("need_results", XdrValue::Int(1)), ("flags", XdrValue::Uint(3))];
    let domains = call(&test, "CONNECT_LIST_ALL_DOMAINS", args).await.unwrap();
    let names: Vec<_> =
        domains.get("domains").unwrap().items().iter().map(|d| d.get("name").cloned()).collect();
    assert_eq!(names, [Some(XdrValue::text("test"))]);
    let info = call(&test, "NODE_GET_INFO", Vec::new()).await.unwrap();
    assert_eq!(info.get("model").unwrap().as_c_text().unwrap(), "i686");
    for uri in [rig.qemu(), rig.qemu_tls(), rig.over_tcp("qemu", "session")] {
        let (qemu, _events) = open(&uri).await.unwrap_or_else(|e| panic!("{uri}: {e}"));
        let kind = call(&qemu, "CONNECT_GET_TYPE", Vec::new()).await.unwrap();
        assert_eq!(kind.get("type"), Some(&XdrValue::text("QEMU")), "{uri}");
    }
}

#[tokio::test]
async fn a_real_guest_is_powered_on_and_off() {
    let rig = Rig::start();
    rig.define(&bios_guest("one"));
    let (qemu, mut events) = open(&rig.qemu()).await.unwrap();
    call(&qemu, "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", vec![]).await.unwrap();
    let dom = domain(&qemu, "one").await;
    assert_eq!(state(&qemu, &dom).await, 5);
    call(&qemu, "DOMAIN_CREATE", vec![("dom", dom.clone())]).await.unwrap();
    assert_eq!(state(&qemu, &dom).await, 1);
    assert!(rig.virsh(&["list"]).contains("one"));
    let again = call(&qemu, "DOMAIN_CREATE", vec![("dom", dom.clone())]).await.unwrap_err();
    assert_eq!(again.native_code(), Some(55), "{again}");
    call(&qemu, "DOMAIN_DESTROY", vec![("dom", dom.clone())]).await.unwrap();
    assert_eq!(state(&qemu, &dom).await, 5);
    let mut seen = Vec::new();
    while seen.last() != Some(&5) {
        let event = events.recv().await.unwrap();
        assert_eq!(&*event.procedure.name, "REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE");
        seen.push(event.body.get("msg.event").and_then(XdrValue::as_int).unwrap());
    }
    assert!(seen.contains(&2), "{seen:?}");
}

#[tokio::test]
async fn calls_in_flight_are_answered_each_to_its_caller() {
    let rig = Rig::start();
    let (test, _events) = open(&rig.over_tcp("test", "default")).await.unwrap();
    let dom = domain(&test, "test").await;
    let calls = (0..200).map(|i| {
        let (test, dom) = (test.clone(), dom.clone());
        tokio::spawn(async move {
            if i % 2 == 0 {
                let uri = call(&test, "CONNECT_GET_URI", vec![]).await.unwrap();
                assert_eq!(uri.get("uri"), Some(&XdrValue::text("test:///default")));
            } else {
                assert_eq!(state(&test, &dom).await, 1);
            }
        })
    });
    for done in calls.collect::<Vec<_>>() {
        done.await.unwrap();
    }
    assert_eq!(test.free(), crate::native::connection::IN_FLIGHT);
}

#[tokio::test]
async fn a_killed_daemon_fails_what_is_pending_and_what_follows() {
    let mut rig = Rig::start();
    let (test, _events) = open(&rig.over_tcp("test", "default")).await.unwrap();
    rig.signal("STOP");
    let pending: Vec<_> = (0..20)
        .map(|_| {
            let test = test.clone();
            tokio::spawn(async move { call(&test, "CONNECT_GET_URI", vec![]).await })
        })
        .collect();
    while test.free() > 0 {
        tokio::task::yield_now().await;
    }
    rig.kill();
    let (mut lost, mut not_sent) = (0, 0);
    for answer in pending {
        match answer.await.unwrap() {
            Err(CallError::Lost(_)) => lost += 1,
            Err(CallError::NotSent(_)) => not_sent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((lost, not_sent), (5, 15));
    let after = call(&test, "CONNECT_GET_URI", vec![]).await.unwrap_err();
    assert!(after.is_connection(), "{after}");
}

#[tokio::test]
async fn a_hanging_daemon_meets_the_deadline_and_then_the_keepalive() {
    let rig = Rig::start();
    let uri = Uri::parse(&rig.over_tcp("test", "default"), None).unwrap();
    let keepalive = Keepalive { ask_after: Duration::from_secs(1), lost_after: Duration::from_secs(4) };
    let (test, _events) = session::open(&uri, schema().unwrap(), keepalive, PATIENCE).await.unwrap();
    rig.signal("STOP");
    let error =
        test.call("CONNECT_GET_URI", vec![], Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: true, .. }), "{error}");
    assert_eq!(test.free(), crate::native::connection::IN_FLIGHT - 1);
    let reason = test.ended().await;
    assert!(reason.contains("silent"), "{reason}");
    rig.signal("CONT");
}

#[tokio::test]
async fn what_cannot_be_reached_says_so() {
    let error = open("qemu+unix:///system?socket=/nonexistent").await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
    let error = open("qemu+tcp://127.0.0.1:1/system").await.err().unwrap();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
