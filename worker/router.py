"""The router: which deployment of a model gets the next attempt of a job.

First those that can do what is asked, then the least tried, the preferred by priority, and chance
by weight among equals; the first of them whose gate is open gets the job. A deployment that failed
this job in a way that another call may mend is asked again after a back-off and within the retry
budget; one that failed for good is not. A refusal by moderation is never shopped around: it does
not come back here at all. While every gate is shut the job waits before them and holds nothing.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from storage.attempt import ABANDONED, Attempt
from storage.catalog import Deployment
from storage.catalogs import Catalogs
from storage.dialect import DIALECTS
from storage.failure import Failure, FailureCode
from storage.fit import Fit, Unfit, fit
from storage.gate import Gate, GateState, Waiting
from storage.job import Job
from storage.jobs import flows_of
from storage.quote import listed
from storage.traffic import Wish
from worker.budget import Budget
from worker.permits import Permit, Permits


FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
GIVE_UP = 600.0
ASK_AGAIN = 60.0

_OVER_BUDGET = 5.0


@dataclass(frozen=True, slots=True)
class Pick:
    """Ask this deployment, for the request as it fits, with the permit to do so."""

    deployment: Deployment
    fit: Fit
    permit: Permit = field(default_factory=Permit)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody can be asked now; somebody may in `after` seconds, or when a gate lets the job in."""

    after: float
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class NoWay:
    """No deployment will do; `failure` is what the job ends with."""

    failure: Failure


Choice: TypeAlias = Pick | Wait | NoWay


class Router:
    """Chooses among the deployments that are on: their API key is in `environ`, or not needed.

    `calls` is how many calls of one attempt are made at once. Without `permits` every gate is open.
    """

    def __init__(
        self,
        catalogs: Catalogs,
        environ: Mapping[str, str],
        *,
        permits: Permits | None = None,
        calls: int = 4,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._catalogs = catalogs
        self._environ = environ
        self._permits = permits
        self._calls = calls
        self._chance = chance
        self._budget = Budget()

    @property
    def on(self) -> tuple[Deployment, ...]:
        """Return every deployment whose credentials this worker has."""
        return tuple(d for d in self._catalogs.current.deployments if self.is_on(d))

    @property
    def serving(self) -> tuple[Deployment, ...]:
        """Return every deployment that can be called: its credentials have not been refused."""
        return tuple(d for d in self.on if not self._is_switched_off(d))

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Return the gates of all deployments that are on."""
        return tuple(Gate.of(deployment) for deployment in self.on)

    def is_on(self, deployment: Deployment) -> bool:
        """Say whether the deployment's credentials are at hand."""
        if deployment.api_key_env is not None:
            return bool(self._environ.get(deployment.api_key_env))
        return not DIALECTS[deployment.provider].needs_key

    def named(self, name: str) -> Deployment | None:
        """Return a deployment that is on, by its name."""
        return next((d for d in self.on if d.name == name), None)

    async def choose(self, job: Job, now: float) -> Choice:
        """Return whom to ask next for what is missing of the job, with the permit to do so.

        Raises `Unavailable` when Redis is away for too long.
        """
        model = self._catalogs.current.models.get(job.model)
        on = [d for d in model.deployments if self.is_on(d)] if model is not None else []
        fittings = [(d, fit(job.request, d)) for d in on]
        able = [Pick(d, found) for d, found in fittings if isinstance(found, Fit)]
        picks = [p for p in able if _may_ask(job, p.deployment) and self._is_on_terms(job, p)]
        if not picks:
            refusals = [found for _, found in fittings if isinstance(found, Unfit)]
            return NoWay(_why_not(job, refusals, is_on=bool(on)))
        open_ones = [p for p in picks if not self._is_hopeless(job, p.deployment, now)]
        if not open_ones:
            return NoWay(self._why_hopeless(job, picks))
        return await self._chosen(job, open_ones, now)

    async def resume(self, job: Job) -> Pick | None:
        """Return the deployment that works on the job's open attempt; None when it is not on."""
        going = job.open_attempt
        deployment = None if going is None else self.named(going.deployment)
        if deployment is None or not isinstance(found := fit(job.request, deployment), Fit):
            return None
        pick = Pick(deployment, found)
        return await self._permitted(job, [pick], pressing=True)

    # -- the choice --------------------------------------------------------------------------------

    async def _chosen(self, job: Job, picks: Sequence[Pick], now: float) -> Choice:
        moments = [self._ready_at(job, p.deployment, now) for p in picks]
        ready = [p for p, moment in zip(picks, moments, strict=True) if moment <= now]
        pick = await self._permitted(job, self._ordered(job, ready)) if ready else None
        if pick is not None:
            tried = bool(_refused(job, pick.deployment))
            self._budget.spend(pick.deployment.name, now, retry=tried)
            return pick
        later = [moment - now for moment in moments if moment > now]
        if not ready or self._permits is None:
            return Wait(min(later, default=FIRST_BACKOFF))
        gates = tuple(Gate.of(p.deployment) for p in ready)
        first = self._permits.wait_at(gates, job.id)
        fallback = ASK_AGAIN * (0.75 + self._chance() / 2)
        return Wait(min([fallback, *later]), Waiting(gates, flows_of(job), first))

    async def _permitted(
        self, job: Job, picks: Sequence[Pick], *, pressing: bool = False
    ) -> Pick | None:
        """Return the first pick whose gate lets the job pass."""
        wishes = [self._wish(job, pick) for pick in picks]
        if self._permits is None:
            first = wishes[0]
            return replace(picks[0], permit=Permit(first.places, first.calls))
        token = job.fence or job.id
        granted = await self._permits.ask(wishes, job.id, token, pressing=pressing)
        if granted is None:
            return None
        wish, permit = granted
        return replace(picks[wishes.index(wish)], permit=permit)

    def _wish(self, job: Job, pick: Pick) -> Wish:
        most = pick.deployment.capabilities.n
        calls = max(1, math.ceil(len(job.missing) / most))
        return Wish(Gate.of(pick.deployment), min(calls, self._calls), calls)

    def _ordered(self, job: Job, ready: Sequence[Pick]) -> list[Pick]:
        """Put the least tried first, then the lower priority; weight loads the dice of equals."""

        def rank(pick: Pick) -> tuple[int, int, float]:
            dice = -math.log(max(self._chance(), 1e-12)) / pick.deployment.weight
            return len(_tries(job, pick.deployment)), pick.deployment.priority, dice

        return sorted(ready, key=rank)

    def _ready_at(self, job: Job, deployment: Deployment, now: float) -> float:
        """Return when the job may ask the deployment: after its back-off, within the budget."""
        tries = _refused(job, deployment)
        if not tries:
            return now
        moment = _last_moment(tries) + _backoff(job.id, len(tries))
        if moment <= now and not self._budget.allows(deployment.name, now):
            return now + _OVER_BUDGET * (0.5 + self._chance())
        return moment

    # -- who is left out ---------------------------------------------------------------------------

    def _is_on_terms(self, job: Job, pick: Pick) -> bool:
        """Say whether the deployment keeps what the job was promised: `strict` and `max_cost`.

        A price that nobody knows is not held against it; the job said so when it was taken in. What
        an earlier attempt may have cost counts at its listed price.
        """
        if job.strict and pick.fit.adaptations:
            return False
        if job.max_cost is None:
            return True
        price = listed(pick.fit.request, pick.deployment, len(job.missing)).amount or 0.0
        spent = sum(self._cost_at_worst(job, attempt) for attempt in job.attempts)
        return round(spent + price, 9) <= job.max_cost

    def _cost_at_worst(self, job: Job, attempt: Attempt) -> float:
        known = attempt.cost.amount or 0.0
        if attempt.at_risk is not None:
            return known + attempt.at_risk
        deployment = self.named(attempt.deployment)
        if deployment is None:
            return known
        return max(known, listed(job.request, deployment, job.request.n).amount or 0.0)

    def _is_switched_off(self, deployment: Deployment) -> bool:
        if self._permits is None:
            return False
        condition = self._permits.condition(Gate.of(deployment))
        return condition.is_shut and condition.state is GateState.SWITCHED_OFF

    def _is_hopeless(self, job: Job, deployment: Deployment, now: float) -> bool:
        """Say whether waiting for the deployment has gone on, or would go on, for too long."""
        if self._is_switched_off(deployment):
            return True
        tries = _refused(job, deployment)
        if tries and now - _last_moment(tries) > GIVE_UP:
            return True
        if self._permits is None:
            return False
        condition = self._permits.condition(Gate.of(deployment))
        return bool(condition.tripped) and condition.since > GIVE_UP

    def _why_hopeless(self, job: Job, picks: Sequence[Pick]) -> Failure:
        if (error := _last_error(job)) is not None:
            return error
        if all(self._is_switched_off(pick.deployment) for pick in picks):
            message = f"The model {job.model} is switched off: its credentials were refused."
            return Failure(code=FailureCode.NO_DEPLOYMENT, message=message)
        message = f"The upstream of the model {job.model} has been failing for too long."
        return Failure(code=FailureCode.OVERLOADED, message=message)


def _tries(job: Job, deployment: Deployment) -> list[Attempt]:
    return [attempt for attempt in job.attempts if attempt.deployment == deployment.name]


def _refused(job: Job, deployment: Deployment) -> list[Attempt]:
    """Return the tries that the upstream ended, not we: our crashes are no reason to spare it."""
    return [a for a in _tries(job, deployment) if a.error != ABANDONED]


def _last_moment(tries: Sequence[Attempt]) -> float:
    return tries[-1].finished_at or tries[-1].started_at


def _may_ask(job: Job, deployment: Deployment) -> bool:
    """Say whether no earlier attempt at the deployment failed in a way that would repeat itself."""
    return all(
        a.error is None or a.error.code.retryable or a.error.code is FailureCode.OUTCOME_UNKNOWN
        for a in _tries(job, deployment)
    )


def _backoff(job_id: str, tries: int) -> float:
    """Return full jitter that is the same each time it is asked for."""
    digest = hashlib.blake2b(f"{job_id}:{tries}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest, "big") / 2**32
    return float(share * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**tries))


def _last_error(job: Job) -> Failure | None:
    errors = [attempt.error for attempt in job.attempts if attempt.error is not None]
    return errors[-1] if errors else None


def _why_not(job: Job, unfit: Sequence[Unfit], *, is_on: bool) -> Failure:
    """Say the last failure, or what the deployments cannot do, or that there are none."""
    if (error := _last_error(job)) is not None:
        return error
    if unfit:
        message = f"The model {job.model} {unfit[0].reason}."
        return Failure(code=FailureCode.INVALID_REQUEST, message=message)
    if is_on:
        message = f"The model {job.model} is not to be had on the terms of the job."
        return Failure(code=FailureCode.INVALID_REQUEST, message=message)
    message = f"No deployment of the model {job.model} is on."
    return Failure(code=FailureCode.NO_DEPLOYMENT, message=message)
