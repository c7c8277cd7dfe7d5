"""What all submitting doors have in common: the walk from a draft to an answer.

A door differs in how it reads a request and how it shows a job; what `Prefer` and `Idempotency-
Key` mean is the same on each.
"""

from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from service.context import Call
from service.draft import Draft
from service.errors import JobFailed, StillRunning
from service.logs import JOB_ID
from service.preference import Preference, idempotency_key, preference
from service.reception import Asker
from service.replies import made
from storage.catalog import Catalog
from storage.document import job_document, links_of
from storage.job import Job
from storage.request import Adaptation


Show = Callable[[Job, dict[str, str]], Awaitable[web.StreamResponse]]


async def submit(call: Call, draft: Draft, *, wait: float) -> Job:
    """Take the draft in and return its job once it has ended, or `wait` seconds are over."""
    job = await call.context.reception.submit(
        asker_of(call), draft, wait=wait, is_gone=call.is_gone
    )
    call.request[JOB_ID] = job.id
    return job


def asker_of(call: Call) -> Asker:
    """Return who submits."""
    return Asker(
        tenant=call.tenant,
        key=call.key,
        request_id=call.id,
        now=call.now,
        idempotency_key=idempotency_key(call.request.headers),
    )


async def answer_at_once(call: Call, draft: Draft) -> web.StreamResponse:
    """Answer as the native door does: 202 with the job, or 200 if it ends within `Prefer: wait`."""
    prefers = preference(call.request.headers)
    wait = min(prefers.wait or 0.0, call.context.settings.limits.max_wait)
    job = await submit(call, draft, wait=wait)
    headers = preference_headers(prefers, wait, ended=job.is_ended)
    return job_response(call, job, status=200 if job.is_ended else 202, headers=headers)


async def answer_when_ended(call: Call, draft: Draft, show: Show) -> web.StreamResponse:
    """Answer as a synchronous door does: with what was made, as `show` shows it.

    With `Prefer`, whoever would rather not wait that long gets a 202 with the job. `show` is given
    headers for its answer.
    """
    prefers = preference(call.request.headers)
    longest = call.context.settings.limits.max_wait
    wait = min(prefers.wait if prefers.wait is not None else longest, longest)
    if prefers.is_now:
        wait = 0.0
    job = await submit(call, draft, wait=wait)
    headers = preference_headers(prefers, wait, ended=job.is_ended)
    if job.is_ended:
        if job.error is not None and not made(job):
            raise JobFailed(job, job.error)
        return await show(job, {**headers, "X-Job-Id": job.id})
    if prefers.is_stated:
        return job_response(call, job, status=202, headers=headers)
    raise StillRunning(job)


def model_for_tool(
    catalog: Catalog, tool_model: str | None, body_model: str | None
) -> tuple[str | None, tuple[Adaptation, ...]]:
    """Return the model that an image tool should use, and what had to be said in other words.

    The tool's own model counts. A request that names only a model of ours means that one; any other
    name is that of a text model, which hands the work to the default model.
    """
    if tool_model is not None:
        return tool_model, ()
    if body_model is None or catalog.resolve(body_model) is not None:
        return body_model, ()
    used = catalog.resolve(None)
    adapted = Adaptation(
        param="model", action="adapted", requested=body_model, used=used.name if used else None
    )
    return None, (adapted,)


def preference_headers(prefers: Preference, wait: float, *, ended: bool) -> dict[str, str]:
    """Return the headers that say which preferences were followed."""
    applied = prefers.applied(wait, ended=ended)
    return {"Vary": "Prefer", **({"Preference-Applied": applied} if applied else {})}


def job_response(
    call: Call,
    job: Job,
    *,
    status: int = 200,
    queue_position: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a job as JSON, with links signed now."""
    links = links_of(job, call.context.objects, call.context.clock())
    document = job_document(job, links, queue_position=queue_position)
    leading = {"Location": f"/v1/jobs/{job.id}", "Retry-After": "1"} if status == 202 else {}
    return web.Response(
        body=orjson.dumps(document),
        status=status,
        headers={**leading, **(headers or {})},
        content_type="application/json",
    )
