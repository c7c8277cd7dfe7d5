"""One call: what is ordered, and what is made of the answer."""

import asyncio
from dataclasses import replace

import pytest

from storage.attempt import AttemptStatus, Cost, CostSource, Usage
from storage.catalog import Deployment
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.fit import Fit, fit
from storage.image import ImageStatus
from storage.job import Job, Superseded
from storage.request import Adaptation, Input
from tests.doubles import (
    Painter,
    TaskPainter,
    break_down,
    hang,
    paint,
    refuse,
    refuse_each,
)
from tests.samples import NOW, a_deployment, a_job, a_picture, a_refusal, a_request
from worker.call import Call, Called, calls_for, picked_up
from worker.provider import Partial, Picture, Progress, ProviderError, Source
from worker.results import Kept
from worker.router import Pick


MODERATED = FailureCode.CONTENT_POLICY
BROKEN = FailureCode.UPSTREAM_ERROR


async def submitted(upstream_id: str) -> None:
    """Take note of nothing."""


async def previewed(partial: Partial) -> None:
    """Look at nothing."""


PROGRESS = Progress(submitted=submitted, previewed=previewed)


def picked(job: Job, deployment: Deployment) -> Pick:
    found = fit(job.request, deployment)
    assert isinstance(found, Fit)
    return Pick(deployment, found)


def calls_of(job: Job, **can: object) -> list[Call]:
    return calls_for(job, picked(job, a_deployment(can=can)), (), None)


def attempted(job: Job) -> Job:
    return job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)


async def made(
    painter: Painter, job: Job | None = None, *, resume: str | None = None, timeout: float = 5.0
) -> Called:
    (call,) = calls_of(attempted(job or a_job(n=2)))
    return await call.make(painter, PROGRESS, timeout=timeout, resume=resume)


# -- what is ordered -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "most", "groups"),
    [
        (1, 4, [(0,)]),
        (4, 4, [(0, 1, 2, 3)]),
        (5, 2, [(0, 1), (2, 3), (4,)]),
        (3, 1, [(0,), (1,), (2,)]),
    ],
)
def test_images_are_shared_out_over_calls(n: int, most: int, groups: list[tuple[int]]) -> None:
    calls = calls_of(attempted(a_job(n=n)), n=most)
    assert [call.indexes for call in calls] == groups
    assert [(call.order.first_index, call.order.n) for call in calls] == [
        (group[0], len(group)) for group in groups
    ]


def test_only_what_is_missing_is_ordered() -> None:
    job = attempted(a_job(n=4)).progressed("f", [a_picture(1), a_refusal(2)], Cost())
    assert [call.indexes for call in calls_of(job, n=1)] == [(0,), (3,)]


def test_an_order_says_what_was_asked_as_far_as_it_fits() -> None:
    request = a_request(
        n=1,
        size="1024x1024",
        quality="high",
        output_format="webp",
        output_compression=50,
        seed=7,
        style="vivid",
        user="u",
        options={"extra": 1},
    )
    can = {
        "qualities": ("high",),
        "formats": ("png", "webp"),
        "compression": True,
        "seed": True,
        "user": True,
    }
    (call,) = calls_of(attempted(a_job(request=request)), **can)
    order = call.order
    assert (order.model, order.prompt, order.attempt) == ("painter", request.prompt, 1)
    assert (order.width, order.height, order.quality) == (1024, 1024, "high")
    assert (order.output_format, order.output_compression) == ("webp", 50)
    assert (order.seed, order.user, order.style, order.options) == (7, "u", None, {"extra": 1})
    assert [one.param for one in call.warnings] == ["style"]


def test_a_format_that_we_convert_to_ourselves_is_not_ordered() -> None:
    request = a_request(output_format="webp", output_compression=50)
    (call,) = calls_of(attempted(a_job(request=request)), formats=("png",), compression=True)
    assert (call.order.output_format, call.order.output_compression) == (None, None)


def test_an_edit_orders_with_its_images_and_mask() -> None:
    source = Source(data=b"x", content_type="image/png", filename="i.png", width=1, height=1)
    job = attempted(a_job(request=a_request(images=(Input(key="a"),), mask=Input(key="m"))))
    (call,) = calls_for(job, picked(job, a_deployment()), (source,), source)
    assert (call.order.edit, call.order.images, call.order.mask) == (True, (source,), source)


def test_nothing_private_is_in_the_text_of_a_call() -> None:
    (call,) = calls_of(attempted(a_job()))
    assert "lighthouse" not in repr(call)


# -- what an earlier run left ----------------------------------------------------------------------


def test_a_new_attempt_makes_all_its_calls() -> None:
    job = attempted(a_job(n=3))
    calls = calls_of(job, n=1)
    assert picked_up(job, calls) == (calls, [])


def test_an_attempt_that_goes_on_picks_up_only_what_left_an_id() -> None:
    job = attempted(a_job(n=3)).submitted(1, "task", "f").claimed("g", NOW)
    make, left = picked_up(job, calls_of(job, n=1))
    assert [call.indexes for call in make] == [(1,)]
    assert [call.indexes for call in left] == [(0,), (2,)]


def test_a_call_that_ended_without_an_image_is_not_paid_for_twice() -> None:
    job = attempted(a_job(n=2)).submitted(0, "empty", "f").submitted(1, "slow", "f")
    job = job.progressed("f", (), Cost(0.03, CostSource.REPORTED), call=0)
    make, left = picked_up(job, calls_of(job, n=1))
    assert ([call.indexes for call in make], left) == ([(1,)], [])


# -- what is made of an answer ---------------------------------------------------------------------


async def test_each_picture_finds_its_place() -> None:
    called = await made(Painter())
    assert [index for index, _ in called.outcomes] == [0, 1]
    assert all(isinstance(outcome, Picture) for _, outcome in called.outcomes)
    assert (called.error, called.is_unknown, called.usage) == (None, False, Usage(images=2))
    assert called.cost == Cost(0.05, CostSource.REPORTED)


async def test_pictures_that_are_missing_are_said_to_be() -> None:
    called = await made(Painter(paint(short_by=1)))
    (_, first), (index, second) = called.outcomes
    assert isinstance(first, Picture)
    assert index == 1
    assert isinstance(second, Failure)
    assert second.code is FailureCode.NO_IMAGE


async def test_pictures_that_nobody_ordered_are_left_out() -> None:
    called = await made(Painter(paint(short_by=-3)))
    assert [index for index, _ in called.outcomes] == [0, 1]


async def test_an_answer_without_any_outcome_says_what_the_upstream_said() -> None:
    called = await made(Painter(paint(short_by=2, text="I would rather not." + "!" * 600)))
    assert called.error is not None
    assert called.error.code is FailureCode.NO_IMAGE
    assert called.error.message.startswith("I would rather not.")
    assert len(called.error.message) == 500
    assert called.text is not None
    assert called.cost == Cost(0.05, CostSource.REPORTED)


async def test_reasons_in_place_of_pictures_are_kept() -> None:
    called = await made(Painter(refuse_each(MODERATED)))
    reasons = [outcome.code for _, outcome in called.outcomes if isinstance(outcome, Failure)]
    assert reasons == [MODERATED, MODERATED]


async def test_what_a_provider_could_not_say_is_a_warning() -> None:
    odd = Adaptation(param="quality", action="dropped", requested="high")
    assert (await made(Painter(paint(adaptations=(odd,))))).warnings == (odd,)


async def test_a_final_refusal_is_every_images_reason() -> None:
    called = await made(Painter(refuse(MODERATED)))
    assert [index for index, _ in called.outcomes] == [0, 1]
    assert called.is_final


@pytest.mark.parametrize("code", [BROKEN, FailureCode.AUTH, FailureCode.RATE_LIMITED])
async def test_a_failure_that_another_call_may_mend_leaves_the_images_open(
    code: FailureCode,
) -> None:
    called = await made(Painter(refuse(code)))
    assert called.outcomes == ()
    assert not called.is_final
    assert called.cost == Cost.nothing()


async def test_a_failure_that_may_have_been_paid_for_is_not_final() -> None:
    called = await made(Painter(refuse(MODERATED, unknown=True)))
    assert (called.outcomes, called.is_unknown, called.is_final) == ((), True, False)


async def test_an_upstream_that_does_not_answer_in_time_may_have_been_paid() -> None:
    called = await made(Painter(hang()), timeout=0.02)
    assert called.error is not None
    assert called.error.code is FailureCode.UPSTREAM_TIMEOUT
    assert (called.is_unknown, called.cost) == (True, Cost())


async def test_a_fault_of_the_provider_tells_nothing_and_costs_nobody_knows_what() -> None:
    called = await made(Painter(break_down(ValueError("a secret"))))
    assert called.error is not None
    assert called.error.code is BROKEN
    assert "secret" not in called.error.message
    assert (called.is_unknown, called.cost) == (True, Cost())


@pytest.mark.parametrize("error", [Superseded("taken"), Unavailable("away")], ids=["taken", "away"])
async def test_what_is_no_fault_of_the_upstream_is_passed_on(error: Exception) -> None:
    with pytest.raises(type(error)):
        await made(Painter(break_down(error)))


async def test_being_stopped_is_passed_on() -> None:
    running = asyncio.create_task(made(Painter(hang())))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_task_is_gone_on_with_where_the_provider_can() -> None:
    painter = TaskPainter()
    await made(painter, resume="task")
    assert (painter.resumed, painter.orders) == (["task"], [])


async def test_a_provider_without_tasks_is_asked_anew() -> None:
    painter = Painter()
    await made(painter, resume="task")
    assert len(painter.orders) == 1


# -- several calls together ------------------------------------------------------------------------


def failed(code: FailureCode, *, unknown: bool = False) -> Called:
    error = ProviderError("No.", code=code, outcome_unknown=unknown)
    return Called(error=error, is_unknown=unknown)


def done(*images: object) -> Called:
    kept = [Kept(image) for image in images]  # type: ignore[arg-type]  # samples of images
    return Called().with_images(kept)


def test_the_gravest_error_speaks_for_all() -> None:
    together = Called.together([failed(BROKEN), failed(MODERATED), failed(FailureCode.AUTH)])
    assert together.error is not None
    assert together.error.code is MODERATED
    assert together.is_final


def test_one_image_makes_an_attempt_succeed() -> None:
    together = Called.together([done(a_picture(0)), failed(BROKEN)])
    assert together.status is AttemptStatus.SUCCEEDED
    assert together.failure == Failure(code=BROKEN, message="No.")


def test_one_call_that_nobody_knows_about_makes_the_attempt_unknown() -> None:
    together = Called.together([done(a_picture(0)), failed(BROKEN, unknown=True)])
    assert together.status is AttemptStatus.OUTCOME_UNKNOWN


def test_an_attempt_without_images_has_failed_for_the_reason_of_an_image() -> None:
    together = Called.together([done(a_refusal(0)), done(a_refusal(1))])
    assert together.status is AttemptStatus.FAILED
    assert together.failure == a_refusal(0).error


def test_one_call_at_work_keeps_the_attempt_at_work() -> None:
    assert Called.together([done(a_picture(0)), replace(failed(BROKEN), at_work=True)]).at_work


def test_an_attempt_of_no_calls_came_to_nothing() -> None:
    together = Called.together([])
    assert (together.status, together.failure) == (AttemptStatus.FAILED, None)


def test_a_call_that_was_left_behind_may_have_been_paid_for() -> None:
    left = Called.abandoned()
    assert left.status is AttemptStatus.OUTCOME_UNKNOWN
    assert not left.is_final
    assert left.cost == Cost()


def test_warnings_come_with_images_and_not_without() -> None:
    planned = Adaptation(param="style", action="dropped", requested="vivid")
    measured = Adaptation(param="size", action="adapted", requested="9x9", used="8x8")
    called = Called(warnings=(planned,))
    assert called.with_images([Kept(a_picture(0), (measured,))]).warnings == (planned, measured)
    assert called.with_images([Kept(a_refusal(0), (measured,))]).warnings == ()


def test_kept_images_count_by_their_status() -> None:
    called = done(a_picture(0), a_refusal(1), a_picture(2))
    assert called.images_made == 2
    assert [image.status for image in called.images] == [
        ImageStatus.SUCCEEDED,
        ImageStatus.FAILED,
        ImageStatus.SUCCEEDED,
    ]
