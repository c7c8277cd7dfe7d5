"""A loop that stands still is told of, and one that turns is not."""

import asyncio
import time

from storage.stalls import watch_for_stalls


async def told_after(seconds: float) -> list[float]:
    told: list[float] = []

    async def tell(stall: float) -> None:
        told.append(stall)

    watching = asyncio.create_task(watch_for_stalls(tell, worth=0.2))
    await asyncio.sleep(0)
    time.sleep(seconds)  # noqa: ASYNC251 — the stall
    await asyncio.sleep(0.6)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return told


async def test_a_blocked_loop_is_told_of_with_its_length() -> None:
    [stall] = await told_after(0.9)
    assert 0.3 <= stall <= 0.9


async def test_a_loop_that_turns_is_not_told_of() -> None:
    assert await told_after(0) == []
