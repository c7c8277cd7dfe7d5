"""Webhooks: sending what is owed, signed anew on each try, until the receiver has taken it.

The form is Standard Webhooks. The body is made at each try, so the links in it are fresh however
late it arrives. Nothing here follows a redirect, and the socket is guarded where it is made: the
receiver's address was written by a tenant.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TypeVar

import structlog

from storage.crash import CrashPoint
from storage.deliveries import Begun, Deliveries, Early, Queueing
from storage.delivery import Delivery, Try
from storage.document import links_of
from storage.errors import Unavailable
from storage.jobs import Jobs
from storage.objects import Objects
from worker import signing
from worker.addressee import Addressee, Addressees
from worker.message import body_of
from worker.outage import outlast
from worker.outcome import Again, Lost, Nothing, Outcome, Settled
from worker.web import Web, WebError


T = TypeVar("T")

_EARLY = 0.5
_REPLY_KEPT = 1024
_MEND_EVERY = 30.0

log = structlog.get_logger("worker.webhooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTerms:
    """Seconds for an answer and to outlast an outage; `scale` stretches the schedule.

    `public_url` is where receivers find the whole of what was too long to be sent.
    """

    timeout: float = 15.0
    scale: float = 1.0
    patience: float = 600.0
    public_url: str = ""


class WebhookSender:
    """Makes one try at a delivery. `clock` gives Unix seconds."""

    def __init__(
        self,
        deliveries: Deliveries,
        addressees: Addressees,
        jobs: Jobs,
        objects: Objects,
        web: Web,
        *,
        clock: Callable[[], float],
        terms: DeliveryTerms,
        crash: CrashPoint | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._addressees = addressees
        self._jobs = jobs
        self._objects = objects
        self._web = web
        self._clock = clock
        self._terms = terms
        self._crash = crash or CrashPoint()

    async def run(self, delivery_id: str) -> Outcome:
        """Try to deliver, record how it went, and say when to try again, if at all."""
        slack = _EARLY * self._terms.scale
        beginning = await self._through(lambda: self._deliveries.begin(delivery_id, slack=slack))
        match beginning:
            case None:
                return Nothing()
            case Queueing():  # it left the queue in the same step
                return Settled()
            case Early(after=after):
                # The last try was recorded, but its worker died before it put the delivery back.
                return Again(after)
            case Begun(delivery=delivery):
                return await self._send(delivery)

    async def mend(self) -> None:
        """Look again and again, until cancelled, for deliveries that nobody would call."""
        while True:
            await asyncio.sleep(_MEND_EVERY * random.uniform(0.7, 1.3))  # noqa: S311 — jitter
            try:
                if called := await self._deliveries.mend():
                    log.warning("deliveries_called", deliveries=called)
            except Unavailable as error:
                log.warning("mend_waits", reason=error.message)

    async def _send(self, delivery: Delivery) -> Outcome:
        addressee = await self._addressees.of(delivery)
        if isinstance(addressee, str):
            return await self._write(delivery, delivery.skipped(addressee))
        self._crash.visit("send")
        outcome = await self._try(delivery, addressee)
        self._crash.visit("sent")
        if addressee.endpoint is not None:
            await self._addressees.tell(addressee.endpoint, delivery.id, outcome)
        tried = replace(delivery, url=addressee.url).tried(
            outcome,
            jitter=random.uniform(-1, 1),  # noqa: S311 — spreads load, guards nothing
            scale=self._terms.scale,
        )
        log.info(
            "webhook_tried",
            delivery=delivery.id,
            endpoint=delivery.endpoint_id,
            job=delivery.job_id,
            tenant=delivery.tenant,
            type=delivery.type,
            number=tried.round,
            status=outcome.status,
            error=outcome.error,
            seconds=round(outcome.latency, 3),
            outcome=tried.status,
        )
        return await self._write(delivery, tried)

    async def _write(self, delivery: Delivery, after: Delivery) -> Outcome:
        written = await self._through(lambda: self._deliveries.swap(delivery, after, self._clock()))
        if written is None:
            return Lost()
        if after.next_at is None:
            return Settled()
        return Again(max(after.next_at - self._clock(), 0.0))

    # -- one try -----------------------------------------------------------------------------------

    async def _try(self, delivery: Delivery, addressee: Addressee) -> Try:
        started = self._clock()
        if not addressee.secrets:
            error = "The secret that signs this message cannot be opened; rotate it."
            return Try(at=started, latency=0.0, error=error)
        body = await self._body(delivery, addressee, started)
        try:
            answer = await self._web.post_foreign(
                addressee.url,
                body=body,
                headers=signing.headers(delivery.id, body, addressee.secrets, started),
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

    async def _body(self, delivery: Delivery, addressee: Addressee, now: float) -> bytes:
        job, job_id = None, delivery.job_id
        if job_id is not None:
            job = await self._through(lambda: self._jobs.get(delivery.tenant, job_id))
        return body_of(
            delivery,
            job,
            {} if job is None else links_of(job, self._objects, now),
            with_prompt=addressee.sees_prompts,
            public_url=self._terms.public_url,
        )

    async def _through(self, act: Callable[[], Awaitable[T]]) -> T:
        return await outlast(act, patience=self._terms.patience)


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
