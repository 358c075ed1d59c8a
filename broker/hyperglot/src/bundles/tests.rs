//! What is kept, what a start begins with, what is handed out.

use super::*;
use std::path::Path;

/// Mapping files of one protocol with nothing in them but a remark.
fn files(dir: &Path, remark: &str) -> Pack {
    let folder = dir.join("sim");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("protocol.toml"), format!("# {remark}\n")).unwrap();
    Pack::read(dir).unwrap()
}

fn loaded(pack: Pack) -> Loaded {
    let bundle = pack.bundle("").unwrap_or_else(|report| panic!("{report}"));
    Loaded { pack, bundle }
}

fn config(dir: &Path) -> Config {
    let text = format!("data_dir = {:?}\nmappings = {:?}\n", dir.join("data"), dir.join("configured"));
    toml::from_str(&text).unwrap()
}

#[test]
fn a_start_begins_with_what_was_pushed_until_the_configured_files_change() {
    let dir = tempfile::tempdir().unwrap();
    let (configured, config) = (dir.path().join("configured"), config(dir.path()));
    let own = files(&configured, "own");
    let start = || Shelf::start(&config).unwrap_or_else(|e| panic!("{e}"));
    let (shelf, begun) = start();
    assert_eq!(begun.pack, own);
    let pushed = files(&dir.path().join("pushed"), "pushed");
    shelf.keep(&pushed).unwrap();
    assert_eq!(start().1.pack, pushed);
    assert_eq!(start().1.bundle.hash, pushed.hash());

    // A damaged one is not used, and is mended by the next push.
    let whole = shelf.dir.join(pushed.hash());
    let mut damaged = fs::read(&whole).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&whole, damaged).unwrap();
    assert_eq!(start().1.pack, own);
    shelf.keep(&pushed).unwrap();
    assert_eq!(start().1.pack, pushed);
    fs::write(shelf.dir.join(NEWEST), "{").unwrap();
    assert_eq!(start().1.pack, own);
    shelf.keep(&pushed).unwrap();

    let changed = files(&configured, "changed");
    assert_eq!(start().1.pack, changed);
    // What is pushed after the change is newer than it.
    shelf.keep(&pushed).unwrap();
    assert_eq!(start().1.pack, pushed);
    fs::write(configured.join("sim/protocol.toml"), "[nonsense]\n").unwrap();
    assert!(
        matches!(Shelf::start(&config), Err(Failure::Mapping(_))),
        "broken files are said, not passed over"
    );
}

#[test]
fn a_push_that_died_on_its_way_is_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    files(&dir.path().join("configured"), "own");
    let config = config(dir.path());
    let start = || Shelf::start(&config).unwrap_or_else(|e| panic!("{e}"));
    let (shelf, _) = start();
    let before = files(&dir.path().join("pushed"), "before");
    shelf.keep(&before).unwrap();
    let after = files(&dir.path().join("pushed"), "after");
    let (name, bytes) = (after.hash().to_owned(), after.bytes());
    let half = bytes.get(..bytes.len() / 2).unwrap();
    // What lies there after a death within it, in the order of what it does.
    for (file, content) in
        [(format!("{name}.new"), half), (name, &bytes), (format!("{NEWEST}.new"), b"{\"ha")]
    {
        fs::write(shelf.dir.join(&file), content).unwrap();
        assert_eq!(start().1.pack, before, "{file}");
    }
    shelf.keep(&after).unwrap();
    assert_eq!(start().1.pack, after, "again, and whole");
}

#[test]
fn only_the_last_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf { dir: dir.path().join("bundles"), configured: dir.path().join("configured") };
    let packs: Vec<Pack> = (0..7).map(|n| files(&dir.path().join("pushed"), &n.to_string())).collect();
    for pack in &packs {
        shelf.keep(pack).unwrap();
    }
    let there = |pack: &&Pack| shelf.dir.join(pack.hash()).exists();
    assert!(there(&&packs[6]));
    assert_eq!(packs.iter().filter(there).count(), KEPT);
    assert_eq!(fs::read_dir(&shelf.dir).unwrap().count(), KEPT + 1, "and which is the newest");
}

#[test]
fn the_engine_has_the_last_few_by_hash_and_hands_them_out_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(PIECE);
    let all: Vec<Loaded> = (0..=KEPT).map(|n| loaded(files(dir.path(), &format!("{n} {long}")))).collect();
    let library = Library::new(&all[0]);
    all[1..].iter().for_each(|loaded| library.add(loaded));
    let (oldest, second, newest) = (&all[0], &all[1], &all[KEPT]);
    assert_eq!(library.get(second.pack.hash()).hash, second.pack.hash());
    assert_eq!(library.get("").hash, newest.pack.hash());
    assert_eq!(library.get(oldest.pack.hash()).hash, newest.pack.hash(), "one that is gone is today's");
    library.add(second);
    assert_eq!(library.get("").hash, second.pack.hash(), "one that comes again is the newest");
    assert_eq!(library.get(newest.pack.hash()).hash, newest.pack.hash());

    let fetched = |pack: &Pack| {
        let mut bytes = Vec::new();
        loop {
            let wanted = pb::BundlePiece {
                hash: pack.hash().to_owned(),
                offset: bytes.len() as u64,
                ..pb::BundlePiece::default()
            };
            let piece = library.piece(&wanted)?;
            assert!(piece.bytes.len() <= PIECE);
            if piece.bytes.is_empty() {
                return Ok::<_, Cause>(bytes);
            }
            bytes.extend(piece.bytes);
        }
    };
    assert_eq!(fetched(&newest.pack).unwrap(), newest.pack.bytes());
    assert_eq!(fetched(&oldest.pack).unwrap_err().code, Code::NotFound);
    library.offer(&oldest.pack);
    assert_eq!(fetched(&oldest.pack).unwrap(), oldest.pack.bytes());
    assert_eq!(library.get("").hash, second.pack.hash(), "what is offered is not in force");
    library.withdraw();
    assert!(fetched(&oldest.pack).is_err());
    let beyond = pb::BundlePiece {
        hash: newest.pack.hash().to_owned(),
        offset: u64::MAX,
        ..pb::BundlePiece::default()
    };
    assert_eq!(library.piece(&beyond).unwrap().bytes, Vec::<u8>::new());
}

#[test]
fn what_forms_native_ids_otherwise_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
    let now = loaded(Pack::read(&own).unwrap()).bundle;
    let edited = |from: &str, to: &str| {
        for protocol in ["vsphere", "libvirt", "sim"] {
            copy(&own.join(protocol), &dir.path().join(protocol));
        }
        let file = dir.path().join("vsphere/protocol.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        loaded(Pack::read(dir.path()).unwrap()).bundle
    };
    assert_eq!(same_ids(&now, &edited("# ", "# remark: ")), Ok(()));
    let why = same_ids(&now, &edited("\"vm-{n}\"", "\"guest-{n}\"")).unwrap_err();
    assert!(why.contains("[id.VirtualMachine] fleet") && why.contains("stay as they are"), "{why}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn what_came_is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let pack = files(dir.path(), "one");
    let opened = Loaded::open(pack.hash(), pack.bytes()).await.unwrap();
    assert_eq!(opened.pack, pack);
    let other = files(dir.path(), "other");
    assert!(Loaded::open(pack.hash(), other.bytes()).await.unwrap_err().contains(other.hash()));
    fs::write(dir.path().join("sim/protocol.toml"), "[nonsense.x]\n").unwrap();
    let bad = Pack::read(dir.path()).unwrap();
    let why = Loaded::open(bad.hash(), bad.bytes()).await.unwrap_err();
    assert!(why.contains("sim/protocol.toml:1:"), "{why}");
}
