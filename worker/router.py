"""The router: which deployment of a model gets the next attempt of a job.

First those that can do what is asked, then the preferred by priority and weight. A deployment that
failed this job in a way that another call may mend is asked again after a back-off; one that failed
for good is not. A refusal by moderation is never shopped around: it does not come back here at all.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.catalog import Catalog, Deployment
from storage.dialect import DIALECTS
from storage.failure import Failure, FailureCode
from storage.fit import Fit, Unfit, fit
from storage.job import Job
from worker.provider import ProviderError


FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
LONGEST_HINT = 120.0


@dataclass(frozen=True, slots=True)
class Pick:
    """Ask this deployment, for the request as it fits."""

    deployment: Deployment
    fit: Fit


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody can be asked now; somebody may in `after` seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class NoWay:
    """No deployment will do; `failure` is what the job ends with."""

    failure: Failure


Choice: TypeAlias = Pick | Wait | NoWay


class Router:
    """Chooses among the deployments that are on: their API key is in `environ`, or not needed."""

    def __init__(
        self,
        catalog: Catalog,
        environ: Mapping[str, str],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._catalog = catalog
        self._environ = environ
        self._chance = chance
        self._paused: dict[str, float] = {}

    @property
    def on(self) -> tuple[Deployment, ...]:
        """Return every deployment that this worker can call."""
        return tuple(d for d in self._catalog.deployments if self.is_on(d))

    def is_on(self, deployment: Deployment) -> bool:
        """Say whether the deployment's credentials are at hand."""
        if deployment.api_key_env is not None:
            return bool(self._environ.get(deployment.api_key_env))
        return not DIALECTS[deployment.provider].needs_key

    def named(self, name: str) -> Deployment | None:
        """Return a deployment that is on, by its name."""
        return next((d for d in self.on if d.name == name), None)

    async def choose(self, job: Job, now: float) -> Choice:
        """Return whom to ask next for what is missing of the job."""
        model = self._catalog.models.get(job.model)
        on = [d for d in model.deployments if self.is_on(d)] if model is not None else []
        fittings = [(d, fit(job.request, d)) for d in on]
        able = [Pick(d, found) for d, found in fittings if isinstance(found, Fit)]
        picks = [p for p in able if _may_ask(job, p.deployment) and _is_on_terms(job, p)]
        if not picks:
            refusals = [found for _, found in fittings if isinstance(found, Unfit)]
            return NoWay(_why_not(job, refusals, is_on=bool(on)))
        moments = [self._ready_at(job, p.deployment) for p in picks]
        ready = [p for p, moment in zip(picks, moments, strict=True) if moment <= now]
        return self._preferred(job, ready) if ready else Wait(min(moments) - now)

    async def ended(self, deployment: Deployment, error: ProviderError | None, now: float) -> None:
        """Learn how a call went: a deployment that asks for a pause gets it."""
        if error is None or error.code is not FailureCode.RATE_LIMITED:
            return
        pause = min(error.retry_after or FIRST_BACKOFF, LONGEST_HINT)
        self._paused[deployment.name] = max(self._paused.get(deployment.name, 0.0), now + pause)

    def _ready_at(self, job: Job, deployment: Deployment) -> float:
        tries = [a for a in job.attempts if a.deployment == deployment.name]
        paused = self._paused.get(deployment.name, 0.0)
        if not tries:
            return paused
        last = tries[-1].finished_at or tries[-1].started_at
        return max(paused, last + _backoff(job.id, len(tries)))

    def _preferred(self, job: Job, ready: Sequence[Pick]) -> Pick:
        """Prefer the least tried, then the lower priority; share among equals by weight."""

        def rank(pick: Pick) -> tuple[int, int]:
            tried = sum(a.deployment == pick.deployment.name for a in job.attempts)
            return tried, pick.deployment.priority

        best = min(rank(pick) for pick in ready)
        equals = [pick for pick in ready if rank(pick) == best]
        point = self._chance() * sum(pick.deployment.weight for pick in equals)
        for pick in equals:
            point -= pick.deployment.weight
            if point <= 0:
                return pick
        return equals[-1]


def _may_ask(job: Job, deployment: Deployment) -> bool:
    """Say whether no earlier attempt at the deployment failed in a way that would repeat itself."""
    return all(
        a.error is None or a.error.code.retryable or a.error.code is FailureCode.OUTCOME_UNKNOWN
        for a in job.attempts
        if a.deployment == deployment.name
    )


def _is_on_terms(job: Job, pick: Pick) -> bool:
    """Say whether the deployment keeps what the job was promised: `strict` and `max_cost`.

    A price that nobody knows is not held against it; the job said so when it was taken in.
    """
    if job.strict and pick.fit.adaptations:
        return False
    if job.max_cost is None:
        return True
    request = pick.fit.request
    pixels = request.pixels
    price = pick.deployment.price.of_images(
        len(job.missing),
        inputs=len(request.images),
        quality=request.quality,
        pixels=None if pixels is None else pixels[0] * pixels[1],
    )
    return (job.cost.amount or 0.0) + (price.amount or 0.0) <= job.max_cost


def _backoff(job_id: str, tries: int) -> float:
    """Return full jitter that is the same each time it is asked for."""
    digest = hashlib.blake2b(f"{job_id}:{tries}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest, "big") / 2**32
    return float(share * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**tries))


def _why_not(job: Job, unfit: Sequence[Unfit], *, is_on: bool) -> Failure:
    """Say the last failure, or what the deployments cannot do, or that there are none."""
    errors = [attempt.error for attempt in job.attempts if attempt.error is not None]
    if errors:
        return errors[-1]
    if unfit:
        message = f"The model {job.model} {unfit[0].reason}."
        return Failure(code=FailureCode.INVALID_REQUEST, message=message)
    if is_on:
        message = f"The model {job.model} is not to be had on the terms of the job."
        return Failure(code=FailureCode.INVALID_REQUEST, message=message)
    message = f"No deployment of the model {job.model} is on."
    return Failure(code=FailureCode.NO_DEPLOYMENT, message=message)
