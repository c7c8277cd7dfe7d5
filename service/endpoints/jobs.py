"""The native door: `/v1/jobs`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from service.body import Body, read_json_or_form
from service.context import Call
from service.draft import Draft, request_of_job
from service.errors import response_of
from service.inputs import FILES, MAX_IMAGES, all_named, files_of, mask_of, named
from service.logs import JOB_ID
from service.query import number, one_of, query_of, whole
from service.submission import answer_at_once, asker_of, job_response
from service.wire.fields import read
from service.wire.jobs import JobRequest
from storage.document import job_document, links_of
from storage.errors import Conflict, Error, Invalid, Missing
from storage.job import Job, JobStatus, JobType


MOST_AT_ONCE = 100
_TRIES = 20


async def create(call: Call) -> web.StreamResponse:
    """Take in a job, or with a JSON array up to 100 of them at once."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FILES, many=True
    )
    if body.many is not None:
        return await _create_many(call, body.many)
    return await answer_at_once(call, await draft_of(call, body))


async def _create_many(call: Call, items: list[Any]) -> web.StreamResponse:
    """Answer with the jobs in order, and where one is refused, with its error."""
    if not 1 <= len(items) <= MOST_AT_ONCE:
        raise Invalid(f"An array holds 1 to {MOST_AT_ONCE} jobs.", code="invalid_value")
    data = [await _created(call, at, item) for at, item in enumerate(items)]
    made = sum("error_status" not in one for one in data)
    for _ in range(made - 1):  # the entrance counts one itself
        call.context.admission.took_in(call.tenant)
    document = {"object": "list", "data": data, "made": made}
    return web.Response(
        body=orjson.dumps(document),
        status=202 if made else 400,
        content_type="application/json",
    )


async def _created(call: Call, at: int, item: Any) -> dict[str, Any]:
    asker = asker_of(call)
    if asker.idempotency_key is not None:
        asker = replace(asker, idempotency_key=f"{asker.idempotency_key} {at}")
    try:
        if not isinstance(item, dict):
            raise Invalid("A job must be a JSON object.", code="invalid_json")
        draft = await draft_of(call, Body(item))
        job = await call.context.reception.submit(asker, draft, wait=0.0, is_gone=call.is_gone)
    except Error as error:
        refused = response_of(error)
        body = refused.body if isinstance(refused.body, bytes) else b"{}"
        return {"index": at, "error_status": refused.status, **orjson.loads(body)}
    return job_document(job, links_of(job, call.context.objects, call.now))


async def show(call: Call) -> web.StreamResponse:
    """Show one job; with `?wait=`, once it has ended or the wait is over."""
    job = await job_of(call)
    asked = number(query_of(call, {"wait"}), "wait") or 0.0
    wait = min(asked, call.context.settings.limits.max_wait)
    if wait:
        job = await call.context.progress.ended(job, wait, call.is_gone)
    position = await call.context.jobs.position(job)
    return job_response(call, job, queue_position=position)


async def list_(call: Call) -> web.StreamResponse:
    """List the tenant's jobs, the newest first."""
    query = query_of(
        call, {"status", "type", "model", "created_after", "created_before", "limit", "cursor"}
    )
    page = await call.context.jobs.listing.page(
        call.tenant.id,
        limit=whole(query, "limit", 20, range(1, 101)),
        after=query.get("cursor"),
        created_after=number(query, "created_after"),
        created_before=number(query, "created_before"),
        matching=_filter(query),
    )
    data = [job_document(job, links_of(job, call.context.objects, call.now)) for job in page.jobs]
    document = {
        "object": "list",
        "data": data,
        "has_more": page.next is not None,
        "next": page.next,
    }
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def cancel(call: Call) -> web.StreamResponse:
    """End a job that has not ended; what it made so far is kept."""
    return job_response(call, await cancelled(call, call.request.match_info["id"]))


async def delete(call: Call) -> web.StreamResponse:
    """Forget a job that has ended, with all its objects."""
    job = await job_of(call)
    await forget(call, job)
    document = {"id": job.id, "object": "job", "deleted": True}
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def cancelled(call: Call, job_id: str) -> Job:
    """End a job and return it; raises `Conflict` when it has ended."""
    jobs = call.context.jobs
    for _ in range(_TRIES):
        job = await jobs.get(call.tenant.id, job_id)
        if job is None:
            raise Missing("There is no such job.", code="job_not_found")
        written = await jobs.swap(job, job.cancelled(call.context.clock()))
        if written is not None:
            await jobs.tell_cancelled(written)
            return written
    raise Conflict("The job is changing too fast to be cancelled; try again.", code="job_busy")


async def forget(call: Call, job: Job) -> None:
    """Remove an ended job with all its objects."""
    if not job.is_ended:
        raise Conflict("The job has not ended; cancel it first.", code="job_not_ended")
    objects = call.context.objects
    prefix = f"t/{job.tenant}/{job.id}/"
    await objects.delete([key async for key, _ in objects.keys(prefix)])
    await call.context.jobs.remove(job)


async def job_of(call: Call) -> Job:
    """Return the job that the address names, if it is the tenant's."""
    job = await call.context.jobs.get(call.tenant.id, call.request.match_info["id"])
    if job is None:
        raise Missing("There is no such job.", code="job_not_found")
    call.request[JOB_ID] = job.id
    return job


async def draft_of(call: Call, body: Body) -> Draft:
    """Return what a submission on the native door asks for."""
    ask = read(JobRequest, body.typed(JobRequest))
    images = (*await all_named(call, ask.images, "images"), *files_of(body))
    if len(images) > MAX_IMAGES:
        raise Invalid(f"At most {MAX_IMAGES} images are taken.", param="images")
    mask = mask_of(body)
    if ask.mask is not None:
        if mask is not None:
            raise Invalid("There is more than one mask.", param="mask", code="invalid_value")
        mask = await named(call, ask.mask, "mask")
    return Draft(
        door="jobs",
        model=ask.model,
        request=request_of_job(ask),
        extras=ask,
        body=body,
        images=images,
        mask=mask,
        names={"images": "image"} if body.files else {},
    )


def _filter(query: dict[str, str]) -> Callable[[Job], bool]:
    wanted: dict[str, str | None] = {
        "status": one_of(query, "status", JobStatus),
        "type": one_of(query, "type", JobType),
        "model": query.get("model"),
    }
    return lambda job: all(value in {None, getattr(job, name)} for name, value in wanted.items())
