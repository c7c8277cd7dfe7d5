"""Pricing: what an attempt cost, by the best source there is, and never 0 where nobody knows."""

from storage.attempt import Cost, CostSource, Usage
from storage.catalog import Deployment
from storage.failure import FailureCode
from storage.request import Request
from worker.provider import Picture, ProviderError, Reply


# What upstreams are known to charge for although no picture came, or may.
_MAYBE_CHARGED = frozenset(
    {
        FailureCode.CONTENT_POLICY,
        FailureCode.NO_IMAGE,
        FailureCode.UPSTREAM_TIMEOUT,
        FailureCode.OUTCOME_UNKNOWN,
    }
)


def cost_of_reply(reply: Reply, request: Request, deployment: Deployment) -> Cost:
    """Return what an answer cost: as reported, else by its tokens, else by the price list.

    What was charged for the rest of an answer that was cut off is not known.
    """
    made = reply.made
    if made is None:
        made = sum(isinstance(outcome, Picture) for outcome in reply.outcomes)
    cost = _told(reply.cost, reply.usage, deployment)
    if cost is None:
        cost = _listed(_counted(reply.usage, made), request, deployment)
    return Cost.total((cost, Cost())) if reply.cut_off else cost


def cost_of_error(
    error: ProviderError, request: Request, deployment: Deployment, count: int
) -> Cost:
    """Return what a call for `count` images cost that brought none.

    A refusal by status is not charged. An answer that says that the work is done, but cannot be
    read, is charged by the price list, unless the upstream charges by tokens: nobody has counted
    them.
    """
    told = _told(error.cost, error.usage, deployment)
    if told is not None:
        return told
    by_tokens = deployment.price.is_by_tokens
    if error.made is not None and error.code is not FailureCode.CONTENT_POLICY:
        made = _counted(error.usage, error.made)
        return _listed(made, request, deployment) if made or not by_tokens else Cost()
    if error.charged and error.outcome_unknown and not by_tokens:
        return _listed(count, request, deployment)
    if error.charged is not False and (error.outcome_unknown or error.code in _MAYBE_CHARGED):
        return Cost()
    return Cost.nothing()


def _told(reported: float | None, usage: Usage | None, deployment: Deployment) -> Cost | None:
    if reported is not None:
        return Cost(round(reported, 10), CostSource.REPORTED)
    return deployment.price.of_tokens(usage)


def _counted(usage: Usage | None, made: int) -> int:
    """Return how many images are charged for: as many as the upstream says, if it does."""
    return made if usage is None or usage.images is None else usage.images


def _listed(count: int, request: Request, deployment: Deployment) -> Cost:
    pixels = request.pixels
    return deployment.price.of_images(
        count,
        inputs=len(request.images),
        quality=request.quality,
        pixels=None if pixels is None else pixels[0] * pixels[1],
    )
