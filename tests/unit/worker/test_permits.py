"""The permits of one worker, beside those of another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from storage import redis_keys
from storage.errors import Unavailable
from storage.failure import FailureCode
from storage.gate import Gate
from storage.redis_client import Commands
from storage.traffic import Traffic, Wish
from tests.doubles import Clock, fake_redis
from worker.permits import CREDENTIAL_TRIP, LONGEST_HINT, TRIP, Permit, Permits
from worker.provider import ProviderError


OPEN = Gate("open")
ONE = Gate("one", 1)
SIX = Gate("six", 6)


def failed(code: FailureCode, retry_after: float | None = None) -> ProviderError:
    return ProviderError("no", code=code, retry_after=retry_after)


BROKEN = failed(FailureCode.UPSTREAM_ERROR)


@pytest.fixture
def traffic(commands: Commands) -> Traffic:
    return Traffic(commands, lease=10)


@pytest.fixture
def permits(traffic: Traffic, clock: Clock) -> Permits:
    return Permits(traffic, clock=clock)


@pytest.fixture
def other(traffic: Traffic, clock: Clock) -> Permits:
    """The permits of another worker on the same Redis."""
    return Permits(traffic, clock=clock)


async def permit(permits: Permits, gate: Gate, job: str = "job", *, calls: int = 1) -> Permit:
    granted = await permits.ask([Wish(gate, min(calls, 4), calls)], job, f"run-{job}")
    assert granted is not None
    return granted[1]


async def called(permits: Permits, gate: Gate, error: ProviderError | None = None) -> None:
    async with await permit(permits, gate) as one:
        await one.ended(error)


@asynccontextmanager
async def running(permits: Permits, *gates: Gate) -> AsyncIterator[None]:
    task = asyncio.create_task(permits.run(lambda: gates))
    await asyncio.sleep(0.05)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard(permits: Permits, gate: Gate) -> None:
    async with asyncio.timeout(3):
        while not permits.condition(gate).is_shut:
            await asyncio.sleep(0.01)


# -- without limits --------------------------------------------------------------------------------


async def test_a_gate_without_limits_costs_no_command_while_all_is_well() -> None:
    class Mute(Commands):
        def issue(self, *command: object) -> asyncio.Future[object]:
            raise AssertionError(command)

    permits = Permits(Traffic(Mute(fake_redis()), lease=10))
    for _ in range(20):
        await called(permits, OPEN)


async def test_five_failures_shut_a_gate_for_this_worker_at_once(
    permits: Permits, clock: Clock
) -> None:
    for _ in range(5):
        await called(permits, OPEN, BROKEN)
    assert await permits.ask([Wish(OPEN)], "job", "run") is None
    clock.advance(TRIP - 0.1)
    assert await permits.ask([Wish(OPEN)], "job", "run") is None


async def test_successes_before_the_failures_count_though_nobody_was_told(
    permits: Permits,
) -> None:
    for _ in range(20):
        await called(permits, OPEN)
    for _ in range(10):
        await called(permits, OPEN, BROKEN)
    assert await permits.ask([Wish(OPEN)], "job", "run") is not None


async def test_successes_of_long_ago_do_not_count(permits: Permits, clock: Clock) -> None:
    for _ in range(20):
        await called(permits, OPEN)
    clock.advance(40)
    for _ in range(5):
        await called(permits, OPEN, BROKEN)
    assert await permits.ask([Wish(OPEN)], "job", "run") is None


@pytest.mark.parametrize(
    "code",
    [FailureCode.CONTENT_POLICY, FailureCode.INVALID_REQUEST, FailureCode.NO_IMAGE],
)
async def test_what_a_request_did_wrong_is_no_fault_of_the_deployment(
    permits: Permits, code: FailureCode
) -> None:
    for _ in range(20):
        await called(permits, OPEN, failed(code))
    assert not permits.condition(OPEN).is_shut


@pytest.mark.parametrize("code", [FailureCode.AUTH, FailureCode.BILLING, FailureCode.PERMISSION])
async def test_a_refused_credential_switches_the_deployment_off_and_says_so(
    permits: Permits, clock: Clock, code: FailureCode
) -> None:
    with capture_logs() as logs:
        await called(permits, OPEN, failed(code))
    assert await permits.ask([Wish(OPEN)], "job", "run") is None
    assert permits.condition(OPEN).reason == code
    assert [(e["event"], e["deployment"]) for e in logs] == [("deployment_tripped", "open")]
    clock.advance(CREDENTIAL_TRIP - 1)
    assert permits.condition(OPEN).is_shut
    clock.advance(1.1)
    assert not permits.condition(OPEN).is_shut


async def test_new_credentials_are_given_a_chance(permits: Permits) -> None:
    await called(permits, OPEN, failed(FailureCode.AUTH))
    await permits.forgive([OPEN, ONE])
    assert await permits.ask([Wish(OPEN)], "job", "run") is not None


async def test_what_broke_is_not_forgiven(permits: Permits) -> None:
    for _ in range(5):
        await called(permits, OPEN, BROKEN)
    await permits.forgive([OPEN])
    assert await permits.ask([Wish(OPEN)], "job", "run") is None


async def test_a_hint_is_kept_and_no_hint_is_beyond_two_minutes(
    permits: Permits, clock: Clock
) -> None:
    await called(permits, OPEN, failed(FailureCode.RATE_LIMITED, 5))
    assert permits.condition(OPEN).paused == pytest.approx(5, abs=0.1)
    clock.advance(5.1)
    assert await permits.ask([Wish(OPEN)], "job", "run") is not None
    await called(permits, OPEN, failed(FailureCode.RATE_LIMITED, 86_400))
    assert permits.condition(OPEN).paused <= LONGEST_HINT


async def test_a_probe_that_goes_well_opens_the_gate_for_all(
    permits: Permits, commands: Commands, clock: Clock
) -> None:
    for _ in range(5):
        await called(permits, OPEN, BROKEN)
    state = redis_keys.gate("open")[0]
    await commands.execute("HSET", state, "tripped", 1)  # as if its seconds were over
    clock.advance(TRIP)
    async with await permit(permits, OPEN) as probe:
        assert await permits.ask([Wish(OPEN)], "second", "run-second") is None
        await probe.ended(None)
    assert permits.condition(OPEN).tripped is None
    await called(permits, OPEN)


async def test_a_probe_that_is_broken_off_is_given_back(
    permits: Permits, commands: Commands, clock: Clock
) -> None:
    for _ in range(5):
        await called(permits, OPEN, BROKEN)
    await commands.execute("HSET", redis_keys.gate("open")[0], "tripped", 1)
    clock.advance(TRIP)
    async with await permit(permits, OPEN):
        pass
    async with await permit(permits, OPEN):
        pass


# -- with limits -----------------------------------------------------------------------------------


async def test_a_limit_holds_over_workers(permits: Permits, other: Permits) -> None:
    async with await permit(permits, ONE, "a"):
        assert await other.ask([Wish(ONE)], "b", "run-b") is None
    async with await permit(other, ONE, "b"):
        assert await permits.ask([Wish(ONE)], "a", "run-a") is None


async def test_a_place_comes_free_with_the_end_of_its_call(
    permits: Permits, other: Permits
) -> None:
    async with await permit(permits, ONE, "a") as one:
        await one.ended(None)
        async with await permit(other, ONE, "b"):
            pass


async def test_whoever_is_cancelled_gives_its_places_back(permits: Permits, other: Permits) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with await permit(permits, SIX, "a", calls=4):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for name in range(6):
        await permit(other, SIX, f"b{name}")


async def test_the_calls_of_an_attempt_share_its_places_and_leave_one_by_one(
    permits: Permits, other: Permits
) -> None:
    async with await permit(permits, SIX, "a", calls=6) as wide:  # four at once
        assert not wide.places.locked()
        await wide.ended(None)
        await wide.ended(None)
        assert await other.ask([Wish(SIX, 3, 3)], "b", "run-b") is not None  # two are free
        assert await other.ask([Wish(SIX)], "c", "run-c") is None
        await wide.ended(None)
        assert await other.ask([Wish(SIX)], "c", "run-c") is not None


async def test_the_first_open_gate_is_chosen_and_a_free_one_ends_the_search(
    permits: Permits, other: Permits
) -> None:
    async with await permit(other, ONE, "a"):
        granted = await permits.ask([Wish(ONE), Wish(OPEN), Wish(SIX)], "b", "run-b")
        assert granted is not None
        assert granted[0].gate == OPEN


async def test_a_job_whose_upstream_works_already_passes_in_any_case(
    permits: Permits, other: Permits
) -> None:
    async with await permit(other, ONE, "a"):
        granted = await permits.ask([Wish(ONE)], "b", "run-b", pressing=True)
        assert granted is not None
    await called(permits, OPEN, failed(FailureCode.RATE_LIMITED, 60))
    assert await permits.ask([Wish(OPEN)], "b", "run-b", pressing=True) is not None


async def test_places_are_renewed_while_the_worker_runs(commands: Commands) -> None:
    traffic = Traffic(commands, lease=1.0)
    permits = Permits(traffic, heartbeat=0.1)
    async with running(permits, ONE), await permit(permits, ONE, "a"):
        await asyncio.sleep(1.6)
        assert await traffic.ask([Wish(ONE)], "b", "run-b") is None


async def test_an_outage_while_a_place_is_given_back_costs_no_job(clock: Clock) -> None:
    class Away(Commands):
        is_away = False

        async def execute(self, *command: object) -> object:
            if self.is_away:
                raise Unavailable("away")
            return await super().execute(*command)  # type: ignore[arg-type]  # passed on

    commands = Away(fake_redis())
    permits = Permits(Traffic(commands, lease=10), clock=clock)
    async with await permit(permits, ONE) as one:
        commands.is_away = True
        await one.ended(BROKEN)
    await commands.close()


# -- jobs that are taken out of the line beforehand ------------------------------------------------


async def standing(permits: Permits, clock: Clock, *, seconds: float = 1.0) -> Permit:
    """Return the permit of a call at ONE, while which the job "b" was taken out of the line."""
    line = ["b"]

    async def take_ahead(gate: Gate) -> str | None:
        assert gate == ONE
        return line.pop() if line else None

    permits.take_ahead = take_ahead
    permits.wait_at([ONE], "a")
    async with await permit(permits, ONE, "before") as before:
        clock.advance(seconds)
        await before.ended(None)
    permits.wait_at([ONE], "a")
    held = await permit(permits, ONE, "a")
    await asyncio.sleep(0.01)
    return held


def asking(permits: Permits) -> "asyncio.Task[Permit]":
    return asyncio.create_task(permit(permits, ONE, "b"))


async def test_a_place_is_handed_to_the_job_that_stands_ready(
    permits: Permits, other: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asking(permits)
    await asyncio.sleep(0.05)
    assert not next_one.done()
    await held.ended(None)
    async with asyncio.timeout(1), await next_one:
        assert await other.ask([Wish(ONE)], "c", "run-c") is None
    assert await other.ask([Wish(ONE)], "c", "run-c") is not None


async def test_a_place_that_is_handed_on_is_kept_for_a_whole_lease(
    commands: Commands, clock: Clock
) -> None:
    permits = Permits(Traffic(commands, lease=0.6), clock=clock)
    held = await standing(permits, clock)
    next_one = asking(permits)
    await asyncio.sleep(0.4)
    await held.ended(None)
    async with asyncio.timeout(1), await next_one:
        await asyncio.sleep(0.4)
        assert await permits.ask([Wish(ONE)], "c", "run-c") is None


async def test_a_place_that_may_be_somebody_elses_by_now_is_not_handed_on(
    permits: Permits, other: Permits, commands: Commands, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asyncio.create_task(permits.ask([Wish(ONE)], "b", "run-b"))
    await asyncio.sleep(0.05)
    clock.advance(8)  # of the lease of ten: this worker stood still
    await commands.execute("DEL", redis_keys.gate("one")[1])
    async with await permit(other, ONE, "c"):
        await held.ended(None)
        async with asyncio.timeout(1):
            assert await next_one is None


async def test_nobody_is_taken_out_of_the_line_to_wait_for_long_calls(
    permits: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock, seconds=60.0)
    assert await permits.ask([Wish(ONE)], "b", "run-b") is None
    await held.ended(None)


async def test_a_failure_hands_nothing_on_and_who_stood_asks_again(
    permits: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asking(permits)
    await asyncio.sleep(0.05)
    await held.ended(BROKEN)
    async with asyncio.timeout(1), await next_one:
        pass


async def test_a_pause_sends_away_who_stands_ready_and_it_stays_the_first(
    permits: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asyncio.create_task(permits.ask([Wish(ONE)], "b", "run-b"))
    await asyncio.sleep(0.05)
    await called(permits, Gate("one", 2), failed(FailureCode.RATE_LIMITED, 60))
    async with asyncio.timeout(1):
        assert await next_one is None
    assert permits.wait_at([ONE], "b")
    assert not permits.wait_at([ONE], "b"), "it is said once"
    await held.ended(None)


async def test_a_place_handed_to_a_job_that_was_stopped_comes_free(
    permits: Permits, other: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asking(permits)
    await asyncio.sleep(0.05)
    await held.ended(None)
    next_one.cancel()
    await asyncio.gather(next_one, return_exceptions=True)
    assert await other.ask([Wish(ONE)], "c", "run-c") is not None


async def test_who_is_stopped_while_it_stands_leaves_the_place_to_others(
    permits: Permits, other: Permits, clock: Clock
) -> None:
    held = await standing(permits, clock)
    next_one = asking(permits)
    await asyncio.sleep(0.05)
    next_one.cancel()
    await asyncio.gather(next_one, return_exceptions=True)
    await held.ended(None)
    assert await other.ask([Wish(ONE)], "c", "run-c") is not None


# -- other workers ---------------------------------------------------------------------------------


async def test_a_pause_is_told_to_other_workers(permits: Permits, other: Permits) -> None:
    async with running(other, OPEN):
        await called(permits, OPEN, failed(FailureCode.RATE_LIMITED, 30))
        await heard(other, OPEN)
    assert await other.ask([Wish(OPEN)], "job", "run") is None


async def test_who_starts_late_learns_of_a_pause(permits: Permits, other: Permits) -> None:
    await called(permits, OPEN, failed(FailureCode.RATE_LIMITED, 30))
    async with running(other, OPEN):
        await heard(other, OPEN)
