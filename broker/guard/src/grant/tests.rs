use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use union::clock::SeededIds;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Hangs(HashMap<ObjectId, Vec<ObjectId>>);

impl Tree for Hangs {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        out.extend(self.0.get(&id).into_iter().flatten());
    }
}

fn id(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, Uuid::from_u128(n))
}

fn keys(seed: u64) -> Keys {
    Keys::new(&SeededIds::new(seed))
}

fn grant(scopes: Vec<pb::Scope>) -> Grant {
    let content = pb::Grant {
        session_id: "s".into(),
        principal: "eve".into(),
        agent: "east".into(),
        scopes,
        expires_ms: 1_000,
        ..Default::default()
    };
    Grant::issue(content, "lab", &keys(1))
}

fn unsigned(scopes: Vec<pb::Scope>) -> Grant {
    Grant::unsigned(pb::Grant { scopes, expires_ms: 1_000, ..Default::default() })
}

fn scope(root: Option<ObjectId>, kinds: &[Kind], verbs: &[&str]) -> pb::Scope {
    pb::Scope {
        root_id: root.map_or(String::new(), |id| id.to_string()),
        kinds: kinds.iter().map(|k| k.word().to_owned()).collect(),
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        role: "r".into(),
    }
}

#[test]
fn a_scope_covers_what_hangs_below() {
    let (dc, folder, vm, other) =
        (id(Kind::Datacenter, 1), id(Kind::Folder, 2), id(Kind::Vm, 3), id(Kind::Vm, 4));
    let tree = Hangs(HashMap::from([(vm, vec![folder]), (folder, vec![dc]), (dc, vec![folder])]));
    let allows =
        |grant: &Grant, verb: &str, class, object| grant.allows(verb, class, object, &tree, 0).is_ok();
    for root in [dc, folder, vm] {
        let grant = grant(vec![scope(Some(root), &[], &["PowerOn"])]);
        assert!(allows(&grant, "PowerOn", Class::Idempotent, vm), "{root}");
        assert!(!allows(&grant, "PowerOff", Class::Idempotent, vm));
        assert!(!allows(&grant, "PowerOn", Class::Idempotent, other));
    }
    let of_vms = grant(vec![scope(Some(dc), &[Kind::Vm], &["*"])]);
    assert!(
        allows(&of_vms, "RenameVm", Class::Idempotent, vm)
            && !allows(&of_vms, "RenameFolder", Class::Idempotent, folder)
    );
    let reads = grant(vec![scope(None, &[], &["Read"])]);
    assert!(
        allows(&reads, "Whatever", Class::Read, other)
            && !allows(&reads, "PowerOn", Class::Idempotent, other)
    );
    assert!(!allows(&grant(vec![]), "Whatever", Class::Read, other));
    let nonsense = pb::Scope { root_id: "vm:?".into(), ..scope(None, &[], &["*"]) };
    assert!(!allows(&grant(vec![nonsense]), "PowerOn", Class::Idempotent, vm));
    let unknown = pb::Scope { kinds: vec!["starship".into()], ..scope(None, &[], &["*"]) };
    assert!(!allows(&grant(vec![unknown]), "PowerOn", Class::Idempotent, vm));
}

#[test]
fn an_old_one_covers_nothing() {
    let grant = grant(vec![scope(None, &[], &["*"])]);
    assert!(grant.allows("PowerOn", Class::Idempotent, id(Kind::Vm, 1), &Hangs::default(), 999).is_ok());
    let cause =
        grant.allows("PowerOn", Class::Idempotent, id(Kind::Vm, 1), &Hangs::default(), 1_000).unwrap_err();
    assert_eq!(cause.code, Code::Permission);
    assert!(cause.message.contains("eve has a session whose permissions are too old"), "{cause}");
}

#[test]
fn forged_changed_or_anothers_is_refused() {
    let check = Check::new("lab", keys(1).public());
    let good = grant(vec![scope(None, &[], &["Read"])]);
    assert_eq!(check.take(&good.signed, "east", 0).unwrap(), good);
    assert!(matches!(check.take(&good.signed, "west", 0), Err(GrantError::Agent { .. })));
    assert!(matches!(check.take(&good.signed, "east", 1_000), Err(GrantError::Expired { .. })));
    assert_eq!(check.issued(&good.signed, "east").unwrap(), good, "it was valid once");
    let forged = Grant::issue(good.content.clone(), "lab", &keys(2));
    assert_eq!(check.take(&forged.signed, "east", 0), Err(GrantError::Forged));
    let elsewhere = Grant::issue(good.content.clone(), "other", &keys(1));
    assert_eq!(check.take(&elsewhere.signed, "east", 0), Err(GrantError::Forged));
    let wider = pb::Grant { scopes: vec![scope(None, &[], &["*"])], ..good.content.clone() };
    let wider = pb::SignedGrant { grant: wider.encode_to_vec(), signature: good.signed.signature.clone() };
    assert_eq!(check.take(&wider, "east", 0), Err(GrantError::Forged));
    for at in 0..good.signed.grant.len() {
        let mut changed = good.signed.clone();
        changed.grant[at] ^= 1;
        assert_eq!(check.take(&changed, "east", 0), Err(GrantError::Forged), "byte {at}");
    }
    assert_eq!(check.take(&pb::SignedGrant::default(), "east", 0), Err(GrantError::Forged));
    let long = pb::SignedGrant { grant: vec![0; MOST + 1], ..Default::default() };
    assert_eq!(check.take(&long, "east", 0), Err(GrantError::Forged));
}

fn some_scope() -> impl Strategy<Value = pb::Scope> {
    let verbs = proptest::sample::subsequence(vec!["*", "Read", "PowerOn", "RenameFolder"], 0..3);
    let kinds = proptest::sample::subsequence(vec![Kind::Vm, Kind::Folder], 0..3);
    (proptest::option::of(0u128..6), kinds, verbs).prop_map(|(root, kinds, verbs)| {
        scope(root.map(|n| id(if n < 3 { Kind::Folder } else { Kind::Vm }, n)), &kinds, &verbs)
    })
}

proptest! {
    /// Leaving a scope out, or narrowing it, never allows anything more; hanging an object elsewhere gives only what covers that place.
    #[test]
    fn scopes_never_widen(
        scopes in proptest::collection::vec(some_scope(), 0..5),
        parents in proptest::collection::vec(proptest::collection::vec(0u128..3, 0..3), 6),
        left_out in 0usize..5,
        root in 0u128..3,
    ) {
        let name = |n: u128| id(if n < 3 { Kind::Folder } else { Kind::Vm }, n);
        let hangs = |n: usize| (name(n as u128), parents[n].iter().map(|p| name(*p)).collect());
        let tree = Hangs((0..6).map(hangs).collect());
        let all = unsigned(scopes.clone());
        let mut fewer = scopes.clone();
        if left_out < fewer.len() {
            fewer.remove(left_out);
        }
        let fewer = unsigned(fewer);
        let narrow = |s: &pb::Scope| match s.root_id.is_empty() {
            true => pb::Scope { root_id: name(root).to_string(), ..s.clone() },
            false => s.clone(),
        };
        let rooted = unsigned(scopes.iter().map(narrow).collect());
        let of_vms = |s: &pb::Scope| match s.kinds.is_empty() {
            true => pb::Scope { kinds: vec!["vm".into()], ..s.clone() },
            false => s.clone(),
        };
        let of_vms = unsigned(scopes.iter().map(of_vms).collect());
        for n in 0..6 {
            for (verb, class) in [("PowerOn", Class::Idempotent), ("RenameFolder", Class::Idempotent), ("See", Class::Read)] {
                let allowed = all.allows(verb, class, name(n), &tree, 0).is_ok();
                for narrower in [&fewer, &rooted, &of_vms] {
                    prop_assert!(allowed || narrower.allows(verb, class, name(n), &tree, 0).is_err());
                }
                let by_one = scopes.iter().any(|s| unsigned(vec![s.clone()]).allows(verb, class, name(n), &tree, 0).is_ok());
                prop_assert_eq!(allowed, by_one, "scopes add up and do nothing else");
            }
        }
    }
}
