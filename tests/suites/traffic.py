"""What the gates must show on every Redis; a subclass gives the fixture `commands`.

Leases, pauses and trips are kept by Redis's own clock, so these tests wait where it must move.
"""

import asyncio

import pytest

from storage import redis_keys
from storage.gate import Condition, Gate, Waiting
from storage.jobs import Jobs, flows_of
from storage.queue import Queue
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.traffic import Passage, Report, Traffic, Verdict, Wish
from tests.samples import a_job


SEVEN = Gate("seven", 7)
ONE = Gate("one", 1)
OPEN = Gate("open")
BAD = Report(verdict=Verdict.BAD, seconds=0.2, reason="errors")
SHORT = 0.15  # seconds of a lease that is meant to run out


async def passed(traffic: Traffic, gate: Gate, job: str) -> Passage:
    passage = await traffic.ask([Wish(gate)], job, f"run-{job}")
    assert passage is not None
    return passage


class TrafficSuite:
    @pytest.fixture
    def traffic(self, commands: Commands) -> Traffic:
        return Traffic(commands, lease=10)

    @pytest.fixture
    def mortal(self, commands: Commands) -> Traffic:
        """The traffic of a worker that does not renew what it holds."""
        return Traffic(commands, lease=SHORT)

    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    def queue(self, commands: Commands) -> Queue:
        return Queue(commands, redis_keys.IMAGE_QUEUE, token="one", lease=10)

    # -- calls at once -----------------------------------------------------------------------------

    async def test_no_more_calls_pass_than_the_limit(self, traffic: Traffic) -> None:
        asked = [await traffic.ask([Wish(SEVEN)], f"j{n}", f"r{n}") for n in range(20)]
        assert sum(passage is not None for passage in asked) == 7

    async def test_a_place_given_back_is_the_next_ones(self, traffic: Traffic) -> None:
        first = await passed(traffic, ONE, "a")
        assert await traffic.ask([Wish(ONE)], "b", "run-b") is None
        await traffic.report(ONE, Report(), first.tokens)
        assert await traffic.ask([Wish(ONE)], "b", "run-b") is not None

    async def test_giving_back_twice_frees_one_place(self, traffic: Traffic) -> None:
        first = await passed(traffic, ONE, "a")
        await traffic.report(ONE, Report(), first.tokens)
        await passed(traffic, ONE, "b")
        await traffic.report(ONE, Report(), first.tokens)
        assert await traffic.ask([Wish(ONE)], "c", "run-c") is None

    async def test_the_place_of_a_dead_worker_comes_free(self, mortal: Traffic) -> None:
        await passed(mortal, ONE, "a")
        assert await mortal.ask([Wish(ONE)], "b", "run-b") is None
        await asyncio.sleep(SHORT * 1.5)
        assert await mortal.ask([Wish(ONE)], "b", "run-b") is not None

    async def test_it_is_known_when_a_place_comes_free_by_itself(self, traffic: Traffic) -> None:
        assert (await traffic.tend(ONE)).frees_in is None
        await passed(traffic, ONE, "first")
        frees_in = (await traffic.tend(ONE)).frees_in
        assert frees_in is not None
        assert 9 < frees_in <= 10

    async def test_a_place_that_is_tended_stays_taken(self, mortal: Traffic) -> None:
        first = await passed(mortal, ONE, "a")
        for _ in range(6):
            await asyncio.sleep(SHORT / 3)
            await mortal.tend(ONE, first.tokens)
        assert await mortal.ask([Wish(ONE)], "b", "run-b") is None

    async def test_many_places_are_asked_at_once_and_some_may_be_given(
        self, traffic: Traffic
    ) -> None:
        for n in range(4):
            await passed(traffic, SEVEN, f"j{n}")
        passage = await traffic.ask([Wish(SEVEN, places=4, calls=10)], "wide", "run-wide")
        assert passage is not None
        assert (passage.places, len(passage.tokens)) == (3, 3)

    async def test_the_first_open_gate_is_passed(self, traffic: Traffic) -> None:
        await passed(traffic, ONE, "a")
        passage = await traffic.ask([Wish(ONE), Wish(SEVEN)], "b", "run-b")
        assert passage is not None
        assert passage.gate == SEVEN

    async def test_a_job_that_its_upstream_works_for_passes_a_full_gate(
        self, traffic: Traffic
    ) -> None:
        await passed(traffic, ONE, "a")
        passage = await traffic.ask([Wish(ONE)], "b", "run-b", pressing=True)
        assert passage is not None
        await traffic.report(ONE, Report(), ("run-a:1",))
        assert await traffic.ask([Wish(ONE)], "c", "run-c") is None

    # -- pace --------------------------------------------------------------------------------------

    async def test_no_minute_sees_more_calls_than_its_limit(self, traffic: Traffic) -> None:
        gate = Gate("pace", None, 30)
        asked = [await traffic.ask([Wish(gate)], f"j{n}", f"r{n}") for n in range(30)]
        at_once = sum(passage is not None for passage in asked)
        _, interval, _ = gate.numbers
        assert at_once == 3
        assert at_once + int(60_000 / interval) <= 31

    async def test_the_pace_lets_calls_pass_evenly(self, traffic: Traffic) -> None:
        gate = Gate("fast", None, 240)  # 24 at once, then one each 276 ms
        assert await traffic.ask([Wish(gate, calls=24)], "many", "many") is not None
        assert await traffic.ask([Wish(gate)], "late", "late") is None
        await asyncio.sleep(0.3)
        assert await traffic.ask([Wish(gate)], "late", "late") is not None
        assert await traffic.ask([Wish(gate)], "later", "later") is None

    # -- pauses ------------------------------------------------------------------------------------

    async def test_a_pause_holds_for_its_time(self, traffic: Traffic) -> None:
        told = await traffic.report(ONE, Report(verdict=Verdict.PAUSE, seconds=0.2))
        assert told is not None
        assert 0.1 < told.paused <= 0.2
        assert await traffic.ask([Wish(ONE)], "a", "run-a") is None
        await asyncio.sleep(0.25)
        assert await traffic.ask([Wish(ONE)], "a", "run-a") is not None

    async def test_a_shorter_pause_does_not_end_a_longer_one(self, traffic: Traffic) -> None:
        await traffic.report(OPEN, Report(verdict=Verdict.PAUSE, seconds=60))
        told = await traffic.report(OPEN, Report(verdict=Verdict.PAUSE, seconds=1))
        assert told is not None
        assert told.paused > 50

    async def test_a_pause_without_a_hint_is_a_second_once(self, traffic: Traffic) -> None:
        for _ in range(3):
            told = await traffic.report(OPEN, Report(verdict=Verdict.PAUSE))
            assert told is not None
            assert 0.5 < told.paused <= 1

    # -- trips -------------------------------------------------------------------------------------

    async def test_five_failures_in_a_row_trip_a_gate(self, traffic: Traffic) -> None:
        told = [await traffic.report(OPEN, BAD) for _ in range(5)]
        assert [one is not None and one.tripped is not None for one in told] == [
            *[False] * 4,
            True,
        ]
        assert await traffic.ask([Wish(OPEN)], "a", "run-a") is None

    async def test_failures_among_many_successes_do_not_trip_a_gate(self, traffic: Traffic) -> None:
        for _ in range(10):
            told = await traffic.report(
                OPEN, Report(verdict=Verdict.BAD, seconds=5, reason="errors", well=2)
            )
        assert told is not None
        assert told.tripped is None

    async def tripped(self, traffic: Traffic, gate: Gate = OPEN) -> None:
        for _ in range(5):
            await traffic.report(gate, BAD)
        await asyncio.sleep(0.25)

    async def test_exactly_one_call_tries_a_tripped_gate(self, traffic: Traffic) -> None:
        await self.tripped(traffic)
        asked = [
            await traffic.ask([Wish(OPEN, places=4, calls=4)], f"j{n}", f"r{n}") for n in range(5)
        ]
        assert [passage is not None and passage.probe for passage in asked] == [True, *[False] * 4]
        assert asked[0] is not None
        assert asked[0].places == 1

    async def test_a_probe_that_goes_well_opens_the_gate(self, traffic: Traffic) -> None:
        await self.tripped(traffic)
        await passed(traffic, OPEN, "a")
        told = await traffic.report(OPEN, Report(verdict=Verdict.GOOD, probe=True))
        assert told == Condition()
        for n in range(3):
            assert not (await passed(traffic, OPEN, f"j{n}")).probe

    async def test_a_probe_that_fails_keeps_it_shut_and_remembers_since_when(
        self, traffic: Traffic
    ) -> None:
        await self.tripped(traffic)
        await passed(traffic, OPEN, "a")
        told = await traffic.report(
            OPEN, Report(verdict=Verdict.BAD, seconds=0.2, reason="errors", probe=True)
        )
        assert told is not None
        assert told.tripped is not None
        assert told.since >= 0.2
        assert await traffic.ask([Wish(OPEN)], "b", "run-b") is None

    async def test_a_probe_whose_worker_dies_is_another_ones(self, mortal: Traffic) -> None:
        await self.tripped(mortal)
        assert (await passed(mortal, OPEN, "a")).probe
        assert await mortal.ask([Wish(OPEN)], "b", "run-b") is None
        await asyncio.sleep(SHORT * 1.5)
        assert (await passed(mortal, OPEN, "b")).probe

    async def test_a_probe_that_was_broken_off_is_another_ones(self, traffic: Traffic) -> None:
        await self.tripped(traffic)
        await passed(traffic, OPEN, "a")
        await traffic.report(OPEN, Report(probe=True))
        assert (await passed(traffic, OPEN, "b")).probe

    async def test_calls_that_fail_late_do_not_keep_a_gate_shut(self, traffic: Traffic) -> None:
        await self.tripped(traffic)
        await traffic.report(OPEN, BAD)
        assert (await passed(traffic, OPEN, "a")).probe

    async def test_a_refused_credential_trips_at_once_and_can_be_forgiven(
        self, traffic: Traffic
    ) -> None:
        told = await traffic.report(OPEN, Report(verdict=Verdict.TRIP, seconds=600, reason="auth"))
        assert told is not None
        assert told.reason == "auth"
        assert await traffic.ask([Wish(OPEN)], "a", "run-a") is None
        await traffic.report(OPEN, Report(verdict=Verdict.FORGIVE))
        assert not (await passed(traffic, OPEN, "a")).probe

    # -- telling -----------------------------------------------------------------------------------

    async def test_changes_are_told_to_all(self, traffic: Traffic) -> None:
        async with traffic.changes() as announcements:
            assert await announcements.next(0.05) is None
            await traffic.report(
                Gate("a | b", 1), Report(verdict=Verdict.TRIP, seconds=60, reason="billing")
            )
            for _ in range(20):
                if (told := await announcements.next(0.1)) is not None:
                    break
        assert told is not None
        name, condition = told
        assert (name, condition.reason) == ("a | b", "billing")
        assert condition.tripped == pytest.approx(60, abs=1)

    async def test_a_late_listener_learns_how_gates_stand(self, traffic: Traffic) -> None:
        await traffic.report(ONE, Report(verdict=Verdict.PAUSE, seconds=30))
        stand = await traffic.conditions(["one", "seven"])
        assert stand["one"].paused == pytest.approx(30, abs=1)
        assert stand["seven"] == Condition()
        assert await traffic.conditions([]) == {}

    async def test_it_is_known_who_is_at_a_gate(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c")
        crowds = await traffic.crowds(["one", "seven"])
        assert (crowds["one"].calls, crowds["one"].waiting) == (1, 2)
        assert (crowds["seven"].calls, crowds["seven"].waiting) == (0, 0)

    # -- waiting -----------------------------------------------------------------------------------

    async def parked(self, jobs: Jobs, queue: Queue, *names: str, tenant: str = "acme") -> None:
        """Let jobs come, be claimed, and wait before the gate ONE."""
        for name in names:
            await jobs.add(a_job(name, tenant=tenant))
        for task_id, _ in (await queue.claim(100)).tasks:
            flows = flows_of(a_job(task_id, tenant=tenant))
            assert await queue.put_back(task_id, 60, Waiting((ONE,), flows))

    async def test_who_waits_is_let_in_when_a_place_comes_free_and_it_is_kept(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c")
        assert (await queue.claim(10)).tasks == ()
        await traffic.report(ONE, Report(), first.tokens)
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]
        assert await traffic.ask([Wish(ONE)], "stranger", "run-s") is None
        assert await traffic.ask([Wish(ONE)], "b", "run-b") is not None
        assert await traffic.ask([Wish(ONE)], "b", "run-b2") is None

    async def test_who_comes_to_wait_at_a_free_gate_is_let_in_at_once(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        await self.parked(jobs, queue, "b")
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]

    async def test_nobody_overtakes_those_who_wait(
        self, mortal: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await passed(mortal, ONE, "first")
        await self.parked(jobs, queue, "b")
        await asyncio.sleep(SHORT * 1.5)
        assert await mortal.ask([Wish(ONE)], "stranger", "run-s") is None
        assert (await mortal.tend(ONE)).waiting == 0
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]

    async def test_a_tenant_with_many_jobs_waits_beside_one_with_few(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, *(f"many-{n}" for n in range(10)))
        await traffic.report(ONE, Report(), first.tokens)
        [(job, _)] = (await queue.claim(10)).tasks
        await self.parked(jobs, queue, "few-0", "few-1", tenant="other")
        served = [job]
        for _ in range(4):
            passage = await passed(traffic, ONE, served[-1])
            await traffic.report(ONE, Report(), passage.tokens)
            [(job, _)] = (await queue.claim(10)).tasks
            served.append(job)
        assert {"few-0", "few-1"} <= set(served), served

    async def test_the_first_of_a_long_line_can_be_taken_out_of_it(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c", "d")
        assert await queue.claim_ahead(ONE) == ("b", "run_job")
        assert (await queue.claim(10)).tasks == (), "it is leased by now"
        assert await traffic.ask([Wish(ONE)], "b", "run-b", first=True) is None, "the gate is full"
        await traffic.report(ONE, Report(), first.tokens)
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["c"]

    async def test_who_was_first_in_line_overtakes_nobody(
        self, mortal: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await passed(mortal, ONE, "first")
        await self.parked(jobs, queue, "b", "c", "d")
        assert await queue.claim_ahead(ONE) is not None
        await asyncio.sleep(SHORT * 1.5)
        assert await mortal.ask([Wish(ONE)], "stranger", "run-s") is None
        assert await mortal.ask([Wish(ONE)], "b", "run-b", first=True) is not None

    async def test_who_was_first_in_line_and_comes_back_is_first_again(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c", "d")
        assert await queue.claim_ahead(ONE) == ("b", "run_job")
        flows = flows_of(a_job("b"))
        assert await queue.put_back("b", 60, Waiting((ONE,), flows, first=True))
        await traffic.report(ONE, Report(), first.tokens)
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]

    async def test_nobody_is_taken_out_of_a_short_line_or_at_a_shut_gate(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b")
        assert await queue.claim_ahead(ONE) is None
        await self.parked(jobs, queue, "c")
        await traffic.report(ONE, Report(verdict=Verdict.PAUSE, seconds=5))
        assert await queue.claim_ahead(ONE) is None

    async def test_who_has_been_cancelled_is_not_taken_out_of_the_line(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c")
        job = await jobs.find("b")
        assert job is not None
        await jobs.swap(job, job.cancelled(job.created_at + 1))
        assert await queue.claim_ahead(ONE) == ("c", "run_job")

    async def test_who_has_been_cancelled_is_passed_over(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b", "c")
        job = await jobs.find("b")
        assert job is not None
        await jobs.swap(job, job.cancelled(job.created_at + 1))
        await traffic.report(ONE, Report(), first.tokens)
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["c"]

    async def test_who_does_not_come_for_its_place_loses_it(
        self, traffic: Traffic, commands: Commands, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b")
        await traffic.report(ONE, Report(), first.tokens)
        leases = redis_keys.gate("one")[1]
        await commands.execute("ZADD", leases, "XX", 1, "b")  # as if its seconds were over
        assert await traffic.ask([Wish(ONE)], "stranger", "run-s") is not None

    async def test_a_pause_that_ends_lets_in_who_waits(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await traffic.report(ONE, Report(verdict=Verdict.PAUSE, seconds=0.2))
        await self.parked(jobs, queue, "b")
        assert (await traffic.tend(ONE)).waiting == 1
        await asyncio.sleep(0.25)
        assert (await traffic.tend(ONE)).waiting == 0
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]

    async def test_a_tripped_gate_lets_one_in_to_try_it_and_all_once_it_is_open(
        self, traffic: Traffic, jobs: Jobs, queue: Queue
    ) -> None:
        await self.tripped(traffic, ONE)
        await passed(traffic, ONE, "probe")
        await self.parked(jobs, queue, "b", "c")
        assert (await queue.claim(10)).tasks == ()
        await traffic.report(ONE, Report(verdict=Verdict.GOOD, probe=True), ("run-probe:1",))
        assert [task for task, _ in (await queue.claim(10)).tasks] == ["b"]

    async def test_a_room_that_is_empty_leaves_nothing_behind(
        self, traffic: Traffic, commands: Commands, jobs: Jobs, queue: Queue
    ) -> None:
        first = await passed(traffic, ONE, "first")
        await self.parked(jobs, queue, "b")
        await traffic.report(ONE, Report(), first.tokens)
        second = await passed(traffic, ONE, "b")
        await traffic.report(ONE, Report(), second.tokens)
        assert await commands.execute("EXISTS", *redis_keys.gate("one")) == 0

    async def test_a_stranger_cannot_park_a_job(self, jobs: Jobs, commands: Commands) -> None:
        await jobs.add(a_job("b"))
        stranger = Queue(commands, redis_keys.IMAGE_QUEUE, token="other", lease=10)
        assert not await stranger.put_back("b", 60, Waiting((ONE,), flows_of(a_job("b"))))
