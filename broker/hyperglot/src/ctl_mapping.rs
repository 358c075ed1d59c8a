//! `hyperglot ctl mapping`: other mappings for a running installation.
//!
//! ```text
//! push DIR: check here (every error, exit 65, nothing sent) ─▶ pieces ─▶ broker: hash, check again, ask agents, swap ─▶ who goes by it
//! list:     the bundles in use, and who goes by which
//! ```

use crate::{
    Failure,
    bundles::{Left, Loaded, short},
    config::Config,
    ctl::ask_on,
    ctl_desk::{Answer, Ask},
    link::Link,
    say,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bus::Bus;
use clap::Subcommand;
use mapping::Pack;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Bytes of the packed files in one message; less than 512 KiB as text.
const PIECE: usize = 384 << 10;
/// How long the broker and all its agents may take.
const WITHIN: Duration = Duration::from_secs(90);

/// What to do with the mappings of a running installation.
#[derive(Debug, Subcommand)]
pub enum MappingVerb {
    /// Check mapping files and have everybody use them: new sessions at once, live ones from their next login or after 24 h.
    Push {
        /// The mapping files: a directory that has a folder a protocol, all of them.
        dir: PathBuf,
    },
    /// The bundles in use, and who goes by which.
    List,
}

/// What `ctl` asks of mappings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum MappingAsk {
    /// A piece of a packed bundle, in order; the first begins anew.
    Piece {
        /// Which bundle.
        hash: String,
        /// Where the piece begins.
        offset: usize,
        /// The piece, as base64.
        bytes: String,
    },
    /// All pieces are there: use it.
    Use {
        /// Which bundle.
        hash: String,
        /// Who asks, for the audit.
        by: String,
    },
    /// What is in use.
    List,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappingAnswer {
    /// So many bytes are there.
    Taken(usize),
    /// It is in force.
    Pushed(Pushed),
    /// What is in use.
    Listed(Listed),
    /// It was refused: nothing was changed anywhere.
    Refused(String),
}

/// What became of a push.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pushed {
    /// In force now.
    pub hash: String,
    /// In force before.
    pub before: String,
    /// What is left for a restart of the broker.
    pub left: Left,
    /// Sessions of the broker's fronts that keep an older bundle.
    pub staying: usize,
    /// Its agents.
    pub agents: Vec<AgentBundle>,
}

/// What is in use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Listed {
    /// In force.
    pub hash: String,
    /// The bundles that sessions of the broker's fronts go by, and how many go by each.
    pub sessions: std::collections::BTreeMap<String, usize>,
    /// Its agents.
    pub agents: Vec<AgentBundle>,
}

/// What an agent goes by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AgentBundle {
    /// Its name.
    pub name: String,
    /// The bundle's hash; none: it did not answer.
    pub hash: Option<String>,
    /// Why it does not go by the one in force.
    pub refused: Option<String>,
    /// What is left for its next start.
    pub left: Left,
}

/// Does it.
pub async fn run(config: &Config, verb: &MappingVerb) -> Result<(), Failure> {
    match verb {
        MappingVerb::Push { dir } => push(config, dir).await,
        MappingVerb::List => match asked(&Link::join(config).await?, config, MappingAsk::List).await? {
            MappingAnswer::Listed(listed) => {
                list(&listed);
                Ok(())
            }
            other => Err(unexpected(&other)),
        },
    }
}

async fn push(config: &Config, dir: &Path) -> Result<(), Failure> {
    let refused = |report| Failure::Mapping(format!("{report}\nnothing was sent"));
    let pack = Pack::read(dir).map_err(refused)?;
    let bundle = pack.bundle(&dir.display().to_string()).map_err(refused)?;
    let loaded = Loaded { pack, bundle };
    let bus = Link::join(config).await?;
    let (packed, hash) = (loaded.pack.bytes(), loaded.pack.hash());
    let mut offset = 0;
    for piece in packed.chunks(PIECE) {
        let ask = MappingAsk::Piece { hash: hash.to_owned(), offset, bytes: STANDARD.encode(piece) };
        offset += piece.len();
        match asked(&bus, config, ask).await? {
            MappingAnswer::Taken(taken) if taken == offset => {}
            MappingAnswer::Taken(taken) => {
                return Err(Failure::other(format!(
                    "the broker has {taken} bytes of {offset}: somebody else pushes mappings; nothing was changed, try again"
                )));
            }
            other => return Err(unexpected(&other)),
        }
    }
    let by = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let ask = MappingAsk::Use { hash: hash.to_owned(), by: format!("ctl:{by}") };
    match asked(&bus, config, ask).await? {
        MappingAnswer::Pushed(pushed) => show(&pushed),
        other => Err(unexpected(&other)),
    }
}

fn show(pushed: &Pushed) -> Result<(), Failure> {
    if pushed.before == pushed.hash {
        say::line(format_args!("in force as before  {}", pushed.hash));
    } else {
        say::line(format_args!("in force  {}  (before: {})", pushed.hash, short(&pushed.before)));
    }
    if pushed.staying > 0 {
        say::line(format_args!(
            "{} sessions of the broker's fronts keep the mappings they began with, until their next login or for 24 h",
            pushed.staying
        ));
    }
    left("the broker", &pushed.left);
    agents(&pushed.hash, &pushed.agents);
    match pushed.agents.iter().any(|agent| agent.refused.is_some()) {
        false => Ok(()),
        true => {
            Err(Failure::other("some agents go by their old mappings, as said above; the others by the new"))
        }
    }
}

fn list(listed: &Listed) {
    say::line(format_args!("in force  {}", listed.hash));
    for (hash, sessions) in &listed.sessions {
        say::line(format_args!("{}  {sessions} sessions of the broker's fronts", short(hash)));
    }
    agents(&listed.hash, &listed.agents);
}

fn agents(hash: &str, agents: &[AgentBundle]) {
    for agent in agents {
        let state = match (&agent.hash, &agent.refused) {
            (_, Some(why)) => format!("REFUSED it: {why}"),
            (Some(own), None) if own == hash => format!("goes by {}", short(own)),
            (Some(own), None) => format!("goes by ANOTHER, {}", short(own)),
            (None, None) => "does not answer; it takes them when it is back".to_owned(),
        };
        say::line(format_args!("agent {}  {state}", agent.name));
        left(&format!("agent {}", agent.name), &agent.left);
    }
}

/// What a restart is needed for.
fn left(who: &str, left: &Left) {
    if !left.unseen.is_empty() {
        say::line(format_args!("{who}: {} show nothing until it is started anew", left.unseen.join(", ")));
    }
    if !left.at_restart.is_empty() {
        say::line(format_args!(
            "{who}: its {} targets read documents and events by the mappings they started with until it is started anew; commands go by \
             the new ones",
            left.at_restart.join(", ")
        ));
    }
}

async fn asked(bus: &Arc<dyn Bus>, config: &Config, ask: MappingAsk) -> Result<MappingAnswer, Failure> {
    match ask_on(bus, config, &Ask::Mapping(ask), WITHIN).await? {
        Answer::Mapping(answer) => Ok(answer),
        Answer::Refused(why) => Err(Failure::Other(why)),
        _ => Err(Failure::other("the broker answered something else; ctl and broker must be of one version")),
    }
}

fn unexpected(answer: &MappingAnswer) -> Failure {
    match answer {
        MappingAnswer::Refused(why) => Failure::Mapping(format!("{why}\nnothing was changed")),
        _ => Failure::other("the broker answered something else; ctl and broker must be of one version"),
    }
}
