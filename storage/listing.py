"""The list of a tenant's jobs, page by page, while jobs come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from storage import record, redis_keys
from storage.cursor import cursor_of, place_of
from storage.job import Job
from storage.redis_client import Commands


_SCAN = 100
_MOST_SCANNED = 5_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a tenant's jobs, the newest first; `next` is where the next page begins."""

    jobs: tuple[Job, ...]
    next: str | None


class Listing:
    """The jobs of each tenant in order. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def page(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        matching: Callable[[Job], bool] = lambda _: True,
    ) -> Page:
        """Return up to `limit` of a tenant's jobs that match, from the cursor `after` on.

        Raises `Invalid` for a cursor that no page ever gave. A page may be short, or empty, and
        still have a next one: only so many records are looked at for one page.
        """
        found: list[Job] = []
        looked_at = 0
        last = after
        async for place, job in self._newest_first(tenant, after, created_after, created_before):
            if looked_at == _MOST_SCANNED:
                return Page(tuple(found), last)
            looked_at += 1
            if job is not None and matching(job):
                if len(found) == limit:
                    return Page(tuple(found), last)
                found.append(job)
            last = place
        return Page(tuple(found), None)

    async def _newest_first(
        self,
        tenant: str,
        after: str | None,
        created_after: float | None,
        created_before: float | None,
    ) -> AsyncIterator[tuple[str, Job | None]]:
        start = place_of(after, things="jobs") if after is not None else None
        top: str | int = "+inf" if created_before is None else int(created_before * 1_000_000)
        if start is not None and (top == "+inf" or start[0] < int(top)):
            top = start[0]
        bottom: str | int = "-inf" if created_after is None else int(created_after * 1_000_000)
        offset = 0
        for _ in range(2 * _MOST_SCANNED // _SCAN):  # where rows go on, some are read again
            rows = await self._commands.execute(
                *("ZREVRANGEBYSCORE", redis_keys.jobs_of(tenant), top, bottom),
                *("WITHSCORES", "LIMIT", offset, _SCAN),
            )
            places = [
                (int(float(score)), job_id.decode())
                for job_id, score in zip(rows[::2], rows[1::2], strict=True)
            ]
            fresh = [place for place in places if start is None or place < start]
            for place, job in zip(fresh, await self._many(tenant, fresh), strict=True):
                yield cursor_of(*place), job
            if len(places) < _SCAN:
                return
            # The list may grow and shrink meanwhile: it goes on from a place, not from a count.
            last = places[-1]
            start = last if start is None else min(start, last)
            offset = offset + _SCAN if places[0][0] == last[0] else 0
            top = last[0]

    async def _many(self, tenant: str, places: Sequence[tuple[int, str]]) -> list[Job | None]:
        """Return the jobs at these places of a list; a place without a record leaves the list."""
        documents = await asyncio.gather(
            *(
                self._commands.issue("HGET", redis_keys.job(job_id), "document")
                for _, job_id in places
            )
        )
        gone = [place[1] for place, text in zip(places, documents, strict=True) if text is None]
        if gone:
            await self._commands.execute("ZREM", redis_keys.jobs_of(tenant), *gone)
        return [None if text is None else record.readable(text) for text in documents]
