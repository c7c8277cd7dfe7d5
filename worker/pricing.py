"""Pricing: what an attempt cost, by the best source there is, and never 0 where nobody knows."""

from storage.attempt import Cost, CostSource
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
    """Return what an answer cost: as reported, else by its tokens, else by the price list."""
    if reply.cost is not None:
        return Cost(round(reply.cost, 10), CostSource.REPORTED)
    if (computed := deployment.price.of_tokens(reply.usage)) is not None:
        return computed
    made = sum(isinstance(outcome, Picture) for outcome in reply.outcomes)
    pixels = request.pixels
    return deployment.price.of_images(
        made,
        inputs=len(request.images),
        quality=request.quality,
        pixels=None if pixels is None else pixels[0] * pixels[1],
    )


def cost_of_error(error: ProviderError) -> Cost:
    """Return what a call without any image cost; a plain refusal by status is not charged."""
    if error.cost is not None:
        return Cost(round(error.cost, 10), CostSource.REPORTED)
    if error.outcome_unknown or error.code in _MAYBE_CHARGED:
        return Cost()
    return Cost.nothing()
