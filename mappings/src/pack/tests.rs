//! Packed and unpacked, a bundle is the same; anything else is refused.

use super::*;

fn all() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn a_bundle_is_the_same_wherever_its_files_are() {
    let pack = Pack::read(&all()).unwrap();
    let loaded = Bundle::load(&all()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(pack.hash(), loaded.hash);
    let back = Pack::open_as(pack.hash(), &pack.bytes()).unwrap();
    assert_eq!(back, pack);
    let again = back.bundle("elsewhere").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(again.hash, loaded.hash);
    let names = |bundle: &Bundle| bundle.protocols().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again), names(&loaded));
    assert_eq!(again.document("libvirt").is_some(), loaded.document("libvirt").is_some());

    // Written elsewhere, they are still the same bundle.
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in &pack.files {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    assert_eq!(Pack::read(dir.path()).unwrap().hash(), pack.hash());
    assert_eq!(Pack::read(dir.path()).unwrap().changed(&pack), BTreeSet::new());
    let table = dir.path().join("sim/protocol.toml");
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, format!("{text}\n# a word more\n")).unwrap();
    let other = Pack::read(dir.path()).unwrap();
    assert_ne!(other.hash(), pack.hash());
    assert_eq!(other.changed(&pack), ["sim".to_owned()].into());
    let wanted = pack.hash().to_owned();
    let got = other.hash().to_owned();
    assert_eq!(Pack::open_as(pack.hash(), &other.bytes()), Err(PackError::Other { wanted, got }));
}

#[test]
fn errors_are_shown_at_their_place() {
    let files = vec![("odd/protocol.toml".to_owned(), "[nonsense.x]\n".to_owned())];
    let report = Pack::of(files).unwrap().bundle("where/it/was/").unwrap_err();
    assert!(report.to_string().contains("where/it/was/odd/protocol.toml:1:"), "{report}");
    assert!(Pack::of(Vec::new()).unwrap().bundle("here").is_err());
}

#[test]
fn what_is_no_bundle_is_refused() {
    let one = |path: &str| Pack::of(vec![(path.to_owned(), String::new())]);
    for good in ["vsphere/a.toml", "libvirt/domain.names", "x-1/schema/vim_8.0.schema"] {
        assert!(one(good).is_ok(), "{good}");
    }
    let long = format!("a/{}.toml", "b".repeat(PATH));
    for bad in [
        "a.toml",
        "/a/b.toml",
        "../a.toml",
        "a/../b.toml",
        "a/b/c.toml",
        "a/.b.toml",
        "a/b.sh",
        "a\0/b.toml",
        "",
        &long,
    ] {
        assert!(matches!(one(bad), Err(PackError::Garbled(_))), "{bad}");
    }
    let file = ("a/b.toml".to_owned(), "x = 1".to_owned());
    assert!(matches!(Pack::of(vec![file.clone(), file.clone()]), Err(PackError::Garbled(_))));
    let big = "x".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
    assert!(matches!(Pack::of(vec![("a/b.toml".to_owned(), big)]), Err(PackError::TooMuch { .. })));
    let packed = Pack::of(vec![file]).unwrap().bytes();
    for cut in 1..packed.len() {
        let opened = Pack::open(&packed[..cut]);
        // Nothing but the first line is a bundle without files.
        assert_eq!(opened.is_ok(), cut == MAGIC.len(), "{cut}");
    }
    let mut wrong = packed.clone();
    wrong[MAGIC.len() + 3] = 0xff;
    assert!(matches!(Pack::open(&wrong), Err(PackError::Garbled(_))));
    assert!(matches!(Pack::open(&vec![0; PACKED + 1]), Err(PackError::TooMuch { .. })));
    let mut many = MAGIC.to_vec();
    for n in 0..=MAX_FILES {
        let path = format!("a/{n}.toml");
        many.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
        many.extend(path.as_bytes());
        many.extend([0; 4]);
    }
    assert!(matches!(Pack::open(&many), Err(PackError::TooMuch { .. })));
}
