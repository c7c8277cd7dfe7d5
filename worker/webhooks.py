"""Webhooks: sending what is owed, signed anew on each try, until the receiver has taken it.

The form is Standard Webhooks: thin headers, one HMAC over id, time and the exact bytes sent. The
body is made at each try, so the links in it are fresh however late it arrives. Nothing here follows
a redirect, and the socket is guarded where it is made: the receiver's address was written by a
tenant.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson
import structlog
from standardwebhooks import Webhook

from storage.batch_document import batch_document
from storage.batches import Batches
from storage.crash import CrashPoint
from storage.deliveries import Deliveries
from storage.delivery import Delivery, Try
from storage.document import job_document, links_of
from storage.job import Job
from storage.jobs import Jobs
from storage.objects import Objects
from storage.tenants import Tenants
from worker.outage import outlast
from worker.outcome import Again, Lost, Nothing, Outcome, Settled
from worker.web import Web, WebError


_EARLY = 0.5
_REPLY_KEPT = 1024

log = structlog.get_logger("worker.webhooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTerms:
    """Seconds for an answer and to outlast an outage; `scale` stretches the schedule."""

    timeout: float = 15.0
    scale: float = 1.0
    patience: float = 600.0


class WebhookSender:
    """Makes one try at a delivery. `clock` gives Unix seconds."""

    def __init__(  # noqa: PLR0913 — three kinds of records, and the ways out
        self,
        deliveries: Deliveries,
        jobs: Jobs,
        tenants: Tenants,
        objects: Objects,
        web: Web,
        *,
        clock: Callable[[], float],
        terms: DeliveryTerms,
        crash: CrashPoint | None = None,
        batches: Batches | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._jobs = jobs
        self._tenants = tenants
        self._objects = objects
        self._web = web
        self._clock = clock
        self._terms = terms
        self._crash = crash or CrashPoint()
        self._batches = batches

    async def run(self, delivery_id: str) -> Outcome:
        """Try to deliver, record how it went, and say when to try again, if at all."""
        delivery = await outlast(
            lambda: self._deliveries.find(delivery_id), patience=self._terms.patience
        )
        if delivery is None or delivery.is_ended:
            return Nothing()
        early = (delivery.next_at or 0.0) - self._clock()
        if early > _EARLY * self._terms.scale:
            # The last try was recorded, but its worker died before it could put the delivery back.
            return Again(early)
        self._crash.visit("send")
        outcome = await self._try(delivery)
        self._crash.visit("sent")
        tried = delivery.tried(
            outcome,
            jitter=random.uniform(-1, 1),  # noqa: S311 — spreads load, guards nothing
            scale=self._terms.scale,
        )
        written = await outlast(
            lambda: self._deliveries.swap(delivery, tried), patience=self._terms.patience
        )
        log.info(
            "webhook_tried",
            delivery=delivery.id,
            job=delivery.job_id,
            tenant=delivery.tenant,
            type=delivery.type,
            number=len(tried.tries),
            status=outcome.status,
            error=outcome.error,
            seconds=round(outcome.latency, 3),
            outcome=tried.status,
        )
        if written is None:
            return Lost()
        if tried.next_at is None:
            return Settled()
        return Again(max(tried.next_at - self._clock(), 0.0))

    async def _try(self, delivery: Delivery) -> Try:
        started = self._clock()
        job = await outlast(
            lambda: self._jobs.get(delivery.tenant, delivery.job_id), patience=self._terms.patience
        )
        secret = await outlast(
            lambda: self._tenants.webhook_secret(delivery.tenant), patience=self._terms.patience
        )
        body = orjson.dumps(await self._of_batch(delivery) or self._message(delivery, job, started))
        try:
            answer = await self._web.post_foreign(
                delivery.url,
                body=body,
                headers=_signed(delivery.id, body, secret, started),
                timeout=self._terms.timeout,
            )
        except WebError as error:
            return Try(at=started, latency=self._clock() - started, error=error.message)
        return Try(
            at=started,
            latency=self._clock() - started,
            status=answer.status,
            error=None if 200 <= answer.status < 300 else f"The receiver answered {answer.status}.",
            reply=answer.body[:_REPLY_KEPT].decode(errors="replace"),
            retry_after=_retry_after(answer.headers.get("Retry-After"), started),
        )

    async def _of_batch(self, delivery: Delivery) -> dict[str, object] | None:
        """Return the message of a batch that has ended, or None when it is about a job."""
        batches = self._batches
        if batches is None or not delivery.type.startswith("batch."):
            return None
        batch = await outlast(lambda: batches.find(delivery.job_id), patience=self._terms.patience)
        data: object = {"id": delivery.job_id, "object": "batch", "deleted": True}
        if batch is not None:
            data = batch_document(batch)
        moment = datetime.fromtimestamp(delivery.created_at, UTC)
        return {"type": delivery.type, "timestamp": _iso(moment), "data": data}

    def _message(self, delivery: Delivery, job: Job | None, now: float) -> dict[str, object]:
        data: object = {"id": delivery.job_id, "object": "job", "deleted": True}
        if job is not None:
            data = job_document(job, links_of(job, self._objects, now), with_prompt=False)
        moment = datetime.fromtimestamp(delivery.created_at, UTC)
        return {"type": delivery.type, "timestamp": _iso(moment), "data": data}


def _signed(message_id: str, body: bytes, secret: str, now: float) -> dict[str, str]:
    """Return the headers of one try. The library signs wrongly unless the time is in UTC."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body.decode()),
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _retry_after(value: str | None, now: float) -> float | None:
    """Read the receiver's hint: seconds, or a date as in HTTP."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value) if len(value) < 10 else None
    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
