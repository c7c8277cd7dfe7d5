"""A batch: how far it is, and how it ends."""

import itertools
from dataclasses import replace

import pytest

from storage.batch import Batch, BatchId, BatchStatus, Place
from storage.delivery import DeliveryId, owed
from storage.errors import Conflict
from storage.job import JobStatus
from tests.samples import NOW, a_job, an_endpoint


BATCH = Batch(
    id=BatchId("batch_1"),
    tenant="acme",
    endpoint="/v1/images/generations",
    created_at=NOW,
    window=3600.0,
    plan="p",
    total=10,
)
ALL = Place(lines=10, offset=1000)


def test_lines_become_jobs_until_there_are_no_more_or_the_window_is_over() -> None:
    assert BATCH.feeds(NOW)
    assert not BATCH.feeds(NOW + 3600)
    assert not replace(BATCH, fed=ALL).feeds(NOW)
    assert not BATCH.cancelling(NOW).feeds(NOW)


def test_all_is_counted_when_every_line_that_was_fed_is() -> None:
    fed = replace(BATCH, fed=ALL)
    assert not fed.is_counted(NOW)
    assert fed.counted(ALL, completed=9, failed=1).is_counted(NOW)
    assert BATCH.is_counted(NOW + 3600)


def test_a_batch_ends_completed_with_what_failed_among_it() -> None:
    done = replace(BATCH, fed=ALL).counted(ALL, completed=9, failed=1)
    ended = done.finalizing(NOW + 1).ended("file-1", None, NOW + 2)
    assert (ended.status, ended.completed, ended.failed) == (BatchStatus.COMPLETED, 9, 1)
    assert (ended.finalizing_at, ended.ended_at) == (NOW + 1, NOW + 2)
    assert ended.is_ended


def test_what_never_became_a_job_counts_as_failed() -> None:
    half = replace(BATCH, fed=Place(lines=5, offset=9)).counted(ALL, completed=5, failed=0)
    expired = half.finalizing(NOW).ended(None, None, NOW)
    assert (expired.status, expired.failed) == (BatchStatus.EXPIRED, 5)
    cancelled = half.cancelling(NOW).finalizing(NOW).ended(None, None, NOW)
    assert (cancelled.status, cancelled.cancelling_at) == (BatchStatus.CANCELLED, NOW)


def test_cancelling_twice_is_harmless_and_too_late_is_refused() -> None:
    cancelling = BATCH.cancelling(NOW)
    assert cancelling.cancelling(NOW + 1) is cancelling
    with pytest.raises(Conflict):
        BATCH.finalizing(NOW).cancelling(NOW)


def test_a_job_of_a_batch_is_told_to_its_own_receiver_alone() -> None:
    endpoint = an_endpoint()
    before, after = a_job(), replace(a_job(), status=JobStatus.SUCCEEDED, finished_at=NOW)
    ids = (DeliveryId(f"msg_{n}") for n in itertools.count())
    assert owed(before, after, [endpoint], lambda: next(ids), NOW)
    assert not owed(before, replace(after, batch="batch_1"), [endpoint], lambda: next(ids), NOW)
