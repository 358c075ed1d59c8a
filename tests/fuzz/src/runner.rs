//! Runs one target.

use crate::mutate::Mutator;
use std::{
    cell::Cell,
    collections::{HashSet, hash_map::DefaultHasher},
    env, fmt, fs,
    hash::{Hash, Hasher},
    io,
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};
use union::{Clock, Ids, clock::SystemClock, clock::SystemIds};

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its corpus directory.
    pub name: &'static str,
    /// Seeds besides the corpus: files and directories of the source tree, from its top.
    pub also: &'static [&'static str],
    /// The words of its language.
    pub dictionary: &'static [&'static str],
    /// Feeds it one input and says what kind of answer came. Panics when a law is broken.
    pub feed: fn(&[u8]) -> String,
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Inputs at most.
    pub iterations: u64,
    /// Time at most.
    pub time: Duration,
    /// Where the mutator starts.
    pub seed: u64,
}

impl Budget {
    /// As `FUZZ_SECONDS`, `FUZZ_ITERATIONS` and `FUZZ_SEED` say; without them 2,000 inputs from seed 1.
    ///
    /// # Errors
    /// One of them is no number.
    pub fn from_env() -> io::Result<Budget> {
        let (seconds, iterations) = (number("FUZZ_SECONDS")?, number("FUZZ_ITERATIONS")?);
        let mut random = [0; 8];
        SystemIds.fill(&mut random);
        let default_seed = if seconds.is_some() { u64::from_le_bytes(random) } else { 1 };
        Ok(Budget {
            iterations: iterations.unwrap_or(if seconds.is_some() { u64::MAX } else { 2_000 }),
            time: seconds.map_or(Duration::MAX, Duration::from_secs),
            seed: number("FUZZ_SEED")?.unwrap_or(default_seed),
        })
    }
}

fn number(name: &str) -> io::Result<Option<u64>> {
    let wrong = |text: &str| io::Error::other(format!("{name}: expected a whole number, found \"{text}\""));
    match env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| wrong(&text)),
    }
}

/// An input that made a target panic.
#[derive(Debug)]
pub struct Failure {
    target: &'static str,
    message: String,
    path: PathBuf,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { target, message, path } = self;
        writeln!(f, "{target} panicked: {message}")?;
        writeln!(f, "the input, as small as it got: {}", path.display())?;
        write!(f, "again: FUZZ_INPUT={} cargo test -p fuzz {target}", path.display())
    }
}

impl std::error::Error for Failure {}

/// Runs `target` over its corpus and then over damaged inputs; or over `FUZZ_INPUT` alone.
///
/// # Errors
/// The first input that made it panic; or the corpus cannot be read.
pub fn run(target: &Target, budget: Budget) -> Result<(), Box<dyn std::error::Error>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = home.join("../..").canonicalize()?;
    if let Ok(path) = env::var("FUZZ_INPUT") {
        // cargo runs tests in the crate's directory, people name files from the top.
        let path = top.join(path).display().to_string();
        let input = fs::read(&path).map_err(|e| io::Error::other(format!("FUZZ_INPUT {path}: {e}")))?;
        return attempt(target, &input)
            .map(|_| ())
            .map_err(|message| Failure { target: target.name, message, path: path.into() }.into());
    }
    let out = top.join("target/fuzz");
    fs::create_dir_all(&out)?;
    let mut places = vec![home.join("corpus").join(target.name)];
    places.extend(target.also.iter().map(|path| top.join(path)));
    let mut seeds = corpus(&places)?;
    let mut kinds = HashSet::new();
    for input in &seeds {
        kinds.insert(kind(&attempt(target, input).map_err(|message| fail(target, input, message, &out))?));
    }
    let clock = SystemClock::new();
    let running = out.join(format!("{}.running", target.name));
    let mut mutator = Mutator::new(budget.seed, target.dictionary);
    let (mut tried, mut slowest) = (0, Duration::ZERO);
    while tried < budget.iterations && clock.monotonic() < budget.time {
        let input = mutator.next(&seeds);
        fs::write(&running, &input)?;
        let began = clock.monotonic();
        let answer = attempt(target, &input).map_err(|message| fail(target, &input, message, &out))?;
        let took = clock.monotonic() - began;
        if took > slowest {
            slowest = took;
            fs::write(out.join(format!("{}.slowest", target.name)), &input)?;
        }
        if kinds.insert(kind(&answer)) && seeds.len() < 5_000 {
            seeds.push(input);
        }
        tried += 1;
    }
    fs::remove_file(&running)?;
    println!(
        "{}: {tried} inputs from seed {}, {} kinds of answer, slowest {slowest:?}",
        target.name,
        budget.seed,
        kinds.len()
    );
    Ok(())
}

/// The files in these places, by name; a place that is no directory is a file.
fn corpus(places: &[PathBuf]) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for place in places.iter().filter(|place| place.exists()) {
        if place.is_file() {
            paths.push(place.clone());
            continue;
        }
        for entry in fs::read_dir(place)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    if paths.is_empty() {
        let shown: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        return Err(io::Error::other(format!("no corpus: there are no files in {}", shown.join(" and "))));
    }
    paths.iter().map(fs::read).collect()
}

/// Answers that differ in numbers or quoted words only are of one kind.
fn kind(answer: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut quoted = false;
    for c in answer.chars() {
        if matches!(c, '"' | '`') {
            quoted = !quoted;
        } else if !quoted && !c.is_ascii_digit() {
            c.hash(&mut hasher);
        }
    }
    hasher.finish()
}

thread_local! {
    /// Whether this thread is feeding a target, whose panics are reported by us.
    static FEEDING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics of targets from being printed, hundreds of them while an input is shrunk.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FEEDING.get() {
                usual(info);
            }
        }));
    });
}

fn attempt(target: &Target, input: &[u8]) -> Result<String, String> {
    be_quiet();
    FEEDING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| (target.feed)(input)));
    FEEDING.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

/// Takes pieces away for as long as it still panics, and saves what is left.
fn fail(target: &Target, input: &[u8], message: String, out: &Path) -> Box<dyn std::error::Error> {
    let mut input = input.to_vec();
    let mut tries = 2_000;
    let mut piece = input.len() / 2;
    while piece > 0 && tries > 0 {
        let mut at = 0;
        while at < input.len() && tries > 0 {
            let mut less = input.clone();
            less.drain(at..(at + piece).min(input.len()));
            tries -= 1;
            match attempt(target, &less) {
                Err(_) => input = less,
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = out.join(format!("{}-{:016x}", target.name, hasher.finish()));
    // It is not there when an input of the corpus failed.
    drop(fs::remove_file(out.join(format!("{}.running", target.name))));
    match fs::write(&path, &input) {
        Ok(()) => Failure { target: target.name, message, path }.into(),
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_shrunk() {
        let bad = Target {
            name: "self_test",
            also: &["rustfmt.toml"],
            dictionary: &["bad"],
            feed: |input| {
                assert!(!input.windows(3).any(|w| w == b"bad"), "found it");
                "fine".to_owned()
            },
        };
        let budget = Budget { iterations: 100_000, time: Duration::MAX, seed: 1 };
        let failure = run(&bad, budget).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(
            (failure.message.as_str(), fs::read(&failure.path).unwrap().as_slice()),
            ("found it", &b"bad"[..])
        );
        assert!(failure.to_string().contains("FUZZ_INPUT="));
        fs::remove_file(failure.path).unwrap();
    }

    #[test]
    fn kinds_leave_numbers_and_names_out() {
        assert_eq!(kind("at byte 7: no \"x\" here"), kind("at byte 123: no \"other\" here"));
        assert_ne!(kind("too long"), kind("too deep"));
    }
}
