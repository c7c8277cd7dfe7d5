"""When a webhook is sent again, and when no more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.attempt import Cost
from storage.delivery import (
    LONGEST_HINT,
    SCHEDULE,
    Delivery,
    DeliveryId,
    DeliveryStatus,
    Try,
    notices,
    owed,
)
from storage.endpoint import DisabledReason, EndpointId, WebhookEndpoint
from storage.job import Job, JobId
from storage.outbox import created_us
from tests.samples import NOW, a_job, a_picture, an_endpoint


def delivery(*, tries: int = 0) -> Delivery:
    return Delivery(
        id=DeliveryId("msg_1"),
        tenant="acme",
        job_id=JobId("job_1"),
        type="job.succeeded",
        url="https://example.com/hook?token=secret",
        created_at=NOW,
        next_at=NOW,
        tries=(failed(),) * tries,
        round=tries,
    )


def failed(status: int | None = 500, *, retry_after: float | None = None) -> Try:
    return Try(at=NOW, latency=2.0, status=status, retry_after=retry_after)


# -- one try ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_success_ends_it(status: int) -> None:
    after = delivery().tried(failed(status), jitter=0)
    assert (after.status, after.next_at) == (DeliveryStatus.DELIVERED, None)
    assert after.is_ended


@pytest.mark.parametrize("status", [None, 199, 301, 302, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    after = delivery().tried(failed(status), jitter=0)
    assert (after.status, after.next_at) == (DeliveryStatus.PENDING, NOW + 2 + 5)
    assert not after.is_ended


def test_a_receiver_who_says_that_it_is_gone_is_left_alone() -> None:
    after = delivery().tried(failed(410), jitter=0)
    assert (after.status, after.next_at) == (DeliveryStatus.GONE, None)


def test_each_try_is_kept() -> None:
    after = delivery().tried(failed(500), jitter=0).tried(failed(200), jitter=0)
    assert [one.status for one in after.tries] == [500, 200]


# -- the schedule ----------------------------------------------------------------------------------


def test_ten_tries_take_a_little_more_than_three_days() -> None:
    assert len(SCHEDULE) == 10
    assert 3.0 < sum(SCHEDULE) / 86_400 < 3.5


@pytest.mark.parametrize("tries", range(9))
def test_the_waits_follow_the_schedule(tries: int) -> None:
    after = delivery(tries=tries).tried(failed(), jitter=0)
    assert after.next_at == NOW + 2 + SCHEDULE[tries + 1]


def test_the_tenth_failure_is_the_last() -> None:
    after = delivery(tries=9).tried(failed(), jitter=0)
    assert (after.status, after.next_at) == (DeliveryStatus.FAILED, None)


@given(st.integers(0, 8), st.floats(-1, 1), st.floats(0.001, 10))
def test_jitter_moves_a_wait_by_a_fifth_at_most_and_scale_stretches_it(
    tries: int, jitter: float, scale: float
) -> None:
    after = delivery(tries=tries).tried(failed(), jitter=jitter, scale=scale)
    assert after.next_at is not None
    wait = (after.next_at - NOW - 2) / scale
    planned = SCHEDULE[tries + 1]
    assert planned * 0.79 <= wait + 1e-3 / scale
    assert wait - 1e-3 / scale <= planned * 1.21


@given(st.integers(0, 8), st.floats(0, 1e9))
def test_a_receivers_hint_only_makes_the_wait_longer_and_by_an_hour_at_most(
    tries: int, hint: float
) -> None:
    after = delivery(tries=tries).tried(failed(retry_after=hint), jitter=0)
    assert after.next_at is not None
    expected = max(SCHEDULE[tries + 1], min(hint, LONGEST_HINT))
    assert after.next_at == pytest.approx(NOW + 2 + expected)


@pytest.mark.parametrize("tries", [0, 3, 9])
def test_a_delivery_sent_on_its_way_anew_has_the_whole_schedule_before_it(tries: int) -> None:
    anew = delivery(tries=tries).again(NOW + 9)
    assert (anew.status, anew.next_at, len(anew.tries)) == (
        DeliveryStatus.PENDING,
        NOW + 9,
        tries,
    )
    assert anew.tried(failed(), jitter=0).next_at == NOW + 2 + SCHEDULE[1]


def test_only_the_latest_tries_are_kept() -> None:
    one = delivery()
    for at in range(100):
        one = one.again(NOW).tried(replace(failed(), latency=float(at)), jitter=0)
    assert [kept.latency for kept in one.tries] == [float(at) for at in range(70, 100)]


def test_a_delivery_that_is_not_sent_says_why_until_it_is() -> None:
    skipped = delivery().skipped("The endpoint is disabled.")
    assert (skipped.status, skipped.next_at) == (DeliveryStatus.SKIPPED, None)
    assert skipped.note == "The endpoint is disabled."
    assert skipped.again(NOW).note is None


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500, 502, 408, 425, 429])
def test_the_next_message_waits_while_the_receiver_is_down(status: int | None) -> None:
    one = delivery()
    assert not one.lets_go
    for _ in range(4):
        one = one.tried(failed(status), jitter=0)
        assert not one.lets_go


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_the_next_message_goes_once_one_is_refused_by_a_receiver_that_is_up(status: int) -> None:
    assert delivery().tried(failed(status), jitter=0).lets_go


@pytest.mark.parametrize("status", [200, 410])
def test_the_next_message_goes_once_one_has_ended(status: int) -> None:
    assert delivery().tried(failed(status), jitter=0).lets_go


def test_no_message_holds_the_next_one_up_for_more_than_five_tries() -> None:
    assert delivery(tries=4).tried(failed(), jitter=0).lets_go


def test_a_message_sent_anew_holds_the_next_one_up_again() -> None:
    assert not delivery(tries=5).again(NOW).lets_go


# -- lanes -----------------------------------------------------------------------------------------


def test_messages_to_one_endpoint_share_a_lane_whatever_its_address() -> None:
    one = replace(delivery(), endpoint_id=EndpointId("we_1"))
    assert one.lane == replace(one, url="https://elsewhere.example/").lane == "acme:we_1"
    assert one.lane != replace(one, endpoint_id=EndpointId("we_2")).lane


def test_messages_to_one_origin_share_a_lane_within_their_tenant() -> None:
    one = delivery()
    assert one.lane == replace(one, url="https://example.com/other").lane
    assert one.lane != replace(one, url="https://example.com:444/hook").lane
    assert one.lane != replace(one, tenant="globex").lane
    assert one.lane.startswith("acme:")
    assert "example" not in one.lane


# -- who is owed what ------------------------------------------------------------------------------


def new_id() -> DeliveryId:
    return DeliveryId("msg_7")


def told(before: Job | None, after: Job, *endpoints: WebhookEndpoint) -> list[str]:
    return [one.type for one in owed(before, after, endpoints, new_id, NOW)]


def test_a_job_with_a_receiver_owes_one_delivery() -> None:
    job = a_job(webhook_url="https://example.com/hook")
    (one,) = owed(job, job.cancelled(NOW + 5), (), new_id, NOW + 5)
    assert (one.id, one.tenant, one.job_id, one.type) == ("msg_7", "acme", "job_1", "job.cancelled")
    assert (one.url, one.created_at, one.next_at) == ("https://example.com/hook", NOW + 5, NOW + 5)
    assert one.status is DeliveryStatus.PENDING


def test_the_events_of_one_step_are_told_apart_by_their_time() -> None:
    job = a_job(n=10, webhook_url="https://example.com/", webhook_events=("*",))
    run = job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)
    pictures = [a_picture(index) for index in range(10)]
    ended = run.progressed("f", pictures, Cost(0.05)).settled("f", NOW)
    for now in (NOW, NOW + 0.1, NOW + 0.000_000_3, NOW + 1 / 3):
        told = owed(job, ended, (an_endpoint(events=("*",)),), new_id, now)
        mine = [one for one in told if one.endpoint_id is None]
        assert [one.type for one in mine] == [
            *("job.started", *["job.image_ready"] * 10, "job.succeeded")
        ]
        places = [created_us(one) for one in mine]
        assert places == sorted(set(places))
        assert {created_us(one) for one in told} == set(places)
        assert told[-1].created_at - now < 0.001


def test_a_job_without_a_receiver_owes_nothing() -> None:
    assert told(a_job(), a_job().cancelled(NOW)) == []


def test_a_receiver_of_other_events_is_owed_nothing() -> None:
    job = a_job(webhook_url="https://example.com/", webhook_events=("job.failed",))
    assert told(job, job.cancelled(NOW)) == []


def test_a_receiver_that_named_no_events_hears_of_endings_only() -> None:
    job = a_job(webhook_url="https://example.com/")
    assert told(None, job) == []
    assert told(job, job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)) == []


def test_each_endpoint_that_wants_it_is_told_beside_the_jobs_own_receiver() -> None:
    job = a_job(webhook_url="https://example.com/", webhook_events=("*",))
    all_, some = an_endpoint("we_1", events=("*",)), an_endpoint("we_2", events=("job.queued",))
    deliveries = owed(None, job, (all_, some, an_endpoint("we_3")), new_id, NOW)
    assert [one.endpoint_id for one in deliveries] == [None, "we_1", "we_2"]
    assert {one.type for one in deliveries} == {"job.queued"}


def test_what_a_disabled_endpoint_would_hear_is_owed_as_skipped() -> None:
    endpoint = an_endpoint().disabled(DisabledReason.OWNER, NOW)
    (one,) = owed(a_job(), a_job().cancelled(NOW), (endpoint,), new_id, NOW)
    assert (one.status, one.note) == (DeliveryStatus.SKIPPED, "The endpoint is disabled.")


def test_every_endpoint_that_wants_it_is_told_of_one_that_was_disabled() -> None:
    failing = an_endpoint("we_1", events=("*",))
    others = [
        an_endpoint("we_2", events=("*",)),
        an_endpoint("we_3"),
        an_endpoint("we_4", events=("*",)).disabled(DisabledReason.OWNER, NOW),
    ]
    gone = failing.disabled(DisabledReason.GONE, NOW)
    told = notices(gone, [failing, *others], '{"id": "we_1"}', new_id, NOW)
    assert [(one.endpoint_id, one.status) for one in told] == [
        ("we_1", DeliveryStatus.SKIPPED),
        ("we_2", DeliveryStatus.PENDING),
        ("we_4", DeliveryStatus.SKIPPED),
    ]
    assert {one.type for one in told} == {"webhook_endpoint.disabled"}
    assert {(one.data, one.job_id) for one in told} == {('{"id": "we_1"}', None)}


def test_the_address_and_the_reply_of_a_receiver_are_not_in_the_text() -> None:
    tried = delivery().tried(Try(at=NOW, latency=1.0, status=500, reply="secret reply"), jitter=0)
    assert "secret" not in repr(tried)
