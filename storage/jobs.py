"""Jobs: where the records are kept, and the two steps that change them.

`add` takes a job in and queues it, `swap` writes a job over the version that was read, with
everything that follows from it. Each is one script, so a process can die at any line of ours and
leave either all of it or none; the webhooks that a step owes are part of it. No rule of what a job
may become is written here: see `storage.job`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from storage import queue, record, redis_keys, scripts
from storage.bill import day_of, entry_of, nano_of, seconds_left
from storage.crash import CrashPoint
from storage.delivery import owed
from storage.endpoint import Receivers
from storage.endpoints import KnownReceivers
from storage.errors import Conflict, TooMany
from storage.event import events_of
from storage.job import Job, JobId, JobStatus, Newer
from storage.line import Argument
from storage.listing import Listing
from storage.outbox import Owing, new_delivery_id, owing
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Tenant


CHECK_EVERY = 60.0
_LARGEST_PREVIEW = 2 * 1024 * 1024
_PREVIEW_LIFE_MS = 60_000
_PRIORITIES = (1, 0, -1)
_TRIES = 5
_LATER = 1_000_000_000_000_000  # µs; sets those that stand with another priority far apart
SEATED_AT_ONCE = 100


def new_job_id() -> JobId:
    """Return an id that cannot be guessed: 128 random bits."""
    return JobId("job_" + secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key and the fingerprint of what it was used for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tenant may spend on the jobs of a day, and what it had spent when that began to hold.

    `key_limit` is what may be spent with the API key of the job, whatever was spent before. All are
    in USD, and a limit that is None does not hold. What a job sets aside is its own matter: see
    `Job.reserved`.
    """

    limit: float | None = None
    spent: float = 0.0
    key_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Seating:
    """Has a tenant's jobs counted; at most `most` of them may be open at one time."""

    most: int | None = None

    @classmethod
    def of(cls, tenant: Tenant) -> "Seating | None":
        """Return what holds for a tenant, or None for one whose jobs nobody needs to count."""
        return cls(tenant.max_queued) if tenant.is_counted else None


@dataclass(frozen=True, slots=True)
class Added:
    """Which job answers a submission, and whether it was there before."""

    id: JobId
    existed: bool = False


class Jobs:
    """The records of all jobs; `listing` has a tenant's page by page.

    Every method may raise `storage.errors.Unavailable`; those that read may raise `Newer` for what
    only a newer version can read.
    """

    def __init__(
        self,
        commands: Commands,
        retention: RetentionSettings,
        *,
        receivers: KnownReceivers | None = None,
        clock: Callable[[], float] = time.time,
        crash: CrashPoint | None = None,
    ) -> None:
        self._commands = commands
        self.listing = Listing(commands)
        self._receivers = receivers or KnownReceivers(commands)
        self._clock = clock
        self._crash = crash or CrashPoint()
        self._life = retention.days * 86_400
        # A key is not remembered for longer than the job that it finds.
        remembered = min(retention.idempotency_hours * 3600, self._life)
        self._idempotency_ms = int(remembered * 1000)

    async def add(
        self,
        job: Job,
        *,
        weight: float = 1.0,
        idempotency: Idempotency | None = None,
        budget: Budget | None = None,
        seating: Seating | None = None,
    ) -> Added:
        """Take in a new job and queue it, or find the one that the same key made before.

        `weight` is the tenant's share of the queue, above 0. Adding the same job twice is harmless.
        Raises `Conflict` when the key was used for another request, and `TooMany` when the job
        would go beyond the `budget` or the `seating`.
        """
        for _ in range(_TRIES):
            code, *rest = await self._add_once(job, weight, idempotency, budget, seating)
            if code != -4:
                break
            self._receivers.forget(job.tenant)
        else:
            raise Conflict("The webhook endpoints are changing; try again.", code="busy")
        if code == -1:
            message = "This Idempotency-Key was used for a different request."
            raise Conflict(message, param="Idempotency-Key", code="idempotency_key_reused")
        if code == -2:
            raise TooMany(
                "The job would go beyond what may be spent in a day.",
                retry_after=seconds_left(job.created_at),
                code="budget_exceeded",
            )
        if code == -5:
            raise TooMany(
                "The job would go beyond what may be spent with this key in a day.",
                retry_after=seconds_left(job.created_at),
                code="budget_exceeded",
            )
        if code == -3:
            raise TooMany(
                "As many jobs are open as the tenant may have.", retry_after=5.0, code="queue_full"
            )
        return Added(job.id) if code else Added(JobId(rest[0].decode()), existed=True)

    async def _add_once(
        self,
        job: Job,
        weight: float,
        idempotency: Idempotency | None,
        budget: Budget | None,
        seating: Seating | None,
    ) -> Any:
        receivers = await self._receivers.of(job.tenant)
        told = replace(job, receivers=receivers.generation)
        owed = self._owed(None, told, receivers)
        flows = flows_of(job)
        keys = [
            redis_keys.job(job.id),
            redis_keys.jobs_of(job.tenant),
            redis_keys.APPOINTMENTS,
            redis_keys.payload(job.id),
            redis_keys.IMAGE_QUEUE,
            redis_keys.wake(redis_keys.IMAGE_QUEUE),
            redis_keys.flows(redis_keys.IMAGE_QUEUE),
            redis_keys.committed(job.tenant, day_of(job.created_at)),
            "" if idempotency is None else redis_keys.idempotency(job.tenant, idempotency.key),
            *redis_keys.seats(job.tenant),
            redis_keys.STANDING,
            redis_keys.timely(redis_keys.IMAGE_QUEUE),
            _committed_by(job),
            *owed.keys,
        ]
        limits = budget or Budget()
        reserved = job.key_reserved if job.reserved is None else job.reserved
        args: list[Argument] = [
            job.id,
            record.written(told),
            _microseconds(job.created_at),
            next_check(job, job.created_at),
            queue.payload(queue.RUN_JOB, job.id, job.created_at),
            job.request.n / weight,
            "" if idempotency is None else idempotency.fingerprint,
            self._idempotency_ms,
            -1 if limits.limit is None else nano_of(limits.limit),
            nano_of(reserved),
            nano_of(limits.spent),
            _most(seating),
            _microseconds(job.created_at) - job.priority * _LATER,
            receivers.generation,
            redis_keys.generation_field(job.tenant),
            -1 if limits.key_limit is None or job.key is None else nano_of(limits.key_limit),
            len(flows),
            *flows,
            *owed.args,
        ]
        self._crash.visit("add")
        script = scripts.ADD_AND_OWE if owed.keys else scripts.ADD
        answer = await self._commands.eval(script, keys, args, takes_in=True)
        self._crash.visit("added")
        return answer

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """Return a tenant's job; another tenant's is None, as is one that never was."""
        job = await self.find(job_id)
        return job if job is not None and job.tenant == tenant else None

    async def find(self, job_id: str) -> Job | None:
        """Return a job by its id alone, for those who serve all tenants."""
        document = await self._commands.execute("HGET", redis_keys.job(job_id), "document")
        return None if document is None else record.read(document)

    async def swap(self, old: Job, new: Job) -> Job | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first.

        What the tenant's receivers are told of this step is owed in the same step, and when the job
        has ended, its queue entry goes. Saying the same swap twice is harmless. Raises `Newer` for
        a record that this version would not keep whole.
        """
        if old.is_newer:
            raise Newer
        written = replace(new, version=old.version + 1)
        owed = Owing()
        if any(True for _ in events_of(old, written)):
            receivers = await self._receivers.of(old.tenant, since=old.receivers)
            owed = self._owed(old, written, receivers)
        bill_keys, bill_args = _billed(old, written)
        keys = [
            redis_keys.job(old.id),
            redis_keys.APPOINTMENTS,
            redis_keys.changes(old.id),
            redis_keys.payload(old.id),
            redis_keys.in_progress(old.id),
            redis_keys.IMAGE_QUEUE,
            *bill_keys,
            *redis_keys.seats(old.tenant),
            redis_keys.STANDING,
            redis_keys.flows(redis_keys.IMAGE_QUEUE),
            redis_keys.wake(redis_keys.IMAGE_QUEUE),
            redis_keys.timely(redis_keys.IMAGE_QUEUE),
            _committed_by(old),
            *owed.keys,
        ]
        *bill_args, by_key = bill_args
        ended_at = written.finished_at or 0.0
        args: list[Argument] = [
            old.version,
            record.written(written),
            old.id,
            int(written.is_ended),
            ended_at + self._life,
            news(written),
            *bill_args,
            redis_keys.JOB_PREFIX,
            by_key,
            *owed.args,
        ]
        script = scripts.SWAP_AND_OWE if owed.keys else scripts.SWAP
        done = await self._commands.eval(script, keys, args)
        return written if done == 1 else None

    async def remove(self, job: Job) -> None:
        """Forget a job that has ended; its objects are somebody else's business."""
        # The appointment goes last: it brings back whoever dies on the way.
        await self._commands.execute("ZREM", redis_keys.jobs_of(job.tenant), job.id)
        await self._commands.execute("DEL", redis_keys.job(job.id))
        await self._commands.execute("ZREM", redis_keys.APPOINTMENTS, job.id)

    async def let_go(self, job: Job) -> None:
        """Take the queue entry and the seat of an ended job away, should they have outlived it.

        The step that ends a job does so too; a log that was cut short can end within that step.
        """
        _, taken, standing = redis_keys.seats(job.tenant)
        await self._commands.execute("ZREM", redis_keys.IMAGE_QUEUE, job.id)
        await self._commands.execute("DEL", redis_keys.payload(job.id))
        if await self._commands.execute("ZREM", standing, job.id):
            await self._commands.execute("DECR", redis_keys.STANDING)
        if await self._commands.execute("SREM", taken, job.id):
            await self.seat(job.tenant)

    async def oldest(self, tenant: str, most: int) -> list[JobId]:
        """Return a tenant's oldest jobs, up to `most`."""
        ids = await self._commands.execute("ZRANGE", redis_keys.jobs_of(tenant), 0, most - 1)
        return [JobId(job_id.decode()) for job_id in ids]

    async def drop(self, tenant: str, job_id: str) -> None:
        """Forget a job that nobody can read or that has ended, wherever it is named."""
        await self._commands.execute("ZREM", redis_keys.IMAGE_QUEUE, job_id)
        await self._commands.execute("DEL", redis_keys.job(job_id), redis_keys.payload(job_id))
        await self._commands.execute("ZREM", redis_keys.APPOINTMENTS, job_id)
        await self._commands.execute("ZREM", redis_keys.jobs_of(tenant), job_id)

    async def forget_flows(self, tenant: str) -> None:
        """Forget a tenant's places in the fair order."""
        flows = [f"{tenant}:{priority}" for priority in _PRIORITIES]
        queue_flows = redis_keys.flows(redis_keys.IMAGE_QUEUE)
        await self._commands.execute("HDEL", queue_flows, *flows)

    async def due(self, now: float, most: int) -> list[JobId]:
        """Return jobs that somebody should look at by now: open for long, or to be forgotten.

        Among them are the batches that are open.
        """
        ids = await self._commands.execute(
            "ZRANGEBYSCORE", redis_keys.APPOINTMENTS, "-inf", now, "LIMIT", 0, most
        )
        return [JobId(job_id.decode()) for job_id in ids]

    async def look_again(self, job_id: JobId, at: float | None) -> None:
        """Move the next look at a job to `at`, or strike it off when its record is gone."""
        if at is None:
            await self._commands.execute("ZREM", redis_keys.APPOINTMENTS, job_id)
        else:
            await self._commands.execute("ZADD", redis_keys.APPOINTMENTS, "XX", at, job_id)

    async def may_sweep(self, every: float) -> bool:
        """Say whether no process has begun to look for orphans in the last `every` seconds."""
        said = await self._commands.execute(
            "SET", redis_keys.SWEEP, 1, "NX", "PX", max(1, int(every * 1000))
        )
        return said is not None

    async def requeue(self, job: Job, now: float) -> None:
        """Queue an open job whose queue entry was lost."""
        await queue.put(self._commands, redis_keys.IMAGE_QUEUE, queue.RUN_JOB, job.id, now)

    async def is_queued(self, job: Job) -> bool:
        """Say whether the queue knows of the job."""
        return await queue.holds(self._commands, redis_keys.IMAGE_QUEUE, job.id)

    async def stands(self, job: Job) -> bool:
        """Say whether the job is to be queued once its tenant has a free seat."""
        standing = redis_keys.seats(job.tenant)[2]
        return await self._commands.execute("ZSCORE", standing, job.id) is not None

    async def open_of(self, tenant: str) -> int:
        """Return how many open jobs a tenant has whose jobs are counted."""
        _, taken, standing = redis_keys.seats(tenant)
        seated, waiting = await asyncio.gather(
            self._commands.issue("SCARD", taken), self._commands.issue("ZCARD", standing)
        )
        return int(seated + waiting)

    async def open_of_all(self) -> int:
        """Return how many open jobs there are."""
        queued, standing = await asyncio.gather(
            self._commands.issue("ZCARD", redis_keys.IMAGE_QUEUE),
            self._commands.issue("GET", redis_keys.STANDING),
        )
        return int(queued) + int(standing or 0)

    async def seat(self, tenant: str) -> int:
        """Give a tenant's free seats to jobs that stand, as after its limit was raised.

        Up to a hundred are seated; returns how many.
        """
        keys = [
            *redis_keys.seats(tenant),
            redis_keys.STANDING,
            redis_keys.IMAGE_QUEUE,
            redis_keys.flows(redis_keys.IMAGE_QUEUE),
            redis_keys.wake(redis_keys.IMAGE_QUEUE),
            redis_keys.timely(redis_keys.IMAGE_QUEUE),
        ]
        args: list[Argument] = [redis_keys.JOB_PREFIX, SEATED_AT_ONCE]
        return int(await self._commands.eval(scripts.SEAT, keys, args))

    async def position(self, job: Job) -> int | None:
        """Return how many tasks stand before a waiting job; None when it does not wait."""
        if job.status is not JobStatus.QUEUED:
            return None
        place, rank = await asyncio.gather(
            self._commands.issue("ZSCORE", redis_keys.IMAGE_QUEUE, job.id),
            self._commands.issue("ZRANK", redis_keys.IMAGE_QUEUE, job.id),
        )
        waits = place is not None and place < redis_keys.FIRST_MOMENT
        return rank if waits else None

    async def tell_cancelled(self, job: Job) -> None:
        """Tell the worker that has the job, if one has, that it need not go on."""
        await self._commands.execute("PUBLISH", redis_keys.CANCELS, job.id)

    async def tell_partial(self, job: Job, index: int, sequence: int, preview: bytes) -> None:
        """Tell those who stream the job of a preview; one above 2 MiB is not passed on."""
        if len(preview) > _LARGEST_PREVIEW:
            return
        key = redis_keys.partial(job.id, index, sequence)
        partial = {"index": index, "sequence": sequence, "key": key}
        told = orjson.dumps(
            {"job": job.id, "status": job.status, "version": job.version, "partial": partial}
        )
        await self._commands.execute("SET", key, preview, "PX", _PREVIEW_LIFE_MS)
        await self._commands.execute("PUBLISH", redis_keys.changes(job.id), told)

    async def partial(self, key: str) -> bytes | None:
        """Return the bytes of a preview that was told of, or None when its minute is over."""
        data: bytes | None = await self._commands.execute("GET", key)
        return data

    def _owed(self, before: Job | None, after: Job, receivers: Receivers) -> Owing:
        deliveries = owed(before, after, receivers.endpoints, new_delivery_id, self._clock())
        return owing(after.tenant, deliveries)


def _billed(old: Job, new: Job) -> tuple[list[str], list[Argument]]:
    """Return what a swap writes into the tenant's bill and commits of its budget.

    What may have been charged beyond the known cost stays committed: a budget holds at the worst.
    """
    day = day_of(new.finished_at or new.created_at)
    keys = [
        redis_keys.bill(new.tenant, day, new.model),
        redis_keys.bills_of(new.tenant),
        redis_keys.committed(new.tenant, day_of(new.created_at)),
    ]
    entry = entry_of(old, new)
    if entry is None:
        return keys, [0, 0, 0, 0, 0, "", 0, 0, 0]
    at_risk = nano_of(new.at_risk)
    commits = [
        0
        if aside is None
        else entry.nano + at_risk - nano_of(old.at_risk if old.is_ended else aside)
        for aside in (new.reserved, new.key_reserved)
    ]
    return keys, [*entry, f"{day} {new.model}", int(day.replace("-", "")), *commits]


def _committed_by(job: Job) -> str:
    """Return the key of what is committed of the budget of a job's API key, or nothing."""
    if job.key is None:
        return ""
    return redis_keys.committed_by(job.key, day_of(job.created_at))


def next_check(job: Job, now: float) -> float:
    """Return when an open job should be looked at again, though nothing may have happened to it."""
    moments = [now + CHECK_EVERY]
    if job.start_by is not None and job.started_at is None:
        moments.append(job.start_by)
    if job.deadline is not None:
        moments.append(job.deadline)
    return min(moments)


def flows_of(job: Job) -> tuple[str, ...]:
    """Return the job's own flow, then those of its tenant that come before it."""
    urgent = [priority for priority in _PRIORITIES if priority > job.priority]
    return tuple(f"{job.tenant}:{priority}" for priority in (job.priority, *urgent))


def news(job: Job) -> bytes:
    """Return what is told of a change: little, whoever cares reads the record."""
    return orjson.dumps({"job": job.id, "status": job.status, "version": job.version})


def _most(seating: Seating | None) -> str | int:
    if seating is None:
        return ""
    return -1 if seating.most is None else seating.most


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
