//! libvirt's errors as the lane's: what a number means, and whether the call may have happened.

use crate::{native::call::CallError, session::OpenError};
use lane::TargetError;
use union::command::Code;

/// What a `virErrorNumber` means. Numbers: libvirt's `virterror.h`.
pub fn meaning(code: i64) -> Option<Code> {
    match code {
        // NO_SUPPORT, CONFIG_UNSUPPORTED, ARGUMENT_UNSUPPORTED
        3 | 67 | 74 => Some(Code::NotSupported),
        // INVALID_ARG, XML_ERROR, INVALID_DOMAIN
        7 | 8 | 27 => Some(Code::InvalidArgument),
        // OPERATION_DENIED, AUTH_FAILED, AUTH_CANCELLED, ACCESS_DENIED
        29 | 45 | 79 | 88 => Some(Code::Permission),
        // NO_DOMAIN, NO_NETWORK, NO_STORAGE_POOL, NO_STORAGE_VOL, NO_DOMAIN_SNAPSHOT
        42 | 43 | 49 | 50 | 72 => Some(Code::NotFound),
        // OPERATION_INVALID
        55 => Some(Code::InvalidState),
        // OPERATION_TIMEOUT: another job holds the domain
        68 => Some(Code::InProgress),
        // OPERATION_ABORTED
        78 => Some(Code::Cancelled),
        // AGENT_UNRESPONSIVE, AGENT_UNSYNCED
        86 | 100 => Some(Code::GuestUnavailable),
        _ => None,
    }
}

/// What a failed call means to the lane.
pub fn lift(error: CallError) -> TargetError {
    match error {
        CallError::Native(error) => {
            TargetError::Failed { code: error.code, means: meaning(error.code), message: error.message }
        }
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
    use crate::native::call::NativeError;

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
            let lifted = lift(error);
            assert_eq!((lifted.is_ambiguous(), lifted.cause().code), (ambiguous, code), "{text}");
        }
        assert_eq!(lift(native(55)).cause().native_code, 55);
    }
}
