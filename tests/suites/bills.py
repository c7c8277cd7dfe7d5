"""What bills and budgets must show on every Redis; a subclass gives the fixture `commands`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from storage.attempt import AttemptStatus, Cost, CostSource
from storage.bill import Bill, day_of
from storage.bills import Bills
from storage.errors import Conflict, TooMany
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.jobs import Budget, Idempotency, Jobs
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.samples import NOW, a_job


DAY = 86_400.0
TODAY = day_of(NOW)


def paid(amount: float | None) -> Cost:
    return Cost() if amount is None else Cost(amount, CostSource.REPORTED)


async def run(
    jobs: Jobs,
    job: Job,
    costs: Sequence[float | None],
    now: float = NOW,
    *,
    quote: float | None = None,
) -> Job:
    """Walk a job through one attempt with so many calls, and end it."""
    claimed = job.claimed("run", now).attempting("first", "sketch", "run", now, quote=quote)
    running = await jobs.swap(job, claimed)
    assert running is not None
    done = running
    for index, cost in enumerate(costs):
        made = [Image(index=index, status=ImageStatus.SUCCEEDED, key=f"k{index}")]
        done = done.progressed("run", made, paid(cost))
    closed = done.attempted("run", now, AttemptStatus.SUCCEEDED).settled("run", now)
    ended = await jobs.swap(running, closed)
    assert ended is not None
    return ended


class BillSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    def bills(self, commands: Commands) -> Bills:
        return Bills(commands)

    # -- bills -------------------------------------------------------------------------------------

    async def test_an_ended_job_is_on_the_bill_of_its_day_and_model(
        self, jobs: Jobs, bills: Bills
    ) -> None:
        job = a_job(n=2)
        await jobs.add(job)
        await run(jobs, job, [0.05, 0.07])
        assert await bills.between("acme", TODAY, TODAY) == [
            Bill(day=TODAY, model="painter", jobs=1, images=2, cost=0.12, unknown=0)
        ]

    async def test_a_job_that_has_not_ended_is_on_no_bill(self, jobs: Jobs, bills: Bills) -> None:
        job = a_job()
        await jobs.add(job)
        claimed = job.claimed("run", NOW).attempting("first", "sketch", "run", NOW)
        assert await jobs.swap(job, claimed) is not None
        assert await bills.between("acme", TODAY, TODAY) == []

    async def test_sums_of_many_jobs_are_exact(self, jobs: Jobs, bills: Bills) -> None:
        for number in range(30):
            job = a_job(f"job_{number}")
            await jobs.add(job)
            await run(jobs, job, [0.1])
        [bill] = await bills.between("acme", TODAY, TODAY)
        assert (bill.jobs, bill.images, bill.cost) == (30, 30, 3.0)
        assert await bills.spent("acme", TODAY) == 3.0

    async def test_saying_the_end_twice_bills_once(self, jobs: Jobs, bills: Bills) -> None:
        job = a_job()
        await jobs.add(job)
        claimed = job.claimed("run", NOW)
        ended = claimed.failed(_failure(), NOW)
        await asyncio.gather(*(jobs.swap(job, ended) for _ in range(3)))
        [bill] = await bills.between("acme", TODAY, TODAY)
        assert bill.jobs == 1

    async def test_a_cost_that_nobody_knows_is_counted_as_that(
        self, jobs: Jobs, bills: Bills
    ) -> None:
        job = a_job(n=2)
        await jobs.add(job)
        await run(jobs, job, [0.05, None], quote=0.12)
        [bill] = await bills.between("acme", TODAY, TODAY)
        assert (bill.cost, bill.unknown, bill.at_risk) == (0.05, 1, 0.07)

    async def test_a_cost_that_becomes_known_late_is_added(self, jobs: Jobs, bills: Bills) -> None:
        job = a_job()
        await jobs.add(job)
        claimed = job.claimed("run", NOW)
        claimed = claimed.attempting("first", "sketch", "run", NOW, quote=0.06)
        running = await jobs.swap(job, claimed)
        assert running is not None
        cancelled = await jobs.swap(running, running.cancelled(NOW))
        assert cancelled is not None
        [before] = await bills.between("acme", TODAY, TODAY)
        await jobs.swap(cancelled, cancelled.accounted(1, paid(0.05), None))
        [after] = await bills.between("acme", TODAY, TODAY)
        assert (before.jobs, before.cost, before.unknown, before.at_risk) == (1, 0.0, 1, 0.06)
        assert (after.jobs, after.cost, after.unknown, after.at_risk) == (1, 0.05, 0, 0.0)

    async def test_a_job_that_never_started_owes_nothing_unknown(
        self, jobs: Jobs, bills: Bills
    ) -> None:
        job = a_job()
        await jobs.add(job)
        await jobs.swap(job, job.cancelled(NOW))
        [bill] = await bills.between("acme", TODAY, TODAY)
        assert (bill.jobs, bill.images, bill.cost, bill.unknown) == (1, 0, 0.0, 0)

    async def test_days_models_and_tenants_are_apart(self, jobs: Jobs, bills: Bills) -> None:
        for number, (model, tenant, now) in enumerate(
            [
                ("painter", "acme", NOW),
                ("a model: with spaces", "acme", NOW),
                ("painter", "acme", NOW + DAY),
                ("painter", "other", NOW),
            ]
        ):
            job = a_job(f"job_{number}", model=model, tenant=tenant)
            await jobs.add(job)
            await run(jobs, job, [0.05], now)
        tomorrow = day_of(NOW + DAY)
        shown = [(b.day, b.model) for b in await bills.between("acme", TODAY, tomorrow)]
        assert shown == [
            (TODAY, "a model: with spaces"),
            (TODAY, "painter"),
            (tomorrow, "painter"),
        ]
        assert len(await bills.between("acme", tomorrow, tomorrow)) == 1
        assert await bills.between("nobody", TODAY, tomorrow) == []

    # -- budgets -----------------------------------------------------------------------------------

    async def test_a_job_beyond_the_budget_is_refused_and_leaves_nothing(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await jobs.add(a_job("a", reserved=0.06), budget=Budget(0.10))
        before = set(await commands.execute("KEYS", "*"))
        with pytest.raises(TooMany) as refused:
            await jobs.add(
                a_job("b", reserved=0.06),
                budget=Budget(0.10),
                idempotency=Idempotency("key", "print"),
            )
        assert refused.value.code == "budget_exceeded"
        assert 0 < refused.value.retry_after <= DAY
        assert await jobs.find("b") is None
        assert set(await commands.execute("KEYS", "*")) == before

    async def test_many_submits_at_once_do_not_break_the_budget(self, jobs: Jobs) -> None:
        budget = Budget(1.0)
        outcomes = await asyncio.gather(
            *(jobs.add(a_job(f"job_{n}", reserved=0.1), budget=budget) for n in range(50)),
            return_exceptions=True,
        )
        assert sum(not isinstance(outcome, TooMany) for outcome in outcomes) == 10

    async def test_what_a_job_did_not_cost_can_be_spent_again(self, jobs: Jobs) -> None:
        budget = Budget(0.10)
        job = a_job("a", reserved=0.10)
        await jobs.add(job, budget=budget)
        await run(jobs, job, [0.04])
        await jobs.add(a_job("b", reserved=0.06), budget=budget)
        with pytest.raises(TooMany):
            await jobs.add(a_job("c", reserved=0.01), budget=budget)

    async def test_what_a_job_cost_beyond_its_quote_counts(self, jobs: Jobs) -> None:
        job = a_job("a", reserved=0.02)
        await jobs.add(job, budget=Budget(0.10))
        await run(jobs, job, [0.09])
        with pytest.raises(TooMany):
            await jobs.add(a_job("b", reserved=0.02), budget=Budget(0.10))

    async def test_what_may_have_been_charged_cannot_be_spent_again(self, jobs: Jobs) -> None:
        budget = Budget(0.10)
        job = a_job("a", n=2, reserved=0.08)
        await jobs.add(job, budget=budget)
        ended = await run(jobs, job, [0.03, None], quote=0.06)
        await jobs.add(a_job("b", reserved=0.04), budget=budget)
        with pytest.raises(TooMany):
            await jobs.add(a_job("c", reserved=0.01), budget=budget)
        assert await jobs.swap(ended, ended.accounted(1, paid(0.05), None)) is not None
        await jobs.add(a_job("c", reserved=0.01), budget=budget)

    async def test_the_next_day_has_a_budget_of_its_own(self, jobs: Jobs) -> None:
        await jobs.add(a_job("a", reserved=0.10), budget=Budget(0.10))
        await jobs.add(a_job("b", reserved=0.10, created_at=NOW + DAY), budget=Budget(0.10))

    async def test_what_was_spent_before_there_was_a_budget_counts(self, jobs: Jobs) -> None:
        with pytest.raises(TooMany):
            await jobs.add(a_job("a", reserved=0.02), budget=Budget(0.10, spent=0.09))

    async def test_adding_a_job_again_sets_nothing_aside_again(self, jobs: Jobs) -> None:
        job = a_job("a", reserved=0.06)
        await jobs.add(job, budget=Budget(0.13))
        await jobs.add(job, budget=Budget(0.13))
        await jobs.add(a_job("b", reserved=0.06), budget=Budget(0.13))

    async def test_a_key_that_finds_its_job_sets_nothing_aside(self, jobs: Jobs) -> None:
        key = Idempotency("key", "print")
        await jobs.add(a_job("a", reserved=0.06), budget=Budget(0.13), idempotency=key)
        for name in ("b", "c"):
            added = await jobs.add(a_job(name, reserved=0.06), budget=Budget(0.13), idempotency=key)
            assert (added.id, added.existed) == ("a", True)
        with pytest.raises(Conflict):
            await jobs.add(a_job("d"), idempotency=replace(key, fingerprint="other"))
        await jobs.add(a_job("e", reserved=0.06), budget=Budget(0.13))

    async def test_a_key_has_a_budget_beside_its_tenants(self, jobs: Jobs) -> None:
        def job(name: str, key: str) -> Job:
            return a_job(name, reserved=0.06, key=key, key_reserved=0.06)

        budget = Budget(0.19, key_limit=0.10)
        first = job("a", "k1")
        await jobs.add(first, budget=budget)
        with pytest.raises(TooMany) as refused:
            await jobs.add(job("b", "k1"), budget=budget)
        assert refused.value.code == "budget_exceeded"
        await jobs.add(job("c", "k2"), budget=budget)
        await run(jobs, first, [0.02])  # gives back what it did not cost, of both
        await jobs.add(job("b", "k1"), budget=budget)
        with pytest.raises(TooMany):  # the tenant's own
            await jobs.add(job("d", "k3"), budget=budget)

    async def test_a_key_may_have_a_budget_where_its_tenant_has_none(self, jobs: Jobs) -> None:
        budget = Budget(key_limit=0.10)
        await jobs.add(a_job("a", key="k1", key_reserved=0.06), budget=budget)
        with pytest.raises(TooMany):
            await jobs.add(a_job("b", key="k1", key_reserved=0.06), budget=budget)
        await jobs.add(a_job("c"), budget=budget)  # planned before the key had one


def _failure() -> Failure:
    return Failure(code=FailureCode.UPSTREAM_ERROR, message="no")
