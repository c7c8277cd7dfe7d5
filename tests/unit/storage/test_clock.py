"""All go by Redis's time, whatever their own clocks say."""

import asyncio
import time

from storage.clock import CellClock
from storage.errors import Unavailable
from storage.redis_client import Commands
from tests.doubles import Clock, fake_redis


class Slow(Commands):
    """A Redis whose answers take as long as a test says, by the test's own ticks."""

    def __init__(self, ticks: Clock, trip: float) -> None:
        super().__init__(fake_redis())
        self._ticks, self.trip = ticks, trip

    async def execute(self, *command: object) -> tuple[int, int]:
        self._ticks.advance(self.trip)
        return 5000, 250_000


async def test_a_clock_that_is_an_hour_off_agrees_with_redis() -> None:
    commands = Commands(fake_redis())
    clock = CellClock(commands, own=lambda: time.time() - 3600)
    assert clock() < time.time() - 3000
    await clock.agree()
    assert abs(clock() - time.time()) < 1
    await commands.close()


async def test_the_way_to_redis_and_back_is_taken_into_account() -> None:
    ticks = Clock(100.0)
    clock = CellClock(Slow(ticks, trip=0.4), own=lambda: 0.0, ticks=ticks)
    await clock.agree()
    assert clock() == 5000.25 + 0.2


async def test_an_answer_that_took_too_long_is_not_believed() -> None:
    ticks = Clock(100.0)
    clock = CellClock(Slow(ticks, trip=3.0), own=lambda: 70.0, ticks=ticks)
    await clock.agree()
    assert clock() == 73.0


async def test_a_jump_of_the_machines_clock_changes_nothing() -> None:
    own, ticks = Clock(1000.0), Clock(0.0)
    clock = CellClock(Commands(fake_redis()), own=own, ticks=ticks)
    own.advance(-500.0)
    ticks.advance(2.0)
    assert clock() == 1002.0


async def test_an_outage_ends_no_agreeing() -> None:
    class Away(Slow):
        away = True

        async def execute(self, *command: object) -> tuple[int, int]:
            if self.away:
                raise Unavailable("The job store does not answer.")
            return await super().execute(*command)

    ticks = Clock(0.0)
    commands = Away(ticks, trip=0.0)
    clock = CellClock(commands, own=lambda: 7.0, ticks=ticks)
    agreeing = asyncio.create_task(clock.keep_agreeing(every=0.002))
    await asyncio.sleep(0.02)
    assert clock() == 7.0
    commands.away = False
    await asyncio.sleep(0.02)
    assert clock() == 5000.25
    agreeing.cancel()
