"""Asking a deployment as a worker does: the request is fitted and made into calls."""

from collections.abc import Sequence
from uuid import uuid4

from storage.catalog import Deployment
from storage.fit import Fit, fit
from storage.request import Input, Request
from tests.samples import a_job
from worker.call import Call, Called, calls_for
from worker.provider import Partial, Progress, Provider, Source, Tools
from worker.providers import PROVIDERS
from worker.router import Pick


KEY = "sk-canary-0123456789abcdef"


class Heard:
    """What a provider told on the way: the ids of tasks, and previews."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.previews: list[Partial] = []

    async def submitted(self, upstream_id: str) -> None:
        """Note an id."""
        self.ids.append(upstream_id)

    async def previewed(self, partial: Partial) -> None:
        """Note a preview."""
        self.previews.append(partial)

    @property
    def progress(self) -> Progress:
        """Return the ears of this."""
        return Progress(submitted=self.submitted, previewed=self.previewed)


def provider_of(deployment: Deployment, tools: Tools) -> Provider:
    """Return a provider for the deployment, as a new worker makes it."""
    return PROVIDERS[deployment.provider](deployment, KEY, tools)


def calls_of(
    deployment: Deployment,
    request: Request,
    *,
    sources: Sequence[Source] = (),
    mask: Source | None = None,
) -> list[Call]:
    """Return the calls that a new job with this request makes to this deployment."""
    whole = Request(
        **{name: getattr(request, name) for name in ("prompt", "n", "size", "partial_images")},
        images=tuple(Input(key=f"input/{index}") for index in range(len(sources))),
        mask=None if mask is None else Input(key="input/mask"),
    )
    fitted = fit(whole, deployment)
    assert isinstance(fitted, Fit), fitted.reason
    job = a_job(f"job_{uuid4().hex}", n=request.n, request=whole)
    return calls_for(job, Pick(deployment, fitted), tuple(sources), mask)


async def made(call: Call, tools: Tools, heard: Heard | None = None) -> Called:
    """Return what comes of a call, within the deployment's own time."""
    progress = (heard or Heard()).progress
    provider = provider_of(call.deployment, tools)
    return await call.make(provider, progress, timeout=call.deployment.timeout, resume=None)
