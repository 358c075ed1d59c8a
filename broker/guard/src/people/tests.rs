use super::*;
use crate::{Cost, Grant, Tree};
use proptest::prelude::*;
use union::{clock::SeededIds, command::Class};
use uuid::Uuid;

fn hashed() -> Hashed {
    Hashed::new(&"secret".into(), Cost::LEAST, &SeededIds::new(1)).unwrap()
}

fn people() -> People {
    People::default().after(Change::AddUser("root".into(), hashed(), Some("admin".into()))).unwrap()
}

fn all(changes: Vec<Change>) -> Result<People, PeopleError> {
    changes.into_iter().try_fold(people(), |people, change| people.after(change))
}

fn user(name: &str, role: Option<&str>) -> Change {
    Change::AddUser(name.into(), hashed(), role.map(str::to_owned))
}

fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn id(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, Uuid::from_u128(n))
}

#[test]
fn scopes_come_from_users_and_groups() {
    let folder = id(Kind::Folder, 1);
    let scope = |who: &str, role: &str, root| {
        Change::AddScope(Scope { who: who.parse().unwrap(), role: role.into(), root, kinds: words(&["vm"]) })
    };
    let people = all(vec![
        user("eve", None),
        user("bob", Some("read-only")),
        Change::JoinGroup("night".into(), vec!["eve".into()]),
        Change::PutRole("starter".into(), words(&["PowerOn", "read"])),
        scope("group:night", "starter", Some(folder)),
        scope("user:eve", "operator", None),
    ])
    .unwrap();
    let eve = people.scopes_of("eve");
    assert_eq!(eve.len(), 2);
    let starter = eve.iter().find(|s| s.role == "starter").unwrap();
    assert_eq!(
        (starter.root_id.clone(), starter.verbs.join(" ")),
        (folder.to_string(), "PowerOn Read".into())
    );
    assert_eq!(
        people.scopes_of("bob"),
        [pb::Scope { verbs: vec!["Read".into()], role: "read-only".into(), ..Default::default() }]
    );
    assert!(people.scopes_of("nobody").is_empty());
    assert_eq!(people.groups_of("eve").collect::<Vec<_>>(), ["night"]);
    let left = people.after(Change::LeaveGroup("night".into(), vec!["eve".into()])).unwrap();
    assert_eq!(left.scopes_of("eve").len(), 1);
    let gone = people.after(Change::RemoveUser("eve".into())).unwrap();
    assert!(gone.scopes_of("eve").is_empty() && gone.groups()["night"].is_empty());
    assert!(gone.version() > people.version());
    let back = gone.after(user("eve", None)).unwrap();
    assert!(back.scopes_of("eve").is_empty(), "a name that comes back begins anew");
    assert_eq!(people.after(Change::RemoveGroup("night".into())).unwrap().scopes_of("eve").len(), 1);
}

#[test]
fn refusals() {
    let no = |changes: Vec<Change>| all(changes).unwrap_err().to_string();
    assert_eq!(no(vec![user("root", None)]), "there is already a user root");
    assert_eq!(no(vec![Change::RemoveUser("root".into())]), PeopleError::LastAdministrator.to_string());
    assert_eq!(no(vec![Change::RemoveScope(1)]), PeopleError::LastAdministrator.to_string());
    assert_eq!(no(vec![Change::RemoveUser("eve".into())]), "there is no user eve");
    assert_eq!(no(vec![user("eve", Some("owner"))]), "there is no role owner");
    assert!(no(vec![Change::PutRole("x".into(), words(&["Fly"]))]).starts_with("`Fly` is neither a verb"));
    assert!(no(vec![Change::PutRole("admin".into(), words(&[]))]).contains("built in"));
    assert!(no(vec![user("a\nb", None)]).contains("cannot be a name"));
    assert!(no(vec![Change::JoinGroup("a/b".into(), vec![])]).contains("cannot be a name"));
    assert_eq!(no(vec![Change::JoinGroup("g".into(), vec!["eve".into()])]), "there is no user eve");
    assert!(no(vec![Change::Password("root".into(), Hashed("secret".into()))]).contains("argon2id"));
    let scope = |role: &str, kinds: &[&str]| {
        Change::AddScope(Scope {
            who: Who::User("root".into()),
            role: role.into(),
            root: None,
            kinds: words(kinds),
        })
    };
    assert!(no(vec![scope("admin", &["starship"])]).starts_with("`starship` is no kind"));
    assert!(no(vec![scope("admin", &[])]).contains("the same scope, number 1"));
    let used = no(vec![
        Change::PutRole("x".into(), words(&["power"])),
        scope("x", &[]),
        Change::RemoveRole("x".into()),
    ]);
    assert_eq!(used, "the role x is used by scope 2 of user:root; remove that first");
    assert!("eve".parse::<Who>().is_err());
}

#[test]
fn what_one_user_may_do_fits_a_grant() {
    let long = "r".repeat(256);
    let every: BTreeSet<String> =
        verbs::GROUPS.iter().flat_map(|g| g.verbs).map(|verb| (*verb).to_owned()).collect();
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|k| k.word().to_owned()).collect();
    let mut now = all(vec![user("eve", None), Change::PutRole(long.clone(), every)]).unwrap();
    let refused = (0..SCOPES_OF_ONE as u128).find_map(|n| {
        let root = Some(id(Kind::Vm, n));
        let scope = Scope { who: Who::User("eve".into()), role: long.clone(), root, kinds: kinds.clone() };
        match now.after(Change::AddScope(scope)) {
            Ok(next) => {
                now = next;
                None
            }
            Err(error) => Some(error),
        }
    });
    assert_eq!(refused, Some(PeopleError::Full { what: "bytes of scopes of one user", most: BYTES_OF_ONE }));
    let content = pb::Grant { scopes: now.scopes_of("eve"), ..Default::default() };
    let keys = crate::Keys::new(&SeededIds::new(1));
    let grant = Grant::issue(content, "lab", &keys);
    assert!(crate::Check::new("lab", keys.public()).issued(&grant.signed, "").is_ok());
}

#[test]
fn templates() {
    let row = |role: &str, place: Option<&str>| TemplateRow {
        role: role.into(),
        place: place.map(str::to_owned),
        kinds: BTreeSet::new(),
    };
    let tenant = vec![row("read-only", None), row("operator", Some("folder"))];
    let made = [user("eve", None), Change::PutTemplate("tenant".into(), tenant)];
    let folder = id(Kind::Folder, 7);
    let apply = |roots: &[(&str, ObjectId)]| {
        let roots = roots.iter().map(|(place, id)| ((*place).to_owned(), *id)).collect();
        Change::ApplyTemplate("tenant".into(), Who::User("eve".into()), roots)
    };
    let with = |change: Change| all(made.iter().cloned().chain([change]).collect());
    let people = with(apply(&[("folder", folder)])).unwrap();
    let scopes = people.scopes_of("eve");
    assert_eq!(scopes.len(), 2);
    assert!(scopes.iter().any(|s| s.role == "operator" && s.root_id == folder.to_string()));
    assert_eq!(people.after(apply(&[("folder", folder)])).unwrap().scopes_of("eve").len(), 2);
    for wrong in [&[][..], &[("host", folder)], &[("folder", folder), ("host", folder)]] {
        assert!(matches!(with(apply(wrong)), Err(PeopleError::Places { .. })), "{wrong:?}");
    }
    assert!(people.after(Change::RemoveTemplate("tenant".into())).unwrap().scopes_of("eve").len() == 2);
}

#[test]
fn no_hash_is_shown() {
    let shown = format!("{:?} {:?}", people(), user("eve", None));
    assert!(!shown.contains("argon2"), "{shown}");
    let bad = People::from_rows([("user/x".to_owned(), b"[\"$argon2id$\"]".to_vec())]).unwrap_err();
    assert!(!format!("{bad} {bad:?}").contains("argon2"), "{bad:?}");
}

#[derive(Debug)]
struct Flat;

impl Tree for Flat {
    fn parents(&self, _: ObjectId, _: &mut Vec<ObjectId>) {}
}

fn some_change() -> impl Strategy<Value = Change> {
    let name = prop_oneof![Just("a"), Just("b"), Just("root"), Just("c/d")].prop_map(str::to_owned);
    let role = prop_oneof![Just("admin"), Just("read-only"), Just("r"), Just("s")].prop_map(str::to_owned);
    let who = prop_oneof![Just("user:a"), Just("user:root"), Just("group:a")]
        .prop_map(|w| w.parse::<Who>().unwrap());
    let verbs = proptest::sample::subsequence(vec!["read", "power", "PowerOn", "*", "fly"], 0..3)
        .prop_map(|w| words(&w));
    prop_oneof![
        (name.clone(), proptest::option::of(role.clone())).prop_map(|(n, r)| Change::AddUser(
            n,
            hashed_once(),
            r
        )),
        name.clone().prop_map(Change::RemoveUser),
        name.clone().prop_map(|n| Change::Password(n, hashed_once())),
        (name.clone(), name.clone()).prop_map(|(g, n)| Change::JoinGroup(g, vec![n])),
        (name.clone(), name.clone()).prop_map(|(g, n)| Change::LeaveGroup(g, vec![n])),
        name.clone().prop_map(Change::RemoveGroup),
        (role.clone(), verbs).prop_map(|(r, w)| Change::PutRole(r, w)),
        role.clone().prop_map(Change::RemoveRole),
        (who.clone(), role.clone(), proptest::option::of(0u128..3)).prop_map(|(who, role, root)| {
            Change::AddScope(Scope { who, role, root: root.map(|n| id(Kind::Vm, n)), kinds: BTreeSet::new() })
        }),
        (1u64..6).prop_map(Change::RemoveScope),
        (name.clone(), role).prop_map(|(n, role)| {
            Change::PutTemplate(
                n,
                vec![TemplateRow { role, place: Some("p".into()), kinds: BTreeSet::new() }],
            )
        }),
        (name, who, 0u128..3).prop_map(|(n, who, root)| {
            Change::ApplyTemplate(n, who, BTreeMap::from([("p".to_owned(), id(Kind::Vm, root))]))
        }),
    ]
}

fn hashed_once() -> Hashed {
    static HASHED: std::sync::OnceLock<Hashed> = std::sync::OnceLock::new();
    HASHED.get_or_init(hashed).clone()
}

proptest! {
    /// After any changes: somebody has all permissions, the rows written one after the other are the people, and whoever is no user may
    /// do nothing.
    #[test]
    fn any_changes_hold_together(changes in proptest::collection::vec(some_change(), 0..40)) {
        let mut now = people();
        let mut rows = now.to_rows();
        for change in changes {
            let adds = matches!(
                change,
                Change::AddUser(..) | Change::JoinGroup(..) | Change::PutRole(..) | Change::AddScope(_)
                    | Change::ApplyTemplate(..)
            );
            let Ok(next) = now.after(change) else { continue };
            prop_assert_eq!(next.version(), now.version() + 1);
            prop_assert!(!next.administrators().is_empty());
            for user in ["a", "b", "root"] {
                let may = |people: &People, n| {
                    let content = pb::Grant { scopes: people.scopes_of(user), expires_ms: 1, ..Default::default() };
                    let vm = id(Kind::Vm, n);
                    Grant::unsigned(content).allows("PowerOff", Class::Idempotent, vm, &Flat, 0).is_ok()
                };
                for n in 0..4 {
                    prop_assert!(adds || may(&now, n) || !may(&next, n), "taking away gave {} something", user);
                    prop_assert!(!may(&next, n) || next.hash(user).is_some());
                }
            }
            for (key, value) in next.since(&now) {
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            prop_assert_eq!(&People::from_rows(rows.clone()).unwrap(), &next);
            now = next;
        }
    }
}
