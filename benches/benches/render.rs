//! The lens engine: one property, the whole VM, ten thousand VMs, as SOAP.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]

use benches::{Facts, Fleet, bundle, fleet};
use divan::{Bencher, black_box, counter::ItemsCount};
use mapping::{Bundle, ObjectMap, Protocol, Selection, VersionIndex};
use std::sync::{Arc, LazyLock};
use vsphere::native::{Soap, Tags};
use wire::soap::encode::Encoder;

struct Bed {
    fleet: Fleet,
    facts: Facts,
    protocol: Arc<Protocol>,
    map: Arc<ObjectMap>,
    tags: Tags,
    newest: VersionIndex,
}

static BED: LazyLock<Bed> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bundle: Arc<Bundle> = bundle();
    let fleet = runtime.block_on(async { fleet(&bundle, 10_000) });
    std::mem::forget(runtime);
    let protocol = bundle.protocol("vsphere").unwrap().clone();
    Bed {
        facts: Facts(Arc::clone(&fleet.view)),
        map: protocol.object("VirtualMachine").unwrap().clone(),
        tags: Tags::new(&protocol),
        newest: protocol.native.version("8.0.3.0").unwrap(),
        fleet,
        protocol,
    }
});

fn main() {
    assert!(BED.protocol.object("VirtualMachine").is_some());
    divan::main();
}

impl Bed {
    fn render(&self, selections: &[Selection], out: &mut Encoder, vms: usize) {
        for id in self.fleet.vms.iter().take(vms) {
            let record = self.fleet.view.inventory().record(*id).unwrap();
            let mut soap = Soap::new(out, &self.tags, "val");
            for selection in selections {
                self.map.render(selection, *id, &record, &self.facts, self.newest, &mut soap);
            }
        }
    }

    fn select(&self, paths: &[&str]) -> Vec<Selection> {
        paths.iter().map(|p| self.map.select(p, self.newest).unwrap()).collect()
    }
}

/// One row, the record at hand: slot to SOAP.
#[divan::bench(args = ["name", "runtime.powerState", "config.hardware.memoryMB", "config.uuid", "runtime.host"])]
fn row(bencher: Bencher<'_, '_>, path: &str) {
    let bed = &*BED;
    let selection = bed.select(&[path]);
    let id = bed.fleet.vms[0];
    let record = bed.fleet.view.inventory().record(id).unwrap();
    let mut out = Encoder::new();
    bencher.bench_local(|| {
        let start = out.mark();
        let mut soap = Soap::new(&mut out, &bed.tags, "val");
        black_box(bed.map.render(&selection[0], id, &record, &bed.facts, bed.newest, &mut soap));
        out.rollback(start);
    });
}

/// One VM: `config`, `summary`, or every property it has.
#[divan::bench(args = ["config.hardware", "config", "summary", "all"])]
fn vm(bencher: Bencher<'_, '_>, what: &str) {
    let bed = &*BED;
    let selections: Vec<Selection> = match what {
        "all" => bed.map.properties(bed.newest).cloned().collect(),
        path => bed.select(&[path]),
    };
    let mut out = Encoder::new();
    bencher.bench_local(|| {
        let start = out.mark();
        bed.render(&selections, &mut out, 1);
        black_box(out.written().len());
        out.rollback(start);
    });
}

/// Three properties of ten thousand VMs, the records looked up one by one.
#[divan::bench(sample_count = 20)]
fn ten_thousand_by_three(bencher: Bencher<'_, '_>) {
    let bed = &*BED;
    let selections = bed.select(&["name", "runtime.powerState", "config.hardware.memoryMB"]);
    let mut out = Encoder::new();
    bencher.counter(ItemsCount::new(30_000usize)).bench_local(|| {
        let start = out.mark();
        bed.render(&selections, &mut out, 10_000);
        black_box(out.written().len());
        out.rollback(start);
    });
}

/// Loading, checking and compiling all mapping files.
#[divan::bench(sample_count = 10)]
fn load_bundle() -> Arc<Bundle> {
    bundle()
}
