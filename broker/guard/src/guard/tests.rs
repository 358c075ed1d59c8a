use super::*;
use crate::first::set_password;
use union::{
    Kind,
    clock::{ManualClock, SeededIds},
};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

struct Bench {
    guard: Arc<Guard>,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let users = Arc::new(Users::open(dir.path().join("users.toml")).unwrap());
    let ids = SeededIds::new(7);
    for (name, role) in [("root", Role::Admin), ("eye", Role::ReadOnly)] {
        set_password(&users, name, role, &name.into(), Cost::LEAST, &ids).unwrap();
    }
    let clock = Arc::new(ManualClock::new(0));
    let settings = Settings { cost: Cost::LEAST, ..Settings::default() };
    let guard = Guard::new(users, settings, Arc::clone(&clock) as Arc<dyn Clock>, &ids).unwrap();
    Bench { guard, clock, _dir: dir }
}

#[tokio::test]
async fn logs_in() {
    let Bench { guard, .. } = &bench();
    let root = guard.login("root", &"root".into(), HOME).await.unwrap();
    assert_eq!((root.name.as_ref(), root.role), ("root", Role::Admin));
    for (name, password) in [("root", "eye"), ("root", ""), ("nobody", "root"), ("", ""), ("ROOT", "root")] {
        assert_eq!(guard.login(name, &password.into(), HOME).await, Err(LoginError::Wrong), "{name}");
    }
    let long = "é".repeat(5_000);
    assert_eq!(guard.login(&long, &long.as_str().into(), HOME).await, Err(LoginError::Wrong));
}

#[tokio::test]
async fn limits_wrong_passwords_even_for_the_right_one() {
    let Bench { guard, clock, .. } = &bench();
    for _ in 0..5 {
        assert_eq!(guard.login("root", &"no".into(), HOME).await, Err(LoginError::Wrong));
    }
    let second = Duration::from_secs(1);
    let limited = Err(LoginError::RateLimited { retry_after: second });
    assert_eq!(guard.login("root", &"root".into(), HOME).await, limited);
    assert!(guard.login("eye", &"eye".into(), HOME).await.is_ok());
    assert!(guard.login("root", &"root".into(), "192.0.2.2".parse().unwrap()).await.is_ok());
    clock.advance(second);
    assert!(guard.login("root", &"root".into(), HOME).await.is_ok());
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
            let guard = Arc::clone(&bench.guard);
            tokio::spawn(async move { guard.login("root", &"root".into(), HOME).await })
        })
        .collect();
    for login in logins {
        assert!(login.await.unwrap().is_ok());
    }
    assert_eq!(bench.guard.waiting.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn guesses_at_once_gain_nothing() {
    let bench = bench();
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            let guard = Arc::clone(&bench.guard);
            tokio::spawn(async move { guard.login("root", &Secret::new(n.to_string()), HOME).await })
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
    let all = Arc::clone(&bench.guard.permits).acquire_many_owned(2).await.unwrap();
    let mut logins: Vec<_> = (0..WAITING + AT_A_TIME)
        .map(|_| {
            let guard = Arc::clone(&bench.guard);
            tokio::spawn(async move { guard.login("root", &"root".into(), HOME).await })
        })
        .collect();
    while bench.guard.waiting.load(Ordering::Acquire) < WAITING + AT_A_TIME {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.guard.login("root", &"root".into(), HOME).await, Err(LoginError::Busy));
    for login in logins.drain(..10) {
        login.abort();
        assert!(login.await.unwrap_err().is_cancelled());
    }
    drop(all);
    for login in logins {
        assert!(login.await.unwrap().is_ok());
    }
    assert!(bench.guard.login("root", &"root".into(), HOME).await.is_ok());
}

#[tokio::test]
async fn roles() {
    let Bench { guard, .. } = &bench();
    let vm = ObjectId { kind: Kind::Vm, uuid: SeededIds::new(1).uuid() };
    let root = guard.login("root", &"root".into(), HOME).await.unwrap();
    let eye = guard.login("eye", &"eye".into(), HOME).await.unwrap();
    for class in [Class::Read, Class::Idempotent, Class::OnceProbed, Class::Once] {
        assert!(guard.authorize(&root, "PowerOn", class, vm).is_ok());
        assert_eq!(guard.authorize(&eye, "PowerOn", class, vm).is_ok(), class == Class::Read);
    }
    let cause = guard.authorize(&eye, "PowerOn", Class::Idempotent, vm).unwrap_err();
    assert_eq!(cause.code, Code::Permission);
    assert!(cause.message.starts_with("PowerOn on vm:"), "{cause}");
    guard.users().remove("root").unwrap();
    assert!(guard.authorize(&root, "PowerOn", Class::Read, vm).is_err());
}
