//! The promises of a store, held against every store: each fact of `promises` becomes one test for each `Place`.

mod embedded;
mod embedded_only;
mod place;
mod promises;
#[path = "../support/proxy.rs"]
mod proxy;
mod redis;
mod redis_only;
#[allow(dead_code, reason = "each test program uses a part")]
#[path = "../support/redis_server.rs"]
mod redis_server;

/// Makes a test of every promise for the place of the calling module.
macro_rules! hold_every_promise {
    ($place:ty) => {
        hold_every_promise! { $place =>
            queue {
                a_claim_gives_the_message_whole
                a_message_that_came_from_outside_keeps_its_envelope
                several_messages_are_stored_together
                a_known_id_is_refused_and_nothing_is_stored
                an_id_twice_in_one_push_is_refused_and_nothing_is_stored
                the_oldest_of_a_step_comes_first
                priority_steps_come_in_order
                no_more_than_asked_for_is_claimed
                a_waiting_claim_is_woken_by_a_push
                a_claim_that_is_given_up_takes_nothing_with_it
                a_claim_without_messages_ends_with_its_patience
                only_the_named_queues_are_claimed
                every_queue_is_claimed_where_the_store_is_ours_alone
                what_is_put_back_comes_first_and_is_not_counted
                what_was_acknowledged_and_did_not_start_is_put_back
                what_is_put_back_with_a_wait_comes_after_it
                a_revoked_task_does_not_come_after_its_wait
                a_full_queue_does_not_starve_another
                depth_counts_what_waits_and_what_is_claimed
                a_purge_removes_what_waits_and_not_what_is_claimed
                a_store_answers_and_begins_without_dead_letters
            }
            due {
                a_delayed_message_comes_when_it_is_due_and_not_before
                messages_come_in_the_order_of_their_due_times
                a_past_eta_is_due_at_once
                a_waiting_claim_wakes_for_an_earlier_due_time
                the_farthest_future_is_kept
                what_came_too_late_says_so
                what_is_too_late_when_it_is_due_says_so
            }
            settling {
                a_success_is_kept_with_everything_about_it
                a_failure_is_kept_with_its_error
                a_revoked_attempt_is_kept_with_its_reason
                a_retry_waits_and_comes_back_counted
                an_ignored_result_is_not_kept
                a_delivery_is_settled_once
                of_racing_settlements_one_counts
                follow_ups_are_pushed_in_the_same_step
                a_lost_lease_pushes_no_follow_ups
                a_follow_up_that_is_known_already_is_not_sent_twice
                a_follow_up_keeps_what_its_sender_wrote_about_it
                a_follow_up_waits_until_it_is_due
            }
            death {
                what_was_not_settled_comes_back
                what_waited_outlives_its_process
                a_receipt_of_the_dead_settles_nothing
                what_was_acknowledged_is_never_handed_out_again
                a_kept_lease_does_not_end
                what_was_settled_outlives_its_process
                deaths_of_what_had_started_are_counted
                a_death_before_the_start_is_not_counted
                a_task_that_ran_at_too_many_deaths_is_not_tried_again
                an_errback_follows_a_task_that_may_not_be_handed_out_again
                an_errback_follows_a_task_that_ran_at_too_many_deaths
                what_was_put_back_after_its_start_has_no_death
                deaths_are_forgotten_when_the_task_ends
            }
            purging {
                what_is_purged_is_revoked_and_stays_in_the_history
                who_waits_for_what_is_purged_is_told
                what_waits_for_its_retry_is_purged_with_what_it_left
            }
            revoking {
                a_revoked_task_never_starts
                a_revoked_delayed_task_never_starts
                a_revoked_task_never_starts_though_the_history_has_forgotten_it
                a_running_task_is_stopped_only_when_asked_to
                a_task_revoked_while_it_runs_is_not_retried
                a_task_revoked_while_it_runs_is_not_put_back
                a_task_revoked_while_it_runs_does_not_come_back_after_death
                an_ended_task_is_revoked_too_late
                the_revocation_of_an_unknown_task_holds_where_others_send_too
            }
            results {
                an_unknown_task_has_no_run
                a_waiting_task_is_known
                a_claimed_task_is_started
                progress_is_seen_while_the_task_is_claimed
                progress_with_a_void_receipt_is_not_seen
                a_wait_ends_when_the_task_does
                a_wait_for_an_ended_task_ends_at_once
                a_wait_that_is_over_gives_the_run_as_it_is
                a_task_that_is_not_known_yet_is_waited_for
                what_was_forgotten_is_unknown
                a_task_that_has_not_ended_is_not_forgotten
            }
            changes {
                each_step_of_a_task_is_a_change
                a_task_that_is_not_known_yet_can_be_watched
                a_task_that_waits_again_has_changed
                a_revocation_is_a_change
                everybody_who_watches_is_told
            }
            history {
                recent_runs_come_newest_first
                recent_runs_are_found_by_name
                recent_runs_are_found_by_state
                the_oldest_ended_runs_leave_a_full_history
                a_full_history_does_not_wait_for_the_timer
                an_old_result_is_dropped
            }
            search {
                pages_follow_one_another_to_the_end
                a_page_of_much_is_short_and_leads_on
                a_page_follows_its_cursor_though_new_runs_come_in
                a_page_follows_its_cursor_though_new_names_come_in
                every_state_is_paged
                a_star_finds_names_that_begin_so
                runs_are_found_by_queue
                runs_are_found_since_a_time
                runs_are_found_by_text
                all_that_is_asked_for_must_hold
                a_cursor_that_is_none_is_refused
                a_listed_run_is_whole_but_for_its_log_and_children
                a_running_task_is_listed_as_started
            }
            pausing {
                a_paused_queue_is_not_claimed_and_others_are
                a_resumed_queue_is_claimed_at_once_and_in_order
                what_was_claimed_before_a_pause_runs_to_its_end
                a_pause_outlives_its_process
                a_delayed_task_of_a_paused_queue_starts_once_it_is_resumed
                pausing_or_resuming_twice_is_as_once
                queues_are_listed_by_name_with_what_they_hold
                an_empty_queue_that_is_not_paused_is_not_listed
            }
            sources {
                a_source_is_read_back_as_it_was
                a_source_kept_twice_is_kept_once
                sources_outlive_their_process
            }
            ticks {
                a_tick_is_taken_once
                an_earlier_tick_is_taken_with_a_later_one
                of_racing_pushes_one_takes_the_tick
                a_refused_push_takes_no_tick
                a_new_entry_begins_now
                a_known_entry_keeps_its_last_tick
                a_changed_entry_begins_anew
                ticks_outlive_their_process
            }
            roster {
                who_is_there_is_known_by_name
                what_a_worker_said_last_counts
                who_leaves_is_gone_at_once
                who_says_nothing_for_a_lease_is_gone
            }
            values {
                a_value_is_read_back_until_deleted
                a_value_expires
                only_new_sets_once
                a_value_without_a_ttl_stays
                integers_are_added_to
                what_is_no_integer_is_not_added_to
                a_sum_that_does_not_fit_is_refused
                a_value_is_deleted_only_as_expected
                concurrent_sums_lose_nothing
                values_outlive_their_process
            }
            crowd {
                many_claimers_get_each_message_once
                messages_pushed_at_the_same_time_are_all_there
            }
        }
    };
    ($place:ty => $($area:ident { $($fact:ident)* })*) => {
        $(mod $area {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                crate::promises::$area::$fact::<$place>().await;
            })*
        })*
    };
}
use hold_every_promise;
