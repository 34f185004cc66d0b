//! What any log promises: one function per promise, generic over the store. `contract!` runs them all against
//! one implementation.

pub(crate) mod appends;
pub(crate) mod beside;
pub(crate) mod claims;
pub(crate) mod once;
pub(crate) mod reads;

/// Runs every promise against a [`crate::support::Store`].
macro_rules! contract {
    ($store:ty) => {
        contract!(@ $store, appends {
            offsets_are_dense_over_many_batches_and_partitions
            a_batch_answers_with_positions_heads_and_events_in_order
            an_append_across_streams_is_one_append
            a_wrong_version_is_refused_and_named_when_the_head_is_unknown
            versions_are_trusted_when_the_head_is_known
            a_version_that_is_taken_is_refused_even_when_the_head_is_known
            a_refused_batch_leaves_no_trace
            every_loser_of_a_batch_is_named
            what_follows_a_loser_in_its_stream_is_not_named
            a_duplicate_gets_the_first_answer
            a_duplicate_is_known_after_reopening
            an_answer_without_events_is_kept
            a_command_twice_in_one_batch_is_the_callers_mistake
            an_older_epoch_is_fenced
            taking_over_survives_reopening
            an_append_that_is_too_large_is_refused
            a_malformed_append_is_refused
            an_empty_batch_changes_nothing
            a_cancelled_append_leaves_the_log_whole
        });
        contract!(@ $store, reads {
            a_stream_is_read_in_pages
            a_partition_is_read_in_pages
            reopening_keeps_everything
            an_old_schema_comes_back_byte_for_byte
            every_field_of_an_event_comes_back
            the_chain_of_an_untouched_log_is_whole
            what_is_not_there_reads_as_nothing
        });
        contract!(@ $store, claims {
            a_taken_name_is_refused_to_others_until_released
            taking_a_name_again_is_fine_for_its_holder
            a_name_changes_hands_within_one_batch_in_order
            of_two_takers_in_one_batch_the_second_loses
            a_name_of_the_installation_is_one_name_whatever_the_tenant
            releasing_another_streams_name_changes_nothing
            the_same_name_of_two_tenants_is_two_names
            a_losers_claims_do_not_make_others_lose
        });
        contract!(@ $store, beside {
            wakeups_of_ended_streams_are_left_out
            wakeups_are_read_between_two_times_in_order
            the_same_wakeup_twice_is_one
            wakeups_of_the_same_time_are_paged_to_the_last
            a_checkpoint_moves_only_from_where_it_is
            past_wakeups_and_old_commands_are_forgotten_in_steps
            a_blob_is_read_by_its_tenant_only
            a_blob_of_an_append_comes_with_it
            a_blob_of_some_megabytes_comes_back_after_reopening
            a_damaged_blob_is_an_error_and_never_data
            what_only_looks_like_a_reference_is_not_there
            a_refresh_token_is_rotated_once_and_its_reuse_ends_the_family
            parallel_rotations_and_a_logout_leave_nothing_of_the_family
            verifiers_are_replaced_listed_and_deleted
            of_all_who_store_the_same_new_verifier_one_does
            expired_verifiers_are_forgotten
        });
        contract!(@ $store, once {
            a_verifier_is_taken_once_and_not_when_it_has_expired
            of_all_who_note_the_same_use_one_does
            a_hash_is_replaced_only_if_it_is_still_the_one_that_was_read
            verifiers_of_a_principal_are_listed_and_deleted_by_kind
            the_latest_use_is_kept
            every_kind_of_verifier_is_stored_and_read
        });
    };
    (@ $store:ty, $module:ident { $($promise:ident)+ }) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    crate::contract::$module::$promise(<$store>::create().await).await;
                }
            )+
        }
    };
}
pub(crate) use contract;
