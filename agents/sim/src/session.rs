//! No sessions: the target lives in this process, so there is nobody to log in to. A lost and found connection is
//! [`crate::target::Sim::set_away`].
