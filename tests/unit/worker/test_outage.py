"""Waiting until what is away is back, and no longer than allowed."""

import asyncio

import pytest

from storage.errors import Conflict, Unavailable
from worker.outage import outlast


class Act:
    """Fails so many times before it succeeds."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.tries = 0
        self._failures = failures
        self._error = error or Unavailable("The job store does not answer.")

    async def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self._failures:
            raise self._error
        return "done"


async def test_what_works_is_done_once() -> None:
    act = Act(0)
    assert await outlast(act, patience=5) == "done"
    assert act.tries == 1


async def test_what_is_away_is_asked_until_it_is_back() -> None:
    act = Act(3)
    assert await outlast(act, patience=30) == "done"
    assert act.tries == 4


async def test_patience_has_an_end() -> None:
    act = Act(1000)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await outlast(act, patience=0.3)
    assert asyncio.get_running_loop().time() - began < 2
    assert act.tries >= 2


async def test_without_patience_it_is_asked_once() -> None:
    act = Act(5)
    with pytest.raises(Unavailable):
        await outlast(act, patience=0)
    assert act.tries == 1


async def test_the_last_moment_is_used() -> None:
    """An outage that ends just before patience does is still outlasted."""
    act = Act(1)
    assert await outlast(act, patience=0.05) == "done"


async def test_a_refusal_is_no_outage() -> None:
    act = Act(5, Conflict("No."))
    with pytest.raises(Conflict):
        await outlast(act, patience=5)
    assert act.tries == 1


async def test_whoever_waits_can_be_stopped() -> None:
    waiting = asyncio.create_task(outlast(Act(1000), patience=60))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
