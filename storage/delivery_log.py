"""The log of deliveries: one index for each status, so that what failed is found without the rest.

An entry says enough to choose by, and the choice is made where the entries are: whoever looks for
one among ten thousand neither moves nor reads the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from storage import redis_keys, scripts
from storage.cursor import cursor_of, place_of
from storage.delivery import DeliveryId, DeliveryStatus
from storage.line import Argument
from storage.redis_client import Commands


_STRETCH: Final = 1_000  # of each status
_MOST_LOOKED_AT: Final = 20_000
_END: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which deliveries are asked for; None is any. Times are Unix seconds, `until` excluded."""

    statuses: tuple[DeliveryStatus, ...] = tuple(DeliveryStatus)
    endpoint_id: str | None = None
    job_id: str | None = None
    type: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """Return what the entry of each of them holds, and hardly another; the rarest first."""
        job = () if self.job_id is None else (f" {self.job_id}",)
        words = (self.endpoint_id, self.type)
        return (*job, *(f" {word} " for word in words if word is not None))


class Place(NamedTuple):
    """Where an entry stands: when its delivery was created, in microseconds, then its id."""

    created: int
    id: str


class Entry(NamedTuple):
    """What the log says of a delivery: enough to choose by, without its record."""

    place: Place
    type: str
    endpoint_id: str
    job_id: str

    def is_wanted(self, wanted: Wanted) -> bool:
        """Say whether its delivery is one of those asked for."""
        return (
            wanted.type in {None, self.type}
            and wanted.endpoint_id in {None, self.endpoint_id}
            and wanted.job_id in {None, self.job_id}
        )


class Stretch(NamedTuple):
    """What is wanted up to `end`, in order; None: that was the end of the log."""

    found: list[Place]
    end: Place | None
    looked_at: int


class DeliveryLog:
    """The entries of all deliveries. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def page(
        self, tenant: str, wanted: Wanted, *, limit: int, after: str | None, newest_first: bool
    ) -> tuple[list[DeliveryId], str | None]:
        """Return the ids of up to `limit` deliveries in order, and where the next page begins.

        Raises `Invalid` for a cursor that no page ever gave. A page may be short, or empty, and
        still have a next one: only so many entries are looked at for one page.
        """
        place = None if after is None else Place(*place_of(after, things="deliveries"))
        found: list[Place] = []
        looked_at = 0
        while len(found) <= limit and looked_at < _MOST_LOOKED_AT:
            stretch = await self._stretch(tenant, wanted, place, limit, newest_first=newest_first)
            found += stretch.found
            looked_at += stretch.looked_at
            place = stretch.end
            if place is None:
                break
        if len(found) > limit:
            place = found[limit - 1]
        ids = [DeliveryId(one.id) for one in found[:limit]]
        return ids, None if place is None else cursor_of(*place)

    async def _stretch(
        self, tenant: str, wanted: Wanted, after: Place | None, limit: int, *, newest_first: bool
    ) -> Stretch:
        first = 0 if wanted.since is None else int(wanted.since * 1_000_000)
        last = _END if wanted.until is None else int(wanted.until * 1_000_000) - 1
        if after is not None and newest_first:
            last = min(last, after.created)
        elif after is not None:
            first = max(first, after.created)
        behind: tuple[Argument, ...] = ("", "") if after is None else after
        rows = await self._commands.eval(
            scripts.LOG,
            [redis_keys.deliveries_of(tenant, status) for status in wanted.statuses],
            [first, last, int(newest_first), limit + 1, _STRETCH, *behind, *wanted.marks],
        )
        return _merged(rows, wanted, newest_first=newest_first)


def _merged(rows: Sequence[Sequence[Any]], wanted: Wanted, *, newest_first: bool) -> Stretch:
    """Return what was read of several indexes as one stretch, as far as all of them were read."""
    ends = [_entry(entry, created).place for _, entry, created, _ in rows if entry is not None]
    end = None if not ends else max(ends) if newest_first else min(ends)
    entries = [
        _entry(entry, created)
        for *_, found in rows
        for entry, created in zip(found[::2], found[1::2], strict=True)
    ]
    places = [
        entry.place
        for entry in entries
        if entry.is_wanted(wanted)
        and (end is None or (entry.place >= end if newest_first else entry.place <= end))
    ]
    return Stretch(sorted(places, reverse=newest_first), end, sum(row[0] for row in rows))


def _entry(member: bytes, created: bytes) -> Entry:
    delivery_id, event, endpoint_id, job_id = member.decode().split(" ")
    return Entry(Place(int(float(created)), delivery_id), event, endpoint_id, job_id)
