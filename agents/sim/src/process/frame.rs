//! What goes over the connection: a length of four bytes, big endian, and a protobuf message of that many.
//!
//! ```text
//! agent ─▶ Hello                          ◀─ Fact … Fact, Synced, and then a Fact for each change
//! agent ─▶ Perform | Read | Effective     ◀─ (Progress | Fact) …, Done | Effect | Failed, with the id of the question
//! ```

use lane::{NativeCall, TargetError};
use prost::Message;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use union::{ObjectId, Plan, Schema, command::Code, pb, plan::Step};

/// The largest frame, bytes.
const MOST: u32 = 16 << 20;

#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// The question; 0: none.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    #[prost(message, tag = "2")]
    Hello(Empty),
    #[prost(message, tag = "3")]
    Perform(Call),
    #[prost(string, tag = "4")]
    Read(String),
    #[prost(message, tag = "5")]
    Effective(Call),
    #[prost(message, tag = "6")]
    Fact(pb::Change),
    #[prost(message, tag = "7")]
    Synced(Empty),
    #[prost(message, tag = "8")]
    Done(Empty),
    #[prost(message, tag = "9")]
    Failed(Failure),
    /// 0: it cannot be told; 1: it is so; 2: it is not.
    #[prost(uint32, tag = "10")]
    Effect(u32),
    #[prost(uint32, tag = "11")]
    Progress(u32),
}

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// One call, as a plan of one step, and how long its caller waits.
#[derive(Clone, PartialEq, Message)]
pub struct Call {
    #[prost(message, optional, tag = "1")]
    pub plan: Option<pb::Plan>,
    #[prost(uint64, tag = "2")]
    pub within_ms: u64,
}

impl Call {
    pub fn of(schema: &Schema, object: ObjectId, call: &NativeCall, within_ms: u64) -> Call {
        let steps = vec![Step { object, call: call.clone() }];
        Call { plan: Some(Plan { steps, ..Plan::default() }.to_pb(schema)), within_ms }
    }

    pub fn step(&self, schema: &Schema) -> Option<Step> {
        Plan::from_pb(schema, self.plan.as_ref()?).ok()?.steps.pop()
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// 1: unreachable, 2: lost, 3: timed out, 4: failed, 5: unsupported.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(int64, tag = "2")]
    pub code: i64,
    #[prost(int32, optional, tag = "3")]
    pub means: Option<i32>,
    #[prost(string, tag = "4")]
    pub message: String,
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Failure {
        let of = |kind, message| Failure { kind, message, ..Failure::default() };
        match error {
            TargetError::Unreachable(why) => of(1, why),
            TargetError::Lost(why) => of(2, why),
            TargetError::TimedOut => of(3, String::new()),
            TargetError::Failed { code, means, message } => {
                Failure { kind: 4, code, means: means.map(|m| m as i32), message }
            }
            // Who has the name is not told from process to process.
            TargetError::Exists { message, .. } => {
                Failure { kind: 4, code: 0, means: Some(Code::Duplicate as i32), message }
            }
            TargetError::Unsupported(call) => of(5, call),
        }
    }
}

impl From<Failure> for TargetError {
    fn from(failure: Failure) -> TargetError {
        let Failure { kind, code, means, message } = failure;
        match kind {
            1 => TargetError::Unreachable(message),
            2 => TargetError::Lost(message),
            3 => TargetError::TimedOut,
            5 => TargetError::Unsupported(message),
            _ => TargetError::Failed { code, means: means.and_then(|m| Code::try_from(m).ok()), message },
        }
    }
}

/// The bytes of a frame.
pub fn bytes(id: u64, body: Body) -> Vec<u8> {
    let frame = Frame { id, body: Some(body) }.encode_to_vec();
    let mut out = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.extend(frame);
    out
}

/// Reads the next frame; `None`: the other side is gone.
///
/// # Errors
/// A frame that is too large or none, or a broken connection.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MOST {
        let why = format!("a frame of {length} bytes; at most {MOST} are taken");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut frame = vec![0; usize::try_from(length).unwrap_or(0)];
    from.read_exact(&mut frame).await?;
    let decoded = Frame::decode(&*frame);
    decoded.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
