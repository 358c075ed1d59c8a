use super::*;
use union::clock::{ManualClock, SeededIds};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

struct Bench {
    passwords: Passwords,
    clock: Arc<ManualClock>,
    hashes: Vec<(&'static str, Arc<str>)>,
}

impl Bench {
    async fn login(&self, name: &str, password: &str, remote: IpAddr) -> Result<(), LoginError> {
        let name = Passwords::name(name);
        let find = || self.hashes.iter().find(|(n, _)| **n == *name).map(|(_, hash)| Arc::clone(hash));
        self.passwords.check(&name, &password.into(), remote, find).await.map(drop)
    }
}

fn bench() -> Arc<Bench> {
    let ids = SeededIds::new(7);
    let hashes = ["root", "eye"]
        .map(|name| (name, Arc::from(hash::hash(&name.into(), Cost::LEAST, &ids).unwrap())))
        .to_vec();
    let clock = Arc::new(ManualClock::new(0));
    let settings = Settings { cost: Cost::LEAST, ..Settings::default() };
    let passwords = Passwords::new(settings, Arc::clone(&clock) as Arc<dyn Clock>, &ids).unwrap();
    Arc::new(Bench { passwords, clock, hashes })
}

#[tokio::test]
async fn only_the_right_one() {
    let bench = bench();
    assert_eq!(bench.login("root", "root", HOME).await, Ok(()));
    for (name, password) in [("root", "eye"), ("root", ""), ("nobody", "root"), ("", ""), ("ROOT", "root")] {
        assert_eq!(bench.login(name, password, HOME).await, Err(LoginError::Wrong), "{name}");
    }
    let long = "é".repeat(5_000);
    assert_eq!(bench.login(&long, &long, HOME).await, Err(LoginError::Wrong));
}

#[tokio::test]
async fn limits_wrong_passwords_even_for_the_right_one() {
    let bench = bench();
    for _ in 0..5 {
        assert_eq!(bench.login("root", "no", HOME).await, Err(LoginError::Wrong));
    }
    let second = Duration::from_secs(1);
    let limited = Err(LoginError::RateLimited { retry_after: second });
    assert_eq!(bench.login("root", "root", HOME).await, limited);
    assert!(bench.login("eye", "eye", HOME).await.is_ok());
    assert!(bench.login("root", "root", "192.0.2.2".parse().unwrap()).await.is_ok());
    bench.clock.advance(second);
    assert!(bench.login("root", "root", HOME).await.is_ok());
    assert_eq!(
        LoginError::RateLimited { retry_after: Duration::from_millis(1_001) }.to_string(),
        "too many wrong passwords; try again in 2 s"
    );
}

#[tokio::test]
async fn many_right_logins_at_once_all_succeed() {
    let bench = bench();
    let logins: Vec<_> = (0..WAITING)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.login("root", "root", HOME).await })
        })
        .collect();
    for login in logins {
        assert!(login.await.unwrap().is_ok());
    }
    assert_eq!(bench.passwords.waiting.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn guesses_at_once_gain_nothing() {
    let bench = bench();
    let guesses: Vec<_> = (0..40)
        .map(|n: usize| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.login("root", &n.to_string(), HOME).await })
        })
        .collect();
    let mut looked_at = 0;
    for guess in guesses {
        looked_at += usize::from(guess.await.unwrap() == Err(LoginError::Wrong));
    }
    assert!((5..5 + AT_A_TIME).contains(&looked_at), "{looked_at} guesses were looked at");
}

#[tokio::test]
async fn too_many_at_once_are_busy() {
    let bench = bench();
    let all = Arc::clone(&bench.passwords.permits).acquire_many_owned(2).await.unwrap();
    let mut logins: Vec<_> = (0..WAITING + AT_A_TIME)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.login("root", "root", HOME).await })
        })
        .collect();
    while bench.passwords.waiting.load(Ordering::Acquire) < WAITING + AT_A_TIME {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.login("root", "root", HOME).await, Err(LoginError::Busy));
    for login in logins.drain(..10) {
        login.abort();
        assert!(login.await.unwrap_err().is_cancelled());
    }
    drop(all);
    for login in logins {
        assert!(login.await.unwrap().is_ok());
    }
    assert!(bench.login("root", "root", HOME).await.is_ok());
}
