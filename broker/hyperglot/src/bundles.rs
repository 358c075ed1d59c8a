//! The mappings in force, changed while everything runs.
//!
//! ```text
//! start: configured files ─ as they were when `newest` was pushed? ─┬─ yes ─▶ newest, from data_dir/bundles
//!                                                                  └─ no, or nothing was pushed ─▶ the configured files
//! push:  bundle ─ check: fits the inventories, has every protocol and view in use ─▶ keep (durable) ─▶ lanes, routers, fronts
//! agent: the engine's notice or welcome ─ fetch, hash, load ─▶ as a push; a bad one changes nothing and is told why
//! ```
//!
//! Sessions keep the bundle that they began with, up to 24 h, for what they see and how their calls are lifted; what is then done to a
//! machine (guards, effects) is by the newest at once, except plans, which the engine makes by the session's. A restart ends that: a session
//! that outlives it goes on by the newest. Targets read documents and events by the files that they started with, until their process starts
//! anew; extension fields that are new show nothing until then.
//!
//! Limits: four bundles are kept, in memory and on disk; [`mapping::pack::PACKED`] bytes each.

use crate::{
    Failure,
    agent::Agent,
    config::{Config, Front as FrontConfig},
    find,
    fronts::{self, Fronts},
    say,
};
use ::link::bundle::{Takes, fetch};
use async_trait::async_trait;
use bytes::Bytes;
use engine::Bundles;
use mapping::{Bundle, Pack, fits};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Mutex;
use union::{
    Schema,
    command::{Cause, Code},
    pb,
};

/// Bundles in use at a time.
pub const KEPT: usize = 4;
/// Bytes of one piece that an agent fetches.
const PIECE: usize = 512 << 10;
/// The pause between two tries to get what the engine says is in force.
const AGAIN: Duration = Duration::from_secs(5);
const NEWEST: &str = "newest";

/// A bundle and its files.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The files.
    pub pack: Pack,
    /// Checked and compiled.
    pub bundle: Arc<Bundle>,
}

impl Loaded {
    /// What the engine or a push sent.
    ///
    /// # Errors
    /// It is another bundle, or every error that the checker found.
    pub async fn open(hash: &str, packed: Vec<u8>) -> Result<Loaded, String> {
        let wanted = hash.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let pack = Pack::open_as(&wanted, &packed).map_err(|e| e.to_string())?;
            let bundle = pack.bundle("").map_err(|report| report.to_string())?;
            Ok(Loaded { pack, bundle })
        });
        opened.await.unwrap_or_else(|e| Err(e.to_string()))
    }
}

/// Which bundle was pushed last.
#[derive(Debug, Serialize, Deserialize)]
struct Newest {
    hash: String,
    /// The configured files when it was pushed.
    over: String,
}

/// Where pushed bundles lie: `data_dir/bundles/<hash>`.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    configured: PathBuf,
}

impl Shelf {
    /// The bundle to begin with.
    pub fn start(config: &Config) -> Result<(Shelf, Loaded), Failure> {
        let configured = find::mappings(config.mappings.as_deref()).map_err(Failure::Other)?;
        let shelf = Shelf { dir: config.data_dir.join("bundles"), configured };
        let shown = shelf.configured.display().to_string();
        let refused = |report| Failure::Mapping(format!("{report}"));
        let pack = Pack::read(&shelf.configured).map_err(refused)?;
        if let Some(pushed) = shelf.pushed(&pack) {
            say::notice(format_args!(
                "the mappings are those pushed last, {}; {shown} has not changed since",
                short(&pushed.bundle.hash)
            ));
            return Ok((shelf, pushed));
        }
        let bundle = pack.bundle(&shown).map_err(refused)?;
        tracing::info!(dir = shown, hash = bundle.hash, "mappings loaded");
        Ok((shelf, Loaded { pack, bundle }))
    }

    /// The bundle that was pushed last, if the configured files are still what they were then.
    fn pushed(&self, configured: &Pack) -> Option<Loaded> {
        let text = fs::read(self.dir.join(NEWEST)).ok()?;
        let newest: Newest = match serde_json::from_slice(&text) {
            Ok(newest) => newest,
            Err(e) => {
                tracing::error!(error = %e, "which mappings were pushed last cannot be read; the configured ones are used");
                return None;
            }
        };
        if newest.hash == configured.hash() {
            return None;
        }
        if newest.over != configured.hash() {
            tracing::warn!(
                pushed = newest.hash,
                dir = %self.configured.display(),
                "the configured mappings have changed since others were pushed; the configured ones are used"
            );
            return None;
        }
        let loaded = fs::read(self.dir.join(&newest.hash)).map_err(|e| e.to_string()).and_then(|packed| {
            let pack = Pack::open_as(&newest.hash, &packed).map_err(|e| e.to_string())?;
            let bundle = pack.bundle("").map_err(|report| report.to_string())?;
            Ok(Loaded { pack, bundle })
        });
        match loaded {
            Ok(loaded) => Some(loaded),
            Err(why) => {
                tracing::error!(
                    hash = newest.hash,
                    why,
                    "the mappings pushed last cannot be used; the configured ones are"
                );
                None
            }
        }
    }

    /// Keeps a bundle: after this, a restart begins with it.
    pub fn keep(&self, pack: &Pack) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let whole = self.dir.join(pack.hash());
        if fs::read(&whole).ok().is_none_or(|packed| Pack::open_as(pack.hash(), &packed).is_err()) {
            self.put(pack.hash(), &pack.bytes())?;
        }
        // What cannot be read now has changed when it can.
        let over = Pack::read(&self.configured).map(|pack| pack.hash().to_owned()).unwrap_or_default();
        let newest = Newest { hash: pack.hash().to_owned(), over };
        self.put(NEWEST, &serde_json::to_vec(&newest)?)?;
        self.forget(pack.hash())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Forgets all but the last few.
    fn forget(&self, newest: &str) -> io::Result<()> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != NEWEST && name != newest {
                others.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        others.sort();
        let too_many = others.len().saturating_sub(KEPT - 1);
        others.iter().take(too_many).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The first digits of a hash, for people.
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// The bundles that the engine plans by and hands out.
pub struct Library {
    /// The newest last; never empty.
    live: RwLock<Vec<(Arc<Bundle>, Bytes)>>,
    newest: RwLock<Arc<Bundle>>,
    offered: RwLock<Option<(String, Bytes)>>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("live", &self.live.read().len()).finish_non_exhaustive()
    }
}

impl Library {
    /// With one bundle.
    pub fn new(loaded: &Loaded) -> Arc<Library> {
        let first = (Arc::clone(&loaded.bundle), Bytes::from(loaded.pack.bytes()));
        Arc::new(Library {
            live: RwLock::new(vec![first]),
            newest: RwLock::new(Arc::clone(&loaded.bundle)),
            offered: RwLock::default(),
        })
    }

    /// Agents may fetch this one, which is not in force.
    pub fn offer(&self, pack: &Pack) {
        *self.offered.write() = Some((pack.hash().to_owned(), Bytes::from(pack.bytes())));
    }

    /// Nothing is offered any more.
    pub fn withdraw(&self) {
        *self.offered.write() = None;
    }

    /// A bundle is in force; the oldest goes when there are too many.
    pub fn add(&self, loaded: &Loaded) {
        let packed = Bytes::from(loaded.pack.bytes());
        let mut live = self.live.write();
        live.retain(|(bundle, _)| bundle.hash != loaded.bundle.hash);
        live.push((Arc::clone(&loaded.bundle), packed));
        let too_many = live.len().saturating_sub(KEPT);
        live.drain(..too_many);
        *self.newest.write() = Arc::clone(&loaded.bundle);
    }
}

impl Bundles for Library {
    fn get(&self, hash: &str) -> Arc<Bundle> {
        let live = self.live.read();
        let found = live.iter().find(|(bundle, _)| bundle.hash == hash).map(|(bundle, _)| Arc::clone(bundle));
        found.unwrap_or_else(|| Arc::clone(&self.newest.read()))
    }

    fn piece(&self, wanted: &pb::BundlePiece) -> Result<pb::BundlePiece, Cause> {
        let live = self.live.read();
        let found =
            live.iter().find(|(bundle, _)| bundle.hash == wanted.hash).map(|(_, packed)| packed.clone());
        drop(live);
        let offered = || self.offered.read().clone().filter(|(hash, _)| *hash == wanted.hash).map(|(_, p)| p);
        let packed = found.or_else(offered).ok_or_else(|| {
            Cause::new(Code::NotFound, format!("the files of bundle {} are not kept here", wanted.hash))
        })?;
        let from = usize::try_from(wanted.offset).unwrap_or(usize::MAX).min(packed.len());
        let to = from.saturating_add(PIECE).min(packed.len());
        let bytes = packed.slice(from..to).to_vec();
        Ok(pb::BundlePiece { hash: wanted.hash.clone(), offset: wanted.offset, bytes })
    }
}

/// What a change leaves for the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Extension fields that show nothing until then.
    pub unseen: Vec<String>,
    /// Protocols whose targets read by the files they started with until then.
    pub at_restart: Vec<String>,
}

/// Whether every native id goes on to be formed as it is: ids that clients hold are never formed anew, and none comes to mean another object.
fn same_ids(now: &Bundle, newer: &Bundle) -> Result<(), String> {
    for protocol in now.protocols() {
        let name = &*protocol.name;
        let differing =
            newer.protocol(name).map(|newer| protocol.differing_id_forms(newer)).unwrap_or_default();
        if !differing.is_empty() {
            return Err(format!(
                "{name}: it forms native ids otherwise ({}); ids that clients hold would no longer name their objects, so these forms stay \
                 as they are: put them back, or use another native type",
                differing.join(", ")
            ));
        }
    }
    Ok(())
}

/// Everything in this process that works by a bundle.
pub struct InForce {
    agent: Arc<Agent>,
    fronts: Arc<Fronts>,
    /// The listeners there are or will be.
    configured: Vec<FrontConfig>,
    /// The inventories of fleets in this process.
    fleet: Option<Arc<Schema>>,
    shelf: Shelf,
    /// What the targets read by.
    started: Pack,
    /// One change at a time; what was tried last.
    turn: Mutex<Option<Loaded>>,
    /// The bundle of a welcome that could not be used, and why.
    refused: RwLock<Option<(String, String)>>,
}

impl std::fmt::Debug for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InForce").field("bundle", &self.agent.bundle().hash).finish_non_exhaustive()
    }
}

impl InForce {
    /// Over the rooms of this process.
    pub fn new(
        agent: &Arc<Agent>,
        fronts: &Arc<Fronts>,
        configured: &[FrontConfig],
        fleet: Option<Arc<Schema>>,
        (shelf, started): (Shelf, Pack),
    ) -> Arc<InForce> {
        Arc::new(InForce {
            agent: Arc::clone(agent),
            fronts: Arc::clone(fronts),
            configured: configured.to_vec(),
            fleet,
            shelf,
            started,
            turn: Mutex::default(),
            refused: RwLock::default(),
        })
    }

    /// The bundle in force.
    pub fn hash(&self) -> String {
        self.agent.bundle().hash.clone()
    }

    /// Whether a bundle could be used while this runs, and what would be left for the next start.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check(&self, loaded: &Loaded) -> Result<Left, String> {
        same_ids(&self.agent.bundle(), &loaded.bundle)?;
        let (at_restart, unseen) = (self.serves(loaded)?, self.shows(&loaded.bundle)?);
        Ok(Left { unseen, at_restart })
    }

    /// Whether the inventories of this life can be shown by it: the extension fields that they lack.
    fn shows(&self, bundle: &Bundle) -> Result<Vec<String>, String> {
        let mut unseen = BTreeSet::new();
        for schema in [Some(self.agent.inventory.schema()), self.fleet.as_ref()].into_iter().flatten() {
            unseen.extend(fits(schema, &bundle.schema)?);
        }
        Ok(unseen.into_iter().collect())
    }

    /// Whether it has everything that targets and fronts speak: the protocols whose targets go on reading by the files they started with.
    fn serves(&self, loaded: &Loaded) -> Result<Vec<String>, String> {
        let bundle = &loaded.bundle;
        let mut spoken = BTreeSet::new();
        for target in self.agent.owner.targets() {
            if bundle.protocol(target.protocol()).is_none() {
                return Err(format!(
                    "it has no mappings of {}, which the target {} speaks",
                    target.protocol(),
                    target.name()
                ));
            }
            spoken.insert(target.protocol().to_owned());
        }
        for front in &self.configured {
            let view = fronts::word(front);
            if bundle.protocol(&front.protocol).and_then(|p| p.constants(view)).is_none() {
                return Err(format!(
                    "it has no {} with a table [view.{view}], which the front on {} shows",
                    front.protocol, front.listen
                ));
            }
        }
        let changed = loaded.pack.changed(&self.started);
        Ok(spoken.intersection(&changed).cloned().collect())
    }

    /// Goes on with a bundle. The same again is fine.
    ///
    /// # Errors
    /// Why not; nothing was changed.
    pub async fn put(&self, loaded: &Loaded) -> Result<Left, String> {
        let _turn = self.turn.lock().await;
        self.put_now(loaded).await
    }

    async fn put_now(&self, loaded: &Loaded) -> Result<Left, String> {
        let left = self.check(loaded)?;
        self.keep(loaded).await?;
        if self.hash() != loaded.bundle.hash {
            let before = self.hash();
            self.agent.swap(&loaded.bundle);
            self.fronts.swap(&loaded.bundle).await;
            tracing::info!(before, hash = loaded.bundle.hash, "other mappings are in force");
        }
        Ok(left)
    }

    async fn keep(&self, loaded: &Loaded) -> Result<(), String> {
        let (shelf, pack) = (self.shelf.clone(), loaded.pack.clone());
        let kept = tokio::task::spawn_blocking(move || shelf.keep(&pack)).await.map_err(io::Error::other);
        kept.flatten().map_err(|e| {
            format!("it cannot be kept in {}: {e}; nothing was changed", self.shelf.dir.display())
        })
    }

    /// A bundle is in force that only the inventories of this life stand against: the next one begins with it.
    async fn keep_for_later(&self, loaded: &Loaded, why: String) -> String {
        if self.serves(loaded).is_err() || self.shows(&loaded.bundle).is_ok() {
            return why;
        }
        match self.keep(loaded).await {
            Ok(()) => format!("{why} (they are kept here for the next start)"),
            Err(kept) => format!("{why}; {kept}"),
        }
    }

    /// Fetches what the engine has, unless it is here.
    async fn fetched(&self, hash: &str, tried: &Option<Loaded>) -> Result<Loaded, Unfit> {
        if let Some(tried) = tried.as_ref().filter(|tried| tried.bundle.hash == hash) {
            return Ok(tried.clone());
        }
        let packed = fetch(&*self.agent.joined.engine, hash).await.map_err(|e| Unfit::Away(e.to_string()))?;
        Loaded::open(hash, packed).await.map_err(Unfit::Bad)
    }

    async fn obey(&self, step: pb::BundleStep, hash: &str) -> Result<Left, Unfit> {
        let mut turn = self.turn.lock().await;
        if step == pb::BundleStep::BundleSay || self.hash() == hash {
            return Ok(Left::default());
        }
        let loaded = self.fetched(hash, &turn).await?;
        match step {
            pb::BundleStep::BundleTry => {
                let left = self.check(&loaded).map_err(Unfit::Bad)?;
                *turn = Some(loaded);
                Ok(left)
            }
            _ => {
                *turn = None;
                match self.put_now(&loaded).await {
                    Ok(left) => Ok(left),
                    Err(why) => Err(Unfit::Bad(self.keep_for_later(&loaded, why).await)),
                }
            }
        }
    }

    /// Follows what the engine's welcomes say is in force, for as long as this is polled.
    pub async fn follow(self: Arc<Self>) {
        let mut noticed = self.agent.joined.link.bundle();
        loop {
            let notice = noticed.borrow_and_update().clone();
            let again = match notice {
                Some(notice) => self.caught_up(&notice.hash).await,
                None => false,
            };
            let changed = tokio::select! {
                changed = noticed.changed() => changed,
                () = tokio::time::sleep(AGAIN), if again => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Whether it is to be tried again.
    async fn caught_up(&self, hash: &str) -> bool {
        match self.obey(pb::BundleStep::BundleUse, hash).await {
            Ok(_) => false,
            Err(Unfit::Away(why)) => {
                tracing::warn!(hash, why, "the mappings in force could not be fetched; it is tried again");
                true
            }
            Err(Unfit::Bad(why)) => {
                tracing::error!(
                    hash,
                    why,
                    "the mappings in force cannot be used here; this agent keeps its own"
                );
                *self.refused.write() = Some((hash.to_owned(), why));
                false
            }
        }
    }
}

/// Why a bundle is not used.
enum Unfit {
    /// It could not be had.
    Away(String),
    /// It is no good here.
    Bad(String),
}

#[async_trait]
impl Takes for InForce {
    async fn told(&self, notice: pb::BundleNotice) -> pb::BundleSaid {
        let done = self.obey(notice.step(), &notice.hash).await;
        let earlier = || self.refused.read().clone().filter(|(hash, _)| *hash == notice.hash);
        let (left, refused) = match done {
            Ok(left) if self.hash() != notice.hash && notice.step() == pb::BundleStep::BundleSay => {
                (left, earlier().map(|(_, why)| why).unwrap_or_default())
            }
            Ok(left) => (left, String::new()),
            Err(Unfit::Away(why)) => (Left::default(), format!("it could not be fetched: {why}")),
            Err(Unfit::Bad(why)) => (Left::default(), why),
        };
        if !refused.is_empty() {
            tracing::warn!(hash = notice.hash, refused, "mappings were refused");
        }
        pb::BundleSaid { hash: self.hash(), refused, unseen: left.unseen, at_restart: left.at_restart }
    }
}

#[cfg(test)]
mod tests;
