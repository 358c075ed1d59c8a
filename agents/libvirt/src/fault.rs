//! libvirt's errors as the lane's: whether the call may have happened, and what a number means.

use crate::{native::call::CallError, session::OpenError, tables::Tables};
use lane::TargetError;
use union::command::Code;

/// What a failed call means to the lane.
pub fn lift(tables: &Tables, error: CallError) -> TargetError {
    match error {
        CallError::Native(error) => TargetError::Failed {
            code: error.code,
            means: tables.meaning(error.code),
            message: error.message,
        },
        CallError::NotSent(reason) => TargetError::Unreachable(reason),
        error @ CallError::TimedOut { sent: false, .. } => TargetError::Unreachable(error.to_string()),
        CallError::TimedOut { sent: true, .. } => TargetError::TimedOut,
        CallError::Lost(reason) => TargetError::Lost(reason),
        CallError::Reply { .. } => TargetError::Lost(error.to_string()),
        CallError::NoProcedure(name) => TargetError::Unsupported(name),
        CallError::Busy(_) => {
            TargetError::Failed { code: 0, means: Some(Code::Busy), message: error.to_string() }
        }
        CallError::Arguments { .. } => {
            TargetError::Failed { code: 0, means: Some(Code::InvalidArgument), message: error.to_string() }
        }
    }
}

/// What it means to the lane that there is no session: nothing was sent.
pub fn unopened(error: &OpenError) -> TargetError {
    TargetError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{native::call::NativeError, tests::tables};

    #[test]
    fn only_what_may_have_happened_is_ambiguous() {
        let native = |code| CallError::Native(NativeError { code, domain: 10, message: "no".into() });
        let timed_out = |sent| CallError::TimedOut { procedure: "P".into(), sent };
        for (error, ambiguous, code) in [
            (native(55), false, Code::InvalidState),
            (native(42), false, Code::NotFound),
            (native(1), false, Code::TargetFailed),
            (CallError::NotSent("x".into()), false, Code::Unreachable),
            (timed_out(false), false, Code::Unreachable),
            (timed_out(true), true, Code::TimedOut),
            (CallError::Lost("x".into()), true, Code::TimedOut),
            (CallError::Busy(9), false, Code::Busy),
            (CallError::NoProcedure("P".into()), false, Code::NotSupported),
        ] {
            let text = error.to_string();
            let lifted = lift(&tables(), error);
            assert_eq!((lifted.is_ambiguous(), lifted.cause().code), (ambiguous, code), "{text}");
        }
        assert_eq!(lift(&tables(), native(55)).cause().native_code, 55);
    }
}
