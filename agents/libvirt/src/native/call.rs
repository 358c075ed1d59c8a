//! Why a call failed.

use wire::xdr::{DecodeError, EncodeError, XdrValue};

/// libvirt's own error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libvirt: {message} (code {code}, domain {domain})")]
pub struct NativeError {
    /// `virErrorNumber`.
    pub code: i64,
    /// `virErrorDomain`: the part of libvirt that said it.
    pub domain: i64,
    /// The sentence.
    pub message: String,
}

impl NativeError {
    /// From `remote_error`.
    pub fn from_value(value: &XdrValue) -> NativeError {
        let int = |name: &str| value.get(name).and_then(XdrValue::as_int).unwrap_or(0);
        let message = value.get("message").and_then(XdrValue::as_text);
        NativeError {
            code: int("code"),
            domain: int("domain"),
            message: message.map_or_else(|| "no message".to_owned(), |m| m.trim().to_owned()),
        }
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The server said no.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// There is no connection; nothing was sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection ended after the call was sent; what became of it is not known.
    #[error("the answer is lost: {0}")]
    Lost(String),
    /// No answer by the deadline.
    #[error("no answer to {procedure} by the deadline{}", if *.sent { "" } else { "; it was not sent" })]
    TimedOut {
        /// The procedure.
        procedure: String,
        /// Whether the server may have it.
        sent: bool,
    },
    /// Too many calls wait already.
    #[error("{0} calls to this libvirt wait already; ask again later")]
    Busy(usize),
    /// The schema has no such procedure.
    #[error("there is no procedure `{0}` in libvirt's schema")]
    NoProcedure(String),
    /// The arguments do not fit the procedure.
    #[error("arguments of {procedure}: {cause}")]
    Arguments {
        /// The procedure.
        procedure: String,
        /// What does not fit.
        cause: EncodeError,
    },
    /// The reply is not what the schema says.
    #[error("the reply to {procedure} cannot be read: {cause}")]
    Reply {
        /// The procedure.
        procedure: String,
        /// What is wrong.
        cause: DecodeError,
    },
}

impl CallError {
    /// Whether the connection is the trouble, not the call.
    pub fn is_connection(&self) -> bool {
        matches!(self, CallError::NotSent(_) | CallError::Lost(_))
    }

    /// libvirt's error number, if it is libvirt's error.
    pub fn native_code(&self) -> Option<i64> {
        match self {
            CallError::Native(error) => Some(error.code),
            _ => None,
        }
    }
}
