"""Jobs that stand ready before one gate, so that a place there is not idle between two calls.

To give a place back, wake a worker, claim the next job and ask for its place again takes five
writes one after the other. Where calls are brief and many jobs wait, that is a good part of the
time. So a worker takes a few jobs out of the line beforehand, in its order, and hands them the
places of its own calls as these end.
"""

import asyncio
import math
from collections import deque


BRIEF = 5.0
LONGEST = 2 * BRIEF

_NOTED = 2 * LONGEST


class Standby:
    """Who stands ready before a gate. `now` is in seconds, by the worker's own clock."""

    def __init__(self) -> None:
        self.is_looking = False
        self._seconds = math.inf
        self._standing: deque[asyncio.Future[str]] = deque()
        self._taken: dict[str, float] = {}
        self._turned_away: dict[str, float] = {}
        self._given = 0

    def took(self, seconds: float) -> None:
        """Note how long a call took."""
        before = seconds if self._seconds == math.inf else self._seconds
        self._seconds = before + (seconds - before) / 4

    # -- in line -----------------------------------------------------------------------------------

    def room(self, places: int, now: float) -> int:
        """Return how many more jobs may be taken out of the line for the `places` of this worker.

        None are where calls are long: then nothing is gained, and others would wait for nothing.
        """
        for noted in (self._taken, self._turned_away):
            for job_id in [job_id for job_id, until in noted.items() if until <= now]:
                del noted[job_id]  # it ended before it asked for its place, or waited again
        return 0 if self._seconds > BRIEF else (places + 1) // 2 - len(self._taken)

    def take(self, job_id: str, now: float) -> None:
        """Note that a job was taken out of the line."""
        self._taken[job_id] = now + _NOTED

    def has(self, job_id: str) -> bool:
        """Say whether a job was taken out of the line and has not got its answer yet."""
        return job_id in self._taken

    def answer(self, job_id: str, now: float, *, passed: bool) -> None:
        """Note whether a job that was taken out of the line got its place in the end."""
        self._taken.pop(job_id, None)
        if not passed:
            self._turned_away[job_id] = now + _NOTED

    def turned_away(self, job_id: str) -> bool:
        """Say, once, whether a job that was taken out of the line got no place."""
        return self._turned_away.pop(job_id, None) is not None

    # -- ready -------------------------------------------------------------------------------------

    def stand(self) -> "asyncio.Future[str]":
        """Return what will be a place, or is cancelled when none is to be expected."""
        handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._standing.append(handed)
        return handed

    def hand(self, token: str) -> bool:
        """Give a place to whoever has stood for longest; False when nobody does."""
        while self._standing:
            handed = self._standing.popleft()
            if not handed.done():
                handed.set_result(token)
                return True
        return False

    def shares(self, places: int, limit: int) -> bool:
        """Say whether the next place is for other workers: one in eight is while we have most."""
        self._given += 1
        return 2 * places > limit and self._given % 8 == 0

    def send_away(self) -> None:
        """Let those that stand ready ask for themselves: no place will be handed to them."""
        while self._standing:
            self._standing.popleft().cancel()
