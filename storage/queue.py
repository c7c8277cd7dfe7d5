"""The queues: what waits, who has it and until when. arq's layout, with leases and a fair order.

Only ids travel here; what is to be done with them is in their records. A waiting task's score is
its place in the fair order, a leased or deferred one's is a moment, so the head of the queue never
holds anything that cannot be run now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_job

from storage import redis_keys, scripts
from storage.gate import Gate, Waiting
from storage.line import Argument
from storage.redis_client import Commands


RUN_JOB = "run_job"
DELIVER = "deliver"
RENDER = "render"
REPLAY = "replay"
FEED = "feed"


def payload(task: str, task_id: str, now: float) -> bytes:
    """Return what arq keeps of a queued task: its kind and the id, as JSON, never pickle."""
    return serialize_job(task, (task_id,), {}, None, int(now * 1000), serializer=orjson.dumps)


def task_of(data: bytes | None) -> str | None:
    """Return the kind of task that a payload names, or None when no payload can be read."""
    if data is None:
        return None
    try:
        name, *_ = deserialize_job_raw(data, deserializer=orjson.loads)
    except DeserializationError:
        return None
    return name


def render_task(job_id: str) -> str:
    """Return the id of the task that makes the renditions of an ended job."""
    return f"{job_id}.renditions"


def job_of_render_task(task_id: str) -> str:
    """Return the id of the job whose renditions a task makes."""
    return task_id.removesuffix(".renditions")


def enqueued_at(data: bytes | None) -> float | None:
    """Return when a payload was made, in Unix seconds, or None when no payload can be read."""
    if data is None:
        return None
    try:
        *_, milliseconds = deserialize_job_raw(data, deserializer=orjson.loads)
    except DeserializationError:
        return None
    return float(milliseconds) / 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """Tasks leased in one step, as (id, kind), and the seconds until another is due.

    The records of those that are jobs are in `records`, by id.
    """

    tasks: tuple[tuple[str, str | None], ...]
    next_due: float | None
    records: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Depth:
    """How many tasks of a queue wait for a worker, and how many are leased or deferred."""

    waiting: int
    held: int


class Queue:
    """One queue, as a worker sees it. All times are Redis's own; `lease` is in seconds."""

    def __init__(self, commands: Commands, name: str, *, token: str, lease: float) -> None:
        self._commands = commands
        self.name = name
        self._token = token
        self._lease_ms = int(lease * 1000)

    async def claim(self, most: int, *, timely: bool = False) -> Claim:
        """Lease up to `most` due tasks; `timely`: only of those who do not crowd the queue."""
        keys = [
            self.name,
            redis_keys.wake(self.name),
            redis_keys.flows(self.name),
            redis_keys.timely(self.name),
        ]
        next_due, *rest = await self._commands.eval(
            scripts.CLAIM,
            keys,
            [
                redis_keys.IN_PROGRESS_PREFIX,
                redis_keys.PAYLOAD_PREFIX,
                self._token,
                self._lease_ms,
                most,
                redis_keys.FIRST_MOMENT,
                int(timely),
                redis_keys.JOB_PREFIX if self.name == redis_keys.IMAGE_QUEUE else "",
            ],
        )
        ids = [task_id.decode() for task_id in rest[::3]]
        records = {name: record for name, record in zip(ids, rest[2::3], strict=True) if record}
        kinds = (
            RUN_JOB if name in records else task_of(data)
            for name, data in zip(ids, rest[1::3], strict=True)
        )
        tasks = tuple(zip(ids, kinds, strict=True))
        return Claim(tasks, None if next_due < 0 else next_due / 1000, records)

    async def claim_ahead(self, gate: Gate) -> tuple[str, str | None] | None:
        """Lease the first of the jobs that wait before a gate, as (id, kind).

        None while the gate is shut, or so few wait that whichever worker has a place free should
        find them there.
        """
        found = await self._commands.eval(
            scripts.AHEAD,
            [*redis_keys.gate(gate.name), self.name],
            [
                *gate.numbers,
                redis_keys.IN_PROGRESS_PREFIX,
                redis_keys.PAYLOAD_PREFIX,
                self._token,
                self._lease_ms,
            ],
        )
        return (found[0].decode(), task_of(found[1])) if found else None

    async def renew(self, task_ids: Sequence[str]) -> frozenset[str]:
        """Renew the leases of `task_ids` and return those that are somebody else's by now."""
        lost: list[bytes] = await self._commands.eval(
            scripts.RENEW,
            [self.name],
            [redis_keys.IN_PROGRESS_PREFIX, self._token, self._lease_ms, *task_ids],
        )
        return frozenset(task_id.decode() for task_id in lost)

    async def put_back(self, task_id: str, after: float, waiting: Waiting | None = None) -> bool:
        """Let a leased task be run again `after` seconds from now; False when it is not ours.

        A job that is `waiting` before gates is run as soon as one of them lets it in.
        """
        delay_ms = max(int(after * 1000), 0)
        if waiting is None:
            return await self._release(task_id, delay_ms)
        return await self._park(task_id, delay_ms, waiting)

    async def done(self, task_id: str) -> bool:
        """Take a leased task off the queue; False when it is not ours."""
        return await self._release(task_id, -1)

    async def wait(self, longest: float, *, timely: bool = False) -> bool:
        """Wait for a wake-up, at most `longest` seconds; say whether one came.

        `timely`: only for one that those who do not crowd the queue have caused.
        """
        keys = [redis_keys.timely(self.name)]
        if not timely:
            keys.append(redis_keys.wake(self.name))
        popped: Any = self._commands.redis.blpop(keys, timeout=longest)  # type: ignore[arg-type]  # Redis takes fractions
        token = await popped
        return token is not None

    async def nudge(self) -> None:
        """Wake one worker, for a wake-up that may have been lost."""
        await self._commands.execute("LPUSH", redis_keys.wake(self.name), 1)

    async def _park(self, task_id: str, delay_ms: int, waiting: Waiting) -> bool:
        keys = [
            self.name,
            redis_keys.in_progress(task_id),
            redis_keys.wake(self.name),
            redis_keys.job(task_id),
        ]
        args: list[Argument] = [
            task_id,
            self._token,
            delay_ms,
            redis_keys.IN_PROGRESS_PREFIX,
            int(waiting.first),
            len(waiting.flows),
            *waiting.flows,
        ]
        for gate in waiting.gates:
            keys += redis_keys.gate(gate.name)
            args += gate.numbers
        return bool(await self._commands.eval(scripts.PARK, keys, args))

    async def _release(self, task_id: str, delay_ms: int) -> bool:
        keys = [
            self.name,
            redis_keys.in_progress(task_id),
            redis_keys.payload(task_id),
            redis_keys.wake(self.name),
        ]
        return bool(
            await self._commands.eval(scripts.RELEASE, keys, [task_id, self._token, delay_ms])
        )


async def depth(commands: Commands, name: str) -> Depth:
    """Return how much a queue holds."""
    waiting = await commands.execute("ZCOUNT", name, "-inf", f"({redis_keys.FIRST_MOMENT}")
    return Depth(waiting, await commands.execute("ZCARD", name) - waiting)


async def holds(commands: Commands, name: str, task_id: str) -> bool:
    """Say whether a queue has the task, waiting, leased or deferred."""
    return await commands.execute("ZSCORE", name, task_id) is not None


async def put(commands: Commands, name: str, task: str, task_id: str, now: float) -> None:
    """Queue a task whose record exists but whose entry was lost; harmless when it is there."""
    await commands.execute("SET", redis_keys.payload(task_id), payload(task, task_id, now))
    await commands.execute("ZADD", name, "NX", int(now * 1000), task_id)
    await commands.execute("LPUSH", redis_keys.wake(name), 1)
