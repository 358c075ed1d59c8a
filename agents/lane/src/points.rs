//! The failpoints of this room: where a test may end the process. See [`union::fail`].

/// The turn has come; nothing is kept, nothing sent.
pub const TURN: &str = "lane.turn-come";
/// The intent is durable; nothing was sent.
pub const INTENT_DURABLE: &str = "lane.intent-durable";
/// A call is under way.
pub const CALL_SENT: &str = "lane.call-sent";
/// A call was answered, well or not; nothing is noted yet.
pub const CALL_ANSWERED: &str = "lane.call-answered";
/// A step of several is durably noted as answered.
pub const STEP_DURABLE: &str = "lane.step-durable";
/// A call failed, and the steps before it are about to be taken back.
pub const UNDO_BEGUN: &str = "lane.undo-begun";
/// A call that takes a step back is under way.
pub const UNDO_SENT: &str = "lane.undo-sent";
/// A step was taken back.
pub const UNDO_ANSWERED: &str = "lane.undo-answered";
/// The effect has been seen; the outcome is not kept yet.
pub const EFFECT_SEEN: &str = "lane.effect-seen";
/// The outcome is about to be kept.
pub const BEFORE_ENDED: &str = "lane.before-ended";
/// What became of a command of an earlier life has been seen.
pub const SETTLED: &str = "lane.settled";

/// All of them, in the order in which a command passes them.
pub const POINTS: &[&str] = &[
    TURN,
    INTENT_DURABLE,
    CALL_SENT,
    CALL_ANSWERED,
    STEP_DURABLE,
    UNDO_BEGUN,
    UNDO_SENT,
    UNDO_ANSWERED,
    EFFECT_SEEN,
    BEFORE_ENDED,
    SETTLED,
];
