"""A call: one request to one deployment, for images of one attempt, and what came of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import structlog

from storage.attempt import ABANDONED, UNKNOWN, AttemptStatus, Cost, Usage
from storage.catalog import Deployment
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job, Superseded
from storage.request import Adaptation, Request
from worker.pricing import cost_of_error, cost_of_reply
from worker.provider import (
    Order,
    Picture,
    Progress,
    Provider,
    ProviderError,
    Reply,
    Resumable,
    Source,
)
from worker.results import Kept
from worker.router import Pick


log = structlog.get_logger("worker.call")

# An image among others that came to this has been paid for, or may have been.
_PAID = frozenset(
    {FailureCode.UPSTREAM_ERROR, FailureCode.UPSTREAM_TIMEOUT, FailureCode.OUTCOME_UNKNOWN}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What one call, or all calls of an attempt together, came to.

    `is_unknown` says that nobody knows whether a call was paid for, whatever came of the others.
    `at_work` says that the upstream is known to have the task and may still end it. `passing` says
    why images are missing that another call may bring. `warnings` are about the images that were
    made.
    """

    outcomes: tuple[tuple[int, Picture | Failure], ...] = field(default=(), repr=False)
    images: tuple[Image, ...] = ()
    cost: Cost = UNKNOWN
    usage: Usage | None = None
    error: ProviderError | None = None
    passing: Failure | None = None
    is_unknown: bool = False
    warnings: tuple[Adaptation, ...] = ()
    text: str | None = field(default=None, repr=False)
    at_work: bool = False

    @property
    def images_made(self) -> int:
        """Return how many images are there."""
        return sum(image.status is ImageStatus.SUCCEEDED for image in self.images)

    @property
    def status(self) -> AttemptStatus:
        """Return how an attempt of this call, or these calls, ended."""
        if self.is_unknown:
            return AttemptStatus.OUTCOME_UNKNOWN
        return AttemptStatus.SUCCEEDED if self.images_made else AttemptStatus.FAILED

    @property
    def failure(self) -> Failure | None:
        """Return why images are missing: the call's own error, else that of an image.

        Of images, one that may still be made speaks first.
        """
        if self.error is not None:
            return self.error.as_failure()
        errors = (image.error for image in self.images)
        return self.passing or next((error for error in errors if error is not None), None)

    @property
    def is_final(self) -> bool:
        """Say whether no other deployment and no later call would do better."""
        return self.error is not None and not (
            self.error.code.elsewhere or self.error.outcome_unknown
        )

    def with_images(self, kept: Sequence[Kept]) -> "Called":
        """Return the call with its pictures kept and measured."""
        done = replace(self, outcomes=(), images=tuple(one.image for one in kept))
        measured = (warning for one in kept for warning in one.warnings)
        return replace(done, warnings=(*self.warnings, *measured) if done.images_made else ())

    @classmethod
    def abandoned(cls) -> "Called":
        """Return a call that an earlier run left behind without a trace of what came of it."""
        error = ProviderError(ABANDONED.message, code=ABANDONED.code, outcome_unknown=True)
        return cls(error=error, is_unknown=True)

    @classmethod
    def together(cls, calls: Sequence["Called"]) -> "Called":
        """Return what the calls of an attempt came to; the gravest error speaks for all."""
        errors = [call.error for call in calls if call.error is not None]
        return cls(
            images=tuple(image for call in calls for image in call.images),
            error=min(errors, key=_hope) if errors else None,
            passing=next((call.passing for call in calls if call.passing is not None), None),
            is_unknown=any(call.is_unknown for call in calls),
            at_work=any(call.at_work for call in calls),
        )


def _is_passing(outcome: Picture | Failure) -> TypeGuard[Failure]:
    """Say whether another call may bring the image.

    To make fewer than was asked is the upstream's last word.
    """
    return isinstance(outcome, Failure) and (
        outcome.code in _PAID
        or (outcome.code.retryable and outcome.code is not FailureCode.NO_IMAGE)
    )


def _hope(error: ProviderError) -> int:
    return 2 * error.code.elsewhere + error.code.retryable


@dataclass(frozen=True, slots=True)
class Call:
    """One call to make: what to order, for which images of the job, as which request."""

    order: Order
    indexes: tuple[int, ...]
    request: Request = field(repr=False)
    deployment: Deployment
    warnings: tuple[Adaptation, ...] = ()

    async def make(
        self, provider: Provider, progress: Progress, *, timeout: float, resume: str | None
    ) -> Called:
        """Make the call, or go on with the task `resume`, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                if resume is not None and isinstance(provider, Resumable):
                    reply = await provider.resume(self.order, resume, progress)
                else:
                    reply = await provider.generate(self.order, progress)
        except ProviderError as error:
            return self._failed(error)
        except TimeoutError:
            message = f"The upstream did not answer within {timeout:g} seconds."
            return self._failed(
                ProviderError(message, code=FailureCode.UPSTREAM_TIMEOUT, outcome_unknown=True)
            )
        except (Superseded, Unavailable):
            raise
        except Exception:
            log.exception("provider_fault", provider=self.deployment.provider)
            message = "The upstream's answer could not be understood."
            return self._failed(
                ProviderError(message, code=FailureCode.UPSTREAM_ERROR, outcome_unknown=True)
            )
        return self._answered(reply)

    def _answered(self, reply: Reply) -> Called:
        outcomes = reply.outcomes[: len(self.indexes)]
        if not outcomes:
            message = reply.text or "The upstream answered without an image."
            error = ProviderError(
                message[:500], code=FailureCode.NO_IMAGE, cost=reply.cost, usage=reply.usage
            )
            return replace(self._failed(error), text=reply.text)
        missing = len(self.indexes) - len(outcomes)
        short = Failure(code=FailureCode.NO_IMAGE, message="The upstream made fewer images.")
        every = tuple(zip(self.indexes, (*outcomes, *[short] * missing), strict=True))
        passing = [outcome for _, outcome in every if _is_passing(outcome)]
        return Called(
            outcomes=tuple(one for one in every if not _is_passing(one[1])),
            passing=passing[0] if passing else None,
            is_unknown=any(failure.code in _PAID for failure in passing),
            cost=cost_of_reply(reply, self.request, self.deployment),
            usage=reply.usage,
            warnings=(*self.warnings, *reply.adaptations),
            text=reply.text,
        )

    def _failed(self, error: ProviderError) -> Called:
        final = not (error.code.elsewhere or error.outcome_unknown)
        failure = error.as_failure()
        return Called(
            outcomes=tuple((index, failure) for index in self.indexes) if final else (),
            cost=cost_of_error(error, self.request, self.deployment, len(self.indexes)),
            usage=error.usage,
            error=error,
            is_unknown=error.outcome_unknown,
        )


def calls_for(job: Job, pick: Pick, sources: tuple[Source, ...], mask: Source | None) -> list[Call]:
    """Return the calls that ask for the missing images, as many in each as the deployment makes."""
    missing = job.missing
    most = pick.deployment.capabilities.n
    groups = [missing[start : start + most] for start in range(0, len(missing), most)]
    request = pick.fit.request
    return [
        Call(
            order=_order(job, pick, request, group, sources, mask),
            indexes=group,
            request=request,
            deployment=pick.deployment,
            warnings=pick.fit.adaptations,
        )
        for group in groups
    ]


def picked_up(job: Job, calls: Sequence[Call]) -> tuple[list[Call], list[Call]]:
    """Part the calls of an attempt into those to make and those left without a trace of their end.

    An attempt that goes on after its first worker only picks up what the upstream is known to have.
    Whatever else was sent may have been paid for: it is the next attempt's to ask again, if at all.
    A call that came to its end without an image is on the bill already.
    """
    going = job.open_attempt
    if going is None or not going.upstream_ids:
        return list(calls), []
    still = [call for call in calls if call.indexes[0] not in going.over]
    return (
        [call for call in still if call.indexes[0] in going.upstream_ids],
        [call for call in still if call.indexes[0] not in going.upstream_ids],
    )


def _order(
    job: Job,
    pick: Pick,
    request: Request,
    group: tuple[int, ...],
    sources: tuple[Source, ...],
    mask: Source | None,
) -> Order:
    pixels = request.pixels
    can = pick.deployment.capabilities
    native = request.output_format if request.output_format in can.formats else None
    return Order(
        job_id=job.id,
        attempt=len(job.attempts),
        edit=request.is_edit,
        model=pick.deployment.upstream_model,
        prompt=request.prompt,
        n=len(group),
        first_index=group[0],
        width=None if pixels is None else pixels[0],
        height=None if pixels is None else pixels[1],
        aspect_ratio=request.aspect_ratio,
        resolution=request.resolution,
        quality=request.quality,
        background=request.background,
        output_format=native,
        output_compression=request.output_compression if can.compression and native else None,
        style=request.style,
        moderation=request.moderation,
        input_fidelity=request.input_fidelity,
        # Calls with one seed would make one picture many times.
        seed=None if request.seed is None else (request.seed + group[0]) % 2**32,
        negative_prompt=request.negative_prompt,
        user=request.user,
        watermark=request.watermark,
        partial_images=request.partial_images,
        images=sources,
        mask=mask,
        options=request.options,
    )
