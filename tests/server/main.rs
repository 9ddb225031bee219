//! Nodes, helper and clients together, over real sockets and both brokers.

mod bursts;
mod channels;
mod faults;
mod frames;
mod handshakes;
mod life;
mod messages;
mod overview;
mod presence;
mod proxies;
#[cfg(feature = "redis")]
mod recorded;
#[cfg(feature = "redis")]
mod stage;
#[cfg(feature = "tls")]
mod tls;
mod world;

/// One test per backend: those of the second list are about sockets in the clear.
macro_rules! behaviour {
    ($($module:ident :: $name:ident),* ; $($clear_module:ident :: $clear:ident),*) => {
        mod memory {
            run!(Memory: $($module :: $name,)* $($clear_module :: $clear),*);
        }

        #[cfg(feature = "redis")]
        mod redis {
            run!(Redis: $($module :: $name,)* $($clear_module :: $clear),*);
        }

        #[cfg(feature = "tls")]
        mod secure {
            run!(Tls: $($module :: $name),*);
        }
    };
}

macro_rules! run {
    ($backend:ident: $($module:ident :: $name:ident),*) => {
        $(
            #[test]
            fn $name() {
                crate::$module::$name(crate::world::Backend::$backend);
            }
        )*
    };
}

behaviour! {
    messages::a_message_reaches_its_receivers_on_all_nodes,
    messages::unknown_receivers_are_no_error,
    messages::a_receiver_listed_often_gets_one_message,
    messages::a_batch_goes_out_in_order,
    messages::a_batch_that_is_dropped_sends_nothing,
    messages::receipts_tell_what_became_of_a_message,
    messages::the_system_and_oneself_are_told_nothing,
    messages::receipts_repeat_the_id_and_leave_out_long_content,
    messages::every_receipt_of_a_long_list_comes,
    messages::what_the_bus_cannot_carry_is_refused,
    messages::receipts_are_one_per_receiver_not_per_connection,
    messages::own_messages_come_back_only_to_several_connections,
    messages::guids_and_integers_live_on_one_node,
    messages::text_of_any_kind_survives,
    messages::large_messages_arrive_whole,
    messages::what_has_no_json_form_is_not_sent,
    messages::the_send_hook_sees_every_send,
    messages::order_holds_per_thread_and_receiver_under_load,
    channels::channel_messages_reach_members_on_all_nodes,
    channels::both_directions_of_membership_agree,
    channels::clearing_a_channel_keeps_who_is_online,
    channels::who_joined_before_connecting_gets_channel_messages,
    channels::channels_are_left_with_the_last_connection,
    channels::the_sender_of_a_channel_message_hears_it_on_several_connections,
    channels::a_broadcast_reaches_everybody,
    channels::channel_names_may_hold_any_characters,
    channels::an_empty_channel_name_is_refused,
    channels::joins_have_limits,
    channels::membership_and_messages_keep_their_order,
    overview::nodes_tell_of_themselves,
    overview::a_client_s_connections_are_shown_with_their_notes,
    presence::who_is_online_can_be_asked,
    presence::force_offline_closes_every_connection,
    presence::a_client_with_too_many_connections_loses_its_oldest,
    presence::what_was_sent_before_force_offline_still_arrives,
    presence::events_tell_of_every_connection_in_order,
    presence::short_visits_have_both_events,
    presence::who_reacts_to_the_online_event_reaches_the_client,
    presence::a_stopped_event_bus_calls_nobody,
    handshakes::a_token_opens_one_connection,
    handshakes::a_token_expires,
    handshakes::one_of_many_who_use_a_token_at_once_gets_in,
    handshakes::a_client_of_another_node_is_told_so,
    handshakes::ids_of_another_kind_are_refused,
    handshakes::a_kick_voids_the_addresses_from_before,
    handshakes::a_kick_stops_a_connection_under_way,
    handshakes::a_ticket_that_is_older_than_a_kick_is_void,
    handshakes::paths_and_queries_match_as_the_original,
    handshakes::offers_of_extensions_and_protocols_are_ignored,
    handshakes::what_is_no_upgrade_is_refused_with_a_reason,
    handshakes::origins_are_checked_if_some_are_set,
    handshakes::a_head_may_come_byte_by_byte,
    handshakes::large_heads_are_taken,
    handshakes::an_answer_to_head_has_no_body,
    handshakes::the_slowest_handshake_gives_way,
    handshakes::a_slow_request_gives_way_after_a_while,
    handshakes::a_full_node_says_so_and_takes_clients_again,
    handshakes::a_socket_without_a_request_is_closed_in_time,
    handshakes::a_peer_that_goes_during_its_handshake_costs_nothing,
    frames::broken_frames_close_with_a_protocol_error,
    frames::what_is_too_big_closes_with_1009,
    frames::text_that_is_not_utf8_closes_with_1007,
    frames::a_close_frame_is_answered_with_its_code,
    frames::what_cannot_be_right_is_refused_at_its_first_byte,
    frames::a_close_waits_for_the_client_s_answer,
    frames::a_close_without_an_answer_ends_after_the_linger,
    frames::an_unfinished_message_is_closed_in_time,
    frames::messages_of_clients_are_dropped_and_pings_answered,
    frames::frames_right_behind_the_request_are_read,
    frames::a_client_that_leaves_without_a_word_is_noticed,
    bursts::a_burst_in_one_batch_arrives_whole,
    bursts::a_burst_arrives_while_the_reactor_is_busy_with_a_room,
    faults::a_flood_is_closed_with_1008,
    faults::a_steady_talker_is_no_flood,
    faults::a_client_that_never_reads_is_closed_and_others_get_everything,
    faults::a_slow_client_that_reads_on_is_told_1013,
    faults::a_stuck_client_is_closed_though_its_outbox_is_small,
    faults::a_silent_peer_is_closed_and_one_that_answers_is_not,
    faults::faults_at_the_same_moment_cost_a_bystander_nothing,
    life::shutdown_closes_clients_and_leaves_no_trace,
    life::shutdown_sends_what_is_queued_first,
    life::a_node_works_with_the_largest_limits,
    life::the_books_balance,
    life::presence_counts_survive_a_storm_of_visits,
    proxies::forwarded_addresses_are_read_in_every_form,
    proxies::the_last_forwarded_address_counts;
    handshakes::what_comes_to_nothing_is_limited_over_time,
    handshakes::a_head_without_an_end_leaves_others_their_turn,
    bursts::a_burst_arrives_at_a_client_that_reads_slower,
    bursts::a_client_that_reads_a_long_backlog_is_not_taken_for_silent,
    bursts::a_client_that_reads_a_large_message_slowly_is_not_taken_for_silent,
    bursts::a_burst_to_a_large_room_reaches_everybody,
    proxies::one_address_cannot_take_all_handshakes,
    proxies::an_ipv6_host_is_its_network,
    proxies::a_proxy_s_header_tells_who_the_peer_is
}
