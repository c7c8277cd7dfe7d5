"""What is told of each step of a job, and to whom."""

from dataclasses import replace

import pytest

from storage.attempt import AttemptStatus, Cost
from storage.event import ENDINGS, EVENTS, WILDCARDS, Event, events_of, wants
from storage.failure import Failure, FailureCode
from storage.job import Job, JobStatus
from tests.samples import NOW, a_job, a_picture


BROKEN = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")


def told(before: Job | None, after: Job) -> list[Event]:
    return list(events_of(before, after))


def running(n: int = 1) -> Job:
    return a_job(n=n).claimed("f", NOW).attempting("first", "sketch", "f", NOW)


def test_there_is_an_event_for_every_ending() -> None:
    assert set(ENDINGS) == {f"job.{status}" for status in JobStatus if status.is_ended}
    assert set(ENDINGS) < set(EVENTS)


def test_a_new_job_is_queued() -> None:
    assert told(None, a_job()) == [Event("job.queued")]


def test_a_job_starts_with_its_first_attempt_and_once() -> None:
    claimed = a_job().claimed("f", NOW)
    first = claimed.attempting("first", "sketch", "f", NOW)
    assert told(a_job(), claimed) == []
    assert told(claimed, first) == [Event("job.started")]
    closed = first.attempted("f", NOW, AttemptStatus.FAILED, error=BROKEN)
    assert told(closed, closed.attempting("second", "sketch", "f", NOW)) == []


def test_a_job_that_is_given_back_and_taken_again_does_not_start_twice() -> None:
    left = running().handed_over("f", NOW)
    taken = left.claimed("g", NOW)
    assert told(running(), left) == []
    assert told(left, taken.attempting("first", "sketch", "g", NOW)) == []


def test_each_image_is_told_of_when_it_is_there() -> None:
    before = running(3)
    one = before.progressed("f", [a_picture(1)], Cost())
    both = one.progressed("f", [a_picture(0), a_picture(2)], Cost())
    assert told(before, one) == [Event("job.image_ready", 1)]
    assert told(one, both) == [Event("job.image_ready", 0), Event("job.image_ready", 2)]


def test_images_are_told_of_before_the_end_that_comes_with_them() -> None:
    before = running(2)
    after = before.progressed("f", [a_picture(0)], Cost()).settled("f", NOW)
    assert told(before, after) == [Event("job.image_ready", 0), Event("job.partial")]


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
def test_an_end_is_told_of_once(ending: str) -> None:
    after = getattr(a_job(), ending)(NOW)
    assert told(a_job(), after) == [Event(f"job.{ending}")]
    assert told(after, replace(after, version=7)) == []


@pytest.mark.parametrize(
    ("events", "event", "expected"),
    [
        ((), "job.succeeded", True),
        ((), "job.queued", False),
        ((), "job.unheard_of", False),
        (("*",), "job.failed", True),
        (("*",), "webhook_endpoint.disabled", True),
        (("job.*",), "job.started", True),
        (("job.*",), "webhook_endpoint.disabled", False),
        (("webhook_endpoint.*",), "job.failed", False),
        (("job.partial", "job.failed"), "job.failed", True),
        (("job.partial",), "job.failed", False),
    ],
)
def test_a_receiver_gets_what_it_named(events: tuple[str, ...], event: str, expected: bool) -> None:
    assert wants(events, event) is expected


def test_every_kind_of_event_has_its_wildcard() -> None:
    assert WILDCARDS == ("*", "job.*", "batch.*", "webhook_endpoint.*")
