"""How a batch is taken in: its file is read line by line, and each line becomes a job to be made.

Every line is judged here as if it had come alone, so what can never work is known at once; what is
left is a plan that a worker follows. Neither the input nor the plan is ever whole in memory.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from service.body import Body
from service.context import Call
from service.draft import Draft
from service.endpoints.images import edit_of, generation_of
from service.endpoints.jobs import draft_of
from service.receiver_url import receiver_url
from service.submission import asker_of
from service.wire.batches import BatchLine
from service.wire.fields import read
from service.wire.grammar import parse_object
from storage.batch import PRIORITY, Batch, Place
from storage.errors import Conflict, Error, Invalid, Missing, TooLarge
from storage.job import Job
from storage.jobs import new_job_id
from storage.plans import error_line, is_answered, job_line, renewed
from storage.plans import lines as plan_lines


MAX_LINES: Final = 50_000
MAX_LINE: Final = 33_554_432  # bytes
PLAN_TYPE: Final = "application/octet-stream"
_AT_ONCE: Final = 50


@dataclass(slots=True)
class _Plan:
    file: BinaryIO
    total: int = 0
    good: int = 0

    def add(self, line: bytes, *, good: bool) -> None:
        if self.total >= MAX_LINES:
            raise TooLarge(f"A batch has at most {MAX_LINES} requests.", code="too_many_requests")
        self.file.write(line)
        self.total += 1
        self.good += good


async def planned(call: Call, batch: Batch, key: str) -> Batch:
    """Read the input under `key` and keep the batch's plan; return the batch with its total.

    Raises `Invalid` when no line of it can be made.
    """

    async def fill(plan: _Plan) -> None:
        seen: set[bytes] = set()
        async with aclosing(_lines(call, key)) as lines:
            async for text in lines:
                if text.strip():
                    await _add(call, batch, text, plan, seen)
                    await asyncio.sleep(0)  # others have their turn between two lines

    return await _kept(call, batch, fill)


async def planned_again(call: Call, batch: Batch, old: Batch) -> Batch:
    """Keep a plan of what an ended batch did not make; raises `Conflict` when it made all."""

    async def fill(plan: _Plan) -> None:
        place = Place()
        while place.lines < old.total:
            found = await plan_lines(call.context.objects, old.plan_key, place, _AT_ONCE)
            if not found:
                raise Conflict("The batch is too old to be tried again.", code="plan_gone")
            for line in found:
                job = line.job
                if job is None or not await _failed(call, job):
                    continue
                new = renewed(job, new_job_id(), batch)
                plan.add(job_line(line.custom_id, new), good=True)
            place = found[-1].after

    return await _kept(call, batch, fill)


def checked_webhook(call: Call, url: str | None) -> str | None:
    """Return the address of a batch's receiver, or raise `Invalid`."""
    if url is None:
        return None
    allowance = call.context.reception.allowance
    return receiver_url(url, param="webhook_url", allowance=allowance)


async def _kept(call: Call, batch: Batch, fill: Callable[[_Plan], Awaitable[None]]) -> Batch:
    folder = call.context.settings.data / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    try:
        with path.open("xb") as file:
            plan = _Plan(file)
            await fill(plan)
        if not plan.good:
            raise Invalid(
                "No request of the batch can be made.", param="input_file_id", code="empty_batch"
            )
        await call.context.objects.put(batch.plan_key, path, content_type=PLAN_TYPE)
    finally:
        path.unlink(missing_ok=True)
    return replace(batch, total=plan.total)


async def _add(call: Call, batch: Batch, text: bytes, plan: _Plan, seen: set[bytes]) -> None:
    """Write one line of the input into the plan, as a job or as why it is none."""
    custom_id = f"line-{plan.total + 1}"
    try:
        line = read(BatchLine, parse_object(text))
        custom_id = line.custom_id
        _check(line, batch, seen)
        job = await _job(call, batch, Body(line.body))
    except (Invalid, Missing, TooLarge) as error:
        plan.add(error_line(custom_id, error.code or "invalid_request", _said(error)), good=False)
        return
    plan.add(job_line(custom_id, job), good=True)


def _check(line: BatchLine, batch: Batch, seen: set[bytes]) -> None:
    digest = hashlib.blake2b(line.custom_id.encode(), digest_size=12).digest()
    if digest in seen:
        raise Invalid("This custom_id is there twice.", param="custom_id")
    seen.add(digest)
    if line.url != batch.endpoint:
        raise Invalid("The url is not the batch's endpoint.", param="url")


async def _job(call: Call, batch: Batch, body: Body) -> Job:
    asker = replace(asker_of(call), idempotency_key=None)
    draft = await _draft(call, batch.endpoint, body)
    job = await call.context.reception.planned(asker, draft, batch.id)
    start_by = min(job.start_by or batch.expires_at, batch.expires_at)
    return replace(job, priority=PRIORITY, start_by=start_by, batch=batch.id)


async def _draft(call: Call, endpoint: str, body: Body) -> Draft:
    if endpoint == "/v1/images/generations":
        return generation_of(body)
    if endpoint == "/v1/images/edits":
        return await edit_of(call, body)
    return await draft_of(call, body)


async def _lines(call: Call, key: str) -> AsyncGenerator[bytes, None]:
    stream = await call.context.objects.stream(key)
    if stream is None:
        raise Missing("The file is gone.", param="input_file_id", code="file_not_found")
    rest = b""
    async with aclosing(stream):
        async for chunk in stream:
            *whole, rest = (rest + chunk).split(b"\n")
            for text in whole:
                yield text
            if len(rest) > MAX_LINE:
                raise TooLarge(f"A line has at most {MAX_LINE} bytes.", param="input_file_id")
    yield rest


async def _failed(call: Call, job: Job) -> bool:
    made = await call.context.jobs.get(job.tenant, job.id)
    return not is_answered(made)


def _said(error: Error) -> str:
    return error.message if error.param is None else f"{error.param}: {error.message}"
