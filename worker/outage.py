"""Outages: what has been paid for waits until Redis and the objects are back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from storage.errors import Unavailable


T = TypeVar("T")

_FIRST_WAIT = 0.2
_LONGEST_WAIT = 2.0

log = structlog.get_logger("worker.outage")


async def outlast(act: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """Repeat `act` until it gets through, for `patience` seconds at most; then raise `Unavailable`.

    `act` must be harmless to repeat, since a reply that was lost may hide a success.
    """
    deadline = asyncio.get_running_loop().time() + patience
    wait = _FIRST_WAIT
    while True:
        try:
            return await act()
        except Unavailable as error:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise
            log.warning("outage", reason=error.message, seconds_left=round(left))
            await asyncio.sleep(min(wait * random.uniform(0.5, 1.5), left))  # noqa: S311 — jitter
            wait = min(wait * 2, _LONGEST_WAIT)
