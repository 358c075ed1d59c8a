//! What every bus promises, run against the memory bus and against a real nats-server child.
//! `child` holds what only the child promises.

#[cfg(test)]
#[path = "conformance/bed.rs"]
mod bed;
#[cfg(test)]
#[path = "conformance/child.rs"]
mod child;
#[cfg(test)]
#[path = "conformance/exchange.rs"]
mod exchange;
#[cfg(test)]
#[path = "conformance/replica.rs"]
mod replica;
#[cfg(test)]
#[path = "conformance/trouble.rs"]
mod trouble;

macro_rules! conformance {
    ($($file:ident :: $case:ident),* $(,)?) => {
        #[cfg(test)]
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$file::$case(&super::bed::Bed::memory()).await;
            })*
        }

        #[cfg(test)]
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$file::$case(&super::bed::Bed::nats().await).await;
            })*
        }
    };
}

conformance!(
    exchange::a_request_is_answered_with_headers,
    exchange::a_request_without_a_server_is_told_at_once,
    exchange::one_publisher_keeps_its_order,
    exchange::wildcards_select_whole_tokens,
    exchange::servers_of_one_subject_share_requests,
    exchange::a_message_without_a_reply_never_reaches_a_server,
    exchange::draining_answers_what_was_taken,
    exchange::a_closed_bus_says_so,
    exchange::a_dropped_server_is_gone,
    trouble::a_slow_subscription_sees_its_losses,
    trouble::a_full_server_answers_busy,
    trouble::an_unanswered_request_times_out_and_leaves_nothing,
    trouble::an_abandoned_request_leaves_nothing,
    trouble::a_denied_request_fails_at_once,
    trouble::a_denied_publish_is_told,
    trouble::a_denied_subscription_fails,
    trouble::too_large_is_refused_both_ways,
    trouble::an_outage_fails_requests_at_once_and_heals,
    replica::a_late_follower_gets_everything,
    replica::a_replica_heals_after_an_outage,
    replica::a_publisher_that_starts_anew_is_followed,
    replica::what_is_no_delta_costs_little,
);
