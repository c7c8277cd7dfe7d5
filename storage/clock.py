"""The clock of a cell: Redis's time, so that nobody's own clock hastens or holds up a job.

A moment is written by one process and judged by another: when a job must have started, when a
webhook is due, what is still fresh. Machines disagree about the time, and theirs can jump; here all
go by the one that every process asks anyway, and in between by a clock that only goes on.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from storage.errors import Unavailable
from storage.redis_client import Commands


AGREE_EVERY: Final = 20.0  # seconds
_LONGEST_TRIP: Final = 1.0  # an answer that took longer says too little


class CellClock:
    """Tells Unix seconds as Redis does, and until it was asked as this machine does."""

    def __init__(
        self,
        commands: Commands,
        *,
        own: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._ticks = ticks
        self._offset = own() - ticks()

    def __call__(self) -> float:
        """Return the time."""
        return self._ticks() + self._offset

    async def agree(self) -> None:
        """Take Redis's time; raises `Unavailable` when it does not answer."""
        asked = self._ticks()
        seconds, microseconds = await self._commands.execute("TIME")
        answered = self._ticks()
        if answered - asked <= _LONGEST_TRIP:
            self._offset = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2

    async def keep_agreeing(self, every: float = AGREE_EVERY) -> None:
        """Take Redis's time every so many seconds, until cancelled; an outage changes nothing."""
        while True:
            await asyncio.sleep(every)
            with suppress(Unavailable):
                await self.agree()
