//! A world: who lives, who dies, and for how long.

use crate::{
    agent,
    authority::{Logins, genesis},
    check::Watch,
    client,
    flaw::Flaw,
    host,
    life::{Disk, Life, Mortal},
    metal::{self, Metal},
    net::Net,
    rng::{Rng, SimClock},
};
use mapping::Bundle;
use parking_lot::Mutex;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, LazyLock, Once, Weak},
    time::Duration,
};
use store::Store;
use tokio::time::{Instant, sleep, timeout};
use union::{Clock, Ids, Kind, ObjectId};
use uuid::Uuid;

/// The protocol of the hypervisors, and of the clients.
pub const PROTOCOL: &str = "sim";
/// The agents.
pub const AGENTS: [&str; 2] = ["a", "b"];
/// The processes that die.
pub const PROCESSES: [&str; 3] = ["engine", "a", "b"];
/// VMs a hypervisor has at first.
pub const VMS: u128 = 2;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(7);
/// How long everything may take to settle once nothing goes wrong any more.
const PEACE: Duration = Duration::from_secs(120);

static BUNDLE: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings");
    match Bundle::load(&dir) {
        Ok(bundle) => bundle,
        Err(report) => {
            eprintln!("{report}");
            std::process::abort()
        }
    }
});

/// The mappings of the simulated hypervisors.
pub fn bundle() -> Arc<Bundle> {
    Arc::clone(&BUNDLE)
}

/// The seed, and what did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which world.
    pub seed: u64,
    /// What did not hold.
    pub what: Vec<String>,
}

/// What a world was like that kept its promises.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many commands its clients sent.
    pub commands: usize,
    /// The failpoints at which somebody died.
    pub died: BTreeSet<&'static str>,
    /// Everything that happened, in order.
    pub story: Vec<String>,
}

/// A VM of an agent's hypervisor.
pub fn vm(agent: usize, n: u128) -> ObjectId {
    let agent = u128::try_from(agent).unwrap_or(0);
    ObjectId::new(Kind::Vm, Uuid::from_u128((agent + 1) * 100 + n))
}

/// Everything that outlives a process.
#[derive(Debug)]
pub struct World {
    /// Chance.
    pub rng: Arc<Rng>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The network.
    pub net: Arc<Net>,
    /// The hypervisors, in the order of [`AGENTS`].
    pub metals: Vec<Arc<Metal>>,
    /// Looks on.
    pub watch: Arc<Watch>,
    /// The sessions of before.
    pub logins: Logins,
    flaw: Option<Flaw>,
    disks: Mutex<BTreeMap<&'static str, Disk>>,
    lives: Mutex<BTreeMap<&'static str, Arc<Life>>>,
    peace: Mutex<bool>,
    /// Kills somebody when a point has been reached so often.
    fate: Mutex<Option<(&'static str, u64)>>,
    /// The points at which somebody died.
    died: Mutex<BTreeSet<&'static str>>,
}

thread_local! {
    static HERE: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

fn reached(point: &'static str) {
    let world = HERE.with(|here| here.borrow().upgrade());
    if let Some(world) = world {
        world.reached(point);
    }
}

/// Every failpoint of the rooms.
pub fn points() -> Vec<&'static str> {
    [engine::POINTS, link::POINTS, lane::POINTS].concat()
}

impl World {
    async fn new(seed: u64, flaw: Option<Flaw>) -> Result<Arc<World>, String> {
        let rng = Arc::new(Rng::new(seed));
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let watch = Watch::new();
        let schema = Arc::clone(&bundle().schema);
        let net = Net::new(Arc::clone(&schema), Arc::clone(&rng), Arc::clone(&watch), flaw);
        let mut metals = Vec::new();
        for (at, name) in AGENTS.iter().enumerate() {
            let vms: Vec<ObjectId> = (1..=VMS).map(|n| vm(at, n)).collect();
            let parts = metal::Parts {
                schema: Arc::clone(&schema),
                clock: Arc::clone(&clock),
                rng: Arc::clone(&rng),
                watch: Arc::clone(&watch),
                flaw,
            };
            metals.push(Metal::new(&format!("metal-{name}"), &vms, parts).map_err(|e| e.to_string())?);
        }
        let disk = |name: &&'static str| (*name, Disk::new(flaw == Some(Flaw::ForgetsSync(name))));
        let disks: BTreeMap<&'static str, Disk> = PROCESSES.iter().map(disk).collect();
        let engine = disks.get("engine").cloned().unwrap_or_else(|| Disk::new(false));
        let before = Arc::new(Mortal { life: Life::begin(), disk: engine });
        let ids = Arc::clone(&rng) as Arc<dyn Ids>;
        let logins = genesis(before, &clock, &ids, client::CLIENTS).await?;
        Ok(Arc::new(World {
            metals,
            rng,
            clock,
            net,
            watch,
            logins,
            flaw,
            disks: Mutex::new(disks),
            lives: Mutex::default(),
            peace: Mutex::new(false),
            fate: Mutex::default(),
            died: Mutex::default(),
        }))
    }

    /// Whether nothing goes wrong any more.
    pub fn is_peace(&self) -> bool {
        *self.peace.lock()
    }

    fn reached(&self, point: &'static str) {
        let mut fate = self.fate.lock();
        let Some((_, left)) = fate.as_mut().filter(|(name, _)| *name == point) else { return };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        *fate = None;
        drop(fate);
        if self.is_peace() {
            return;
        }
        self.died.lock().insert(point);
        if point.starts_with("engine.") {
            self.kill("engine");
        } else {
            // Which agent is there cannot be told: either, or both.
            let who = self.rng.below(3);
            for (at, agent) in [(0, "a"), (1, "b")] {
                if who == 2 || who == at {
                    self.kill(agent);
                }
            }
        }
    }

    /// A process dies, here and now.
    fn kill(&self, name: &'static str) {
        let Some(life) = self.lives.lock().get(name).cloned() else { return };
        if !life.end() {
            return;
        }
        self.watch.tell(|| format!("{name} dies"));
        {
            let mut disks = self.disks.lock();
            if let Some(disk) = disks.get_mut(name) {
                let next = disk.crash(|waiting| {
                    let most = u64::try_from(waiting).unwrap_or(0);
                    usize::try_from(self.rng.below(most + 1)).unwrap_or(0)
                });
                *disk = next;
            }
        }
        self.net.stir();
    }

    /// Keeps a process up.
    async fn keep(self: Arc<Self>, name: &'static str) {
        loop {
            let life = Life::begin();
            self.lives.lock().insert(name, Arc::clone(&life));
            let Some(disk) = self.disks.lock().get(name).cloned() else { return };
            tokio::spawn(Arc::clone(&self).boot(name, Arc::clone(&life), disk));
            life.over().await;
            sleep(self.rng.ms(600, 2_500)).await;
        }
    }

    async fn boot(self: Arc<Self>, name: &'static str, life: Arc<Life>, disk: Disk) {
        let (net, clock, rng) = (Arc::clone(&self.net), Arc::clone(&self.clock), Arc::clone(&self.rng));
        let started = match AGENTS.iter().position(|agent| *agent == name) {
            None => {
                let (life, watch, flaw) = (Arc::clone(&life), Arc::clone(&self.watch), self.flaw);
                host::start(host::Parts { life, disk, net, clock, rng, watch, flaw }).await
            }
            Some(at) => {
                let Some(metal) = self.metals.get(at).cloned() else { return };
                let (life, watch, flaw) = (Arc::clone(&life), Arc::clone(&self.watch), self.flaw);
                let name = name.to_owned();
                agent::start(agent::Parts { name, life, disk, metal, net, clock, rng, watch, flaw }).await
            }
        };
        if let Err(error) = started
            && !life.is_over()
        {
            self.watch.broken(format!("{name} does not start: {error}"));
        }
    }

    /// Things go wrong.
    async fn trouble(&self) {
        for metal in &self.metals {
            metal.set_trouble(true);
        }
        self.net.set_faults([15, 15, 20]);
        if self.rng.chance(700) {
            self.tempt();
        }
        let until = Instant::now() + TROUBLE;
        while Instant::now() < until {
            sleep(self.rng.ms(200, 3_000)).await;
            match self.rng.below(8) {
                0 | 1 => {
                    if let Some(name) = self.rng.pick(&PROCESSES) {
                        self.kill(name);
                    }
                }
                2 => {
                    if let Some(agent) = self.rng.pick(&AGENTS) {
                        self.net.part(agent, true);
                        sleep(self.rng.ms(100, 2_000)).await;
                        self.net.part(agent, false);
                    }
                }
                3 => {
                    if let Some(metal) = self.rng.pick(&self.metals) {
                        metal.set_away(true);
                        sleep(self.rng.ms(50, 800)).await;
                        metal.set_away(false);
                    }
                }
                _ => {}
            }
            if self.fate.lock().is_none() && self.rng.chance(300) {
                self.tempt();
            }
        }
    }

    /// Somebody is to die at some point.
    fn tempt(&self) {
        let points = points();
        let times = if self.rng.chance(600) { 1 } else { 1 + self.rng.below(4) };
        *self.fate.lock() = self.rng.pick(&points).map(|point| (*point, times));
    }

    /// Somebody renames the first VM of a hypervisor by hand, now and then.
    async fn meddle(self: Arc<Self>, at: usize) {
        let Some(metal) = self.metals.get(at) else { return };
        while !self.is_peace() {
            sleep(self.rng.ms(50, 1_500)).await;
            metal.meddle(vm(at, 1), &format!("by hand {}", self.rng.below(1_000)));
        }
    }

    fn heal(&self) {
        *self.peace.lock() = true;
        *self.fate.lock() = None;
        self.net.set_faults([0; 3]);
        for agent in AGENTS.iter().filter(|agent| self.net.is_parted(agent)) {
            self.net.part(agent, false);
        }
        for metal in &self.metals {
            metal.set_trouble(false);
            metal.set_away(false);
        }
    }

    /// What survives of a process.
    pub fn store(&self, name: &str) -> Option<Arc<dyn Store>> {
        self.disks.lock().get(name).map(|disk| Arc::new(disk.store.clone()) as Arc<dyn Store>)
    }

    /// Whether nothing is under way anywhere.
    async fn is_settled(&self) -> bool {
        let Some(engine) = self.net.engine() else { return false };
        let agents: Vec<_> = AGENTS.iter().filter_map(|name| self.net.agent(name)).collect();
        engine.engine.under_way() == 0
            && agents.len() == AGENTS.len()
            && agents.iter().all(|up| up.owner.count() == 0 && up.router.under_way() == 0)
    }
}

/// Lives one world.
///
/// # Errors
/// What did not hold.
pub fn run(seed: u64) -> Result<Report, Failure> {
    run_with(seed, None)
}

/// Lives one world in which a part is broken.
///
/// # Errors
/// What did not hold.
pub fn run_with(seed: u64, flaw: Option<Flaw>) -> Result<Report, Failure> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        union::fail::install(reached);
    });
    let failure = |what: Vec<String>| Failure { seed, what };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    // Without it the runtime draws by chance who of several waiters is woken first; `.cargo/config.toml` makes it available.
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = runtime.build();
    let runtime = runtime.map_err(|error| failure(vec![error.to_string()]))?;
    let result = runtime.block_on(async {
        let world = World::new(seed, flaw).await.map_err(|error| failure(vec![error]))?;
        HERE.with(|here| *here.borrow_mut() = Arc::downgrade(&world));
        for name in PROCESSES {
            tokio::spawn(Arc::clone(&world).keep(name));
        }
        for at in 0..AGENTS.len() {
            tokio::spawn(Arc::clone(&world).meddle(at));
        }
        let clients = client::start(&world);
        world.trouble().await;
        world.heal();
        let mut what = Vec::new();
        let settled = timeout(PEACE, async {
            let mut histories = Vec::new();
            for client in clients {
                histories.push(client.await);
            }
            while !world.is_settled().await {
                sleep(Duration::from_millis(50)).await;
            }
            // What is on its way to the engine arrives, what was lost on its way a little later.
            sleep(Duration::from_secs(25)).await;
            histories
        });
        let count = match settled.await {
            Err(_) => {
                what.push(crate::check::stuck(&world));
                0
            }
            Ok(histories) => {
                let histories: Vec<_> = histories.into_iter().filter_map(Result::ok).collect();
                let count = histories.iter().map(|history| history.asked.len()).sum();
                crate::check::check(&world, &histories, &mut what).await;
                count
            }
        };
        what.extend(world.watch.take());
        let died = std::mem::take(&mut *world.died.lock());
        let story = world.watch.story();
        if what.is_empty() { Ok(Report { commands: count, died, story }) } else { Err(failure(what)) }
    });
    HERE.with(|here| *here.borrow_mut() = Weak::new());
    drop(runtime);
    result
}
