use super::*;
use crate::seal;

/// An agent's keys and its way of asking.
struct Agent {
    keys: Keys,
    ids: SeededIds,
}

impl Agent {
    fn new(seed: u64) -> Agent {
        let ids = SeededIds::new(seed);
        Agent { keys: Keys::new(&ids), ids }
    }

    fn sealed(&self, authority: &Authority, message: &impl Message) -> Vec<u8> {
        let to = authority.keys().seal_key();
        let sealed = seal::seal_message(&self.keys, &to, message, &self.ids).unwrap();
        pb::LoginRequest { sealed, sender_key: self.keys.seal_key().into_bytes() }.encode_to_vec()
    }

    fn login(&self, authority: &Authority, user: &str, password: &str) -> Vec<u8> {
        let login = pb::SealedLogin {
            user: user.into(),
            password: password.into(),
            protocol: "vsphere".into(),
            remote: HOME.to_string(),
        };
        self.sealed(authority, &login)
    }

    fn key(&self, authority: &Authority, key: &str) -> Vec<u8> {
        let sealed = pb::SealedKey { key: key.into(), protocol: "vsphere".into(), remote: HOME.to_string() };
        self.sealed(authority, &sealed)
    }
}

async fn ask<M: Message + Default>(authority: &Authority, from: &str, verb: &str, body: &[u8]) -> M {
    let answer = authority.answer(from, verb, body).await.unwrap().unwrap();
    M::decode(answer.as_slice()).unwrap()
}

#[tokio::test]
async fn the_way_over_the_bus() {
    let bench = Bench::new().await;
    let authority = &*bench.authority;
    let (east, west) = (Agent::new(1), Agent::new(2));
    let reply: pb::LoginReply = ask(authority, "east", "login", &east.login(authority, "eve", "eve")).await;
    let grant = authority.check().take(reply.grant.as_ref().unwrap(), "east", authority.now()).unwrap();
    let key = seal::open(&east.keys, &authority.keys().seal_key(), &reply.sealed_key).unwrap();
    assert!(seal::open(&west.keys, &authority.keys().seal_key(), &reply.sealed_key).is_err());
    let key = std::str::from_utf8(&key).unwrap();

    let resumed: pb::LoginReply = ask(authority, "west", "resume", &west.key(authority, key)).await;
    assert!(authority.check().issued(resumed.grant.as_ref().unwrap(), "west").is_ok());
    let again: pb::LoginReply = ask(authority, "west", "again", &west.key(authority, key)).await;
    assert!(again.grant.is_some());
    let session_ids = vec![grant.content.session_id.clone(), "nonsense".into()];
    let renew = pb::Renew { session_ids: session_ids.clone() }.encode_to_vec();
    let renewed: pb::Renewed = ask(authority, "east", "renew", &renew).await;
    assert_eq!((renewed.grants.len(), renewed.ended.len()), (1, 1));
    ask::<pb::Welcome>(authority, "east", "used", &pb::Used { session_ids }.encode_to_vec()).await;
    ask::<pb::Welcome>(authority, "west", "logout", &west.key(authority, key)).await;
    let ended: pb::LoginReply = ask(authority, "east", "resume", &east.key(authority, key)).await;
    assert_eq!(ended.refusal(), pb::LoginRefusal::LoginEnded);
}

#[tokio::test]
async fn refusals_over_the_bus() {
    let bench = Bench::new().await;
    let authority = &*bench.authority;
    let east = Agent::new(1);
    for _ in 0..5 {
        let reply: pb::LoginReply =
            ask(authority, "east", "login", &east.login(authority, "eve", "no")).await;
        assert_eq!((reply.refusal(), reply.grant), (pb::LoginRefusal::LoginWrong, None));
    }
    let reply: pb::LoginReply = ask(authority, "east", "login", &east.login(authority, "eve", "eve")).await;
    assert_eq!((reply.refusal(), reply.retry_after_ms), (pb::LoginRefusal::LoginRateLimited, 1_000));
    assert!(authority.answer("east", "perform", &[]).await.is_none());
    for verb in ["login", "again", "resume", "logout"] {
        let open = pb::SealedLogin { user: "eve".into(), password: "eve".into(), ..Default::default() };
        for body in [vec![], vec![0xff], open.encode_to_vec()] {
            let cause = authority.answer("east", verb, &body).await.unwrap().unwrap_err();
            assert_eq!(cause.code, Code::InvalidArgument, "{verb}");
        }
    }
}

#[tokio::test]
async fn the_key_for_logins_is_proved() {
    let bench = Bench::new().await;
    let mut welcome = pb::Welcome::default();
    bench.authority.welcome(&mut welcome);
    let engine: Public = bench.authority.keys().public();
    assert!(engine.proves_seal_key("lab", &welcome.seal_key, &welcome.seal_proof));
    assert_eq!(welcome.now_ms, bench.authority.now());
}

#[tokio::test]
async fn a_login_that_is_replayed_is_seen_by_its_signature() {
    let bench = Bench::new().await;
    let east = Agent::new(1);
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(8));
    let signer = Signer::new("lab", "east", east.keys.clone(), bench.clock.clone(), ids);
    let verifier = Verifier::new("lab", bench.clock.clone());
    let signed = signer.sign("service.engine-lab.login", east.login(&bench.authority, "eve", "eve"));
    let key = east.keys.public();
    assert!(verifier.verify("service.engine-lab.login", &signed, &key).is_ok());
    assert!(matches!(
        verifier.verify("service.engine-lab.login", &signed, &key),
        Err(crate::SignedError::Replayed { .. })
    ));
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever an agent sends, it is answered or refused, and begins nothing.
        #[test]
        fn any_bytes_are_refused(verb in 0usize..6, body in proptest::collection::vec(any::<u8>(), 0..200), sealed in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let bench = Bench::new().await;
                let agent = Agent::new(1);
                let body = match sealed {
                    true => {
                        let to = bench.authority.keys().seal_key();
                        let sealed = seal::seal(&agent.keys, &to, &body, &agent.ids).unwrap();
                        pb::LoginRequest { sealed, sender_key: agent.keys.seal_key().into_bytes() }.encode_to_vec()
                    }
                    false => body,
                };
                let verb = ["login", "again", "resume", "logout", "used", "renew"][verb];
                if let Some(Ok(answer)) = bench.authority.answer("east", verb, &body).await {
                    let granted = pb::LoginReply::decode(answer.as_slice()).is_ok_and(|reply| reply.grant.is_some());
                    assert!(!granted, "{verb}");
                }
                assert_eq!(bench.authority.table.lock().len(), 0);
            });
        }

        #[test]
        fn any_request_of_ctl_is_answered(request in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let bench = Bench::new().await;
                let version = bench.authority.people().version();
                for request in [request, format!("{{\"session-revoke\":{{\"session\":{text:?}}}}}").into_bytes()] {
                    let answer = bench.authority.admin_json("ctl", &request).await;
                    let answer: Response = serde_json::from_slice(&answer).unwrap();
                    assert!(!answer.is_good());
                }
                assert_eq!(bench.authority.people().version(), version);
            });
        }
    }
}

#[tokio::test]
async fn the_directory_is_for_who_may_know() {
    let bench = Bench::new().await;
    let authority = &*bench.authority;
    let (root, eve) = (bench.login("root", "east").await, bench.login("eve", "west").await);
    let asks = |opened: &Opened, end: &[&str]| {
        let end = end.iter().map(|id| (*id).to_owned()).collect();
        pb::DirectoryRequest { session_id: session(opened).to_owned(), end }.encode_to_vec()
    };
    let all: pb::Directory = ask(authority, "east", "directory", &asks(&root, &[])).await;
    let who = |directory: &pb::Directory| {
        let mut who: Vec<String> = directory.permissions.iter().map(|p| p.who.clone()).collect();
        who.sort();
        who
    };
    assert!(all.whole);
    assert_eq!(who(&all), ["eve", "eye", "root"]);
    assert_eq!(all.sessions.len(), 2);
    let own: pb::Directory = ask(authority, "west", "directory", &asks(&eve, &[])).await;
    assert!(!own.whole && own.groups.is_empty());
    assert_eq!(who(&own), ["eve"]);
    assert_eq!(own.sessions.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), [session(&eve)]);
    // A session that another agent holds is nobody's here, and who may not end others' ends nobody.
    for (from, body) in [
        ("west", asks(&root, &[])),
        ("west", asks(&eve, &[session(&root)])),
        ("east", asks(&root, &["nonsense"])),
    ] {
        assert!(authority.answer(from, "directory", &body).await.unwrap().is_err());
    }
    let after: pb::Directory = ask(authority, "east", "directory", &asks(&root, &[session(&eve)])).await;
    assert_eq!(after.sessions.len(), 1);
    assert_eq!(*bench.heard.ended.lock(), [session(&eve)]);
}
