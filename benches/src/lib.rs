//! What the benches share: the mappings and a VM like those the front shows; processes to run against, and a client.
#![forbid(unsafe_code)]

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]
pub mod rig;
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]
pub mod vim;

use inventory::{Inventory, Layout, Skeleton, View};
use mapping::{Bundle, NativeRef, Reader};
use std::{path::Path, sync::Arc};
use union::{
    Clock, Ids, Kind, ObjectId, Record, Slot,
    clock::{ManualClock, SeededIds},
};

/// The bundle of the source tree.
pub fn bundle() -> Arc<Bundle> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mappings");
    match Bundle::load(&dir) {
        Ok(bundle) => bundle,
        Err(report) => {
            eprintln!("{report}");
            std::process::exit(65)
        }
    }
}

/// A fleet view over made-up machines.
pub struct Fleet {
    /// The view.
    pub view: Arc<View>,
    /// Its VMs.
    pub vms: Vec<ObjectId>,
    _sim: Arc<sim::target::Sim>,
}

/// Must be called within a tokio runtime.
pub fn fleet(bundle: &Arc<Bundle>, vms: u32) -> Fleet {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_790_000_000_000));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(1));
    let inventory = Inventory::new(Arc::clone(&bundle.schema), 1, Arc::clone(&clock));
    let config = sim::target::Config {
        name: "bench".into(),
        source: sim::target::Source::Generate { vms, hosts: 10 },
        behaviour: None,
        effect_log: None,
    };
    let sim = match sim::target::connect(config, &inventory, &clock, &ids) {
        Ok(sim) => sim,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    };
    let view = View::new("fleet", &inventory, Layout::Fleet(Skeleton::default()));
    let vms = view.inventory().ids(Kind::Vm);
    Fleet { view, vms, _sim: sim }
}

/// The facts of a view with ids of the simplest form.
pub struct Facts(pub Arc<View>);

impl Reader for Facts {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.0.inventory().record(id)
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.0.inventory().referring(kind, slot, to, out);
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        let ty = match id.kind {
            Kind::Vm => "VirtualMachine",
            Kind::Host => "HostSystem",
            Kind::StoragePool => "Datastore",
            other => other.message(),
        };
        Some(NativeRef { ty: Arc::from(ty), id: Arc::from(id.kind.word()) })
    }

    fn view(&self) -> &str {
        "fleet"
    }
}
