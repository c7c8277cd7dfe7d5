"""What may become of a job."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.attempt import Attempt, AttemptStatus, Cost, CostSource, Usage
from storage.errors import Conflict
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import MAX_CRASHES, Job, JobStatus, Superseded
from storage.request import Adaptation
from tests.samples import NOW, a_job, a_picture, a_refusal


FIVE_CENTS = Cost(0.05, CostSource.PRICE_TABLE)
BROKEN = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")
ENDED = [status for status in JobStatus if status.is_ended]


def running(n: int = 1) -> Job:
    """Return a job with an attempt under way, owned by the run `f`."""
    return a_job(n=n).claimed("f", NOW + 1).attempting("first", "sketch", "f", NOW + 1)


def last(job: Job) -> Attempt:
    return job.attempts[-1]


# -- claiming --------------------------------------------------------------------------------------


def test_a_claimed_job_runs_under_its_fence() -> None:
    job = a_job().claimed("f", NOW + 1)
    assert (job.status, job.fence, job.started_at) == (JobStatus.RUNNING, "f", NOW + 1)
    assert job.crashes == 0


def test_a_job_keeps_the_moment_of_its_start() -> None:
    assert running().claimed("g", NOW + 9).started_at == NOW + 1


def test_a_job_whose_worker_vanished_counts_a_crash() -> None:
    assert a_job().claimed("f", NOW).claimed("g", NOW).claimed("h", NOW).crashes == 2


def test_a_job_that_was_handed_over_counts_none() -> None:
    assert running().handed_over("f", NOW + 2).claimed("g", NOW + 3).crashes == 0


def test_claiming_again_under_the_same_fence_counts_none() -> None:
    assert a_job().claimed("f", NOW).claimed("f", NOW).crashes == 0


def test_a_call_that_was_left_behind_may_have_been_paid_for() -> None:
    job = running().claimed("g", NOW + 9)
    left = last(job)
    assert left.status is AttemptStatus.OUTCOME_UNKNOWN
    assert left.finished_at == NOW + 9
    assert left.error is not None
    assert left.error.code is FailureCode.OUTCOME_UNKNOWN
    assert left.cost == Cost()
    assert job.unknown_outcomes == 1


def test_a_call_whose_id_upstream_is_known_goes_on_under_the_new_fence() -> None:
    job = running().submitted(0, "task-7", "f").claimed("g", NOW + 9)
    assert job.open_attempt is not None
    assert job.open_attempt.fence == "g"
    assert job.open_attempt.upstream_ids == {0: "task-7"}
    assert job.unknown_outcomes == 0
    assert job.crashes == 1


# -- attempts --------------------------------------------------------------------------------------


def test_an_attempt_is_on_record_before_its_call() -> None:
    attempt = last(running())
    assert (attempt.number, attempt.status, attempt.fence) == (1, AttemptStatus.RUNNING, "f")
    assert (attempt.deployment, attempt.provider) == ("first", "sketch")
    assert attempt.cost == Cost()


def test_attempts_are_numbered_as_they_come() -> None:
    job = running().attempted("f", NOW + 2, AttemptStatus.FAILED, error=BROKEN)
    job = job.attempting("second", "openai", "f", NOW + 3)
    assert [attempt.number for attempt in job.attempts] == [1, 2]
    assert job.open_attempt is job.attempts[1]


def test_a_second_attempt_cannot_begin_beside_the_first() -> None:
    with pytest.raises(Conflict):
        running().attempting("second", "openai", "f", NOW)


def test_a_job_that_nobody_claimed_cannot_be_attempted() -> None:
    with pytest.raises(Superseded):
        a_job().attempting("first", "sketch", "f", NOW)


def test_the_ids_of_several_calls_are_kept_apart() -> None:
    job = running(3).submitted(0, "a", "f").submitted(2, "c", "f")
    assert last(job).upstream_ids == {0: "a", 2: "c"}


def test_an_id_without_an_attempt_is_refused() -> None:
    with pytest.raises(Conflict):
        a_job().claimed("f", NOW).submitted(0, "a", "f")


# -- progress --------------------------------------------------------------------------------------


def test_a_finished_part_is_recorded_with_what_it_cost() -> None:
    job = running(3).progressed("f", [a_picture(1)], FIVE_CENTS, Usage(images=1))
    assert [image.status for image in job.images] == ["pending", "succeeded", "pending"]
    assert job.missing == (0, 2)
    assert last(job).costs == (FIVE_CENTS,)
    assert job.usage == Usage(images=1)


def test_an_image_that_was_made_is_never_unmade() -> None:
    job = running(2).progressed("f", [a_picture(0)], FIVE_CENTS)
    job = job.progressed("f", [a_refusal(0), a_picture(1)], FIVE_CENTS)
    assert [image.status for image in job.images] == ["succeeded", "succeeded"]


def test_an_image_of_another_job_changes_nothing() -> None:
    assert running(1).progressed("f", [a_picture(5)], FIVE_CENTS).images == a_job().images


def test_what_was_measured_corrects_what_was_planned() -> None:
    planned = Adaptation(param="size", action="adapted", requested="9x9", used="16x16")
    measured = Adaptation(param="size", action="adapted", requested="9x9", used="17x17")
    style = Adaptation(param="style", action="dropped", requested="vivid")
    job = running(2).progressed("f", [a_picture(0)], FIVE_CENTS, warnings=[planned, style])
    job = job.progressed("f", [a_picture(1)], FIVE_CENTS, warnings=[measured])
    assert job.warnings == (measured, style)


def test_what_an_upstream_said_is_kept_until_it_says_something_else() -> None:
    job = running(3).progressed("f", [], FIVE_CENTS, text="one").progressed("f", [], FIVE_CENTS)
    assert job.text == "one"
    assert job.progressed("f", [], FIVE_CENTS, text="two").text == "two"


def test_an_attempt_is_closed_with_how_it_ended() -> None:
    job = running().attempted("f", NOW + 2, AttemptStatus.FAILED, error=BROKEN)
    assert job.open_attempt is None
    assert (last(job).status, last(job).finished_at, last(job).error) == (
        AttemptStatus.FAILED,
        NOW + 2,
        BROKEN,
    )


# -- handing over ----------------------------------------------------------------------------------


def test_a_job_handed_over_before_any_attempt_waits_again() -> None:
    job = a_job().claimed("f", NOW + 1).handed_over("f", NOW + 2)
    assert job == a_job()


def test_a_job_handed_over_between_attempts_is_owned_by_nobody() -> None:
    job = running().attempted("f", NOW + 2, AttemptStatus.FAILED, error=BROKEN)
    over = job.handed_over("f", NOW + 3)
    assert (over.status, over.fence, over.attempts) == (JobStatus.RUNNING, None, job.attempts)


def test_a_call_that_is_handed_over_without_an_id_may_have_been_paid_for() -> None:
    job = running().handed_over("f", NOW + 3)
    assert last(job).status is AttemptStatus.OUTCOME_UNKNOWN


def test_a_call_that_is_handed_over_with_its_id_goes_on() -> None:
    job = running().submitted(0, "task-7", "f").handed_over("f", NOW + 3)
    assert job.open_attempt is not None
    assert job.claimed("g", NOW + 4).open_attempt is not None


# -- the endings -----------------------------------------------------------------------------------


def test_a_job_with_all_its_images_has_succeeded() -> None:
    job = running(2).progressed("f", [a_picture(0), a_picture(1)], FIVE_CENTS)
    job = job.attempted("f", NOW + 2, AttemptStatus.SUCCEEDED).settled("f", NOW + 3, BROKEN)
    assert (job.status, job.error, job.finished_at) == (JobStatus.SUCCEEDED, None, NOW + 3)
    assert job.fence is None


def test_a_job_with_some_of_its_images_is_partial_and_says_why() -> None:
    job = running(3).progressed("f", [a_picture(1)], FIVE_CENTS).settled("f", NOW + 3, BROKEN)
    assert (job.status, job.error) == (JobStatus.PARTIAL, BROKEN)
    assert [image.status for image in job.images] == ["failed", "succeeded", "failed"]
    assert job.images[0].error == BROKEN


def test_a_job_without_images_has_failed_for_the_reason_of_the_first() -> None:
    job = running(2).progressed("f", [a_refusal(0)], FIVE_CENTS).settled("f", NOW + 3, BROKEN)
    assert job.status is JobStatus.FAILED
    assert job.error == a_refusal(0).error
    assert job.images[1].error == BROKEN


def test_a_job_that_ends_without_any_reason_says_that_there_is_no_image() -> None:
    job = running().attempted("f", NOW, AttemptStatus.FAILED).settled("f", NOW)
    assert job.error is not None
    assert job.error.code is FailureCode.NO_IMAGE


@given(st.lists(st.sampled_from(ImageStatus), min_size=1, max_size=10))
def test_the_end_of_a_job_is_what_its_images_say(statuses: list[ImageStatus]) -> None:
    made = [
        a_picture(at) if status is ImageStatus.SUCCEEDED else a_refusal(at)
        for at, status in enumerate(statuses)
        if status is not ImageStatus.PENDING
    ]
    job = running(len(statuses)).progressed("f", made, FIVE_CENTS).settled("f", NOW, BROKEN)
    count = statuses.count(ImageStatus.SUCCEEDED)
    expected = {0: JobStatus.FAILED, len(statuses): JobStatus.SUCCEEDED}
    assert job.status is expected.get(count, JobStatus.PARTIAL)
    assert (job.error is None) == (count == len(statuses))
    assert not job.missing
    assert all((image.error is None) == (image.key is not None) for image in job.images)


def test_a_job_that_cannot_go_on_keeps_the_images_it_has() -> None:
    assert a_job().failed(BROKEN, NOW).status is JobStatus.FAILED
    job = running(2).progressed("f", [a_picture(0)], FIVE_CENTS).failed(BROKEN, NOW)
    assert (job.status, job.error) == (JobStatus.PARTIAL, BROKEN)
    assert job.images[0] == a_picture(0)


def test_a_cancelled_job_keeps_what_was_made_and_makes_no_more() -> None:
    job = running(2).progressed("f", [a_picture(0)], FIVE_CENTS).cancelled(NOW + 4)
    assert job.status is JobStatus.CANCELLED
    assert job.images[0] == a_picture(0)
    assert job.images[1].error is not None
    assert job.images[1].error.code is FailureCode.CANCELLED


def test_nobody_knows_what_the_call_of_a_cancelled_job_costs() -> None:
    job = running().cancelled(NOW + 4)
    assert last(job).status is AttemptStatus.CANCELLED
    assert job.cost == Cost()


def test_a_queued_job_is_cancelled_without_an_attempt() -> None:
    job = a_job().cancelled(NOW + 4)
    assert (job.status, job.attempts, job.started_at) == (JobStatus.CANCELLED, (), None)


def test_an_expired_job_was_not_paid_for() -> None:
    job = a_job(start_by=NOW + 5).expired(NOW + 6)
    assert (job.status, job.attempts) == (JobStatus.EXPIRED, ())
    assert job.error is not None
    assert job.error.code is FailureCode.EXPIRED


@pytest.mark.parametrize(
    "end",
    [
        lambda job: job.settled("f", NOW),
        lambda job: job.failed(BROKEN, NOW),
        lambda job: job.cancelled(NOW),
        lambda job: job.overdue(NOW + 50),
    ],
    ids=["settled", "failed", "cancelled", "overdue"],
)
def test_no_attempt_runs_on_in_a_job_that_has_ended(end: Callable[[Job], Job]) -> None:
    job = end(a_job(deadline=NOW + 50).claimed("f", NOW).attempting("a", "sketch", "f", NOW))
    assert job.is_ended
    assert last(job).status is not AttemptStatus.RUNNING
    assert last(job).cost == Cost()
    assert last(job).finished_at is not None


# -- the clock -------------------------------------------------------------------------------------


def test_a_job_that_has_not_started_in_time_expires() -> None:
    job = a_job(start_by=NOW + 5)
    assert job.overdue(NOW + 5) is None
    late = job.overdue(NOW + 5.1)
    assert late is not None
    assert late.status is JobStatus.EXPIRED


def test_a_job_that_has_started_does_not_expire() -> None:
    job = a_job(start_by=NOW + 5).claimed("f", NOW).attempting("a", "sketch", "f", NOW)
    assert job.overdue(NOW + 100) is None


def test_a_job_that_was_only_looked_at_still_expires() -> None:
    job = a_job(start_by=NOW + 5).claimed("f", NOW).handed_over("f", NOW)
    late = job.overdue(NOW + 6)
    assert late is not None
    assert late.status is JobStatus.EXPIRED


def test_a_job_past_its_deadline_fails_with_what_it_has() -> None:
    job = a_job(n=2, deadline=NOW + 9).claimed("f", NOW).attempting("a", "sketch", "f", NOW)
    job = job.progressed("f", [a_picture(0)], FIVE_CENTS)
    assert job.overdue(NOW + 8.9) is None
    late = job.overdue(NOW + 9)
    assert late is not None
    assert late.status is JobStatus.PARTIAL
    assert late.error is not None
    assert late.error.code is FailureCode.DEADLINE


def test_the_clock_does_nothing_to_a_job_that_has_ended() -> None:
    assert a_job(start_by=NOW, deadline=NOW).cancelled(NOW).overdue(NOW + 100) is None


# -- who may write ---------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Job], Job]] = {
    "attempting": lambda job: job.attempting("a", "sketch", "f", NOW),
    "submitted": lambda job: job.submitted(0, "task", "f"),
    "progressed": lambda job: job.progressed("f", [a_picture(0)], FIVE_CENTS),
    "attempted": lambda job: job.attempted("f", NOW, AttemptStatus.FAILED),
    "handed_over": lambda job: job.handed_over("f", NOW),
    "settled": lambda job: job.settled("f", NOW),
}
ENDINGS: dict[str, Callable[[Job], Job]] = {
    "claimed": lambda job: job.claimed("f", NOW),
    "failed": lambda job: job.failed(BROKEN, NOW),
    "cancelled": lambda job: job.cancelled(NOW),
    "expired": lambda job: job.expired(NOW),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_run_under_an_older_fence_cannot_write(change: Callable[[Job], Job]) -> None:
    job = running().submitted(0, "task", "f").claimed("g", NOW)
    with pytest.raises(Superseded) as refusal:
        change(job)
    assert refusal.value.code == "job_taken"


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("change", [*CHANGES.values(), *ENDINGS.values()], ids=CHANGES | ENDINGS)
def test_a_job_that_has_ended_never_moves_again(
    change: Callable[[Job], Job], status: JobStatus
) -> None:
    job = a_job(status=status, fence="f", finished_at=NOW)
    with pytest.raises(Superseded) as refusal:
        change(job)
    assert refusal.value.code == "job_ended"


def test_queued_and_running_are_the_only_states_that_are_not_the_end() -> None:
    assert {status for status in JobStatus if not status.is_ended} == {"queued", "running"}


# -- the bill --------------------------------------------------------------------------------------


def test_a_late_bill_is_put_on_the_attempt_it_is_for() -> None:
    job = running(2).attempted("f", NOW, AttemptStatus.FAILED)
    job = job.attempting("second", "sketch", "f", NOW).cancelled(NOW)
    late = job.accounted(2, FIVE_CENTS, Usage(images=1))
    assert late.attempts[0] == job.attempts[0]
    assert late.attempts[1].cost == FIVE_CENTS
    assert late.usage == Usage(images=1)
    assert late.status is JobStatus.CANCELLED


def test_a_job_costs_what_its_attempts_cost() -> None:
    job = running(2).progressed("f", [a_picture(0)], FIVE_CENTS)
    job = job.attempted("f", NOW, AttemptStatus.SUCCEEDED)
    job = job.attempting("second", "sketch", "f", NOW).progressed("f", [a_picture(1)], FIVE_CENTS)
    assert job.cost == Cost(0.1, CostSource.PRICE_TABLE)


def test_a_job_that_was_never_attempted_has_no_known_cost_and_no_usage() -> None:
    assert a_job().cost == Cost()
    assert a_job().usage is None


def test_the_prompt_is_not_in_the_text_of_a_job() -> None:
    assert "lighthouse" not in repr(a_job())


def test_three_crashes_are_the_most() -> None:
    assert MAX_CRASHES == 3


def test_images_begin_as_pending() -> None:
    assert a_job(n=2).images == (Image(index=0), Image(index=1))
    assert a_job(n=2).missing == (0, 1)


def test_a_fault_after_the_last_image_does_not_unmake_it() -> None:
    whole = replace(a_job(n=1), images=(Image(index=0, status=ImageStatus.SUCCEEDED, key="k"),))
    failure = Failure(code=FailureCode.INTERNAL_ERROR, message="a fault of ours")
    ended = whole.failed(failure, 9.0)
    assert ended.status is JobStatus.SUCCEEDED
    assert ended.error is None
