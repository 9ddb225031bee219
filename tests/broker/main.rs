//! One behaviour suite over both brokers, and what is special to Redis.
//!
//! `suite` and `feed` hold functions that know only the contract; the table below makes a test of
//! each per backend. `memory_only` is about its queues; `redis_only` starts servers of its own where it breaks them.

mod feed;
mod helper;
mod memory_only;
#[cfg(feature = "redis")]
mod recorded;
#[cfg(feature = "redis")]
mod redis_only;
mod suite;
#[cfg(feature = "redis")]
mod truth;
mod world;

macro_rules! behaviour {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod memory {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(&super::world::World::memory());
                }
            )*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(&super::world::World::redis());
                }
            )*
        }
    };
}

behaviour! {
    suite::tickets_are_taken_once,
    suite::tickets_expire,
    suite::tickets_keep_the_order_of_tokens,
    suite::tickets_of_a_client_can_be_voided,
    suite::tickets_are_put_back_for_what_is_left_of_their_life,
    suite::a_request_is_claimed_once,
    suite::claims_expire_and_are_released,
    suite::presence_is_counted_per_connection,
    suite::events_carry_the_ticket_text,
    suite::repeating_a_report_has_no_effect,
    suite::the_last_close_leaves_channels,
    suite::a_new_session_supersedes_the_nodes_former_ones,
    suite::a_client_is_in_no_more_channels_than_it_may,
    suite::memberships_of_clients_that_never_come_end,
    suite::very_many_channels_are_left_in_steps,
    suite::a_node_that_returns_brings_its_clients_back,
    suite::who_is_known_to_come_keeps_its_channels,
    suite::a_session_beside_others_does_not_supersede,
    suite::a_lapsed_lease_is_reaped,
    suite::renewing_keeps_a_session,
    suite::two_reapers_never_close_twice,
    suite::an_ended_session_is_lost,
    suite::a_lost_session_reports_nothing,
    suite::a_status_is_heard_as_long_as_the_lease_stands,
    suite::connections_of_a_client_are_found_on_its_node,
    suite::joining_and_leaving,
    suite::any_channel_name_will_do,
    suite::the_system_is_hidden,
    suite::clearing_a_channel_keeps_who_is_online,
    suite::nothing_asked_nothing_done,
    suite::lists_come_page_by_page,
    suite::connections_come_page_by_page,
    feed::messages_keep_their_order,
    feed::payloads_arrive_unchanged,
    feed::a_message_never_overtakes_a_join,
    feed::a_message_never_overtakes_a_watch,
    feed::a_message_never_overtakes_a_leave,
    feed::unwatched_clients_are_not_reported,
    feed::an_idle_feed_reports_changes,
    feed::nodes_hear_only_their_own,
    feed::a_second_process_under_one_name_is_told,
    feed::a_broadcast_needs_no_watch,
}
