//! The mappings of a front, changed while it works. Each bundle has a front of its own over the same view, ids, sessions, tasks and
//! events; a session stays with the bundle that it began with.
//!
//! ```text
//! swap ─▶ fits? ─no─▶ refused, nothing changes
//!           │yes
//!           ▼
//!         newest ── swap of another ─▶ superseded ─┬─ its last session ends ─┐
//!           ▲                                      ├─ 24 h ──────────────────┼─▶ gone; a session it still had goes on with the
//!   new sessions, and those that begin elsewhere   └─ the fifth bundle ──────┘   newest, without its filters and views
//! ```
//!
//! A bundle fits if it has every field where the inventory has it. Extension fields that are new to the inventory show nothing until the
//! next start: the targets read them from then on.
//!
//! Limit: four bundles at a time.

use crate::{
    front::{Front, unavailable},
    keeper,
    limits::{BUNDLE_AGE, BUNDLES},
    serve::{Common, ServeError, build},
    session,
};
use bytes::Bytes;
use guard::LoginError;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use mapping::{Bundle, fits};
use parking_lot::RwLock;
use std::{sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;

/// How often superseded bundles are looked at.
const SWEEP: Duration = Duration::from_secs(60);

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The hash of the bundle that was the newest.
    pub before: String,
    /// Extension fields that show nothing until the next start, as `Vm.ext.acme.rack`.
    pub unseen: Vec<String>,
    /// Sessions that stay with an older bundle.
    pub staying: usize,
}

/// One bundle at work.
struct Generation {
    front: Arc<Front>,
    superseded: Option<Duration>,
    _keeper: AbortOnDropHandle<()>,
}

/// All bundles at work, the newest last.
pub(crate) struct Generations {
    common: Common,
    address: String,
    live: RwLock<Vec<Generation>>,
}

impl std::fmt::Debug for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generations").field("live", &self.live.read().len()).finish_non_exhaustive()
    }
}

impl Generations {
    /// The first. Must be called inside a tokio runtime.
    pub(crate) fn new(
        common: Common,
        bundle: Arc<Bundle>,
        address: String,
    ) -> Result<Arc<Generations>, ServeError> {
        let first = generation(&common, bundle, &address, 1)?;
        Ok(Arc::new(Generations { common, address, live: RwLock::new(vec![first]) }))
    }

    /// What all of them share.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// The hash of each bundle at work, the newest last, and how many sessions it has.
    pub(crate) fn list(&self) -> Vec<(String, usize)> {
        let sessions = self.common.sessions.list();
        let count = |number| sessions.iter().filter(|s| s.data.generation == number).count();
        let live = self.live.read();
        live.iter().map(|g| (g.front.catalog.bundle().hash.clone(), count(g.front.generation))).collect()
    }

    /// The front of new sessions.
    #[cfg(test)]
    pub(crate) fn newest(&self) -> Option<Arc<Front>> {
        self.live.read().last().map(|generation| generation.front.clone())
    }

    /// Takes a bundle for all sessions that begin from now on.
    pub(crate) fn swap(&self, bundle: Arc<Bundle>) -> Result<Swapped, ServeError> {
        let inventory = self.common.view.inventory().schema();
        let unseen = fits(inventory, &bundle.schema).map_err(|why| ServeError::Misfit { why })?;
        let mut live = self.live.write();
        let (before, number) = live.last().map_or_else(Default::default, |newest| {
            (newest.front.catalog.bundle().hash.clone(), newest.front.generation)
        });
        if before == bundle.hash {
            return Ok(Swapped { before, unseen, staying: 0 });
        }
        let hash = bundle.hash.clone();
        let next = generation(&self.common, bundle, &self.address, number + 1)?;
        let now = self.common.clock.monotonic();
        if let Some(newest) = live.last_mut() {
            newest.superseded = Some(now);
        }
        live.push(next);
        drop(live);
        self.sweep();
        let staying = self.common.sessions.list().iter().filter(|s| s.data.generation <= number).count();
        tracing::info!(view = %self.common.view.name(), before, hash, staying, "new sessions get another bundle");
        Ok(Swapped { before, unseen, staying })
    }

    /// Lets go of superseded bundles that nobody uses any more, are too old, or too many.
    pub(crate) fn sweep(&self) {
        let now = self.common.clock.monotonic();
        let sessions = self.common.sessions.list();
        let mut gone = Vec::new();
        {
            let mut live = self.live.write();
            let too_many = live.len().saturating_sub(BUNDLES);
            let mut at = 0;
            live.retain(|generation| {
                at += 1;
                let Some(since) = generation.superseded else { return true };
                let number = generation.front.generation;
                let used = sessions.iter().any(|session| session.data.generation == number);
                let stays = used && at > too_many && now.saturating_sub(since) < BUNDLE_AGE;
                if !stays {
                    gone.push(number);
                }
                stays
            });
        }
        if !gone.is_empty() {
            self.common.sessions.forget_where(|session| gone.contains(&session.data.generation));
        }
    }

    /// Sweeps for as long as the future is polled.
    pub(crate) async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// Answers one request by the front of its session.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let key = session::cookie(request.headers());
        let number = key.and_then(|key| Some(self.common.sessions.peek(key)?.data.generation));
        let front = {
            let live = self.live.read();
            let own = number.and_then(|n| live.iter().find(|generation| generation.front.generation == n));
            own.or(live.last()).map(|generation| generation.front.clone())
        };
        match front {
            Some(front) => front.answer(request).await,
            None => unavailable(&LoginError::Busy),
        }
    }
}

fn generation(
    common: &Common,
    bundle: Arc<Bundle>,
    address: &str,
    number: u64,
) -> Result<Generation, ServeError> {
    let front = build(common, bundle, number)?;
    front.introduce(address, common.started_ms);
    let keeper = AbortOnDropHandle::new(tokio::spawn(keeper::run(Arc::downgrade(&front))));
    Ok(Generation { front, superseded: None, _keeper: keeper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{BUNDLE, Rig, id};
    use union::{
        Schema,
        schema::{ExtField, ExtType},
    };

    /// The project's mappings with one row more.
    fn with_row(row: &str) -> Arc<Bundle> {
        fn copy(from: &std::path::Path, to: &std::path::Path) {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let to = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let all = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
        let dir = tempfile::tempdir().unwrap();
        for protocol in ["vsphere", "sim"] {
            copy(&all.join(protocol), &dir.path().join(protocol));
        }
        let table = dir.path().join("vsphere/Network.toml");
        let text = std::fs::read_to_string(&table).unwrap();
        let (head, rest) = text.split_once("[object.Network.rows]\n").unwrap();
        std::fs::write(&table, format!("{head}[object.Network.rows]\n{row}\n{rest}")).unwrap();
        Bundle::load(dir.path()).unwrap_or_else(|report| panic!("{report}"))
    }

    #[tokio::test]
    async fn sessions_keep_their_bundle() {
        let Rig { common, clock, .. } = Rig::fleet();
        let generations = Generations::new(common, BUNDLE.clone(), "127.0.0.1:443".to_owned()).unwrap();
        let of = |front| Rig { front, ..Rig::fleet() };
        let newest = || of(generations.newest().unwrap());
        let first = newest();
        let old = first.login("admin").await;
        let network = id(union::Kind::Network, 0x40);
        let network = first.front.catalog.reference(network).unwrap().id.to_string();
        let read = |rig: Rig, cookie: &str| {
            let (cookie, network) = (cookie.to_owned(), network.clone());
            async move {
                let this = ("Network", &*network);
                rig.call(Some(&cookie), "Fetch", this, "<prop>summary.ipPoolId</prop>").await
            }
        };
        assert!(!read(of(first.front.clone()), &old).await.body.contains(">77<"));
        let bundle = with_row("\"summary.ipPoolId\" = { const = 77 }");
        let swapped = generations.swap(bundle.clone()).unwrap();
        assert_eq!((swapped.before, swapped.unseen, swapped.staying), (BUNDLE.hash.clone(), vec![], 1));
        assert!(!read(of(first.front.clone()), &old).await.body.contains(">77<"));
        let new = newest().login("admin").await;
        assert_eq!(read(newest(), &new).await.text("returnval"), "77");
        assert_eq!(generations.list(), [(BUNDLE.hash.clone(), 1), (bundle.hash.clone(), 1)]);
        assert_eq!(generations.swap(bundle.clone()).unwrap().staying, 0, "the same again changes nothing");
        // Beyond four the oldest goes, and its session with it to the newest.
        for n in 0..3 {
            let next = with_row(&format!("\"summary.ipPoolId\" = {{ const = {n} }}"));
            generations.swap(next).unwrap();
            newest().login("admin").await;
        }
        assert_eq!(generations.list().iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 1, 1, 1]);
        assert_eq!(read(newest(), &old).await.text("returnval"), "2", "the cookie is as good as before");
        clock.advance(BUNDLE_AGE);
        generations.sweep();
        assert_eq!(generations.list().len(), 1, "after a day nobody is left behind");
    }

    fn schema(names: &[&str]) -> Arc<Schema> {
        let field = |name: &&str| ExtField {
            message: "Vm".into(),
            name: (*name).into(),
            ty: ExtType::Str,
            repeated: false,
            runtime: false,
        };
        Schema::with_ext(&names.iter().map(field).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_bundle_fits_if_every_field_is_where_it_was() {
        let old = schema(&["acme.rack"]);
        assert_eq!(fits(&old, &schema(&["acme.rack"])).unwrap(), Vec::<String>::new());
        assert_eq!(fits(&old, &schema(&["acme.rack", "acme.zone"])).unwrap(), ["Vm.ext.acme.zone"]);
        let why = fits(&old, &schema(&["acme.cage", "acme.rack"])).unwrap_err();
        assert!(why.starts_with("Vm.ext.acme.rack is in use and has ext.acme.cage in its place"), "{why}");
        assert!(fits(&old, &schema(&[])).unwrap_err().contains("has nothing in its place"));
    }
}
