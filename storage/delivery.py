"""A delivery: one webhook message owed to one receiver, with its tries and when the next is due.

The same message id is sent on every try, so a receiver can tell a repetition from news. The body is
made at each try, since it carries links that live for minutes. What one job owes one receiver is
delivered in order: a message waits for the one before it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NewType
from urllib.parse import urlsplit

from storage.batch import Batch
from storage.endpoint import EndpointId, WebhookEndpoint
from storage.event import DISABLED, Event, events_of, wants
from storage.job import Job, JobId


DeliveryId = NewType("DeliveryId", str)

# Seconds from one try to the next: ten tries over a little more than three days.
SCHEDULE: Final = (
    *(0.0, 5.0, 300.0, 1800.0, 7200.0),
    *(18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0),
)
# Seconds between the events of one step: the log, and whoever sends it again, tells them in order.
APART: Final = 0.000_01
LONGEST_HINT: Final = 3600.0
MOST_TRIES_KEPT: Final = 30
HELD_UP_TRIES: Final = 5
# Answers of a receiver that is there and does not want this message, however often it is sent.
_NOT_REFUSALS: Final = frozenset({408, 425, 429})

ENDPOINT_DISABLED: Final = "The endpoint is disabled."
ENDPOINT_DELETED: Final = "The endpoint was deleted."
TENANT_REMOVED: Final = "The tenant was removed."


class DeliveryStatus(StrEnum):
    """Where a message stands.

    `gone`: the receiver said 410 and wants no more of it. `skipped`: its endpoint was disabled or
    deleted, or its tenant removed, so it was not sent.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"
    SKIPPED = "skipped"

    @property
    def is_ended(self) -> bool:
        """Say whether no further try is planned."""
        return self is not DeliveryStatus.PENDING


UNDELIVERED: Final = (DeliveryStatus.FAILED, DeliveryStatus.GONE, DeliveryStatus.SKIPPED)


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

    @property
    def is_refusal(self) -> bool:
        """Say whether the receiver is up and refuses this very message."""
        return (
            self.status is not None
            and 400 <= self.status < 500
            and self.status not in _NOT_REFUSALS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message of `type` owed to `url`. Times are Unix seconds.

    It tells of the job `job_id`, and of its one image `image` if that is set, or says `data`, which
    is JSON. `round` counts the tries since it was last sent on its way: `tries` keeps the latest
    of all. `note` says why it was not sent.
    """

    id: DeliveryId
    tenant: str
    type: str
    url: str = field(repr=False)
    created_at: float
    job_id: JobId | None = None
    image: int | None = None
    data: str | None = field(default=None, repr=False)
    endpoint_id: EndpointId | None = None
    status: DeliveryStatus = DeliveryStatus.PENDING
    tries: tuple[Try, ...] = ()
    round: int = 0
    next_at: float | None = None
    note: str | None = None
    version: int = 0

    @property
    def is_ended(self) -> bool:
        """Say whether no further try is planned."""
        return self.status.is_ended

    @property
    def receiver(self) -> str:
        """Return what tells apart those who are told of one job."""
        return self.endpoint_id or "url"

    @property
    def lane(self) -> str:
        """Return the lane it is sent in: few messages of one lane are under way at one time.

        A lane is an endpoint, or the origin of a URL that a job named; it begins with its tenant.
        """
        if self.endpoint_id is not None:
            return f"{self.tenant}:{self.endpoint_id}"
        origin = urlsplit(self.url)
        digest = hashlib.sha256(f"{origin.scheme}://{origin.netloc}".encode()).hexdigest()
        return f"{self.tenant}:{digest[:32]}"

    @property
    def lets_go(self) -> bool:
        """Say whether the message that comes after this one may be sent.

        It may once this one has ended; or has been tried and refused by a receiver that is up; or
        has been tried so often that it would hold up the others for too long.
        """
        if self.is_ended or self.round >= HELD_UP_TRIES:
            return True
        return self.round > 0 and self.tries[-1].is_refusal

    def tried(self, outcome: Try, *, jitter: float, scale: float = 1.0) -> "Delivery":
        """Return the delivery after one more try, with the time of the next or its end.

        `jitter` in -1..1 moves the next try by up to a fifth; `scale` stretches the whole schedule.
        A receiver's Retry-After can only make the wait longer, up to an hour.
        """
        tries = (*self.tries, outcome)[-MOST_TRIES_KEPT:]
        after = replace(self, tries=tries, round=self.round + 1, next_at=None, note=None)
        if outcome.is_success:
            return replace(after, status=DeliveryStatus.DELIVERED)
        if outcome.status == 410:
            return replace(after, status=DeliveryStatus.GONE)
        if after.round >= len(SCHEDULE):
            return replace(after, status=DeliveryStatus.FAILED)
        wait = SCHEDULE[after.round] * (1 + 0.2 * jitter)
        hint = min(outcome.retry_after or 0.0, LONGEST_HINT)
        return replace(after, next_at=outcome.at + outcome.latency + max(wait, hint) * scale)

    def skipped(self, note: str) -> "Delivery":
        """Return the delivery as one that is not sent, and why."""
        return replace(self, status=DeliveryStatus.SKIPPED, next_at=None, note=note)

    def again(self, now: float) -> "Delivery":
        """Return the delivery on its way anew, with the whole schedule before it."""
        return replace(self, status=DeliveryStatus.PENDING, round=0, next_at=now, note=None)


NewId = Callable[[], DeliveryId]


def owed(
    before: Job | None,
    after: Job,
    endpoints: Iterable[WebhookEndpoint],
    new_id: NewId,
    now: float,
) -> tuple[Delivery, ...]:
    """Return the deliveries that one step of a job owes, in the order in which they are sent.

    What a disabled endpoint would have been sent is owed as skipped, to be replayed later.
    """
    return tuple(
        delivery
        for at, event in enumerate(events_of(before, after))
        for delivery in _told(after, event, endpoints, new_id, now + at * APART)
    )


def owed_by_batch(
    batch: Batch,
    endpoints: Iterable[WebhookEndpoint],
    data: str,
    new_id: NewId,
    now: float,
) -> tuple[Delivery, ...]:
    """Return the deliveries that a batch which has just ended owes; `data` is what they say."""
    event = f"batch.{batch.status}"
    told = [
        message_to(endpoint, event, new_id(), now, data=data)
        for endpoint in endpoints
        if wants(endpoint.events, event)
    ]
    if batch.webhook_url is None:
        return tuple(told)
    own = Delivery(
        id=new_id(),
        tenant=batch.tenant,
        type=event,
        url=batch.webhook_url,
        created_at=now,
        data=data,
        next_at=now,
    )
    return (own, *told)


def _told(
    job: Job, event: Event, endpoints: Iterable[WebhookEndpoint], new_id: NewId, now: float
) -> Iterator[Delivery]:
    if job.webhook_url is not None and wants(job.webhook_events, event.type):
        yield Delivery(
            id=new_id(),
            tenant=job.tenant,
            type=event.type,
            url=job.webhook_url,
            created_at=now,
            job_id=job.id,
            image=event.image,
            next_at=now,
        )
    if job.batch is not None:  # its tenant hears of the whole batch, once
        return
    for endpoint in endpoints:
        if wants(endpoint.events, event.type):
            yield message_to(endpoint, event.type, new_id(), now, job_id=job.id, image=event.image)


def message_to(
    endpoint: WebhookEndpoint,
    event: str,
    delivery_id: DeliveryId,
    now: float,
    *,
    job_id: JobId | None = None,
    image: int | None = None,
    data: str | None = None,
) -> Delivery:
    """Return one message to an endpoint; to a disabled one, it is skipped."""
    delivery = Delivery(
        id=delivery_id,
        tenant=endpoint.tenant,
        type=event,
        url=endpoint.url,
        created_at=now,
        job_id=job_id,
        image=image,
        data=data,
        endpoint_id=endpoint.id,
        next_at=now,
    )
    return delivery if endpoint.is_enabled else delivery.skipped(ENDPOINT_DISABLED)


def notices(
    disabled: WebhookEndpoint,
    endpoints: Iterable[WebhookEndpoint],
    data: str,
    new_id: NewId,
    now: float,
) -> tuple[Delivery, ...]:
    """Return what the tenant's endpoints are told of one that was disabled.

    It is told itself, too, once it is enabled and has the notice replayed.
    """
    return tuple(
        message_to(disabled if one.id == disabled.id else one, DISABLED, new_id(), now, data=data)
        for one in endpoints
        if wants(one.events, DISABLED)
    )
