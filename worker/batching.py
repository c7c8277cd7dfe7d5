"""Batching: a batch's plan followed in steps, line after line, until all of it is answered.

A step makes some lines jobs and counts some that have ended, then writes how far it came. A worker
that dies in a step leaves it to the next one, which repeats it: a line is always the same job, and
taking in a job twice is harmless. Only so many jobs of a batch wait at one time, so a batch of any
length takes no more room in the queue.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import structlog

from storage.batch import Batch, BatchStatus, Place
from storage.batches import Batches
from storage.bill import day_of
from storage.bills import Bills
from storage.document import cost_of, failure_document, usage_document, warning_document
from storage.errors import TooMany, Unavailable
from storage.file import File, FileId, Purpose
from storage.files import Files
from storage.image import ImageStatus
from storage.job import Job
from storage.jobs import Budget, Jobs, Seating
from storage.objects import Objects
from storage.plans import Line, is_answered, lines, taken_up
from storage.tenant import Tenant
from storage.tenants import Tenants
from worker.outcome import Again, Lost, Nothing, Outcome, Settled


log = structlog.get_logger("worker.batching")

AT_ONCE: Final = 50  # lines of one step
WINDOW: Final = 500  # jobs of a batch that may wait or run
STEPS: Final = 20  # of one turn; then others have theirs
PAUSE: Final = 1.0  # seconds between two looks at jobs that have not ended
_LONGEST_WAIT: Final = 60.0
_JSONL: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Follows the plans of batches. `clock` gives Unix seconds; `life` is that of a file."""

    batches: Batches
    jobs: Jobs
    bills: Bills
    tenants: Tenants
    files: Files
    objects: Objects
    public_url: str
    life: float
    clock: Callable[[], float]

    async def run(self, batch_id: str) -> Outcome:
        """Take the batch some steps further, and say when to go on."""
        try:
            for _ in range(STEPS):
                batch = await self.batches.find(batch_id)
                if batch is None or batch.is_ended:
                    return Nothing()
                if batch.is_counted(self.clock()):
                    return await self._finish(batch)
                after = await self._step(batch)
                if after is not None:
                    return Again(after)
        except Unavailable as error:
            return Again(error.retry_after)
        return Again(0.0)

    # -- a step ------------------------------------------------------------------------------------

    async def _step(self, batch: Batch) -> float | None:
        """Take one step; return how long to wait when there was nothing to do, else None."""
        wait: float | None = None
        if batch.status is BatchStatus.CANCELLING:
            await self._cancel(batch)
        new = await self._counted(batch)
        if new.feeds(self.clock()) and new.fed.lines - new.settled.lines < WINDOW:
            try:
                new = await self._fed(new)
            except (
                TooMany
            ) as error:  # the tenant's day is spent, or it has all the jobs it may have
                wait = min(error.retry_after, _LONGEST_WAIT)
        if new == batch:
            return wait or PAUSE
        await self.batches.swap(batch, new)  # else it was cancelled meanwhile, and is read again
        return wait

    async def _fed(self, batch: Batch) -> Batch:
        """Take in the jobs of the next lines."""
        found = await lines(self.objects, batch.plan_key, batch.fed, AT_ONCE)
        if not found:  # the plan is gone: what is left of it will never be
            return replace(batch, status=BatchStatus.FINALIZING)
        tenant = await self.tenants.get(batch.tenant)
        if tenant is None or tenant.is_removed:
            return replace(batch, status=BatchStatus.FINALIZING)
        now = self.clock()
        jobs = [taken_up(job, now) for line in found if (job := line.job) is not None]
        budget, seating = await self._budget(tenant, jobs, now), Seating.of(tenant)
        adding = partial(self.jobs.add, weight=tenant.weight, budget=budget, seating=seating)
        if budget is None and seating is None:
            await asyncio.gather(*map(adding, jobs))
        else:
            for job in jobs:  # one by one, for one may be too much
                await adding(job)
        return replace(batch, fed=found[-1].after)

    async def _budget(self, tenant: Tenant, jobs: Sequence[Job], now: float) -> Budget | None:
        """Return what may be spent; all jobs of a batch were submitted with the same key."""
        by = next((job.key for job in jobs if job.key is not None), None)
        key = None if by is None else await self.tenants.key(by)
        limits = tenant.spend_per_day, None if key is None else key.spend_per_day
        if limits == (None, None):
            return None
        spent = 0.0 if limits[0] is None else await self.bills.spent(tenant.id, day_of(now))
        return Budget(limits[0], spent, key_limit=limits[1])

    async def _counted(self, batch: Batch) -> Batch:
        """Count the jobs that have ended, in the order of their lines."""
        open_lines = batch.fed.lines - batch.settled.lines
        if open_lines <= 0:
            return batch
        most = min(AT_ONCE, open_lines)
        found = await lines(self.objects, batch.plan_key, batch.settled, most)
        place, completed, failed = batch.settled, 0, 0
        for line, job in zip(found, await self._jobs_of(found), strict=True):
            if job is not None and not job.is_ended:
                break
            succeeded = is_answered(job)
            completed, failed = completed + succeeded, failed + (not succeeded)
            place = line.after
        if not found:
            return batch.counted(batch.fed, completed=0, failed=open_lines)
        return batch.counted(place, completed=completed, failed=failed)

    async def _cancel(self, batch: Batch) -> None:
        """End the jobs of the batch that have not ended."""
        place = batch.settled
        while place.lines < batch.fed.lines:
            found = await lines(
                self.objects, batch.plan_key, place, min(AT_ONCE, batch.fed.lines - place.lines)
            )
            if not found:
                return
            for job in await self._jobs_of(found):
                if job is not None and not job.is_ended:
                    written = await self.jobs.swap(job, job.cancelled(self.clock()))
                    if written is not None:  # else its worker was faster; the next step tries again
                        await self.jobs.tell_cancelled(written)
            place = found[-1].after

    async def _jobs_of(self, found: Sequence[Line]) -> list[Job | None]:
        async def one(line: Line) -> Job | None:
            return None if line.job_id is None else await self.jobs.find(line.job_id)

        return list(await asyncio.gather(*map(one, found)))

    # -- the end -----------------------------------------------------------------------------------

    async def _finish(self, batch: Batch) -> Outcome:
        """Write the answers, then end the batch together with the webhook that it owes."""
        finalizing = await self.batches.swap(batch, batch.finalizing(self.clock()))
        if finalizing is None:
            return Again(0.0)
        output, errors = await self._answered(finalizing)
        now = self.clock()
        ended = finalizing.ended(output, errors, now)
        written = await self.batches.swap(finalizing, ended)
        if written is None:
            return Lost()
        log.info(
            "batch_ended",
            batch=batch.id,
            tenant=batch.tenant,
            status=ended.status,
            total=ended.total,
            completed=ended.completed,
            failed=ended.failed,
            seconds=round(now - batch.created_at, 3),
        )
        return Settled()

    async def _answered(self, batch: Batch) -> tuple[str | None, str | None]:
        """Write the files of answers and of errors; return their ids, or None for an empty one."""
        with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, ExitStack() as stack:
            paths = [Path(folder) / name for name in ("output.jsonl", "errors.jsonl")]
            files = [stack.enter_context(path.open("wb")) for path in paths]
            await self._write_answers(batch, files[0], files[1])
            for file in files:
                file.close()
            output = await self._keep(batch, "output", paths[0])
            return output, await self._keep(batch, "errors", paths[1])

    async def _write_answers(self, batch: Batch, output: BinaryIO, errors: BinaryIO) -> None:
        place = Place()
        while place.lines < batch.total:
            found = await lines(self.objects, batch.plan_key, place, AT_ONCE)
            if not found:
                return
            for line, job in zip(found, await self._jobs_of(found), strict=True):
                (output if is_answered(job) else errors).write(self._answer(batch, line, job))
            place = found[-1].after

    async def _keep(self, batch: Batch, kind: str, path: Path) -> str | None:
        size = path.stat().st_size  # noqa: ASYNC240 — one small file of ours
        if not size:
            return None
        digest = hashlib.sha256(f"{batch.id} {kind}".encode()).hexdigest()
        now = self.clock()
        file = File(
            id=FileId(f"file-{digest[:32]}"),
            tenant=batch.tenant,
            filename=f"{batch.id}_{kind}.jsonl",
            purpose=Purpose.BATCH_OUTPUT,
            content_type=_JSONL,
            bytes=size,
            created_at=now,
            expires_at=now + self.life,
        )
        await self.objects.put(file.key, path, content_type=_JSONL)
        await self.files.put(file)
        return file.id

    def _answer(self, batch: Batch, line: Line, job: Job | None) -> bytes:
        digest = hashlib.sha256(f"{batch.id} {line.after.lines}".encode()).hexdigest()
        answer: dict[str, Any] = {
            "id": f"batch_req_{digest[:32]}",
            "custom_id": line.custom_id,
            "response": None,
            "error": None,
        }
        if job is not None and is_answered(job):
            body = _body(job, self.public_url)
            answer["response"] = {"status_code": 200, "request_id": job.id, "body": body}
        else:
            code, message = _reason(batch, line, job)
            answer["error"] = {"code": code, "message": message}
            if line.job_id is not None:
                answer["job_id"] = line.job_id
        return orjson.dumps(answer) + b"\n"


def _reason(batch: Batch, line: Line, job: Job | None) -> tuple[str, str]:
    if line.error is not None:
        return line.error
    if job is not None and job.error is not None:
        return job.error.code, job.error.message
    if batch.status is BatchStatus.CANCELLING:
        return "batch_cancelled", "The batch was cancelled before this request was begun."
    return "batch_expired", "This request was not begun within the batch's time."


def _body(job: Job, public_url: str) -> dict[str, Any]:
    """Return what was made in OpenAI's shape, with addresses that live as long as the images."""
    base = f"{public_url.rstrip('/')}/v1/jobs/{job.id}/images"
    return {
        "created": int(job.finished_at or job.created_at),
        "data": [
            {"url": f"{base}/{image.index}", "sha256": image.sha256}
            if image.status is ImageStatus.SUCCEEDED
            else {"error": failure_document(image.error)}
            for image in job.images
        ],
        "usage": usage_document(job.usage),
        "job_id": job.id,
        "model": job.model,
        "cost": cost_of(job),
        "warnings": [warning_document(warning) for warning in job.warnings],
    }
