use super::*;
use proptest::prelude::*;
use union::clock::{ManualClock, SeededIds};

struct Bench {
    clock: Arc<ManualClock>,
    signer: Signer,
    verifier: Verifier,
    key: Public,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(3));
    let keys = Keys::new(ids.as_ref());
    let key = keys.public();
    let signer = Signer::new("lab", "east", keys, clock.clone(), ids);
    Bench { signer, verifier: Verifier::new("lab", clock.clone()), key, clock }
}

#[test]
fn is_taken_once() {
    let Bench { signer, verifier, key, clock } = &bench();
    let message = signer.sign("cmd.lab.vm.PowerOn", b"body".to_vec());
    assert_eq!(verifier.verify("cmd.lab.vm.PowerOn", &message, key), Ok(()));
    let again = || verifier.verify("cmd.lab.vm.PowerOn", &message, key);
    assert!(matches!(again(), Err(SignedError::Replayed { .. })));
    for _ in 0..24 {
        clock.advance(Duration::from_secs(5));
        assert!(matches!(again(), Err(SignedError::Replayed { .. })));
    }
    for _ in 0..100 {
        clock.advance(Duration::from_secs(7));
        assert!(matches!(again(), Err(SignedError::Time { .. })));
    }
}

#[test]
fn another_subject_domain_key_or_signer_is_refused() {
    let Bench { signer, verifier, key, clock } = &bench();
    let message = signer.sign("cmd.lab.vm.PowerOn", b"body".to_vec());
    let refused = |result: Result<(), SignedError>| {
        assert!(matches!(result, Err(SignedError::Signature { .. })), "{result:?}");
    };
    refused(verifier.verify("cmd.lab.vm.PowerOff", &message, key));
    refused(Verifier::new("other", clock.clone()).verify("cmd.lab.vm.PowerOn", &message, key));
    refused(verifier.verify("cmd.lab.vm.PowerOn", &message, &Keys::new(&SeededIds::new(4)).public()));
    let changes: [fn(&mut pb::Signed); 6] = [
        |m| m.signer = "west".into(),
        |m| m.at_ms += 1,
        |m| m.body.push(0),
        |m| m.nonce[0] ^= 1,
        |m| m.nonce.clear(),
        |m| m.signature.truncate(63),
    ];
    for change in changes {
        let mut changed = message.clone();
        change(&mut changed);
        refused(verifier.verify("cmd.lab.vm.PowerOn", &changed, key));
    }
    assert!(verifier.seen.lock().is_empty(), "strangers fill no table");
    assert_eq!(verifier.verify("cmd.lab.vm.PowerOn", &message, key), Ok(()));
}

#[test]
fn time_that_is_off_is_refused_until_it_is_agreed() {
    let Bench { verifier, key, clock, signer } = &bench();
    let late = signer.sign("s", Vec::new());
    clock.advance(Duration::from_millis(120_001));
    assert_eq!(
        verifier.verify("s", &late, key),
        Err(SignedError::Time { signer: "east".into(), off_ms: -120_001 })
    );
    let engine = ManualClock::new(90_000_000);
    let other = Verifier::new("lab", Arc::new(engine));
    assert!(matches!(other.verify("s", &signer.sign("s", Vec::new()), key), Err(SignedError::Time { .. })));
    signer.agree(90_000_000);
    assert_eq!(other.verify("s", &signer.sign("s", Vec::new()), key), Ok(()));
}

#[test]
fn a_full_table_refuses_rather_than_forgets() {
    let Bench { mut verifier, key, clock, signer } = bench();
    verifier.nonces = 8;
    let messages: Vec<_> = (0..9).map(|_| signer.sign("s", Vec::new())).collect();
    for message in &messages[..8] {
        assert_eq!(verifier.verify("s", message, &key), Ok(()));
    }
    assert!(matches!(verifier.verify("s", &messages[8], &key), Err(SignedError::Full { .. })));
    assert!(matches!(verifier.verify("s", &messages[0], &key), Err(SignedError::Replayed { .. })));
    clock.advance(Duration::from_secs(240));
    assert_eq!(verifier.verify("s", &signer.sign("s", Vec::new()), &key), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However messages are repeated and time passes, none is taken twice.
    #[test]
    fn nothing_is_taken_twice(steps in proptest::collection::vec((0usize..12, 0u64..90_000), 1..60)) {
        let Bench { verifier, key, clock, signer } = &bench();
        let mut sent: Vec<(pb::Signed, bool)> = Vec::new();
        for (which, pause) in steps {
            clock.advance(Duration::from_millis(pause));
            if which >= sent.len() {
                sent.push((signer.sign("s", Vec::new()), false));
            }
            let at = which.min(sent.len() - 1);
            let (message, taken) = &mut sent[at];
            if verifier.verify("s", message, key).is_ok() {
                prop_assert!(!*taken);
                *taken = true;
            }
        }
    }
}
