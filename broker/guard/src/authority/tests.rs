use super::*;
use crate::{
    Cost, Pass, Public, Signer, Tree, Users, Verifier,
    authority::admin::{Request, Response},
    people::{Change, Hashed, Scope, Who},
};
use prost::Message;
use std::collections::BTreeSet;
use union::{
    Command, CommandId, Kind, ObjectId, Origin, Schema, Value,
    clock::{ManualClock, SeededIds},
    command::{Cause, Code},
    pb,
};
use uuid::Uuid;

mod admin_tests;
mod desk_tests;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

struct Flat;

impl Tree for Flat {
    fn parents(&self, _: ObjectId, _: &mut Vec<ObjectId>) {}
}

#[derive(Debug, Default)]
struct Heard {
    ended: Mutex<Vec<String>>,
    granted: Mutex<Vec<(String, Grant)>>,
}

impl Told for Heard {
    fn ended(&self, session: &str) {
        self.ended.lock().push(session.to_owned());
    }

    fn granted(&self, agent: &str, grant: &Grant) {
        self.granted.lock().push((agent.to_owned(), grant.clone()));
    }
}

struct Bench {
    authority: Arc<Authority>,
    clock: Arc<ManualClock>,
    ids: Arc<SeededIds>,
    keep: MemoryKeep,
    heard: Arc<Heard>,
    settings: Settings,
}

fn hashed(password: &str) -> Hashed {
    Hashed::new(&password.into(), Cost::LEAST, &SeededIds::new(1)).unwrap()
}

fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, Uuid::from_u128(n))
}

impl Bench {
    /// Users `root` (all), `eve` (operator on VM 1), `eye` (reads); passwords are their names.
    async fn new() -> Bench {
        Bench::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Bench {
        let passwords = passwords::Settings { cost: Cost::LEAST, ..settings.passwords };
        let settings = Settings { passwords, ..settings };
        let (clock, ids) = (Arc::new(ManualClock::new(1_000_000_000)), Arc::new(SeededIds::new(5)));
        let keep = MemoryKeep::new();
        let authority = open(&keep, &clock, &ids, settings).await;
        let scope = Scope {
            who: Who::User("eve".into()),
            role: "operator".into(),
            root: Some(vm(1)),
            kinds: BTreeSet::new(),
        };
        for change in [
            Change::AddUser("root".into(), hashed("root"), Some("admin".into())),
            Change::AddUser("eve".into(), hashed("eve"), None),
            Change::AddUser("eye".into(), hashed("eye"), Some("read-only".into())),
            Change::AddScope(scope),
        ] {
            authority.change("test", change).await.unwrap();
        }
        let heard = Arc::new(Heard::default());
        authority.tell(heard.clone());
        Bench { authority, clock, ids, keep, heard, settings }
    }

    async fn restart(&mut self) {
        self.authority = open(&self.keep, &self.clock, &self.ids, self.settings).await;
        self.authority.tell(self.heard.clone());
    }

    async fn login(&self, user: &str, agent: &str) -> Opened {
        self.try_login(user, user, agent).await.unwrap()
    }

    async fn try_login(&self, user: &str, password: &str, agent: &str) -> Result<Opened, LoginError> {
        let applicant = Applicant { user, password: &password.into(), remote: HOME, protocol: "vsphere" };
        self.authority.login(agent, &applicant).await
    }

    fn minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }

    fn verdicts(&self, verb: &str) -> Vec<(String, String)> {
        let audit = self.keep.audit().into_iter().filter(|entry| &*entry.verb == verb);
        audit.map(|entry| (entry.principal.to_string(), entry.verdict.to_string())).collect()
    }

    fn admit(&self, from: &str, command: &Command, shown: &Grant) -> Result<Arc<Grant>, Cause> {
        self.authority.admit(from, command, Some(&shown.signed), &Flat)
    }
}

async fn open(
    keep: &MemoryKeep,
    clock: &Arc<ManualClock>,
    ids: &Arc<SeededIds>,
    settings: Settings,
) -> Arc<Authority> {
    let deps = Deps {
        keep: Arc::new(keep.clone()),
        keys: Keys::new(&SeededIds::new(77)),
        domain: "lab".into(),
        clock: clock.clone(),
        ids: ids.clone(),
        settings,
    };
    Authority::open(deps).await.unwrap()
}

fn session(opened: &Opened) -> &str {
    &opened.grant.content.session_id
}

fn command(verb: &str, object: ObjectId, principal: &str, session: &str) -> Command {
    let schema = Schema::base();
    let message = schema.message(verb).unwrap();
    Command {
        id: CommandId(Uuid::from_u128(9)),
        verb: verb.into(),
        schema: message.command.clone().unwrap(),
        object,
        body: Arc::new(message.record()),
        principal: principal.into(),
        session: session.into(),
        deadline_ms: i64::MAX,
        origin: Origin { protocol: "vsphere".into(), view: "fleet".into(), method: "X".into() },
    }
}

#[tokio::test]
async fn a_login_is_a_session_everywhere() {
    let mut bench = Bench::new().await;
    let opened = bench.login("eve", "east").await;
    assert_eq!((opened.key.expose().len(), &*opened.grant.content.agent), (40, "east"));
    assert!(bench.authority.check().take(&opened.grant.signed, "east", bench.authority.now()).is_ok());
    assert!(bench.authority.resume("west", &"nonsense".into(), "vsphere").await.is_none());
    assert!(bench.authority.resume("west", &opened.key, "xapi").await.is_none());
    let west = bench.authority.resume("west", &opened.key, "vsphere").await.unwrap();
    assert_eq!((session(&west), &*west.grant.content.agent), (session(&opened), "west"));
    bench.restart().await;
    let again = bench.authority.resume("west", &opened.key, "vsphere").await.unwrap();
    assert_eq!(
        (session(&again), again.grant.content.created_ms),
        (session(&opened), opened.grant.content.created_ms)
    );
    let kept = format!("{:?} {:?}", bench.keep.load().await.unwrap(), bench.authority);
    assert!(!kept.contains(opened.key.expose()) && !kept.contains("argon2"), "no secret is kept or shown");
    assert_eq!(bench.verdicts("Login"), [("eve".to_owned(), "allowed".to_owned())]);
    assert!(bench.authority.logout("west", &opened.key).await);
    assert!(!bench.authority.logout("west", &opened.key).await);
    assert_eq!(*bench.heard.ended.lock(), [session(&opened)]);
    bench.restart().await;
    assert!(bench.authority.resume("west", &opened.key, "vsphere").await.is_none());
}

#[tokio::test]
async fn wrong_passwords_are_refused_limited_and_audited() {
    let bench = Bench::new().await;
    for (user, password) in [("eve", "root"), ("nobody", "eve"), ("EVE", "eve")] {
        assert_eq!(bench.try_login(user, password, "east").await.unwrap_err(), LoginError::Wrong);
    }
    assert_eq!(bench.verdicts("Login").len(), 3);
    for _ in 0..4 {
        bench.try_login("eve", "no", "east").await.unwrap_err();
    }
    // Another agent's front does not give more guesses.
    let limited = bench.try_login("eve", "eve", "west").await.unwrap_err();
    assert!(matches!(limited, LoginError::RateLimited { .. }));
    assert_eq!(bench.verdicts("Login").len(), 7, "what was not looked at is not audited");
}

#[tokio::test]
async fn idle_sessions_end_and_used_ones_do_not() {
    let mut bench = Bench::new().await;
    let (idle, used) = (bench.login("eve", "east").await, bench.login("eve", "east").await);
    for _ in 0..4 {
        bench.minutes(8);
        bench.authority.used("west", [session(&idle)]);
        bench.authority.used("east", [session(&used), "nonsense"]);
    }
    assert_eq!(bench.authority.sweep().await, 1);
    assert_eq!(*bench.heard.ended.lock(), [session(&idle)]);
    bench.authority.flush().await;
    bench.minutes(29);
    bench.restart().await;
    assert!(bench.authority.resume("east", &used.key, "vsphere").await.is_some());
    bench.minutes(24 * 60 + 1);
    bench.restart().await;
    assert!(
        bench.authority.resume("east", &used.key, "vsphere").await.is_none(),
        "an engine that was away for a day"
    );
}

#[tokio::test]
async fn a_start_gives_sessions_time_to_be_told_of() {
    let mut bench = Bench::new().await;
    let opened = bench.login("eve", "east").await;
    bench.minutes(120);
    bench.restart().await;
    bench.authority.used("east", [session(&opened)]);
    bench.minutes(20);
    assert!(bench.authority.resume("east", &opened.key, "vsphere").await.is_some());
    let quiet = bench.login("eve", "east").await;
    bench.minutes(120);
    bench.restart().await;
    bench.minutes(6);
    assert!(bench.authority.resume("east", &quiet.key, "vsphere").await.is_none());
}

#[tokio::test]
async fn nobody_has_too_many_sessions() {
    let bench = Bench::with(Settings { per_user: 3, most: 4, ..Settings::default() }).await;
    let first = bench.login("eve", "east").await;
    for _ in 0..2 {
        bench.login("eve", "east").await;
    }
    assert_eq!(bench.try_login("eve", "eve", "east").await.unwrap_err(), LoginError::Busy);
    bench.login("eye", "east").await;
    assert_eq!(bench.try_login("root", "root", "east").await.unwrap_err(), LoginError::Busy);
    bench.minutes(31);
    bench.authority.sweep().await;
    let mine = bench.login("eve", "east").await;
    bench.minutes(1);
    bench.login("eve", "east").await;
    bench.login("eve", "east").await;
    bench.login("eve", "east").await;
    assert!(bench.heard.ended.lock().contains(&session(&mine).to_owned()), "the one idle longest makes room");
    assert!(bench.authority.resume("east", &first.key, "vsphere").await.is_none());
}

#[tokio::test]
async fn revoked_sessions_take_nobodys_room() {
    let bench = Bench::with(Settings { most: 4, ..Settings::default() }).await;
    let mut last = None;
    for _ in 0..10 {
        for _ in 0..4 {
            last = Some(bench.login("eve", "east").await);
        }
        assert_eq!(bench.try_login("eve", "eve", "east").await.unwrap_err(), LoginError::Busy);
        bench.minutes(1);
        assert_eq!(bench.authority.revoke("test", None, Some("eve")).await.unwrap(), 4);
        assert!(bench.authority.table.lock().len() <= 8);
        assert!(bench.keep.load().await.unwrap().sessions.len() <= 8);
    }
    assert!(bench.authority.revoked().contains(&session(&last.unwrap()).to_owned()));
}

#[tokio::test]
async fn a_clone_is_a_session_of_its_own() {
    let bench = Bench::new().await;
    let one = bench.login("eve", "east").await;
    let two = bench.authority.again("east", &one.key, HOME).await.unwrap();
    assert_ne!(session(&one), session(&two));
    assert_eq!(two.grant.content.principal, "eve");
    bench.authority.logout("east", &one.key).await;
    assert_eq!(bench.authority.again("east", &one.key, HOME).await.unwrap_err(), LoginError::Wrong);
    assert!(bench.authority.resume("east", &two.key, "vsphere").await.is_some());
}

#[tokio::test]
async fn commands_are_admitted_by_what_is_so_now() {
    let bench = Bench::new().await;
    let (eve, root) = (bench.login("eve", "east").await, bench.login("root", "west").await);
    let on = command("PowerOn", vm(1), "eve", session(&eve));
    assert_eq!(bench.admit("east", &on, &eve.grant).unwrap().content.principal, "eve");
    let refused = |result: Result<Arc<Grant>, Cause>, why: &str| {
        let cause = result.unwrap_err();
        assert_eq!(cause.code, Code::Permission);
        assert!(cause.message.contains(why), "{cause}");
    };
    let elsewhere = command("PowerOn", vm(2), "eve", session(&eve));
    refused(bench.admit("east", &elsewhere, &eve.grant), "has no permission");
    refused(
        bench.admit("east", &command("RenameVm", vm(1), "eve", session(&eve)), &eve.grant),
        "has no permission",
    );
    // Another agent's grant, another session's, another principal, none, one only to perform with.
    refused(bench.admit("west", &on, &eve.grant), "for the agent east");
    refused(
        bench.admit("east", &command("PowerOn", vm(2), "root", session(&root)), &eve.grant),
        "was not signed",
    );
    refused(bench.admit("east", &command("PowerOn", vm(1), "root", session(&eve)), &eve.grant), "names root");
    refused(bench.authority.admit("east", &on, None, &Flat), "was not signed");
    let performs = bench.authority.grant_to_perform(session(&root), "east").unwrap();
    assert!(performs.content.performs_only);
    let stolen = command("PowerOn", vm(2), "root", session(&root));
    refused(bench.admit("east", &stolen, &performs), "was not signed");
    let (renewed, ended) = bench.authority.renew("east", [session(&root)]);
    assert!(renewed.is_empty() && ended == [session(&root)], "only a key gives an agent a session");
    // Forged as a whole.
    let forged = Grant::issue(root.grant.content.clone(), "lab", &Keys::new(&SeededIds::new(1)));
    refused(bench.admit("west", &stolen, &forged), "was not signed");
    // Revoked: at once, whatever the grant says.
    bench.authority.revoke("test", Some(session(&eve)), None).await.unwrap();
    refused(bench.admit("east", &on, &eve.grant), "has ended");
    assert!(bench.authority.grant_to_perform(session(&eve), "east").is_err());
}

#[tokio::test]
async fn moving_needs_permission_for_what_is_moved() {
    let bench = Bench::new().await;
    let folder = ObjectId::new(Kind::Folder, Uuid::from_u128(1));
    let scope = |root| {
        Change::AddScope(Scope {
            who: Who::User("eve".into()),
            role: "mover".into(),
            root: Some(root),
            kinds: BTreeSet::new(),
        })
    };
    let words = BTreeSet::from(["folders".to_owned()]);
    bench.authority.change("test", Change::PutRole("mover".into(), words)).await.unwrap();
    bench.authority.change("test", scope(folder)).await.unwrap();
    let eve = bench.login("eve", "east").await;
    let mut moving = command("MoveIntoFolder", folder, "eve", session(&eve));
    let schema = Schema::base();
    let slot = schema.message("MoveIntoFolder").unwrap().field("object_ids").unwrap().slot;
    let mut body = (*moving.body).clone();
    body.set(slot, Value::list([Value::Ref(vm(1))]));
    moving.body = Arc::new(body);
    assert!(bench.admit("east", &moving, &eve.grant).is_err(), "a VM cannot be pulled into one's own folder");
    bench.authority.change("test", scope(vm(1))).await.unwrap();
    assert!(bench.admit("east", &moving, &eve.grant).is_ok());
}

#[tokio::test]
async fn changed_permissions_reach_the_agents() {
    let mut bench = Bench::new().await;
    let eve = bench.login("eve", "east").await;
    bench.authority.resume("west", &eve.key, "vsphere").await.unwrap();
    let root = bench.login("root", "east").await;
    bench.restart().await;
    let more =
        Scope { who: Who::User("eve".into()), role: "read-only".into(), root: None, kinds: BTreeSet::new() };
    bench.authority.change("root", Change::AddScope(more)).await.unwrap();
    {
        let granted = bench.heard.granted.lock();
        let agents: BTreeSet<&str> = granted.iter().map(|(agent, _)| agent.as_str()).collect();
        assert_eq!(agents, BTreeSet::from(["east", "west"]));
        assert!(
            granted.iter().all(
                |(_, grant)| grant.content.session_id == session(&eve) && grant.content.scopes.len() == 2
            )
        );
        assert!(granted[0].1.content.version > eve.grant.content.version);
    }
    bench.authority.change("root", Change::Password("eve".into(), hashed("new"))).await.unwrap();
    assert_eq!(*bench.heard.ended.lock(), [session(&eve)]);
    let eve = bench.try_login("eve", "new", "east").await.unwrap();
    bench.authority.change("root", Change::RemoveUser("eve".into())).await.unwrap();
    assert!(bench.authority.resume("east", &eve.key, "vsphere").await.is_none());
    assert_eq!(bench.authority.again("east", &eve.key, HOME).await.unwrap_err(), LoginError::Wrong);
    assert_eq!(bench.authority.revoked().len(), 2);
    assert!(bench.authority.resume("east", &root.key, "vsphere").await.is_some());
    bench.restart().await;
    assert_eq!(bench.authority.revoked().len(), 2, "agents that were away hear of it");
    bench.minutes(24 * 60);
    bench.authority.sweep().await;
    assert!(bench.authority.revoked().is_empty());
}

#[tokio::test]
async fn a_full_store_refuses_changes_and_still_lets_in() {
    let mut bench = Bench::new().await;
    let early = bench.login("eve", "east").await;
    bench.keep.refuse(true);
    let refused = bench.authority.change("root", Change::RemoveUser("eve".into())).await;
    assert!(matches!(refused, Err(AdminError::Keep(_))));
    assert!(bench.authority.people().hash("eve").is_some(), "nothing was changed");
    let late = bench.login("eve", "east").await;
    assert!(bench.authority.revoke("root", Some(session(&early)), None).await.is_err());
    assert!(bench.authority.resume("east", &early.key, "vsphere").await.is_none(), "revoked all the same");
    bench.authority.logout("east", &bench.login("eye", "east").await.key).await;
    bench.authority.flush().await;
    bench.keep.refuse(false);
    bench.authority.flush().await;
    bench.restart().await;
    assert!(bench.authority.resume("east", &early.key, "vsphere").await.is_none());
    assert!(bench.authority.resume("east", &late.key, "vsphere").await.is_some());
}

#[tokio::test]
async fn a_session_keeps_its_bundle_for_a_day() {
    let bench = Bench::new().await;
    bench.authority.set_bundle("one");
    let eve = bench.login("eve", "east").await;
    bench.authority.set_bundle("two");
    assert_eq!(bench.login("eve", "east").await.grant.content.bundle, "two");
    for _ in 0..24 * 3 {
        let (renewed, _) = bench.authority.renew("east", [session(&eve)]);
        assert_eq!(renewed[0].content.bundle, "one");
        bench.minutes(20);
        bench.authority.used("east", [session(&eve)]);
    }
    assert_eq!(bench.authority.renew("east", [session(&eve)]).0[0].content.bundle, "two");
}

#[tokio::test]
async fn the_first_administrator() {
    let (clock, ids, keep) = (Arc::new(ManualClock::new(0)), Arc::new(SeededIds::new(5)), MemoryKeep::new());
    let authority = open(&keep, &clock, &ids, Settings::default()).await;
    let unsaid =
        authority.first_admin(None, None, None, Cost::LEAST, |_| Err(std::io::Error::other("closed"))).await;
    assert!(matches!(unsaid, Err(AdminError::Unsaid(_))) && authority.people().is_empty());
    let made = authority.first_admin(None, None, None, Cost::LEAST, |_| Ok(())).await.unwrap();
    let crate::FirstAdmin::Generated { name, password } = made else {
        panic!("expected a password: {made:?}")
    };
    assert_eq!((name.as_str(), password.expose().len()), ("admin", 24));
    let applicant = Applicant { user: "admin", password: &password, remote: HOME, protocol: "vsphere" };
    assert!(authority.login("east", &applicant).await.is_ok());
    let again =
        authority.first_admin(None, Some("x"), Some("y".into()), Cost::LEAST, |_| Ok(())).await.unwrap();
    assert!(matches!(again, crate::FirstAdmin::Present));
}

#[tokio::test]
async fn an_earlier_versions_users_are_taken_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let row = |name: &str, role: &str| {
        format!("[[user]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{}\"\n", hashed(name).0)
    };
    std::fs::write(&path, row("eye", "read-only") + &row("root", "admin")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let users = Users::open(&path).unwrap();
    let (clock, ids, keep) = (Arc::new(ManualClock::new(0)), Arc::new(SeededIds::new(5)), MemoryKeep::new());
    let authority = open(&keep, &clock, &ids, Settings::default()).await;
    let first = authority.first_admin(Some(&users), None, None, Cost::LEAST, |_| Ok(())).await.unwrap();
    assert!(matches!(first, crate::FirstAdmin::Present));
    for (user, verb) in [("root", "*"), ("eye", "Read")] {
        let applicant = Applicant { user, password: &user.into(), remote: HOME, protocol: "vsphere" };
        let opened = authority.login("east", &applicant).await.unwrap();
        assert_eq!(opened.grant.content.scopes[0].verbs, [verb]);
    }
    authority.change("root", Change::RemoveUser("eye".into())).await.unwrap();
    authority.first_admin(Some(&users), None, None, Cost::LEAST, |_| Ok(())).await.unwrap();
    assert!(authority.people().hash("eye").is_none(), "who was removed does not come back");
}

#[tokio::test]
async fn one_process_hears_of_its_own_sessions() {
    let bench = Bench::new().await;
    let local = crate::Local::new(bench.authority.clone(), "local", bench.clock.clone());
    use crate::Logins;
    let applicant = Applicant { user: "eve", password: &"eve".into(), remote: HOME, protocol: "vsphere" };
    let pass: Pass = local.login(applicant).await.unwrap();
    assert!(
        pass.authorize("PowerOn", union::command::Class::Idempotent, vm(1), &Flat, bench.authority.now())
            .is_ok()
    );
    let same = local.resume(&pass.key, "vsphere").await.unwrap().unwrap();
    let clone = local.again(&pass, HOME).await.unwrap();
    assert!(same.session == pass.session && clone.session != pass.session);
    bench.authority.change("root", Change::RemoveScope(3)).await.unwrap();
    assert!(pass.now().content.scopes.is_empty() && same.now().content.scopes.is_empty(), "{:?}", pass.now());
    bench.authority.revoke("root", None, Some("eve")).await.unwrap();
    assert!(pass.ended.is_cancelled() && same.ended.is_cancelled() && clone.ended.is_cancelled());
    assert!(local.resume(&pass.key, "vsphere").await.unwrap().is_none());
    let pass = local.login(applicant).await.unwrap();
    local.end(&pass).await;
    assert!(pass.ended.is_cancelled() && local.passes().sessions().is_empty());
}
