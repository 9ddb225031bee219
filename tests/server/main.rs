//! Nodes, helper and clients together, over real sockets and both brokers.

#[cfg(feature = "redis")]
#[path = "../support/redis.rs"]
mod redis_server;
mod channels;
mod messages;
mod presence;
mod world;
#[path = "../support/ws.rs"]
mod ws;

macro_rules! behaviour {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod memory {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(super::world::Backend::Memory);
                }
            )*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(super::world::Backend::Redis);
                }
            )*
        }
    };
}

behaviour! {
    messages::a_message_reaches_its_receivers_on_all_nodes,
    messages::no_receivers_and_unknown_receivers_are_no_errors,
    messages::a_receiver_listed_often_gets_one_message,
    messages::receipts_tell_what_became_of_a_message,
    messages::the_system_and_oneself_are_told_nothing,
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
    channels::membership_and_messages_keep_their_order,
    presence::who_is_online_can_be_asked,
    presence::force_offline_closes_every_connection,
    presence::what_was_sent_before_force_offline_still_arrives,
    presence::events_tell_of_every_connection_in_order,
    presence::short_visits_have_both_events,
    presence::who_reacts_to_the_online_event_reaches_the_client,
    presence::a_stopped_event_bus_calls_nobody,
}
