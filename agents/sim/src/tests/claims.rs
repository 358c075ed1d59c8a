//! One machine on two simulated hypervisors.

use super::*;
use inventory::chronicle::Filter;

const UUID: &str = "4c4c4544-0042-3510-8054-b7c04f4a5331";

fn half(host: &str) -> Source {
    Source::Text(format!(
        "[[host]]\nname = \"{host}\"\n[[network]]\nname = \"lan\"\n[[vm]]\nname = \"one\"\nhost = \"{host}\"\nuuid = \"{UUID}\"\n\
         [[vm]]\nname = \"own\"\nhost = \"{host}\"\n"
    ))
}

fn beside(w: &World, name: &str, host: &str) -> Arc<Sim> {
    let config = Config { name: name.into(), source: half(host), behaviour: None, effect_log: None };
    let sim = connect(config, &w.inventory, w.inventory.clock(), &w.ids).expect("a good file");
    w.owner.adopt(sim.clone());
    sim
}

impl World {
    fn shown(&self, vm: ObjectId, field: &str) -> Value {
        self.inventory.record(vm).expect("there").get(slot(Kind::Vm, field)).clone()
    }

    async fn refused(&self, vm: ObjectId) -> String {
        match self.try_ask(vm, "PowerOn").await {
            Err(cause) if cause.code == Code::InvalidState => cause.message,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_uuid_on_two_targets_is_frozen_until_one_lets_go() {
    let w = ruled(Arc::new(Table), half("h1"), None, 1);
    let view = View::new("fleet", &w.inventory, Layout::Fleet(Skeleton::default()));
    let (chronicle, _guard) = Chronicle::new("fleet", view.inventory());
    let vm = ObjectId::new(Kind::Vm, UUID.parse().expect("a uuid"));
    let (h1, other) = (w.find(Kind::Host, "h1"), beside(&w, "t", "h2"));
    let h2 = w.find(Kind::Host, "h2");
    assert_eq!(w.shown(vm, "host_id"), Value::Ref(h1), "the first keeps its facts");
    assert!(w.sim.holds(vm) && !other.holds(vm));
    let trouble = view.get(vm).expect("shown").record.get(slot(Kind::Vm, "trouble")).clone();
    assert!(trouble.as_str().is_some_and(|t| t.contains(" on s and on t")), "{trouble:?}");
    assert_eq!(w.refused(vm).await, trouble.as_str().unwrap_or_default());

    other.meddle(vm, "PowerOn").expect("it is off");
    assert_eq!(w.power(vm), PowerState::Stopped as i64, "the other's power is not shown");

    other.take_away(vm);
    assert!(w.shown(vm, "trouble").is_absent());
    assert!(matches!(w.ask(vm, "PowerOn").await, Outcome::Done { .. }));
    let told = |chronicle: &Chronicle| -> Vec<String> {
        let about = Filter { objects: Some(vec![vm]), ..Filter::default() };
        chronicle.query(&about).iter().map(|e| e.what.to_string()).filter(|w| w.starts_with("vm.")).collect()
    };
    assert_eq!(told(&chronicle)[..2], ["vm.trouble_began", "vm.trouble_ended"]);

    let third = beside(&w, "u", "h3");
    let before = chronicle.latest().expect("some").number;
    w.sim.take_away(vm);
    sleep(Duration::from_millis(1)).await;
    let h3 = w.find(Kind::Host, "h3");
    assert_eq!(w.shown(vm, "host_id"), Value::Ref(h3), "who is left shows it");
    assert!(third.holds(vm) && h2 != h3);
    assert!(matches!(w.ask(vm, "PowerOn").await, Outcome::Done { .. }));
    let since = Filter { after: Some(before), objects: Some(vec![vm]), ..Filter::default() };
    let moved: Vec<_> = chronicle.query(&since).iter().map(|e| e.what.to_string()).collect();
    assert!(
        moved.contains(&"vm.migrated".to_owned()) && !moved.contains(&"vm.removed".to_owned()),
        "{moved:?}"
    );
    third.take_away(vm);
    assert!(w.inventory.record(vm).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_ends_lets_go() {
    let w = ruled(Arc::new(Table), half("h1"), None, 1);
    let vm = ObjectId::new(Kind::Vm, UUID.parse().expect("a uuid"));
    let config = Config { name: "t".into(), source: half("h2"), behaviour: None, effect_log: None };
    let other = connect(config, &w.inventory, w.inventory.clock(), &w.ids).expect("a good file");
    assert!(!w.shown(vm, "trouble").is_absent());
    drop(other);
    assert!(w.shown(vm, "trouble").is_absent() && w.inventory.claimants(vm).len() == 1);
}
