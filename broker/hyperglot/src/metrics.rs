//! Prometheus metrics, and the listener that serves them.
//!
//! | metric | |
//! |---|---|
//! | `hyperglot_front_events_total{front,event}` | connections and requests of each listener |
//! | `hyperglot_objects{kind}` | objects in the inventory |
//! | `hyperglot_target_connected{target}` | 1 while the hypervisor answers |
//! | `hyperglot_bus_connected`, `hyperglot_bus_pending` | the bus |
//! | `hyperglot_inventory_revision` | changes since the start |
//! | `hyperglot_events` | the number of the last event |
//! | `hyperglot_mapping_gaps{protocol}` | values that no row could show or read |

use crate::{
    Failure,
    agent::Agent,
    fronts::{Fronts, cannot_listen},
};
use bytes::Bytes;
use front::{Event, Limits, Listener, Serving};
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{net::SocketAddr, sync::Arc};
use union::Kind;

/// Scrapers at once.
const CONNECTIONS: usize = 64;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FrontLabels {
    front: String,
    event: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProtocolLabel {
    protocol: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabel {
    target: String,
}

/// The figures of this process.
pub struct Metrics {
    registry: Registry,
    fronts: Family<FrontLabels, Counter>,
    objects: Family<KindLabel, Gauge>,
    targets: Family<TargetLabel, Gauge>,
    bus_connected: Gauge,
    bus_pending: Gauge,
    revision: Gauge,
    events: Gauge,
    gaps: Family<ProtocolLabel, Gauge>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("hyperglot");
        let fronts = Family::default();
        let objects = Family::default();
        let targets = Family::default();
        let gaps = Family::default();
        let (bus_connected, bus_pending, revision, events) = Default::default();
        registry.register(
            "front_events",
            "Connections and requests of each listener",
            Family::clone(&fronts),
        );
        registry.register("objects", "Objects in the inventory", Family::clone(&objects));
        registry.register("target_connected", "1 while the hypervisor answers", Family::clone(&targets));
        registry.register("bus_connected", "1 while the bus carries messages", Gauge::clone(&bus_connected));
        registry.register("bus_pending", "Requests waiting for their answer", Gauge::clone(&bus_pending));
        registry.register("inventory_revision", "Changes since the start", Gauge::clone(&revision));
        registry.register("events", "The number of the last event", Gauge::clone(&events));
        registry.register("mapping_gaps", "Values that no row could show or read", Family::clone(&gaps));
        Arc::new(Metrics {
            gaps,
            registry,
            fronts,
            objects,
            targets,
            bus_connected,
            bus_pending,
            revision,
            events,
        })
    }

    /// A counter for one listener.
    pub fn front(self: &Arc<Metrics>, name: &str) -> Arc<dyn front::Observer> {
        Arc::new(FrontCounter { family: Family::clone(&self.fronts), front: name.to_owned() })
    }

    /// The figures as text, as of now.
    fn text(&self, agent: &Agent) -> String {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for kind in Kind::ALL {
            let count = agent.inventory.count(*kind);
            self.objects.get_or_create(&KindLabel { kind: kind.word().to_owned() }).set(number(count as u64));
        }
        for target in agent.targets() {
            let label = TargetLabel { target: target.name };
            self.targets.get_or_create(&label).set(i64::from(target.connected));
        }
        let bus = agent.bus.status();
        self.bus_connected.set(i64::from(bus.link == bus::Link::Connected));
        self.bus_pending.set(number(bus.pending as u64));
        self.revision.set(number(agent.inventory.revision().n));
        self.events.set(agent.chronicle.latest().map_or(0, |e| e.number));
        for (protocol, count) in agent.inventory.gaps().counts() {
            self.gaps.get_or_create(&ProtocolLabel { protocol: protocol.to_string() }).set(number(count));
        }
        let mut text = String::new();
        if let Err(e) = encode(&mut text, &self.registry) {
            tracing::error!(error = %e, "the figures cannot be written");
        }
        text
    }

    /// Serves `/metrics` and `/healthz` on a loopback address. `/healthz` is 503 until listeners are open.
    pub fn serve(
        self: &Arc<Metrics>,
        listen: SocketAddr,
        agent: &Arc<Agent>,
        fronts: &Arc<Fronts>,
    ) -> Result<Serving, Failure> {
        let (metrics, agent, fronts) = (Arc::clone(self), Arc::clone(agent), Arc::clone(fronts));
        let limits = Limits { connections: CONNECTIONS, per_remote: CONNECTIONS, ..Limits::default() };
        let listener = Listener::bind(listen, None, limits).map_err(|e| cannot_listen("[metrics]", &e))?;
        Ok(listener.serve(move |request: Request<Incoming>| {
            let answer = metrics.answer(&request, &agent, &fronts);
            async move { answer }
        }))
    }

    fn answer(&self, request: &Request<Incoming>, agent: &Agent, fronts: &Fronts) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const FIGURES: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => (StatusCode::OK, FIGURES, self.text(agent)),
            (&Method::GET, "/healthz") if fronts.ready() => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            (&Method::GET, "/healthz") => {
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, "waiting for the first facts\n".to_owned())
            }
            _ => (StatusCode::NOT_FOUND, TEXT, "expected GET /metrics or /healthz\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }
}

struct FrontCounter {
    family: Family<FrontLabels, Counter>,
    front: String,
}

impl front::Observer for FrontCounter {
    fn count(&self, event: Event) {
        let event = match event {
            Event::Accepted => "accepted",
            Event::RefusedFull => "refused_full",
            Event::RefusedRemote => "refused_remote",
            Event::HandshakeFailed => "handshake_failed",
            Event::TimedOut => "timed_out",
            Event::Closed => "closed",
            Event::Request => "request",
            Event::Panicked => "panicked",
            Event::AcceptFailed => "accept_failed",
        };
        self.family.get_or_create(&FrontLabels { front: self.front.clone(), event: event.to_owned() }).inc();
    }
}
