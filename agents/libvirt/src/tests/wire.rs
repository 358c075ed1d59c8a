//! The connection against a server that a test plays, byte by byte.

use crate::native::{
    KEEPALIVE, REMOTE,
    call::CallError,
    connection::{Connection, EVENTS, Event, IN_FLIGHT, Keepalive, WAITING},
    schema,
};
use bytes::BytesMut;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};
use wire::xdr::{self, Header, Packet, PacketKind, Status, Struct, XdrValue};

struct Server {
    stream: DuplexStream,
    buffer: BytesMut,
}

fn start() -> (Connection, mpsc::Receiver<Event>, Server) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (connection, events) = Connection::start(Box::new(ours), schema().unwrap());
    (connection, events, Server { stream: theirs, buffer: BytesMut::new() })
}

impl Server {
    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = xdr::take_packet(&mut self.buffer).unwrap() {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "the client closed");
        }
    }

    async fn send(&mut self, header: Header, payload: &[u8]) {
        let mut out = BytesMut::new();
        xdr::put_packet(&header, payload, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn reply(&mut self, call: &Packet, status: Status, payload: &[u8]) {
        self.send(Header { kind: PacketKind::Reply, status, ..call.header }, payload).await;
    }

    async fn message(&mut self, program: u32, procedure: i32, payload: &[u8]) {
        let header = Header {
            program,
            version: 1,
            procedure,
            kind: PacketKind::Message,
            serial: 1,
            status: Status::Ok,
        };
        self.send(header, payload).await;
    }
}

fn encoded(of: &str, fields: Vec<(&str, XdrValue)>) -> BytesMut {
    let schema = schema().unwrap();
    let of: &Arc<Struct> = schema.structure(of).unwrap();
    let mut out = BytesMut::new();
    xdr::encode(of, &xdr::record(of, fields).unwrap(), &mut out).unwrap();
    out
}

fn type_reply(text: &str) -> BytesMut {
    encoded("remote_connect_get_type_ret", vec![("type", XdrValue::text(text))])
}

fn ask(connection: &Connection) -> tokio::task::JoinHandle<Result<XdrValue, CallError>> {
    let connection = connection.clone();
    tokio::spawn(async move {
        connection.call("CONNECT_GET_TYPE", vec![], Instant::now() + Duration::from_secs(30)).await
    })
}

#[tokio::test]
async fn replies_come_in_any_order() {
    let (connection, _events, mut server) = start();
    let calls: Vec<_> = (0..IN_FLIGHT).map(|_| ask(&connection)).collect();
    let mut packets = Vec::new();
    for _ in 0..IN_FLIGHT {
        packets.push(server.packet().await);
    }
    for packet in packets.iter().rev() {
        server.reply(packet, Status::Ok, &type_reply(&packet.header.serial.to_string())).await;
    }
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap().unwrap().get("type").unwrap().as_text().unwrap().to_string());
    }
    told.sort();
    assert_eq!(told, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn an_error_is_its_callers_and_a_reply_to_nobody_is_nobodys() {
    let (connection, _events, mut server) = start();
    let call = ask(&connection);
    let packet = server.packet().await;
    let stray = Packet { header: Header { serial: 77, ..packet.header }, ..packet.clone() };
    server.reply(&stray, Status::Ok, b"").await;
    let message = ("message", XdrValue::some(XdrValue::text("no such thing\n")));
    let error =
        encoded("remote_error", vec![("code", XdrValue::Int(42)), ("domain", XdrValue::Int(10)), message]);
    server.reply(&packet, Status::Error, &error).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "libvirt: no such thing (code 42, domain 10)");
    let call = ask(&connection);
    let packet = server.packet().await;
    server.reply(&packet, Status::Ok, &[0xff; 8]).await;
    assert!(matches!(call.await.unwrap(), Err(CallError::Reply { .. })));
    assert_eq!(connection.free(), IN_FLIGHT);
}

#[tokio::test]
async fn bytes_that_are_no_packet_end_the_connection() {
    for bytes in [&[0, 0, 0, 1][..], &[0xff; 64], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (connection, _events, mut server) = start();
        let call = ask(&connection);
        server.packet().await;
        server.stream.write_all(bytes).await.unwrap();
        assert!(matches!(call.await.unwrap(), Err(CallError::Lost(_))));
        let reason = connection.ended().await;
        assert!(reason.contains("libvirtd sent a packet"), "{reason}");
        assert!(matches!(ask(&connection).await.unwrap(), Err(CallError::NotSent(_))));
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_silence_is_asked_about() {
    let (connection, _events, mut server) = start();
    server.message(KEEPALIVE, 1, b"").await;
    let pong = server.packet().await.header;
    assert_eq!((pong.program, pong.procedure, pong.kind), (KEEPALIVE, 2, PacketKind::Message));
    let keepalive = Keepalive { ask_after: Duration::from_millis(20), lost_after: Duration::from_secs(600) };
    connection.keep_alive(keepalive);
    let ping = server.packet().await.header;
    assert_eq!((ping.program, ping.procedure), (KEEPALIVE, 1));
    assert_eq!(connection.closed(), None);
}

#[tokio::test]
async fn events_that_nobody_reads_are_known_to_be_lost() {
    let (connection, mut events, mut server) = start();
    let dom = xdr::record(
        schema().unwrap().structure("remote_nonnull_domain").unwrap(),
        vec![("name", XdrValue::text("a")), ("uuid", XdrValue::Bytes(Arc::from([1; 16])))],
    );
    let msg = xdr::record(
        schema().unwrap().structure("remote_domain_event_lifecycle_msg").unwrap(),
        vec![("dom", dom.unwrap())],
    );
    let event = encoded("remote_domain_event_callback_lifecycle_msg", vec![("msg", msg.unwrap())]);
    // Neither an event that is none nor one of another program is one.
    server.message(REMOTE, 1, b"").await;
    server.message(0x1234, 318, &event).await;
    for _ in 0..EVENTS {
        server.message(REMOTE, 318, &event).await;
    }
    let call = ask(&connection);
    let packet = server.packet().await;
    server.reply(&packet, Status::Ok, &type_reply("x")).await;
    call.await.unwrap().unwrap();
    assert!(!connection.take_events_lost());
    server.message(REMOTE, 318, &event).await;
    server.message(REMOTE, 318, b"broken").await;
    let call = ask(&connection);
    let packet = server.packet().await;
    server.reply(&packet, Status::Ok, &type_reply("x")).await;
    call.await.unwrap().unwrap();
    assert!(connection.take_events_lost());
    assert!(!connection.take_events_lost());
    assert_eq!(events.recv().await.unwrap().body.get("msg.dom.name"), Some(&XdrValue::text("a")));
}

#[tokio::test]
async fn too_many_callers_are_told_so_at_once() {
    let (connection, _events, mut server) = start();
    let calls: Vec<_> = (0..IN_FLIGHT + WAITING).map(|_| ask(&connection)).collect();
    for _ in 0..IN_FLIGHT {
        server.packet().await;
    }
    // One more than may wait: the first to be refused is answered while all the others still wait.
    let refused = match ask(&connection).await.unwrap() {
        Err(CallError::Busy(waiting)) => waiting,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused, WAITING);
    drop(server);
    for call in calls {
        assert!(call.await.unwrap().unwrap_err().is_connection());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_frees_its_place() {
    let (connection, _events, mut server) = start();
    let late = connection.call("CONNECT_GET_TYPE", vec![], Instant::now() + Duration::from_millis(10)).await;
    assert!(matches!(late, Err(CallError::TimedOut { sent: true, .. })));
    assert_eq!(connection.free(), IN_FLIGHT - 1);
    let packet = server.packet().await;
    server.reply(&packet, Status::Ok, &type_reply("late")).await;
    let call = ask(&connection);
    let packet = server.packet().await;
    server.reply(&packet, Status::Ok, &type_reply("x")).await;
    call.await.unwrap().unwrap();
    assert_eq!(connection.free(), IN_FLIGHT);
}
