use super::*;
use async_trait::async_trait;
use guard::Grant;
use parking_lot::Mutex;
use union::{clock::ManualClock, pb};

/// An engine that lets everybody in and counts what it is asked.
#[derive(Debug, Default)]
struct Engine {
    sessions: Mutex<FxHashMap<String, Pass>>,
    asked: AtomicUsize,
    used: AtomicUsize,
    away: std::sync::atomic::AtomicBool,
}

impl Engine {
    fn pass(&self, principal: &str) -> Pass {
        let mut sessions = self.sessions.lock();
        let key = format!("key-{}", sessions.len());
        let grant = Grant::unsigned(pb::Grant::default());
        let pass = Pass {
            session: format!("id-{}", sessions.len()).into(),
            key: Secret::new(&*key),
            principal: principal.into(),
            created_ms: 1_000,
            ended: CancellationToken::new(),
            grant: Arc::new(RwLock::new(Arc::new(grant))),
            refusals: Arc::default(),
        };
        sessions.insert(key, pass.clone());
        pass
    }
}

#[async_trait]
impl Logins for Engine {
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError> {
        Ok(self.pass(applicant.user))
    }

    async fn again(&self, pass: &Pass, _: IpAddr) -> Result<Pass, LoginError> {
        Ok(self.pass(&pass.principal))
    }

    async fn resume(&self, key: &Secret, _: &str) -> Result<Option<Pass>, LoginError> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        tokio::task::yield_now().await;
        if self.away.load(Ordering::Acquire) {
            return Err(LoginError::Busy);
        }
        Ok(self.sessions.lock().get(key.expose()).filter(|pass| !pass.ended.is_cancelled()).cloned())
    }

    async fn end(&self, pass: &Pass) {
        pass.ended.cancel();
    }

    fn used(&self, _: &Pass) {
        self.used.fetch_add(1, Ordering::AcqRel);
    }
}

const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn sessions(settings: Settings) -> (Arc<Sessions<u32>>, Arc<ManualClock>, Arc<Engine>) {
    let clock = Arc::new(ManualClock::new(1_000));
    let engine = Arc::new(Engine::default());
    let timer: Arc<dyn Clock> = clock.clone();
    (Sessions::new(settings, timer, engine.clone(), "test"), clock, engine)
}

async fn create(sessions: &Sessions<u32>, name: &str) -> Result<Arc<Session<u32>>, Refused> {
    sessions.login(name, &Secret::from("secret"), REMOTE, |_| 7).await
}

async fn enter(sessions: &Sessions<u32>, key: &str) -> Option<Active<u32>> {
    sessions.enter(key, REMOTE, |_| 8, |_| ()).await.unwrap()
}

fn limit(refused: Refused) -> usize {
    let Refused::Full(full) = refused else { panic!("{refused}") };
    full.limit
}

#[tokio::test]
async fn lives_while_used() {
    let (sessions, clock, engine) = sessions(Settings::default());
    let session = create(&sessions, "root").await.unwrap();
    assert_eq!((session.data, session.created_ms), (7, 1_000));
    assert!(!format!("{session:?}").contains(session.key().expose()));
    let minutes = |n: u64| Duration::from_secs(n * 60);
    clock.advance(minutes(29));
    drop(enter(&sessions, session.key().expose()).await.unwrap());
    clock.advance(minutes(29));
    let waiting = enter(&sessions, session.key().expose()).await.unwrap();
    clock.advance(minutes(100));
    assert_eq!((sessions.sweep(), waiting.calls()), (0, 2));
    drop(waiting);
    assert_eq!(engine.used.load(Ordering::Acquire), 4);
    assert_eq!(session.last_active_ms(), 1_000 + 158 * 60_000);
    clock.advance(minutes(29));
    assert!(sessions.peek(session.key().expose()).is_some() && !session.ended.is_cancelled());
    clock.advance(minutes(1));
    assert!(sessions.peek(session.key().expose()).is_none() && session.ended.is_cancelled());
    assert!(sessions.list().is_empty() && !session.pass.ended.is_cancelled(), "the engine has the last word");
    let resumed = enter(&sessions, session.key().expose()).await.unwrap();
    assert_eq!((resumed.data, &*resumed.id), (8, &*session.id));
}

#[tokio::test]
async fn ends_everywhere() {
    let (sessions, _, engine) = sessions(Settings::default());
    let a = create(&sessions, "a").await.unwrap();
    let b = create(&sessions, "b").await.unwrap();
    let c = sessions.again(&b, REMOTE, |_| 9).await.unwrap();
    assert_eq!((&*c.principal, c.data, sessions.list().len()), ("b", 9, 3));
    sessions.end(&a).await;
    assert!(a.ended.is_cancelled() && a.pass.ended.is_cancelled());
    assert!(enter(&sessions, a.key().expose()).await.is_none() && enter(&sessions, "").await.is_none());
    assert_eq!(engine.asked.load(Ordering::Acquire), 0, "it ended here: nobody has to be asked");
    b.pass.ended.cancel();
    assert!(b.ended.is_cancelled(), "revoked by an administrator");
    assert!(sessions.peek(b.key().expose()).is_none());
    assert_eq!(sessions.forget_all(), 1);
    assert!(c.ended.is_cancelled() && !c.pass.ended.is_cancelled(), "this front closes, the session goes on");
}

#[tokio::test]
async fn goes_on_at_another_front() {
    let (here, _, engine) = sessions(Settings::default());
    let timer: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000));
    let there: Arc<Sessions<u32>> = Sessions::new(Settings::default(), timer, engine.clone(), "test");
    let session = create(&here, "root").await.unwrap();
    let key = session.key().expose();
    let begun = AtomicUsize::new(0);
    let ask = || {
        there.enter(
            key,
            REMOTE,
            |_| 8,
            |_| {
                begun.fetch_add(1, Ordering::AcqRel);
            },
        )
    };
    let (one, two) = tokio::join!(ask(), ask());
    assert!(Arc::ptr_eq(one.unwrap().unwrap().session(), two.unwrap().unwrap().session()));
    assert_eq!((engine.asked.load(Ordering::Acquire), begun.load(Ordering::Acquire)), (1, 1));
    here.end(&session).await;
    assert!(enter(&there, key).await.is_none());
}

#[tokio::test]
async fn guesses_cost_the_guesser() {
    let (sessions, clock, engine) = sessions(Settings::default());
    for _ in 0..3 {
        assert!(enter(&sessions, "guess").await.is_none());
    }
    assert_eq!(engine.asked.load(Ordering::Acquire), 1, "that there is none is remembered");
    for n in 0..200 {
        assert!(enter(&sessions, &format!("guess-{n}")).await.is_none());
    }
    assert_eq!(engine.asked.load(Ordering::Acquire), 64);
    let other = IpAddr::from([198, 51, 100, 1]);
    let key = engine.pass("root").key;
    assert!(sessions.enter(key.expose(), other, |_| 8, |_| ()).await.unwrap().is_some(), "others go on");
    clock.advance(Duration::from_secs(60));
    engine.away.store(true, Ordering::Release);
    assert!(sessions.enter("fresh", other, |_| 8, |_| ()).await.is_err(), "nobody can say");
    engine.away.store(false, Ordering::Release);
    assert!(sessions.enter("fresh", other, |_| 8, |_| ()).await.unwrap().is_none());
}

#[tokio::test]
async fn is_bounded() {
    let (sessions, clock, engine) = sessions(Settings { most: 3, per_user: 2, ..Settings::default() });
    create(&sessions, "a").await.unwrap();
    let second = create(&sessions, "a").await.unwrap();
    let held = enter(&sessions, second.key().expose()).await.unwrap();
    assert_eq!(limit(create(&sessions, "a").await.unwrap_err()), 2);
    create(&sessions, "b").await.unwrap();
    assert_eq!(limit(create(&sessions, "c").await.unwrap_err()), 3);
    let left: Vec<bool> = engine.sessions.lock().values().map(|pass| pass.ended.is_cancelled()).collect();
    assert_eq!(left.iter().filter(|ended| **ended).count(), 2, "what found no room has ended");
    clock.advance(Settings::default().idle);
    create(&sessions, "c").await.unwrap();
    assert_eq!(sessions.list().len(), 2);
    drop(held);
}
