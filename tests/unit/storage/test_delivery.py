"""When a webhook is sent again, and when no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.delivery import (
    EVENTS,
    LONGEST_HINT,
    SCHEDULE,
    Delivery,
    DeliveryId,
    DeliveryStatus,
    Try,
    owed,
    wants,
)
from storage.job import JobId, JobStatus
from tests.samples import NOW, a_job


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


# -- who is owed what ------------------------------------------------------------------------------


def test_there_is_an_event_for_every_ending_and_no_other() -> None:
    assert set(EVENTS) == {
        "job.succeeded",
        "job.partial",
        "job.failed",
        "job.cancelled",
        "job.expired",
    }


def test_a_job_with_a_receiver_owes_one_delivery() -> None:
    job = a_job(webhook_url="https://example.com/hook").cancelled(NOW + 5)
    (one,) = owed(job, lambda: DeliveryId("msg_7"), NOW + 5)
    assert (one.id, one.tenant, one.job_id, one.type) == ("msg_7", "acme", "job_1", "job.cancelled")
    assert (one.url, one.created_at, one.next_at) == ("https://example.com/hook", NOW + 5, NOW + 5)
    assert one.status is DeliveryStatus.PENDING


def test_a_job_without_a_receiver_owes_nothing() -> None:
    assert owed(a_job().cancelled(NOW), lambda: DeliveryId("msg_7"), NOW) == ()


def test_a_receiver_of_other_events_is_owed_nothing() -> None:
    job = a_job(webhook_url="https://example.com/", webhook_events=("job.failed",))
    assert owed(job.cancelled(NOW), lambda: DeliveryId("msg_7"), NOW) == ()


def test_a_job_that_has_not_ended_owes_nothing() -> None:
    job = a_job(webhook_url="https://example.com/").claimed("f", NOW)
    assert job.status is JobStatus.RUNNING
    assert owed(job, lambda: DeliveryId("msg_7"), NOW) == ()


@pytest.mark.parametrize(
    ("events", "event", "expected"),
    [
        ((), "job.succeeded", True),
        ((), "job.unheard_of", False),
        (("*",), "job.failed", True),
        (("job.*",), "job.failed", True),
        (("image.*",), "job.failed", False),
        (("job.partial", "job.failed"), "job.failed", True),
        (("job.partial",), "job.failed", False),
    ],
)
def test_a_receiver_gets_what_it_named(events: tuple[str, ...], event: str, expected: bool) -> None:
    assert wants(events, event) is expected


def test_the_address_and_the_reply_of_a_receiver_are_not_in_the_text() -> None:
    tried = delivery().tried(Try(at=NOW, latency=1.0, status=500, reply="secret reply"), jitter=0)
    assert "secret" not in repr(tried)
