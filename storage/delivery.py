"""A delivery: one webhook message owed to one receiver, with its tries and when the next is due.

The same message id is sent on every try, so a receiver can tell a repetition from news. The body is
made at each try, since it carries links that live for minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from storage.job import Job, JobId, JobStatus


DeliveryId = NewType("DeliveryId", str)

# Seconds from one try to the next: ten tries over a little more than three days.
SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
LONGEST_HINT = 3600.0

EVENTS = tuple(f"job.{status}" for status in JobStatus if status.is_ended)


class DeliveryStatus(StrEnum):
    """Where a message stands. `gone`: the receiver said 410 and wants no more of it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"

    @property
    def is_ended(self) -> bool:
        """Say whether no further try is planned."""
        return self is not DeliveryStatus.PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try: when, how the receiver answered, and how long it took in seconds.

    `status` is the HTTP status, or None when no answer came; `error` says why in plain words.
    `reply` is the first bytes of the answer, for its owner only.
    """

    at: float
    latency: float
    status: int | None = None
    error: str | None = None
    reply: str = field(default="", repr=False)
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """Say whether the receiver took the message: any 2xx, nothing else."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message of `type` about `job_id`, owed to `url`. Times are Unix seconds."""

    id: DeliveryId
    tenant: str
    job_id: JobId
    type: str
    url: str = field(repr=False)
    created_at: float
    endpoint_id: str | None = None
    status: DeliveryStatus = DeliveryStatus.PENDING
    tries: tuple[Try, ...] = ()
    next_at: float | None = None
    version: int = 0

    @property
    def is_ended(self) -> bool:
        """Say whether no further try is planned."""
        return self.status.is_ended

    def tried(self, outcome: Try, *, jitter: float, scale: float = 1.0) -> "Delivery":
        """Return the delivery after one more try, with the time of the next or its end.

        `jitter` in -1..1 moves the next try by up to a fifth; `scale` stretches the whole schedule.
        A receiver's Retry-After can only make the wait longer, up to an hour.
        """
        tries = (*self.tries, outcome)
        after = replace(self, tries=tries, next_at=None)
        if outcome.is_success:
            return replace(after, status=DeliveryStatus.DELIVERED)
        if outcome.status == 410:
            return replace(after, status=DeliveryStatus.GONE)
        if len(tries) >= len(SCHEDULE):
            return replace(after, status=DeliveryStatus.FAILED)
        wait = SCHEDULE[len(tries)] * (1 + 0.2 * jitter)
        hint = min(outcome.retry_after or 0.0, LONGEST_HINT)
        return replace(after, next_at=outcome.at + outcome.latency + max(wait, hint) * scale)


def owed(job: Job, new_id: Callable[[], DeliveryId], now: float) -> tuple[Delivery, ...]:
    """Return the deliveries that a job which has just ended owes to its receivers."""
    event = f"job.{job.status}"
    if job.webhook_url is None or not wants(job.webhook_events, event):
        return ()
    return (
        Delivery(
            id=new_id(),
            tenant=job.tenant,
            job_id=job.id,
            type=event,
            url=job.webhook_url,
            created_at=now,
            next_at=now,
        ),
    )


def wants(events: tuple[str, ...], event: str) -> bool:
    """Say whether a receiver that named `events` gets `event`; naming none means every ending."""
    if not events:
        return event in EVENTS
    return event in events or "*" in events or f"{event.partition('.')[0]}.*" in events
