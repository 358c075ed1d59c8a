//! The broker's side of `hyperglot ctl mapping`.
//!
//! ```text
//! pieces ─▶ whole: hash, check ─▶ fits here ─▶ offered ─▶ every agent that is there tries it ─┬─ one refuses ─▶ nothing changes anywhere
//!                                                                                          └─ all can ─▶ audit ─▶ kept, in force here
//!          ─▶ every agent is told; who is away takes it from the welcome of its next hello
//! ```
//! One push at a time; who comes second is refused.

use crate::{
    bundles::{InForce, Left, Library, Loaded},
    ctl_mapping::{AgentBundle, Listed, MappingAnswer, MappingAsk, Pushed},
    engine_room::EngineRoom,
    fronts::Fronts,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use engine::{AgentError, Agents as _};
use mapping::pack::PACKED;
use parking_lot::Mutex;
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use union::{command::Code, pb};

/// How long an agent may take to fetch a bundle and check it.
const TRY: Duration = Duration::from_secs(30);
/// How long an agent may take to say what is in force.
const SAY: Duration = Duration::from_secs(2);

/// Takes mappings from `ctl`.
pub struct Pushes {
    /// What they are swapped in.
    pub in_force: Arc<InForce>,
    /// What the engine plans by and hands out.
    pub library: Arc<Library>,
    /// The broker's fronts.
    pub fronts: Arc<Fronts>,
    /// What has come so far, of which bundle.
    pub coming: Mutex<(String, Vec<u8>)>,
    /// Held while one is spread.
    pub turn: tokio::sync::Mutex<()>,
}

impl Pushes {
    /// Answers.
    pub async fn answer(&self, room: &Arc<EngineRoom>, ask: MappingAsk) -> MappingAnswer {
        let answer = match ask {
            MappingAsk::Piece { hash, offset, bytes } => {
                self.take(hash, offset, &bytes).map(MappingAnswer::Taken)
            }
            MappingAsk::Use { hash, by } => self.push(room, &hash, &by).await.map(MappingAnswer::Pushed),
            MappingAsk::List => Ok(MappingAnswer::Listed(Listed {
                hash: self.in_force.hash(),
                sessions: self.fronts.bundles(),
                agents: self.tell(room, &self.in_force.hash(), pb::BundleStep::BundleSay).await,
            })),
        };
        answer.unwrap_or_else(MappingAnswer::Refused)
    }

    /// How many bytes are there.
    fn take(&self, hash: String, offset: usize, bytes: &str) -> Result<usize, String> {
        let mut coming = self.coming.lock();
        if offset == 0 {
            *coming = (hash, Vec::new());
        } else if coming.0 != hash {
            return Err("somebody else has begun to push mappings; try again".to_owned());
        }
        if coming.1.len() != offset {
            return Ok(coming.1.len());
        }
        let piece = STANDARD.decode(bytes).map_err(|e| format!("a piece cannot be read: {e}"))?;
        if offset + piece.len() > PACKED {
            *coming = Default::default();
            return Err(format!("more than {PACKED} bytes of mapping files; they are not taken"));
        }
        coming.1.extend(piece);
        Ok(coming.1.len())
    }

    async fn push(&self, room: &Arc<EngineRoom>, hash: &str, by: &str) -> Result<Pushed, String> {
        let _turn = self.turn.try_lock().map_err(|_| "other mappings are being pushed; try again")?;
        let (come, packed) = std::mem::take(&mut *self.coming.lock());
        if come != hash {
            return Err("its files have not come; try again".to_owned());
        }
        let loaded = Loaded::open(hash, packed).await?;
        self.in_force.check(&loaded)?;
        let before = self.in_force.hash();
        self.library.offer(&loaded.pack);
        let pushed = self.spread(room, &loaded, by).await;
        self.library.withdraw();
        let (left, agents) = pushed?;
        let sessions = self.fronts.bundles();
        let staying = sessions.iter().filter(|(other, _)| *other != hash).map(|(_, count)| count).sum();
        Ok(Pushed { hash: hash.to_owned(), before, left, staying, agents })
    }

    async fn spread(
        &self,
        room: &Arc<EngineRoom>,
        loaded: &Loaded,
        by: &str,
    ) -> Result<(Left, Vec<AgentBundle>), String> {
        let hash = loaded.pack.hash();
        let tried = self.tell(room, hash, pb::BundleStep::BundleTry).await;
        let refusing: Vec<String> = tried
            .iter()
            .filter_map(|agent| {
                Some(format!("the agent {} refuses it: {}", agent.name, agent.refused.as_ref()?))
            })
            .collect();
        if !refusing.is_empty() {
            return Err(refusing.join("\n"));
        }
        let noted = room.authority.noted(by, "PushMappings", format!("bundle {hash}")).await;
        noted.map_err(|e| format!("it cannot be written down for the audit: {e}"))?;
        let left = self.in_force.put(loaded).await?;
        self.library.add(loaded);
        room.authority.set_bundle(hash);
        Ok((left, self.tell(room, hash, pb::BundleStep::BundleUse).await))
    }

    /// Every agent of another process, and what it says.
    async fn tell(&self, room: &Arc<EngineRoom>, hash: &str, step: pb::BundleStep) -> Vec<AgentBundle> {
        let members = match room.members.members().await {
            Ok(members) => members,
            Err(error) => {
                tracing::error!(%error, "who has joined cannot be read; agents are not told of other mappings");
                return Vec::new();
            }
        };
        let own = room.ways.own.get().map(|(name, _)| Arc::clone(name));
        let mut asking = tokio::task::JoinSet::new();
        for member in members.into_iter().filter(|member| Some(&member.name) != own.as_ref()) {
            let (ways, name) = (Arc::clone(&room.ways), member.name.to_string());
            let notice = pb::BundleNotice { hash: hash.to_owned(), step: step.into(), ..Default::default() };
            let within = if step == pb::BundleStep::BundleSay { SAY } else { TRY };
            asking.spawn(async move {
                let asked = ways.ask(&name, "bundle", Bytes::from(notice.encode_to_vec()), within).await;
                said(name, asked)
            });
        }
        let mut all = asking.join_all().await;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

fn said(name: String, answer: Result<Bytes, AgentError>) -> AgentBundle {
    let silent = AgentBundle { name: name.clone(), ..AgentBundle::default() };
    match answer {
        Ok(body) => match pb::BundleSaid::decode(body) {
            Ok(said) => AgentBundle {
                name,
                hash: Some(said.hash).filter(|hash| !hash.is_empty()),
                refused: Some(said.refused).filter(|why| !why.is_empty()),
                left: Left { unseen: said.unseen, at_restart: said.at_restart },
            },
            Err(e) => AgentBundle { refused: Some(format!("its answer cannot be read: {e}")), ..silent },
        },
        // One that is stopping, or too busy, takes it when it is back.
        Err(AgentError::Refused(cause)) if cause.code != Code::Busy => {
            AgentBundle { refused: Some(cause.to_string()), ..silent }
        }
        Err(error) => {
            tracing::info!(agent = name, %error, "an agent was not told of other mappings; it takes them at its next hello");
            silent
        }
    }
}
