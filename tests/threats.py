"""The threats 62 to 137: which test shows each that is not a row of `test_threats.py` itself.

The numbers are those of the list of hostile inputs: F pictures (62-82), G addresses (83-96),
H transport (97-109), I keys and tenants (110-121), J races (122-132), K leaks (133-137).
"""

from pathlib import Path
from typing import Final


ROOT: Final = Path(__file__).parent
FIRST: Final = 62
LAST: Final = 137

_PIXELS: Final = "unit/worker/test_pixels.py"
_FOREIGN: Final = "unit/worker/test_web_foreign.py"
_GUARD: Final = "unit/worker/test_guard.py"
_SERVER: Final = "unit/service/test_server.py"
_AUTH: Final = "unit/service/test_auth.py"
_TENANCY: Final = "unit/service/test_tenancy.py"
_JOBS: Final = "unit/service/test_jobs.py"
_WEBHOOKS: Final = "unit/worker/test_webhooks.py"
_LEAKS: Final = "integration/test_leaks.py"

SHOWN_BY: Final[dict[int, tuple[str, ...]]] = {
    # F: what is found out only where pixels are worked on
    70: (f"{_PIXELS}::test_text_that_inflates_to_megabytes_is_refused_or_dropped",),
    71: (f"{_PIXELS}::test_pixels_beyond_the_picture_are_not_inflated",),
    78: (
        f"{_PIXELS}::test_a_mask_that_is_of_no_use_is_refused",
        "unit/worker/test_inputs.py::test_a_mask_that_cannot_be_used_is_refused",
        f"{_TENANCY}::test_the_pictures_of_another_cannot_be_named",
    ),
    82: (
        "unit/storage/test_container.py::test_no_damage_ends_in_anything_but_facts_or_a_refusal",
        f"{_PIXELS}::test_no_damage_ends_in_anything_but_pixels_or_a_refusal",
    ),
    # G: what is known only when an address is dialled
    90: (
        f"{_FOREIGN}::test_no_redirect_leads_inside",
        f"{_FOREIGN}::test_three_redirects_are_followed_and_no_fourth",
        f"{_WEBHOOKS}::test_a_redirect_is_not_followed",
    ),
    91: (
        f"{_FOREIGN}::test_a_name_is_as_private_as_the_worst_of_its_addresses",
        f"{_FOREIGN}::test_a_name_that_turns_private_is_not_followed",
        f"{_GUARD}::test_a_slow_name_is_given_up",
    ),
    93: (
        f"{_FOREIGN}::test_a_fetch_over_its_limit_is_too_big",
        f"{_FOREIGN}::test_the_time_of_a_fetch_covers_all_its_hops",
        "unit/worker/test_web.py::test_an_answer_that_is_not_whole_is_none",
        "unit/worker/test_inflate.py::test_a_bomb_is_stopped_by_its_ratio_long_before_its_limit",
        "unit/worker/test_inputs.py::test_a_url_that_gives_no_image_is_refused",
    ),
    96: (f"{_FOREIGN}::test_each_way_of_not_being_reached_reads_the_same",),
    # H
    99: (f"{_SERVER}::test_a_length_over_the_limit_is_refused_before_the_body",),
    100: (f"{_SERVER}::test_a_chunked_body_is_counted",),
    102: (
        "unit/service/test_images.py::test_a_body_that_stops_is_given_up",
        "unit/service/test_images.py::test_a_body_that_drips_is_given_up",
        f"{_SERVER}::test_a_body_that_is_promised_and_never_sent_is_given_up",
        f"{_SERVER}::test_a_head_that_drips_is_given_up",
    ),
    103: (f"{_SERVER}::test_pipelined_requests_are_all_answered",),
    104: (f"{_SERVER}::test_a_body_is_asked_for_only_when_its_length_passes",),
    107: ("unit/service/test_hostile.py::test_a_strange_path_is_not_found",),
    # I
    111: (
        f"{_AUTH}::test_every_bad_key_gets_the_same_answer",
        f"{_AUTH}::test_it_stops_working_within_five_seconds",
    ),
    112: (
        f"{_AUTH}::test_a_wrong_secret_and_an_unknown_id_read_alike",
        "integration/test_guessed_keys.py::test_an_unknown_id_and_a_wrong_secret_take_the_same_time",
    ),
    113: (
        f"{_AUTH}::test_an_address_has_so_many_in_a_minute",
        f"{_AUTH}::test_an_address_that_a_client_makes_up_is_not_believed",
    ),
    114: (
        f"{_TENANCY}::test_anothers_thing_answers_as_one_that_never_was",
        f"{_TENANCY}::test_filters_do_not_find_what_is_anothers",
        f"{_TENANCY}::test_a_replay_sends_nothing_of_anothers",
    ),
    116: (
        f"{_TENANCY}::test_a_cursor_of_another_leads_to_nothing_of_theirs",
        "suites/jobs.py::test_a_cursor_that_no_list_gave_is_refused",
    ),
    118: (
        "suites/objects.py::test_a_link_that_was_changed_anywhere_opens_nothing",
        "suites/objects.py::test_a_link_ends_at_its_time",
        "suites/objects.py::test_a_link_to_what_was_deleted_opens_nothing",
    ),
    119: (
        f"{_WEBHOOKS}::test_a_message_verifies_with_the_public_library",
        f"{_WEBHOOKS}::test_an_endpoint_is_sent_what_its_own_secret_signs",
    ),
    120: (f"{_TENANCY}::test_what_the_service_decides_cannot_be_said",),
    121: (f"{_AUTH}::test_a_key_may_do_what_its_scopes_say_and_nothing_else",),
    # J
    122: (f"{_JOBS}::test_fifty_posts_with_one_key_make_one_job",),
    123: (f"{_JOBS}::test_another_body_is_refused",),
    124: (f"{_TENANCY}::test_one_idempotency_key_of_two_tenants_makes_two_jobs",),
    125: (f"{_JOBS}::test_a_bad_key_is_refused",),
    126: (
        f"{_JOBS}::test_quoted_and_bare_are_one_key_and_order_is_nothing",
        "suites/jobs.py::test_a_key_still_names_its_job_when_the_job_has_ended",
        "suites/jobs.py::test_a_key_is_kept_for_its_time",
    ),
    129: (f"{_JOBS}::test_a_wait_that_is_no_number_is_refused",),
    131: (
        f"{_WEBHOOKS}::test_nothing_is_sent_to_an_endpoint_that_was_deleted",
        f"{_WEBHOOKS}::test_a_change_by_its_owner_does_not_hide_what_a_try_says",
    ),
    132: (f"{_JOBS}::test_a_bad_query_is_refused",),
    # K
    133: (f"{_LEAKS}::test_no_error_tells_of_the_inside",),
    134: (
        f"{_LEAKS}::test_the_logs_hold_none",
        f"{_LEAKS}::test_the_figures_hold_none",
        f"{_LEAKS}::test_redis_holds_them_where_they_belong_and_nowhere_else",
    ),
    135: (f"{_SERVER}::test_a_broken_request_gets_the_plain_error",),
    137: (
        f"{_WEBHOOKS}::test_a_message_shows_the_job_with_fresh_links_and_without_its_prompt",
        f"{_LEAKS}::test_no_error_repeats_what_was_sent",
    ),
}
