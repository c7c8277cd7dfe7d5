"""A quote: what a request would cost at a deployment, before anything is asked of it.

It is read from the price list, for the request as the deployment would be asked: fitted, and split
into as many calls as it takes. What the upstream reports in the end may differ, and wins.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from storage.attempt import Cost
from storage.catalog import Deployment
from storage.fit import Fit, Fitting, fit
from storage.request import Request


@dataclass(frozen=True, slots=True)
class Quote:
    """One deployment's price for a request, and how the request fits; unknown when it does not."""

    deployment: Deployment
    fitting: Fitting
    cost: Cost


def quotes(request: Request, deployments: Iterable[Deployment]) -> list[Quote]:
    """Return every deployment's quote: the cheapest first, then the unknown, then the unfit."""
    return sorted((quote(request, deployment) for deployment in deployments), key=_rank)


def quote(request: Request, deployment: Deployment) -> Quote:
    """Return a deployment's quote for all images of a request."""
    fitting = fit(request, deployment)
    if not isinstance(fitting, Fit):
        return Quote(deployment, fitting, Cost())
    return Quote(deployment, fitting, listed(fitting.request, deployment, request.n))


def listed(request: Request, deployment: Deployment, count: int) -> Cost:
    """Return the listed price of `count` images of a request that is fitted already.

    Each call charges for the input images again.
    """
    most = deployment.capabilities.n
    pixels = request.pixels
    return Cost.total(
        deployment.price.of_images(
            min(most, count - start),
            inputs=len(request.images),
            quality=request.quality,
            pixels=None if pixels is None else pixels[0] * pixels[1],
        )
        for start in range(0, count, most)
    )


def _rank(quote: Quote) -> tuple[bool, bool, float]:
    amount = quote.cost.amount
    return not isinstance(quote.fitting, Fit), amount is None, amount or 0.0
