use super::*;
use crate::testing::{any_batches, contents, id, inventory, record, slot};
use proptest::prelude::*;
use std::time::Duration;
use union::{Clock, Schema, Value, clock::ManualClock};

fn field(view: &View, id: ObjectId, name: &str) -> Value {
    let entry = view.get(id).unwrap_or_else(|| panic!("{id} is not shown"));
    entry.record.get(slot(id.kind, name)).clone()
}

fn shown(view: &View) -> Vec<ObjectId> {
    view.inventory().everything().iter().map(|c| c.id).collect()
}

/// Two hosts with a VM, a network and a pool each.
fn two_hosts() -> Arc<Inventory> {
    let source = inventory();
    for n in [1, 2] {
        let host = id(Kind::Host, n);
        source.apply(vec![
            Put::Whole(
                host,
                record(
                    Kind::Host,
                    &[
                        ("name", format!("host{n}").into()),
                        ("cpu_cores", 4.into()),
                        ("cpu_mhz", 2_000.into()),
                        ("memory_bytes", 8_000i64.into()),
                        ("connection", 1.into()),
                    ],
                ),
            ),
            Put::Whole(
                id(Kind::Network, n),
                record(Kind::Network, &[("host_ids", Value::list([host.into()]))]),
            ),
            Put::Whole(
                id(Kind::StoragePool, n),
                record(Kind::StoragePool, &[("host_ids", Value::list([host.into()]))]),
            ),
            Put::Whole(
                id(Kind::Vm, n),
                record(
                    Kind::Vm,
                    &[
                        ("name", "vm".into()),
                        ("host_id", host.into()),
                        ("cpu_usage_mhz", 100.into()),
                        ("memory_usage_bytes", 10.into()),
                    ],
                ),
            ),
        ]);
    }
    source
}

#[test]
fn every_slot_that_placing_uses_exists() {
    for (kind, name) in super::slots::Slots::names() {
        assert!(Schema::base().slot(kind, name).is_some(), "{kind}.{name}");
    }
}

#[test]
fn a_fleet_has_a_tree_around_its_hosts() {
    let source = two_hosts();
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let (vm, host) = (id(Kind::Vm, 1), id(Kind::Host, 1));
    let dc = view.datacenter();
    assert_eq!(field(&view, vm, "folder_id"), Value::Ref(dc.vm));
    assert_eq!(field(&view, vm, "datacenter_id"), Value::Ref(dc.id));
    assert_eq!(field(&view, dc.vm, "parent_id"), Value::Ref(dc.id));
    assert_eq!(field(&view, dc.id, "folder_id"), Value::Ref(view.root()));
    let cluster = field(&view, host, "compute_id").as_ref_id().expect("a cluster");
    assert_eq!(field(&view, vm, "compute_id"), Value::Ref(cluster));
    assert_eq!(field(&view, cluster, "name"), Value::from("host1"));
    assert_eq!(field(&view, cluster, "cpu_mhz"), Value::Int(8_000));
    assert_eq!(field(&view, cluster, "network_ids"), Value::list([id(Kind::Network, 1).into()]));
    assert_eq!(field(&view, host, "network_ids"), Value::list([id(Kind::Network, 1).into()]));
    let pool = field(&view, vm, "resource_pool_id").as_ref_id().expect("a pool");
    assert_eq!(field(&view, pool, "cpu_usage_mhz"), Value::Int(100));
    source.apply(vec![Put::Slots(vm, vec![(slot(Kind::Vm, "cpu_usage_mhz"), 250.into())])]);
    assert_eq!(field(&view, pool, "cpu_usage_mhz"), Value::Int(250));
    assert_eq!(view.role(view.root()), Some(Role::Root));
    assert_eq!(view.role(cluster), None);
}

#[test]
fn a_host_view_shows_one_host_only() {
    let source = two_hosts();
    let host = id(Kind::Host, 1);
    let view = View::new("host", &source, Layout::Host(host, Skeleton::default()));
    for kind in [Kind::Vm, Kind::Network, Kind::StoragePool, Kind::Host] {
        assert_eq!(view.inventory().ids(kind), [id(kind, 1)], "{kind}");
    }
    assert_eq!(view.inventory().count(Kind::Cluster), 1);
    let cluster = view.inventory().ids(Kind::Cluster)[0];
    assert_eq!(view.role(cluster), Some(Role::Compute));
    assert_eq!(view.role(host), Some(Role::Host));
    source.apply(vec![Put::Slots(id(Kind::Vm, 2), vec![(slot(Kind::Vm, "host_id"), host.into())])]);
    assert_eq!(view.inventory().count(Kind::Vm), 2);
}

#[test]
fn a_lost_host_stays_and_its_vms_do_not_respond() {
    let source = two_hosts();
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let connection =
        |n: i32| vec![Put::Slots(id(Kind::Host, 1), vec![(slot(Kind::Host, "connection"), n.into())])];
    source.apply(connection(2));
    assert_eq!(field(&view, id(Kind::Vm, 1), "connection"), Value::Int(2));
    assert_eq!(field(&view, id(Kind::Vm, 2), "connection"), Value::Int(1));
    source.apply(connection(1));
    assert_eq!(field(&view, id(Kind::Vm, 1), "connection"), Value::Int(1));
}

#[test]
fn named_datacenters_clusters_and_pools_are_shown_as_they_are() {
    let source = inventory();
    let schema = Arc::clone(source.schema());
    let names = Skeleton::default();
    let dc = Datacenter::ids("file", "Berlin");
    let (cluster, pool, folder) = (id(Kind::Cluster, 1), id(Kind::ResourcePool, 1), id(Kind::Folder, 1));
    let mut puts: Vec<Put> =
        dc.records(&schema, "Berlin", None, &names).into_iter().map(|(id, r)| Put::Whole(id, r)).collect();
    let vm_folder =
        crate::plan::folder(&schema, "prod", union::pb::FolderKind::FolderVm, Some(dc.vm), Some(dc.id));
    puts.extend([
        Put::Whole(cluster, crate::plan::cluster(&schema, "c1", dc.host, dc.id)),
        Put::Whole(pool, crate::plan::pool(&schema, "gold", cluster, cluster)),
        Put::Whole(folder, vm_folder),
        Put::Whole(id(Kind::Host, 1), record(Kind::Host, &[("compute_id", cluster.into())])),
        Put::Whole(
            id(Kind::Vm, 1),
            record(
                Kind::Vm,
                &[
                    ("host_id", id(Kind::Host, 1).into()),
                    ("resource_pool_id", pool.into()),
                    ("folder_id", folder.into()),
                    ("memory_usage_bytes", 7.into()),
                ],
            ),
        ),
    ]);
    source.apply(puts);
    let view = View::new("fleet", &source, Layout::Fleet(names));
    assert_eq!(view.inventory().ids(Kind::Datacenter), [dc.id], "no datacenter of the view's own");
    assert_eq!(field(&view, dc.id, "folder_id"), Value::Ref(view.root()));
    let vm = id(Kind::Vm, 1);
    assert_eq!(field(&view, vm, "compute_id"), Value::Ref(cluster));
    assert_eq!(field(&view, vm, "datacenter_id"), Value::Ref(dc.id));
    assert_eq!(field(&view, vm, "folder_id"), Value::Ref(folder));
    let root_pool = field(&view, cluster, "resource_pool_id").as_ref_id().expect("a root pool");
    assert_eq!(field(&view, pool, "parent_id"), Value::Ref(root_pool));
    for used in [pool, root_pool] {
        assert_eq!(field(&view, used, "memory_usage_bytes"), Value::Int(7));
    }
    assert_eq!(field(&view, cluster, "host_ids"), Value::list([id(Kind::Host, 1).into()]));
    let host_view = View::new("host", &source, Layout::Host(id(Kind::Host, 1), Skeleton::default()));
    assert_eq!(field(&host_view, vm, "folder_id"), Value::Ref(host_view.datacenter().vm));
    assert_eq!(host_view.inventory().count(Kind::ResourcePool), 1);
}

#[test]
fn things_of_one_name_are_told_apart() {
    let source = two_hosts();
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let named = |kind: Kind, n: u128, name: &str| {
        source.apply(vec![Put::Slots(id(kind, n), vec![(slot(kind, "name"), name.into())])]);
    };
    for kind in [Kind::Network, Kind::StoragePool, Kind::Host] {
        (1..=2).for_each(|n| named(kind, n, "default"));
    }
    let name = |id: ObjectId| field(&view, id, "name");
    for kind in [Kind::Vm, Kind::Network, Kind::StoragePool, Kind::Host] {
        let first = if kind == Kind::Vm { "vm" } else { "default" };
        assert_eq!(name(id(kind, 1)), Value::from(first));
        assert_eq!(name(id(kind, 2)), Value::from(format!("{first} (1)")));
    }
    let cluster = |n| field(&view, id(Kind::Host, n), "compute_id").as_ref_id().expect("a cluster");
    assert_eq!([name(cluster(1)), name(cluster(2))], ["default".into(), "default (1)".into()]);
    let (vm, name_slot) = (id(Kind::Vm, 2), slot(Kind::Vm, "name"));
    assert_eq!(view.inventory().find(Kind::Vm, name_slot, "vm (1)"), [vm]);
    assert_eq!(source.find(Kind::Vm, name_slot, "vm").len(), 2, "the facts keep their names");
    let host_view = View::new("host", &source, Layout::Host(id(Kind::Host, 2), Skeleton::default()));
    assert_eq!(field(&host_view, vm, "name"), Value::from("vm"), "alone on its host");
    source.apply(vec![Put::Remove(id(Kind::Vm, 1))]);
    assert_eq!(name(vm), Value::from("vm"));
}

#[test]
fn a_view_sees_what_its_source_says_it_has() {
    let source = two_hosts();
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let vm = id(Kind::Vm, 1);
    source.apply(vec![Put::Remove(vm)]);
    assert!(view.get(vm).is_none() && view.inventory().tombstone(vm).is_some());
    drop(view);
    source.apply(vec![Put::Remove(id(Kind::Vm, 2))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happened, in whatever order: the view is what a new view of the same facts would be.
    #[test]
    fn a_view_equals_one_made_anew(batches in any_batches()) {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let source = Inventory::new(Schema::base(), 1_000, Arc::clone(&clock) as Arc<dyn Clock>);
        let layouts = [Layout::Fleet(Skeleton::default()), Layout::Host(id(Kind::Host, 1), Skeleton::default())];
        let views = layouts.clone().map(|layout| View::new("v", &source, layout));
        for batch in batches {
            clock.advance(Duration::from_millis(1));
            source.apply(batch);
            for (view, layout) in views.iter().zip(&layouts) {
                let anew = View::new("v", &source, layout.clone());
                prop_assert_eq!(shown(view), shown(&anew));
                for (a, b) in contents(view.inventory()).iter().zip(&contents(anew.inventory())) {
                    prop_assert_eq!(a, b);
                }
                prop_assert_eq!(view.inventory().dump_index(), anew.inventory().dump_index());
            }
        }
    }
}

#[test]
fn a_vm_lies_in_the_folder_the_broker_says_while_there_is_one() {
    let source = two_hosts();
    let views = ["fleet", "engine"].map(|n| View::new(n, &source, Layout::Fleet(Skeleton::default())));
    let [view, other] = &views;
    assert_eq!((view.root(), view.datacenter()), (other.root(), other.datacenter()));
    let (vm, folder) = (id(Kind::Vm, 1), id(Kind::Folder, 1));
    let own = slot(Kind::Vm, "folder_id");
    source.set_own(vm, vec![(own, folder.into())]);
    assert_eq!(field(view, vm, "folder_id"), Value::Ref(view.datacenter().vm));
    let record = record(Kind::Folder, &[("name", "web".into()), ("parent_id", view.datacenter().vm.into())]);
    source.apply(vec![Put::Whole(folder, record)]);
    assert_eq!(field(view, vm, "folder_id"), Value::Ref(folder));
    source.apply(vec![Put::Remove(folder)]);
    assert_eq!(field(view, vm, "folder_id"), Value::Ref(view.datacenter().vm));
    let host = View::new("host", &source, Layout::Host(id(Kind::Host, 1), Skeleton::default()));
    assert_ne!(host.root(), view.root());
}

#[test]
fn a_hosts_fixed_parts_are_parts_of_the_fleet() {
    let source = two_hosts();
    let fleet = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let host = View::new("esx", &source, Layout::Host(id(Kind::Host, 1), Skeleton::default()));
    let (own, all) = (host.datacenter(), fleet.datacenter());
    assert_eq!(host.in_fleet(host.root()), fleet.root());
    for (own, all) in [(own.id, all.id), (own.vm, all.vm), (own.host, all.host), (own.network, all.network)] {
        assert!(own != all && host.in_fleet(own) == all);
    }
    let there = shown(&fleet);
    for kind in [Kind::Cluster, Kind::ResourcePool] {
        let made = host.inventory().ids(kind)[0];
        assert!(!there.contains(&made) && there.contains(&host.in_fleet(made)), "{kind}");
    }
    assert_eq!(host.in_fleet(id(Kind::Vm, 1)), id(Kind::Vm, 1));
    assert_eq!(fleet.in_fleet(all.vm), all.vm);
}
