"""The router: who is asked, who is left out, and what a job waits for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from storage.attempt import Attempt, AttemptStatus, Cost, CostSource
from storage.catalog import Catalog, Deployment, Model, Price
from storage.catalogs import Catalogs
from storage.failure import Failure, FailureCode
from storage.job import Job
from storage.redis_client import Commands
from storage.traffic import Traffic
from tests.doubles import Clock
from tests.samples import NOW, a_deployment, a_job, a_request
from worker.budget import LEAST
from worker.permits import Permits
from worker.provider import ProviderError
from worker.router import GIVE_UP, NoWay, Pick, Router, Wait


LONG_AGO = NOW - 60


def catalogs(*deployments: Deployment) -> Catalogs:
    models: dict[str, Model] = {}
    for d in deployments:
        known = models[d.model].deployments if d.model in models else ()
        models[d.model] = Model(name=d.model, deployments=(*known, d))
    return Catalogs(Catalog(models=models))


def router(*deployments: Deployment, environ: Mapping[str, str] | None = None) -> Router:
    return Router(catalogs(*deployments), environ or {})


def tried(
    job: Job,
    deployment: str,
    code: FailureCode = FailureCode.UPSTREAM_ERROR,
    *,
    at: float = LONG_AGO,
    cost: Cost | None = None,
) -> Job:
    """Return the job with one more attempt that failed."""
    attempt = Attempt(
        number=len(job.attempts) + 1,
        deployment=deployment,
        provider="sketch",
        fence="run",
        started_at=at,
        finished_at=at,
        status=AttemptStatus.FAILED,
        costs=(cost or Cost.nothing(),),
        error=Failure(code=code, message=f"the upstream said {code}"),
    )
    return replace(job, attempts=(*job.attempts, attempt))


async def picked(router: Router, job: Job) -> str:
    choice = await router.choose(job, NOW)
    assert isinstance(choice, Pick), choice
    return choice.deployment.name


async def refused(router: Router, job: Job) -> Failure:
    choice = await router.choose(job, NOW)
    assert isinstance(choice, NoWay), choice
    return choice.failure


# -- who can ---------------------------------------------------------------------------------------


async def test_a_deployment_that_cannot_edit_never_gets_an_edit() -> None:
    shop = router(
        a_deployment("cannot", can={"edit": False}, priority=0), a_deployment("can", priority=9)
    )
    for number in range(20):
        assert await picked(shop, a_job(f"job_{number}", edit=True)) == "can"


async def test_what_nobody_can_do_is_refused_with_the_reason() -> None:
    failure = await refused(router(a_deployment(can={"edit": False})), a_job(edit=True))
    assert failure.code is FailureCode.INVALID_REQUEST
    assert failure.message == "The model painter cannot edit images."


async def test_a_deployment_without_its_key_is_off() -> None:
    deployments = (
        a_deployment("first", api_key_env="FIRST_KEY"),
        a_deployment("second", api_key_env="SECOND_KEY", priority=1),
    )
    shop = router(*deployments, environ={"FIRST_KEY": "", "SECOND_KEY": "k"})
    assert await picked(shop, a_job()) == "second"
    assert [d.name for d in shop.on] == ["second"]
    failure = await refused(router(*deployments), a_job())
    assert failure.code is FailureCode.NO_DEPLOYMENT


async def test_a_model_that_is_gone_has_no_deployment() -> None:
    failure = await refused(router(a_deployment()), a_job(model="gone"))
    assert failure.code is FailureCode.NO_DEPLOYMENT


async def test_a_new_catalog_counts_from_the_next_choice_on() -> None:
    shelf = catalogs(a_deployment("old"))
    shop = Router(shelf, {})
    assert await picked(shop, a_job()) == "old"
    shelf.current = catalogs(a_deployment("new")).current
    assert await picked(shop, a_job()) == "new"


# -- who is preferred ------------------------------------------------------------------------------


async def test_the_lower_priority_comes_first() -> None:
    shop = router(a_deployment("last", priority=5), a_deployment("first", priority=-1))
    assert {await picked(shop, a_job(f"job_{n}")) for n in range(20)} == {"first"}


async def test_equals_share_by_weight() -> None:
    shop = router(a_deployment("heavy", weight=3), a_deployment("light", weight=1))
    counts = Counter([await picked(shop, a_job(f"job_{n}")) for n in range(2000)])
    assert 0.70 < counts["heavy"] / 2000 < 0.80


async def test_who_failed_the_job_before_comes_after_who_did_not() -> None:
    shop = router(a_deployment("first", priority=0), a_deployment("second", priority=9))
    job = tried(a_job(), "first")
    assert await picked(shop, job) == "second"
    assert await picked(shop, tried(job, "second")) == "first"


@pytest.mark.parametrize(
    "code",
    [FailureCode.AUTH, FailureCode.BILLING, FailureCode.PERMISSION, FailureCode.MODEL_NOT_FOUND],
)
async def test_who_failed_for_good_is_not_asked_again(code: FailureCode) -> None:
    shop = router(a_deployment("first"), a_deployment("second", priority=9))
    job = tried(a_job(), "first", code)
    assert await picked(shop, job) == "second"
    failure = await refused(shop, tried(job, "second", code))
    assert failure.code is code


# -- when ------------------------------------------------------------------------------------------


async def test_a_retry_waits_for_its_back_off() -> None:
    shop = router(a_deployment())
    job = tried(a_job(), "first", at=NOW)
    choice = await shop.choose(job, NOW)
    assert isinstance(choice, Wait)
    assert 0 < choice.after <= 1.0
    assert choice.waiting is None
    assert isinstance(await shop.choose(job, NOW + choice.after), Pick)


async def test_back_off_grows_and_differs_from_job_to_job() -> None:
    shop = router(a_deployment())

    async def waited(name: str, tries: int) -> float:
        job = a_job(name)
        for _ in range(tries):
            job = tried(job, "first", at=NOW)
        choice = await shop.choose(job, NOW)
        assert isinstance(choice, Wait)
        return choice.after

    once = [await waited(f"job_{n}", 1) for n in range(50)]
    thrice = [await waited(f"job_{n}", 3) for n in range(50)]
    assert len(set(once)) == 50
    assert max(once) <= 1.0
    assert sum(thrice) / 50 > 2 * sum(once) / 50
    assert max(thrice) <= 4.0


async def test_going_elsewhere_needs_no_back_off() -> None:
    shop = router(a_deployment("first"), a_deployment("second"))
    assert await picked(shop, tried(a_job(), "first", at=NOW)) == "second"


async def test_retries_beyond_the_budget_come_later_and_going_elsewhere_is_none() -> None:
    shop = router(a_deployment("first"))
    jobs = [tried(a_job(f"job_{n}"), "first") for n in range(2 * LEAST)]
    outcomes = [await shop.choose(job, NOW) for job in jobs]
    assert sum(isinstance(outcome, Pick) for outcome in outcomes) == LEAST
    later = [outcome.after for outcome in outcomes if isinstance(outcome, Wait)]
    assert all(2 <= after <= 8 for after in later)
    wide = router(a_deployment("first"), a_deployment("second"))
    for job in jobs:
        assert await picked(wide, job) == "second"


async def test_jobs_whose_worker_died_are_asked_for_again_at_once_and_all_of_them() -> None:
    shop = router(a_deployment("first"))
    for number in range(5 * LEAST):
        left = a_job(f"job_{number}").claimed("run", NOW).attempting("first", "sketch", "run", NOW)
        assert await picked(shop, left.claimed("next run", NOW)) == "first"


async def test_a_job_whose_workers_were_gone_for_long_is_still_made() -> None:
    begun = NOW - GIVE_UP - 1
    left = a_job().claimed("run", begun).attempting("first", "sketch", "run", begun)
    assert (
        await picked(router(a_deployment("first")), left.claimed("next run", begun + 1)) == "first"
    )


async def test_a_job_that_waited_for_too_long_ends_with_its_last_error() -> None:
    job = tried(a_job(), "first", at=NOW - GIVE_UP - 1)
    failure = await refused(router(a_deployment()), job)
    assert failure.code is FailureCode.UPSTREAM_ERROR


# -- on the job's terms ----------------------------------------------------------------------------


async def test_a_strict_job_is_asked_only_where_all_is_applied() -> None:
    shop = router(
        a_deployment("adapts", can={"sizes": ("512x512",)}, priority=0),
        a_deployment("applies", priority=9),
    )
    job = a_job(request=a_request(size="1024x1024"))
    assert await picked(shop, job) == "adapts"
    assert await picked(shop, replace(job, strict=True)) == "applies"


async def test_a_job_is_not_asked_where_it_would_cost_too_much() -> None:
    shop = router(
        a_deployment("dear", price=Price(per_image=0.2), priority=0),
        a_deployment("cheap", price=Price(per_image=0.05), priority=9),
    )
    assert await picked(shop, a_job(n=2)) == "dear"
    assert await picked(shop, a_job(n=2, max_cost=0.1)) == "cheap"
    failure = await refused(shop, a_job(n=2, max_cost=0.09))
    assert "terms" in failure.message


async def test_what_earlier_attempts_cost_counts_against_the_limit() -> None:
    shop = router(a_deployment("first"), a_deployment("second"))
    job = a_job(max_cost=0.09)
    paid = tried(job, "first", cost=Cost(0.05, CostSource.REPORTED))
    assert isinstance(await shop.choose(paid, NOW), NoWay)
    free = tried(job, "first", cost=Cost.nothing())
    assert await picked(shop, free) == "second"


async def test_what_an_earlier_attempt_may_have_cost_counts_at_its_list_price() -> None:
    shop = router(a_deployment("first"), a_deployment("second"))
    job = tried(a_job(max_cost=0.09), "first", FailureCode.OUTCOME_UNKNOWN, cost=Cost())
    assert isinstance(await shop.choose(job, NOW), NoWay)
    job = replace(job, max_cost=0.10)
    assert await picked(shop, job) == "second"


async def test_a_price_that_nobody_knows_is_not_held_against_a_deployment() -> None:
    shop = router(a_deployment(price=Price()))
    assert await picked(shop, a_job(max_cost=0.01)) == "first"


# -- gates -----------------------------------------------------------------------------------------


@pytest.fixture
def traffic(commands: Commands) -> Traffic:
    return Traffic(commands, lease=10)


@pytest.fixture
def permits(traffic: Traffic, clock: Clock) -> Permits:
    return Permits(traffic, clock=clock)


def gated(permits: Permits, *deployments: Deployment, **options: Any) -> Router:
    return Router(catalogs(*deployments), {}, permits=permits, **options)


async def chosen(router: Router, job: Job) -> Pick:
    choice = await router.choose(job, NOW)
    assert isinstance(choice, Pick), choice
    return choice


async def end(pick: Pick, code: FailureCode | None, retry_after: float | None = None) -> None:
    error = None if code is None else ProviderError("no", code=code, retry_after=retry_after)
    async with pick.permit as permit:
        await permit.ended(error)


async def test_a_full_deployment_is_passed_over_for_the_next(permits: Permits) -> None:
    shop = gated(
        permits,
        a_deployment("small", max_concurrency=1, priority=0),
        a_deployment("large", priority=9),
    )
    first = await chosen(shop, a_job("a", fence="run-a"))
    second = await chosen(shop, a_job("b", fence="run-b"))
    assert (first.deployment.name, second.deployment.name) == ("small", "large")
    await end(first, None)
    third = await chosen(shop, a_job("c", fence="run-c"))
    assert third.deployment.name == "small"


async def test_a_job_waits_before_all_the_gates_that_are_full(permits: Permits) -> None:
    shop = gated(
        permits,
        a_deployment("one", max_concurrency=1),
        a_deployment("two", max_concurrency=1),
        a_deployment("cannot", can={"edit": False}),
    )
    for name in ("a", "b"):
        await chosen(shop, a_job(name, edit=True, fence=f"run-{name}"))
    choice = await shop.choose(a_job("c", edit=True, priority=-1, fence="run-c"), NOW)
    assert isinstance(choice, Wait)
    assert choice.waiting is not None
    assert {gate.name for gate in choice.waiting.gates} == {"one", "two"}
    assert choice.waiting.flows == ("acme:-1", "acme:1", "acme:0")
    assert 45 <= choice.after <= 75


async def test_a_pause_of_one_deployment_sends_jobs_to_the_other(permits: Permits) -> None:
    shop = gated(permits, a_deployment("first"), a_deployment("second", priority=9))
    await end(await chosen(shop, a_job("a")), FailureCode.RATE_LIMITED, 30)
    for name in "bcd":
        assert (await chosen(shop, a_job(name))).deployment.name == "second"


async def test_while_the_only_deployment_pauses_jobs_wait(permits: Permits) -> None:
    shop = gated(permits, a_deployment("first"))
    await end(await chosen(shop, a_job("a")), FailureCode.RATE_LIMITED, 30)
    choice = await shop.choose(a_job("b"), NOW)
    assert isinstance(choice, Wait)
    assert choice.waiting is not None
    assert [gate.name for gate in choice.waiting.gates] == ["first"]


async def test_while_the_only_deployment_is_broken_jobs_wait(permits: Permits) -> None:
    shop = gated(permits, a_deployment("first"))
    for number in range(5):
        await end(await chosen(shop, a_job(f"job_{number}")), FailureCode.UPSTREAM_ERROR)
    assert isinstance(await shop.choose(a_job("late"), NOW), Wait)


async def test_an_upstream_that_has_failed_for_ten_minutes_fails_jobs_at_once(
    permits: Permits, commands: Commands, traffic: Traffic
) -> None:
    shop = gated(permits, a_deployment("first"))
    for number in range(5):
        await end(await chosen(shop, a_job(f"job_{number}")), FailureCode.UPSTREAM_ERROR)
    seconds = (await commands.execute("TIME"))[0]
    since = (int(seconds) - int(GIVE_UP) - 1) * 1000
    await commands.execute("HSET", "darkroom:gate:first:state", "since", since)
    await permits.learn(shop.gates)
    failure = await refused(shop, a_job("late"))
    assert failure.code is FailureCode.OVERLOADED


async def test_a_refused_credential_fails_jobs_at_once_and_stops_serving(
    permits: Permits,
) -> None:
    shop = gated(permits, a_deployment("first"))
    await end(await chosen(shop, a_job("a")), FailureCode.AUTH)
    failure = await refused(shop, a_job("b"))
    assert failure.code is FailureCode.NO_DEPLOYMENT
    assert "credentials" in failure.message
    assert shop.serving == ()
    assert [d.name for d in shop.on] == ["first"]


async def test_a_wide_job_asks_for_as_many_places_as_it_makes_calls_at_once(
    permits: Permits,
) -> None:
    shop = gated(permits, a_deployment("first", max_concurrency=3, can={"n": 2}), calls=8)
    pick = await chosen(shop, a_job("wide", n=10, fence="run-wide"))
    for _ in range(3):
        await pick.permit.places.acquire()
    assert pick.permit.places.locked()
    assert isinstance(await shop.choose(a_job("late", fence="run-late"), NOW), Wait)


async def test_a_task_that_is_under_way_is_taken_up_where_it_is(permits: Permits) -> None:
    shop = gated(
        permits, a_deployment("first", max_concurrency=1), a_deployment("second", priority=-1)
    )
    await chosen(shop, a_job("other", fence="run-o"))
    going = a_job(fence="run").claimed("run", NOW).attempting("first", "sketch", "run", NOW)
    pick = await shop.resume(going.submitted(0, "task-1", "run"))
    assert pick is not None
    assert pick.deployment.name == "first"


async def test_a_task_of_a_deployment_that_is_off_cannot_be_taken_up(permits: Permits) -> None:
    shop = gated(permits, a_deployment("first"))
    going = a_job(fence="run").claimed("run", NOW).attempting("gone", "sketch", "run", NOW)
    assert await shop.resume(going) is None
    assert await shop.resume(a_job()) is None
