"""A replay: a request to send a range of deliveries once more, and how far it has come.

It goes through the log from the oldest on and remembers its place after each stretch, so a worker
that dies costs a repetition of one stretch at most.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NewType

from storage.delivery import UNDELIVERED, DeliveryStatus
from storage.endpoint import EndpointId


ReplayId = NewType("ReplayId", str)

MOST_REPLAYED: Final = 10_000


class ReplayStatus(StrEnum):
    """Whether there is more to do."""

    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Send again what was created from `since` until `until`, both Unix seconds.

    `place` is where it goes on in the log. `truncated` says that there was more than one replay
    takes, and `finished_at` then where the next may begin.
    """

    id: ReplayId
    tenant: str
    created_at: float
    since: float
    until: float
    only_failed: bool = True
    endpoint_id: EndpointId | None = None
    type: str | None = None
    status: ReplayStatus = ReplayStatus.RUNNING
    finished_at: float | None = None
    replayed: int = 0
    place: str | None = None
    truncated: bool = False

    @property
    def statuses(self) -> tuple[DeliveryStatus, ...]:
        """Return the statuses of what is sent again; what is on its way is left alone."""
        return UNDELIVERED if self.only_failed else (*UNDELIVERED, DeliveryStatus.DELIVERED)

    @property
    def left(self) -> int:
        """Return how many deliveries may still be sent again."""
        return MOST_REPLAYED - self.replayed

    def advanced(self, replayed: int, place: str | None, now: float) -> "Replay":
        """Return the replay after one stretch; there is no `place` to go on from at the end."""
        after = replace(self, replayed=self.replayed + replayed, place=place or self.place)
        if place is not None and after.left > 0:
            return after
        return replace(
            after, status=ReplayStatus.DONE, finished_at=now, truncated=place is not None
        )
