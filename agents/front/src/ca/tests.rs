use super::*;
use std::{fs, os::unix::fs::PermissionsExt};
use union::clock::{ManualClock, SystemIds};

/// 2026-11-21
const NOW: i64 = 1_795_219_200_000;

fn open(dir: &Path, now: i64) -> (Arc<Ca>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(now));
    (Ca::open(dir, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(SystemIds)).unwrap(), clock)
}

fn refused(dir: &Path, now: i64) -> String {
    Ca::open(dir, Arc::new(ManualClock::new(now)), Arc::new(SystemIds)).unwrap_err().to_string()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn held(leaf: &Leaf) -> CertificateDer<'static> {
    leaf.held.lock().clone().unwrap()
}

#[test]
fn survives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let (ca, _) = open(&dir, NOW);
    let leaf = ca.leaf("fleet", &names(&["Host.Example", "192.0.2.7"])).unwrap();
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("tls/fleet.key"), mode("")), (0o600, 0o600, 0o700));
    let (again, _) = open(&dir, NOW + 100 * DAY_MS);
    assert_eq!(ca.pem(), again.pem());
    let same = again.leaf("fleet", &names(&["192.0.2.7", "host.example"])).unwrap();
    assert_eq!(held(&leaf), held(&same));
    assert_eq!(
        same.names().collect::<Vec<_>>(),
        ["127.0.0.1", "192.0.2.7", "::1", "host.example", "localhost"]
    );
    assert_ne!(held(&again.leaf("host", &[]).unwrap()), held(&same));
}

#[test]
fn renews_near_the_end_and_for_other_names() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, clock) = open(dir.path(), NOW);
    let leaf = ca.leaf("fleet", &names(&["a.example"])).unwrap();
    let first = held(&leaf);
    clock.advance(Duration::from_secs(366 * 86_400));
    assert!(!leaf.renew_if_due().unwrap());
    clock.advance(Duration::from_secs(2 * 86_400));
    assert!(leaf.renew_if_due().unwrap() && !leaf.renew_if_due().unwrap());
    let (old, new) = (Facts::read(&first).unwrap(), Facts::read(&held(&leaf)).unwrap());
    assert_eq!((old.public_key, old.names), (new.public_key, new.names));
    assert_eq!(new.until_ms, clock.now_ms() + LEAF_DAYS * DAY_MS);
    let other = ca.leaf("fleet", &names(&["b.example"])).unwrap();
    assert_ne!(held(&other), held(&leaf));
    let serial =
        |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).unwrap().1.raw_serial_as_string();
    assert_ne!(serial(&first), serial(&held(&other)));
}

#[test]
fn a_new_authority_makes_new_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = open(dir.path(), NOW);
    let first = held(&ca.leaf("fleet", &[]).unwrap());
    for name in ["ca.pem", "ca.key"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let (ca, _) = open(dir.path(), NOW);
    assert_ne!(first, held(&ca.leaf("fleet", &[]).unwrap()));
}

#[test]
fn refuses_damaged_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (ca, _) = open(dir.path(), NOW);
    assert!(refused(dir.path(), NOW + 3_651 * DAY_MS).contains("has expired"));
    let key = fs::read(path("ca.key")).unwrap();
    fs::set_permissions(path("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(dir.path(), NOW).contains("chmod 600"));
    fs::remove_file(path("ca.key")).unwrap();
    assert!(refused(dir.path(), NOW).contains("is missing beside ca.pem"));
    files::make_key(&path("ca.key")).unwrap();
    assert!(refused(dir.path(), NOW).contains("is not the certificate of ca.key"));
    fs::write(path("ca.key"), "no key").unwrap();
    assert!(refused(dir.path(), NOW).contains("expected a PKCS#8 key"));
    fs::write(path("ca.key"), key).unwrap();
    fs::write(path("ca.pem"), "no certificate").unwrap();
    assert!(refused(dir.path(), NOW).contains("expected a PEM certificate"));
    fs::remove_file(path("ca.pem")).unwrap();
    let (from_key, _) = open(dir.path(), NOW);
    assert_eq!(from_key.issuer.key().public_key_raw(), ca.issuer.key().public_key_raw());
}

#[test]
fn refuses_bad_names() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = open(dir.path(), NOW);
    for name in ["", "a b", "a..b", "ünï.example", &"x".repeat(64), "http://a"] {
        assert!(matches!(ca.leaf("fleet", &names(&[name])), Err(CaError::Name(_))), "{name}");
    }
    for listener in ["", "../ca", "a/b", "a.b"] {
        assert!(matches!(ca.leaf(listener, &[]), Err(CaError::Name(_))), "{listener}");
    }
    let many: Vec<_> = (0..200).map(|n| format!("h{n}")).collect();
    assert!(matches!(ca.leaf("fleet", &many), Err(CaError::Names)));
}
