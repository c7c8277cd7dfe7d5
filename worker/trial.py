"""A trial: the cheapest real call that a deployment can be asked for, to see that it works."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from storage.attempt import UNKNOWN, Cost
from storage.catalog import Deployment
from storage.container import inspect
from storage.facts import BadImage, Facts
from storage.failure import Failure, FailureCode
from storage.fit import Fit, fit
from storage.request import Input, Request
from worker.imaging import Drawing
from worker.pricing import cost_of_error, cost_of_reply
from worker.provider import Order, Picture, Progress, ProviderError, Reply, Source, Tools
from worker.providers import PROVIDERS


PROMPT = "A plain grey square"
_SIDE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a trial went: the picture's facts or the failure, the cost, and the time in seconds."""

    deployment: Deployment
    seconds: float
    cost: Cost = UNKNOWN
    facts: Facts | None = None
    failure: Failure | None = None


async def attempted(
    deployment: Deployment,
    environ: Mapping[str, str],
    tools: Tools,
    *,
    clock: Callable[[], float],
) -> Trial:
    """Ask the deployment for one small picture of the lowest quality; whatever comes is a trial."""
    started = clock()
    request, cost = _smallest(deployment), UNKNOWN
    facts = None
    try:
        reply = await _call(deployment, request, environ, tools, job_id=f"trial_{started:.6f}")
        cost = cost_of_reply(reply, request, deployment)
        facts = _facts(reply)
        failure = None if facts else Failure(code=FailureCode.NO_IMAGE, message="No image came.")
    except ProviderError as error:
        failure, cost = error.as_failure(), cost_of_error(error, request, deployment, 1)
    except TimeoutError:
        message = f"There was no answer within {deployment.timeout:g} seconds."
        failure = Failure(code=FailureCode.UPSTREAM_TIMEOUT, message=message)
    except BadImage as error:
        failure = Failure(code=FailureCode.UPSTREAM_ERROR, message=error.message)
    except Exception as fault:  # noqa: BLE001 — one broken provider must not hide the others
        message = f"The provider itself failed: {type(fault).__name__}."
        failure = Failure(code=FailureCode.INTERNAL_ERROR, message=message)
    return Trial(
        deployment=deployment, seconds=clock() - started, cost=cost, facts=facts, failure=failure
    )


async def _call(
    deployment: Deployment,
    request: Request,
    environ: Mapping[str, str],
    tools: Tools,
    *,
    job_id: str,
) -> Reply:
    key = environ.get(deployment.api_key_env) if deployment.api_key_env else None
    provider = PROVIDERS[deployment.provider](deployment, key, tools)
    order = await _order(request, deployment, tools, job_id)
    progress = Progress(submitted=_heard, previewed=_heard)
    async with asyncio.timeout(deployment.timeout):
        return await provider.generate(order, progress)


def _smallest(deployment: Deployment) -> Request:
    """Return the request that costs least, as it fits."""
    can = deployment.capabilities
    images = () if can.generate else (Input(key="trial"),)
    mask = Input(key="mask") if images and can.mask else None
    asked = Request(prompt=PROMPT, size="256x256", quality="low", images=images, mask=mask)
    fitted = fit(asked, deployment)
    return fitted.request if isinstance(fitted, Fit) else asked


async def _order(request: Request, deployment: Deployment, tools: Tools, job_id: str) -> Order:
    pixels = request.pixels
    drawn = await _sketch(tools) if request.is_edit else b""
    mask = await tools.imaging.white_to_mask(drawn) if request.mask is not None else None
    return Order(
        job_id=job_id,
        attempt=1,
        edit=request.is_edit,
        model=deployment.upstream_model,
        prompt=request.prompt,
        width=None if pixels is None else pixels[0],
        height=None if pixels is None else pixels[1],
        aspect_ratio=request.aspect_ratio,
        resolution=request.resolution,
        quality=request.quality,
        images=(_source(drawn),) if request.is_edit else (),
        mask=None if mask is None else _source(mask),
    )


async def _sketch(tools: Tools) -> bytes:
    return await tools.imaging.render(Drawing(prompt=PROMPT, seed=1, width=_SIDE, height=_SIDE))


def _source(data: bytes) -> Source:
    return Source(
        data=data, content_type="image/png", filename="trial.png", width=_SIDE, height=_SIDE
    )


def _facts(reply: Reply) -> Facts | None:
    pictures = [outcome for outcome in reply.outcomes if isinstance(outcome, Picture)]
    return inspect(pictures[0].data) if pictures else None


async def _heard(_: object) -> None:
    """Note nothing: a trial that is interrupted is not resumed."""
