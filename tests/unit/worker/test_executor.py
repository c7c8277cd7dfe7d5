"""The walk of a job: what becomes of it, what is asked of upstreams, and what it costs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from storage import redis_keys
from storage.attempt import AttemptStatus, Cost, CostSource
from storage.catalog import Price
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.job import SCHEMA, Job, JobStatus
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.request import Adaptation, OnUnknown
from storage.settings import RetentionSettings
from tests.doubles import (
    PNG,
    Clock,
    Gate,
    Painter,
    TaskPainter,
    break_down,
    hang,
    paint,
    refuse,
    refuse_each,
    submit,
)
from tests.samples import NOW, a_deployment, a_job, a_request
from tests.unit.worker.workshop import Workshop, opened
from worker.executor import Executor, Terms
from worker.outcome import Again, Lost, Nothing, Settled
from worker.provider import Order, Progress, Reply


HOOK = "https://example.com/hook"
MODERATED = FailureCode.CONTENT_POLICY
BROKEN = FailureCode.UPSTREAM_ERROR
SPOILED = Failure(code=BROKEN, message="The image is cut off.")
WITHHELD = Failure(code=MODERATED, message="The image was withheld.")


@pytest.fixture
async def shop(commands: Commands, clock: Clock, tmp_path: Path) -> AsyncIterator[Workshop]:
    async with opened(commands, clock, tmp_path) as workshop:
        yield workshop


def statuses(job: Job) -> list[str]:
    return [attempt.status for attempt in job.attempts]


async def run_to_the_end(executor: Executor, shop: Workshop, job: Job) -> Job:
    """Run the job as workers do, waiting as long as they are told to, until nothing is left."""
    for _ in range(20):
        match await executor.run(job.id):
            case Again(after=after):
                shop.clock.advance(after)
            case Settled():
                return await shop.found(job)
            case other:
                pytest.fail(f"the run ended as {other}")
    pytest.fail("the job does not end")


# -- making images ---------------------------------------------------------------------------------


async def test_a_job_is_made_kept_settled_and_told(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.error, ended.fence) == (JobStatus.SUCCEEDED, None, None)
    assert ended.images[0].key == "t/acme/job_1/1/0.png"
    assert await shop.kept() == {"t/acme/job_1/1/0.png": len(PNG)}
    assert (ended.images[0].width, ended.images[0].bytes) == (64, len(PNG))
    assert statuses(ended) == ["succeeded"]
    assert ended.cost == Cost(0.05, CostSource.REPORTED)
    assert [one.type for one in await shop.owed()] == ["job.succeeded"]
    assert not await shop.is_queued(job)
    assert len(painter.orders) == 1


async def test_an_attempt_is_on_record_before_the_upstream_is_asked(shop: Workshop) -> None:
    job = await shop.added(a_job())
    seen: list[Job] = []

    async def look(order: Order, progress: Progress) -> Reply:
        seen.append(await shop.found(job))
        return await paint()(order, progress)

    await shop.executor(Painter(look)).run(job.id)
    assert statuses(seen[0]) == ["running"]
    assert (seen[0].status, seen[0].attempts[0].deployment) == (JobStatus.RUNNING, "first")


async def test_several_images_come_from_one_call_where_the_deployment_makes_them(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(n=4))
    painter = Painter()
    await shop.executor(painter).run(job.id)
    assert [order.n for order in painter.orders] == [4]
    assert (await shop.found(job)).status is JobStatus.SUCCEEDED
    assert len(await shop.kept()) == 4


async def test_several_calls_are_made_where_one_makes_too_few(shop: Workshop) -> None:
    job = await shop.added(a_job(n=5))
    painter = Painter()
    await shop.executor(painter, n=2).run(job.id)
    assert sorted((order.first_index, order.n) for order in painter.orders) == [
        (0, 2),
        (2, 2),
        (4, 1),
    ]
    ended = await shop.found(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert ended.cost == Cost(0.15, CostSource.REPORTED)
    assert len(ended.attempts) == 1


async def test_no_more_calls_are_made_at_once_than_allowed(shop: Workshop) -> None:
    job = await shop.added(a_job(n=6))

    async def slowly(order: Order, progress: Progress) -> Reply:
        await asyncio.sleep(0.01)
        return await paint()(order, progress)

    painter = Painter(slowly)
    await shop.executor(painter, n=1, calls=2).run(job.id)
    assert len(painter.orders) == 6
    assert painter.most_at_once == 2


async def test_calls_with_a_seed_do_not_paint_the_same_picture(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3, request=a_request(n=3, seed=2**32 - 2)))
    painter = Painter()
    await shop.executor(painter, n=1, seed=True).run(job.id)
    assert sorted(order.seed or 0 for order in painter.orders) == [0, 2**32 - 2, 2**32 - 1]


async def test_each_finished_part_is_on_record_before_the_others_are_done(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(n=3))
    gate = Gate(paint())
    painter = Painter(paint(), paint(), gate)
    running = asyncio.create_task(shop.executor(painter, n=1).run(job.id))
    await gate.begun.wait()
    for _ in range(200):
        halfway = await shop.found(job)
        if len(halfway.missing) == 1:
            break
        await asyncio.sleep(0.01)
    assert len(halfway.missing) == 1
    assert halfway.cost.amount == pytest.approx(0.1)
    gate.open.set()
    assert await running == Settled()
    assert (await shop.found(job)).status is JobStatus.SUCCEEDED


async def test_an_answer_with_fewer_images_makes_the_job_partial(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3, webhook_url=HOOK))
    await shop.executor(Painter(paint(short_by=1))).run(job.id)
    ended = await shop.found(job)
    assert ended.status is JobStatus.PARTIAL
    assert [image.status for image in ended.images] == ["succeeded", "succeeded", "failed"]
    assert [one.type for one in await shop.owed()] == ["job.partial"]


async def test_only_the_image_that_failed_in_passing_is_asked_for_again(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3))
    painter = Painter(paint(cost=0.15, last=SPOILED), paint(cost=0.05))
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert [(order.n, order.first_index) for order in painter.orders] == [(3, 0), (1, 2)]
    assert ended.status is JobStatus.SUCCEEDED
    assert ended.cost == Cost(0.2, CostSource.REPORTED)


async def test_an_image_that_was_paid_for_and_spoiled_is_not_paid_for_again_unasked(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(n=3, on_unknown=OnUnknown.FAIL))
    painter = Painter(paint(last=SPOILED), paint())
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert (len(painter.orders), ended.status) == (1, JobStatus.PARTIAL)


async def test_an_image_that_moderation_withheld_is_not_asked_for_again(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3))
    painter = Painter(paint(last=WITHHELD), paint())
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert (len(painter.orders), ended.status) == (1, JobStatus.PARTIAL)
    assert ended.images[2].error == WITHHELD


async def test_what_an_upstream_says_beside_its_images_is_kept(shop: Workshop) -> None:
    job = await shop.added(a_job())
    await shop.executor(Painter(paint(text="Here you are."))).run(job.id)
    assert (await shop.found(job)).text == "Here you are."


async def test_an_answer_that_is_no_image_is_a_failure_and_nothing_is_kept(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    await shop.executor(Painter(paint(data=b"<html>no</html>"))).run(job.id)
    ended = await shop.found(job)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error.code is BROKEN
    assert ended.cost.amount == 0.05
    assert await shop.kept() == {}


# -- trying again ----------------------------------------------------------------------------------


async def test_passing_trouble_is_taken_to_another_deployment(shop: Workshop) -> None:
    job = await shop.added(a_job())
    first, second = Painter(refuse(FailureCode.OVERLOADED)), Painter()
    await shop.executor(first, second).run(job.id)
    ended = await shop.found(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert statuses(ended) == ["failed", "succeeded"]
    assert [attempt.deployment for attempt in ended.attempts] == ["first", "second"]
    assert ended.attempts[0].cost == Cost.nothing()


async def test_with_one_deployment_the_slot_is_given_back_until_the_next_try(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    painter = Painter(refuse(BROKEN), paint())
    executor = shop.executor(painter)
    outcome = await executor.run(job.id)
    assert isinstance(outcome, Again)
    waiting = await shop.found(job)
    assert (waiting.status, waiting.fence) == (JobStatus.RUNNING, None)
    assert await shop.is_queued(job)
    shop.clock.advance(outcome.after)
    assert await executor.run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.crashes) == (JobStatus.SUCCEEDED, 0)


async def test_attempts_are_bounded(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    painter = Painter(refuse(BROKEN))
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert len(painter.orders) == len(ended.attempts) == 4
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, BROKEN)
    assert [one.type for one in await shop.owed()] == ["job.failed"]


@pytest.mark.parametrize("each", [False, True], ids=["no answer", "reasons for pictures"])
@pytest.mark.parametrize("code", [MODERATED, FailureCode.INVALID_REQUEST])
async def test_a_final_refusal_is_never_retried_and_never_shopped_around(
    shop: Workshop, code: FailureCode, each: bool
) -> None:
    job = await shop.added(a_job(n=2))
    first = Painter(refuse_each(code) if each else refuse(code))
    second = Painter()
    await shop.executor(first, second).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, code)
    assert (len(first.orders), len(second.orders)) == (1, 0)
    assert {image.error and image.error.code for image in ended.images} == {code}


async def test_a_final_refusal_of_one_call_keeps_what_the_others_made(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3))
    first, second = Painter(paint(), refuse(MODERATED), paint()), Painter()
    await shop.executor(first, second, n=1).run(job.id)
    ended = await shop.found(job)
    assert ended.status is JobStatus.PARTIAL
    assert [image.status for image in ended.images] == ["succeeded", "failed", "succeeded"]
    assert second.orders == []


async def test_a_part_that_failed_in_passing_is_all_that_is_asked_again(shop: Workshop) -> None:
    job = await shop.added(a_job(n=3))
    first, second = Painter(paint(), refuse(BROKEN), paint()), Painter()
    await shop.executor(first, second, n=1).run(job.id)
    assert [(order.first_index, order.n) for order in second.orders] == [(1, 1)]
    ended = await shop.found(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert [image.attempt for image in ended.images] == [1, 2, 1]


async def test_a_bad_key_is_not_tried_twice(shop: Workshop) -> None:
    job = await shop.added(a_job())
    painter = Painter(refuse(FailureCode.AUTH))
    await shop.executor(painter).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "auth")
    assert len(painter.orders) == 1


async def test_warnings_are_those_of_the_deployment_that_made_the_images(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(request=a_request(style="vivid", seed=7)))
    odd = Adaptation(param="quality", action="adapted", requested="hd", used="high")
    deployments = [a_deployment("first"), a_deployment("second", can={"style": True, "seed": True})]
    painters = Painter(refuse(BROKEN)), Painter(paint(adaptations=(odd,)))
    await shop.executor(*painters, deployments=deployments).run(job.id)
    assert (await shop.found(job)).warnings == (odd,)


# -- when nobody knows -----------------------------------------------------------------------------


async def test_what_may_have_been_paid_for_is_asked_again_once(shop: Workshop) -> None:
    job = await shop.added(a_job())
    painter = Painter(refuse(FailureCode.UPSTREAM_TIMEOUT, unknown=True))
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert len(painter.orders) == 2
    assert statuses(ended) == ["outcome_unknown", "outcome_unknown"]
    assert ended.error is not None
    assert ended.error.code is FailureCode.OUTCOME_UNKNOWN
    assert ended.cost == Cost()


async def test_what_may_have_been_paid_for_is_not_asked_again_when_the_client_says_so(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(on_unknown=OnUnknown.FAIL))
    first = Painter(refuse(FailureCode.UPSTREAM_TIMEOUT, unknown=True))
    second = Painter()
    ended = await run_to_the_end(shop.executor(first, second), shop, job)
    assert (len(first.orders), len(second.orders)) == (1, 0)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error.code is FailureCode.OUTCOME_UNKNOWN


async def test_one_call_of_several_that_nobody_knows_about_is_not_asked_again_either(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(n=3, on_unknown=OnUnknown.FAIL))
    unknown = refuse(FailureCode.UPSTREAM_TIMEOUT, unknown=True)
    painter = Painter(paint(), unknown, paint())
    ended = await run_to_the_end(shop.executor(painter, n=1), shop, job)
    assert len(painter.orders) == 3
    assert ended.status is JobStatus.PARTIAL
    assert statuses(ended) == ["outcome_unknown"]
    assert ended.cost == Cost(0.1, CostSource.UNKNOWN)


async def test_an_upstream_that_hangs_is_left_in_time(shop: Workshop) -> None:
    job = await shop.added(a_job(on_unknown=OnUnknown.FAIL))
    deployments = [a_deployment(timeout=0.05)]
    ended = await run_to_the_end(shop.executor(Painter(hang()), deployments=deployments), shop, job)
    attempt = ended.attempts[0]
    assert attempt.status is AttemptStatus.OUTCOME_UNKNOWN
    assert attempt.error is not None
    assert attempt.error.code is FailureCode.UPSTREAM_TIMEOUT
    assert attempt.cost == Cost()


async def test_a_fault_of_a_provider_is_an_upstream_error_whose_cost_nobody_knows(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    first, second = Painter(break_down(KeyError("data"))), Painter()
    ended = await run_to_the_end(shop.executor(first, second), shop, job)
    assert ended.attempts[0].error is not None
    assert ended.attempts[0].error.code is BROKEN
    assert ended.attempts[0].cost == Cost()
    assert "data" not in ended.attempts[0].error.message
    assert ended.status is JobStatus.SUCCEEDED


async def test_a_fault_of_a_provider_is_not_paid_for_again_and_again(shop: Workshop) -> None:
    job = await shop.added(a_job())
    painter = Painter(break_down(KeyError("data")))
    ended = await run_to_the_end(shop.executor(painter), shop, job)
    assert ended.status is JobStatus.FAILED
    assert len(painter.orders) == 2


# -- going on with a task --------------------------------------------------------------------------


async def test_an_upstreams_id_is_on_record_before_it_is_polled(shop: Workshop) -> None:
    job = await shop.added(a_job())
    seen: list[Job] = []

    async def poll(order: Order, progress: Progress) -> Reply:
        seen.append(await shop.found(job))
        return await paint()(order, progress)

    await shop.executor(TaskPainter(submit("task", poll))).run(job.id)
    assert seen[0].attempts[0].upstream_ids == {0: "task-0"}


async def test_a_new_worker_goes_on_with_the_task_and_never_submits_again(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    gate = Gate(paint())
    painter = TaskPainter(submit("task", gate), paint())
    dead = asyncio.create_task(shop.executor(painter).run(job.id))
    await gate.begun.wait()  # and here the first worker is killed
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (len(painter.orders), painter.resumed) == (1, ["task-0"])
    assert (ended.status, ended.crashes, statuses(ended)) == ("succeeded", 1, ["succeeded"])
    gate.open.set()
    assert await dead == Lost()
    assert await shop.found(job) == ended


async def test_a_task_that_takes_longer_than_a_call_is_waited_for_without_a_slot(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    painter = TaskPainter(submit("task", hang()), hang(), paint())
    executor = shop.executor(painter, deployments=[a_deployment(timeout=0.05)])
    for _ in range(2):
        assert isinstance(await executor.run(job.id), Again)
        waiting = await shop.found(job)
        assert (statuses(waiting), waiting.fence) == (["running"], None)
    assert await executor.run(job.id) == Settled()
    assert (len(painter.orders), painter.resumed) == (1, ["task-0", "task-0"])
    assert (await shop.found(job)).crashes == 0


async def test_a_task_that_never_ends_is_given_up_after_twice_its_time(shop: Workshop) -> None:
    job = await shop.added(a_job(on_unknown=OnUnknown.FAIL))
    painter = TaskPainter(submit("task", hang()), hang())
    executor = shop.executor(painter, deployments=[a_deployment(timeout=0.05)])
    assert isinstance(await executor.run(job.id), Again)
    shop.clock.advance(0.11)
    assert await executor.run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, statuses(ended)) == (JobStatus.FAILED, ["outcome_unknown"])
    assert len(painter.orders) == 1


async def test_a_fault_while_going_on_with_a_task_does_not_submit_it_again(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    painter = TaskPainter(submit("task", break_down(KeyError("x"))), break_down(KeyError("x")))
    executor = shop.executor(painter)
    for _ in range(3):
        assert isinstance(await executor.run(job.id), Again)
    assert (len(painter.orders), painter.resumed) == (1, ["task-0", "task-0"])


async def test_a_task_whose_result_cannot_be_had_is_asked_for_ever_more_slowly(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(on_unknown=OnUnknown.FAIL))
    lost = refuse(BROKEN, unknown=True)
    painter = TaskPainter(submit("task", lost), *[lost] * 30)
    patient = a_deployment(timeout=300.0)
    executor, waits = shop.executor(painter, deployments=[patient]), list[float]()
    while isinstance(ended := await executor.run(job.id), Again):
        waits.append(ended.after)
        shop.clock.advance(ended.after)
    assert waits[0] == 1.0
    assert waits == sorted(waits)
    assert max(waits) == 60.0
    assert len(painter.resumed) < 30


async def test_a_task_that_the_upstream_ended_in_failure_is_over(shop: Workshop) -> None:
    job = await shop.added(a_job())
    painter = TaskPainter(submit("task", refuse(MODERATED)))
    assert await shop.executor(painter).run(job.id) == Settled()
    assert (await shop.found(job)).status is JobStatus.FAILED
    assert painter.resumed == []


async def test_a_task_of_a_deployment_that_is_off_by_now_may_have_been_paid_for(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    first = TaskPainter(submit("task", hang()))
    await shop.executor(first, deployments=[a_deployment(timeout=0.05)]).run(job.id)
    other = Painter()
    ended = await run_to_the_end(
        shop.executor(other, deployments=[a_deployment("other")]), shop, job
    )
    assert statuses(ended) == ["outcome_unknown", "succeeded"]
    assert ended.cost == Cost(0.05, CostSource.UNKNOWN)


@pytest.mark.parametrize(
    ("on_unknown", "end", "calls"),
    [(OnUnknown.FAIL, "partial", 2), (OnUnknown.RETRY, "succeeded", 3)],
)
async def test_calls_that_left_no_id_are_not_resubmitted_as_if_nothing_had_been_sent(
    shop: Workshop, on_unknown: OnUnknown, end: str, calls: int
) -> None:
    job = await shop.added(a_job(n=2, on_unknown=on_unknown))
    with_id, without = Gate(paint()), Gate(paint())
    painter = TaskPainter(submit("task", with_id), without, paint())
    dead = asyncio.create_task(shop.executor(painter, n=1).run(job.id))
    await with_id.begun.wait()
    await without.begun.wait()  # and here the first worker is killed
    ended = await run_to_the_end(shop.executor(painter, n=1), shop, job)
    assert painter.resumed == ["task-0"]
    assert len(painter.orders) == calls
    assert ended.status == end
    assert ended.cost.source is CostSource.UNKNOWN
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)


# -- others write too ------------------------------------------------------------------------------


async def test_a_job_that_is_cancelled_during_its_call_ends_once_and_its_bill_comes_late(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    gate = Gate(paint())
    running = asyncio.create_task(shop.executor(Painter(gate)).run(job.id))
    await gate.begun.wait()
    cancelled = await cancel(shop, job)
    gate.open.set()
    assert await running == Lost()
    ended = await shop.found(job)
    assert ended.status is JobStatus.CANCELLED
    assert ended.finished_at == cancelled.finished_at
    assert ended.images == cancelled.images
    assert statuses(ended) == ["cancelled"]
    assert ended.cost == Cost(0.05, CostSource.REPORTED)
    assert [one.type for one in await shop.owed()] == ["job.cancelled"]
    assert not await shop.is_queued(job)


async def test_calls_that_were_broken_off_are_not_left_out_of_a_late_bill(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(n=2))
    gate, other = Gate(paint()), Gate(paint())
    running = asyncio.create_task(shop.executor(Painter(gate, other), n=1).run(job.id))
    await gate.begun.wait()
    await cancel(shop, job)
    gate.open.set()
    assert await running == Lost()
    assert (await shop.found(job)).cost == Cost(0.05, CostSource.UNKNOWN)


async def test_a_cancelled_job_whose_call_is_stopped_stays_cancelled(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    gate = Gate(paint())
    running = asyncio.create_task(shop.executor(Painter(gate)).run(job.id))
    await gate.begun.wait()
    cancelled = await cancel(shop, job)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await shop.found(job) == cancelled
    assert len(await shop.owed()) == 1


async def test_a_worker_that_lost_its_job_writes_nothing_but_its_bill(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    gate = Gate(paint())
    slow = asyncio.create_task(shop.executor(Painter(gate)).run(job.id))
    await gate.begun.wait()
    settled = await run_to_the_end(shop.executor(Painter()), shop, job)
    gate.open.set()
    assert await slow == Lost()
    late = await shop.found(job)
    assert (late.status, late.images, late.finished_at) == (
        JobStatus.SUCCEEDED,
        settled.images,
        settled.finished_at,
    )
    assert statuses(late) == statuses(settled) == ["outcome_unknown", "succeeded"]
    assert settled.cost == Cost(0.05, CostSource.UNKNOWN)
    assert late.cost == Cost(0.1, CostSource.REPORTED)
    assert len(await shop.owed()) == 1


@pytest.mark.parametrize("job_id", ["job_0", "job_1"])
async def test_there_is_nothing_to_do_for_a_job_that_is_gone_or_over(
    shop: Workshop, job_id: str
) -> None:
    await cancel(shop, await shop.added(a_job()))
    painter = Painter()
    assert await shop.executor(painter).run(job_id) == Nothing()
    assert painter.orders == []


async def cancel(shop: Workshop, job: Job) -> Job:
    """Cancel the job as the service does."""
    read = await shop.found(job)
    ended = read.cancelled(shop.clock())
    written = await shop.jobs.swap(read, ended)
    assert written is not None
    return written


# -- the clock -------------------------------------------------------------------------------------


async def test_a_job_that_waited_too_long_expires_without_any_call(shop: Workshop) -> None:
    job = await shop.added(a_job(start_by=NOW + 10, webhook_url=HOOK))
    shop.clock.advance(11)
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.attempts, painter.orders) == (JobStatus.EXPIRED, (), [])
    assert [one.type for one in await shop.owed()] == ["job.expired"]


async def test_a_job_whose_images_could_not_be_fetched_in_time_expires(shop: Workshop) -> None:
    job = await shop.added(a_job(edit=True, start_by=NOW + 10))
    shop.objects.away = 1
    executor = shop.executor(Painter())
    assert isinstance(await executor.run(job.id), Again)
    shop.clock.advance(11)
    assert await executor.run(job.id) == Settled()
    assert (await shop.found(job)).status is JobStatus.EXPIRED


async def test_nothing_is_asked_after_the_deadline(shop: Workshop) -> None:
    job = await shop.added(a_job(deadline=NOW + 10))
    shop.clock.advance(10)
    painter = Painter()
    await shop.executor(painter).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "deadline")
    assert painter.orders == []


async def test_a_call_does_not_outlast_the_deadline(shop: Workshop) -> None:
    job = await shop.added(a_job(deadline=NOW + 0.05))

    async def wait(order: Order, progress: Progress) -> Reply:
        shop.clock.advance(1)
        return await hang()(order, progress)

    await shop.executor(Painter(wait)).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "deadline")
    assert statuses(ended) == ["outcome_unknown"]


# -- crashes ---------------------------------------------------------------------------------------


async def test_a_job_that_ended_three_workers_is_not_tried_again(shop: Workshop) -> None:
    job = a_job(webhook_url=HOOK)
    await shop.added(job)
    for fence in ("a", "b", "c"):
        read = await shop.found(job)
        await shop.jobs.swap(read, read.claimed(fence, NOW))
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.crashes) == (JobStatus.FAILED, 3)
    assert ended.error is not None
    assert ended.error.code is FailureCode.INTERNAL_CRASH
    assert painter.orders == []
    assert [one.type for one in await shop.owed()] == ["job.failed"]


async def test_a_task_under_way_is_not_left_running_when_the_crashes_are_too_many(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    read = await shop.found(job)
    run = read.claimed("a", NOW).attempting("first", "sketch", "a", NOW).submitted(0, "t", "a")
    for fence in ("b", "c"):
        run = run.claimed(fence, NOW)
    await shop.jobs.swap(read, run)
    await shop.executor(TaskPainter()).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, statuses(ended)) == (JobStatus.FAILED, ["outcome_unknown"])


async def test_a_fault_of_ours_ends_the_job_and_tells_its_owner(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    executor = shop.executor(Painter())
    shop.painters.clear()  # the provider cannot be built
    assert await executor.run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == ("failed", "internal_error")
    assert [one.type for one in await shop.owed()] == ["job.failed"]


# -- objects that are away -------------------------------------------------------------------------


async def test_what_was_paid_for_waits_until_the_objects_are_back(shop: Workshop) -> None:
    job = await shop.added(a_job())
    shop.objects.away = 2
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    assert (await shop.found(job)).status is JobStatus.SUCCEEDED
    assert (len(painter.orders), shop.objects.puts) == (1, 3)


async def test_objects_that_stay_away_are_a_failure_of_ours(shop: Workshop) -> None:
    job = await shop.added(a_job())
    shop.objects.away = 1000
    painter = Painter()
    assert await shop.executor(painter, terms=Terms(patience=0.1)).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == ("failed", "storage_error")
    assert len(painter.orders) == 1
    assert ended.cost == Cost(0.05, CostSource.REPORTED)


async def test_objects_that_refuse_are_not_asked_again(shop: Workshop) -> None:
    job = await shop.added(a_job())
    shop.objects.refuses = True
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert ended.error is not None
    assert ended.error.code is FailureCode.STORAGE_ERROR
    assert "bucket" not in ended.error.message
    assert (len(painter.orders), shop.objects.puts) == (1, 1)


# -- inputs ----------------------------------------------------------------------------------------


async def test_an_edit_gets_its_images_with_their_bytes(shop: Workshop) -> None:
    job = await shop.added(a_job(edit=True))
    await shop.objects.put("t/acme/job_1/in/0.png", PNG, content_type="image/png")
    painter = Painter()
    await shop.executor(painter).run(job.id)
    (source,) = painter.orders[0].images
    assert (source.data, source.content_type, source.width) == (PNG, "image/png", 64)
    assert painter.orders[0].edit
    assert (await shop.found(job)).status is JobStatus.SUCCEEDED


async def test_an_input_that_is_gone_ends_the_job_before_anything_is_paid(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job(edit=True))
    painter = Painter()
    assert await shop.executor(painter).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == ("failed", "invalid_image")
    assert (painter.orders, ended.attempts) == ([], ())


async def test_an_edit_waits_in_the_queue_while_the_objects_are_away(shop: Workshop) -> None:
    job = await shop.added(a_job(edit=True))
    await shop.objects.put("t/acme/job_1/in/0.png", PNG, content_type="image/png")
    shop.objects.away = 1
    executor = shop.executor(Painter())
    assert isinstance(await executor.run(job.id), Again)
    assert (await shop.found(job)).status is JobStatus.QUEUED
    assert await executor.run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, ended.crashes) == (JobStatus.SUCCEEDED, 0)


async def test_a_task_that_goes_on_does_not_need_its_images_again(shop: Workshop) -> None:
    job = await shop.added(a_job(edit=True))
    await shop.objects.put("t/acme/job_1/in/0.png", PNG, content_type="image/png")
    painter = TaskPainter(submit("task", hang()), paint())
    executor = shop.executor(painter, deployments=[a_deployment(timeout=0.05)])
    assert isinstance(await executor.run(job.id), Again)
    await shop.objects.delete(["t/acme/job_1/in/0.png"])
    assert await executor.run(job.id) == Settled()
    assert (await shop.found(job)).status is JobStatus.SUCCEEDED
    assert (len(painter.orders), painter.resumed) == (1, ["task-0"])


async def test_objects_that_refuse_to_give_an_input_are_our_failure(shop: Workshop) -> None:
    job = await shop.added(a_job(edit=True))
    shop.objects.refuses = True
    await shop.executor(Painter()).run(job.id)
    ended = await shop.found(job)
    assert (ended.status, ended.error and ended.error.code) == ("failed", "storage_error")


# -- a Redis that is away --------------------------------------------------------------------------


class AwayJobs(Jobs):
    """Records whose swaps fail `away` times from the one numbered `since` on.

    With `lost_reply`, they fail after they have written.
    """

    def __init__(
        self, commands: Commands, *, since: int, away: int, lost_reply: bool = False
    ) -> None:
        super().__init__(commands, RetentionSettings())
        self._swaps = 0
        self._since = since
        self._away = away
        self._lost_reply = lost_reply

    async def swap(self, old: Job, new: Job) -> Job | None:
        self._swaps += 1
        if not self._since <= self._swaps < self._since + self._away:
            return await super().swap(old, new)
        if self._lost_reply:
            await super().swap(old, new)
        raise Unavailable("The job store does not answer.")


@pytest.mark.parametrize("lost_reply", [False, True], ids=["not written", "reply lost"])
@pytest.mark.parametrize("since", [1, 2, 3])
async def test_an_outage_of_redis_is_outlasted_and_nothing_is_paid_twice(
    shop: Workshop, since: int, lost_reply: bool
) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    painter = TaskPainter(submit("task", paint()))
    jobs = AwayJobs(shop.commands, since=since, away=2, lost_reply=lost_reply)
    assert await shop.executor(painter, jobs=jobs).run(job.id) == Settled()
    ended = await shop.found(job)
    assert (ended.status, statuses(ended)) == (JobStatus.SUCCEEDED, ["succeeded"])
    assert len(painter.orders) == 1
    assert len(await shop.owed()) == 1


# -- being stopped ---------------------------------------------------------------------------------


async def test_a_run_that_is_stopped_hands_its_job_over(shop: Workshop) -> None:
    job = await shop.added(a_job())
    gate = Gate(paint())
    running = asyncio.create_task(shop.executor(Painter(gate)).run(job.id))
    await gate.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    left = await shop.found(job)
    assert (left.status, left.fence, statuses(left)) == ("running", None, ["outcome_unknown"])
    ended = await run_to_the_end(shop.executor(Painter()), shop, job)
    assert (ended.status, ended.crashes) == (JobStatus.SUCCEEDED, 0)


async def test_a_task_under_way_is_handed_over_with_its_id(shop: Workshop) -> None:
    job = await shop.added(a_job())
    gate = Gate(paint())
    painter = TaskPainter(submit("task", gate), paint())
    running = asyncio.create_task(shop.executor(painter).run(job.id))
    await gate.begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert statuses(await shop.found(job)) == ["running"]
    assert await shop.executor(painter).run(job.id) == Settled()
    assert (len(painter.orders), painter.resumed) == (1, ["task-0"])


class SlowJobs(Jobs):
    """Records whose swap numbered `slow` is written, but whose answer does not come."""

    def __init__(self, commands: Commands, *, slow: int) -> None:
        super().__init__(commands, RetentionSettings())
        self.written = asyncio.Event()
        self._swaps = 0
        self._slow = slow

    async def swap(self, old: Job, new: Job) -> Job | None:
        self._swaps += 1
        done = await super().swap(old, new)
        if self._swaps == self._slow:
            self.written.set()
            await asyncio.Event().wait()
        return done


async def test_a_run_that_is_stopped_while_it_writes_still_hands_its_job_over(
    shop: Workshop,
) -> None:
    job = await shop.added(a_job())
    jobs = SlowJobs(shop.commands, slow=1)  # the attempt is written, nobody is asked yet
    painter = Painter()
    running = asyncio.create_task(shop.executor(painter, jobs=jobs).run(job.id))
    await jobs.written.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    left = await shop.found(job)
    assert (left.fence, left.crashes) == (None, 0)
    assert painter.orders == []


async def test_a_run_that_is_stopped_while_it_settles_has_settled_once(shop: Workshop) -> None:
    job = await shop.added(a_job(webhook_url=HOOK))
    jobs = SlowJobs(shop.commands, slow=2)
    running = asyncio.create_task(shop.executor(Painter(), jobs=jobs).run(job.id))
    await jobs.written.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ended = await shop.found(job)
    assert (ended.status, ended.version) == (JobStatus.SUCCEEDED, 2)
    assert len(await shop.owed()) == 1


# -- terms -----------------------------------------------------------------------------------------


async def test_a_job_is_not_made_dearer_than_it_may_be(shop: Workshop) -> None:
    job = await shop.added(a_job(max_cost=0.10))
    deployments = [a_deployment("first"), a_deployment("second", price=Price(per_image=1.0))]
    first, second = Painter(refuse(FailureCode.AUTH)), Painter()
    await shop.executor(first, second, deployments=deployments).run(job.id)
    assert (await shop.found(job)).status is JobStatus.FAILED
    assert second.orders == []


# -- beside newer versions -------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"status": "dreaming"}], ids=["readable", "unreadable"])
async def test_a_job_of_a_newer_version_is_left_for_its_workers(
    shop: Workshop, commands: Commands, fields: dict[str, object]
) -> None:
    job = await shop.added(a_job(schema=SCHEMA + 1))
    key = redis_keys.job(job.id)
    document = orjson.loads(await commands.execute("HGET", key, "document"))
    before = orjson.dumps({**document, **fields})
    await commands.execute("HSET", key, "document", before)
    painter = Painter()
    assert isinstance(await shop.executor(painter).run(job.id), Again)
    assert painter.orders == []
    assert await commands.execute("HGET", key, "document") == before
