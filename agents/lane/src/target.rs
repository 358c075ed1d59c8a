//! What a lane needs of a target: who holds which object, one native call at a time, and a fresh look at an object.

use async_trait::async_trait;
use mapping::NativeCall;
use std::{fmt, sync::Arc};
use tokio::time::Instant;
use union::{
    ObjectId, SlotSet, Value,
    command::{Cause, Code, Revision},
};

/// What became of a native call.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// Nothing was sent.
    #[error("the target cannot be reached: {0}")]
    Unreachable(String),
    /// It was sent and its answer will not come.
    #[error("the answer was lost: {0}")]
    Lost(String),
    /// It was sent and not answered by the deadline.
    #[error("the target did not answer in time")]
    TimedOut,
    /// The target said no.
    #[error("{message}")]
    Failed {
        /// The target's own error number; 0: none.
        code: i64,
        /// What the number means in the union, where the target's mapping knows.
        means: Option<Code>,
        /// The target's own words.
        message: String,
    },
    /// The target has something of that name already.
    #[error("{message}")]
    Exists {
        /// The name, or whatever else may be there once.
        name: String,
        /// What has it.
        object: ObjectId,
        /// The target's own words.
        message: String,
    },
    /// The target has no such call.
    #[error("the target has no call `{0}`")]
    Unsupported(String),
}

impl TargetError {
    /// Whether the effect may be there all the same.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, TargetError::Lost(_) | TargetError::TimedOut)
    }

    /// Whether it says nothing of what was asked, only that there was no answer.
    pub fn is_away(&self) -> bool {
        self.is_ambiguous() || matches!(self, TargetError::Unreachable(_))
    }

    /// As the cause of a command that failed so.
    pub fn cause(&self) -> Cause {
        let code = match self {
            TargetError::Unreachable(_) => Code::Unreachable,
            TargetError::Lost(_) | TargetError::TimedOut => Code::TimedOut,
            TargetError::Failed { means, .. } => means.unwrap_or(Code::TargetFailed),
            TargetError::Exists { .. } => Code::Duplicate,
            TargetError::Unsupported(_) => Code::NotSupported,
        };
        let mut cause = Cause::new(code, self.to_string());
        if let TargetError::Failed { code, .. } = self {
            cause.native_code = *code;
        }
        if let TargetError::Exists { name, object, .. } = self {
            cause.arguments =
                vec![(Arc::from("name"), Value::str(name)), (Arc::from("object"), Value::Ref(*object))];
        }
        cause
    }
}

/// How far a long call is: 0 to 100. Called from the target's own task; must be quick.
pub type Progress = Arc<dyn Fn(u8) + Send + Sync>;

/// A driver of one hypervisor, or of a set of them.
#[async_trait]
pub trait Target: Send + Sync {
    /// Whose effect tables lower for it, for example `libvirt`.
    fn protocol(&self) -> &str;

    /// Its name in the configuration, for people.
    fn name(&self) -> &str;

    /// Whether the object is one of its own.
    fn holds(&self, id: ObjectId) -> bool;

    /// Makes one call about `object`. Returns by `deadline` at the latest, saying which of the ways it ended.
    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError>;

    /// Reads the object from the hypervisor and puts what it says into the inventory; returns the revision that holds it. An object
    /// that is gone is removed there, which is no error.
    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError>;

    /// Reads at least these fields of the object, and how it stands, from the hypervisor and puts them into the inventory; what else it
    /// says may stay as it was last told. As [`reread`](Target::reread) besides, and what a target does that gains nothing by less.
    async fn refresh(
        &self,
        id: ObjectId,
        _fields: SlotSet,
        deadline: Instant,
    ) -> Result<Revision, TargetError> {
        self.reread(id, deadline).await
    }

    /// Whether the object already is as the call would make it: true, nothing is left to do; `None`, the target cannot tell. Read afresh
    /// from the hypervisor, for a call that edits a document by patching the present one.
    async fn effective(
        &self,
        _object: ObjectId,
        _call: &NativeCall,
        _deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        Ok(None)
    }

    /// Lets go of the long call that is being made to an object, as far as the hypervisor can. Called when its command was outrun.
    async fn abort(&self, _object: ObjectId, _deadline: Instant) -> Result<(), TargetError> {
        Err(TargetError::Unsupported("abort".to_owned()))
    }
}

impl fmt::Debug for dyn Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} {})", self.protocol(), self.name())
    }
}
