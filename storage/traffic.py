"""Traffic: who may call which deployment now, agreed among all workers.

Each gate keeps leases for the calls that are under way, the pace of calls, a pause that the
upstream asked for, whether it tripped, and a room in which jobs wait in fair order. A call asks for
its place in one step and gives it back in one step, and the step that gives it back wakes the next
job and keeps the place for it. All time is Redis's own.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from storage import redis_keys, scripts
from storage.errors import Unavailable
from storage.gate import Condition, Crowd, Gate
from storage.line import Argument
from storage.redis_client import Commands, unavailable


class Verdict(StrEnum):
    """What a call tells of its deployment."""

    GOOD = "good"
    BAD = "bad"
    PAUSE = "pause"
    TRIP = "trip"
    FORGIVE = "forgive"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a call tells: a verdict, for how many seconds it holds, and why.

    `well` counts earlier calls that went well and were not told of. `probe` says that the call was
    let through a gate that tripped.
    """

    verdict: Verdict = Verdict.NONE
    seconds: float = 0.0
    reason: str = ""
    well: int = 0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """A gate that a job would pass, with how many calls in all and how many of them at once."""

    gate: Gate
    places: int = 1
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Passage:
    """The gate that lets a job pass, for how many calls at once, and whether as a probe.

    `tokens` names its places where they are counted.
    """

    gate: Gate
    places: int = 1
    tokens: tuple[str, ...] = ()
    probe: bool = False


class Tended(NamedTuple):
    """How many still wait before a gate, and when a place there comes free by itself, in seconds.

    It does so only if its worker does not renew it, most likely since that has died.
    """

    waiting: int
    frees_in: float | None


class Traffic:
    """All gates. Every method may raise `storage.errors.Unavailable`; `lease` is in seconds.

    A place whose worker does not `tend` it is somebody else's after the lease.
    """

    def __init__(
        self, commands: Commands, *, lease: float, queue: str = redis_keys.IMAGE_QUEUE
    ) -> None:
        self._commands = commands
        self._queue = queue
        self._lease_ms = int(lease * 1000)

    @property
    def lease(self) -> float:
        """Return the seconds that a place is kept without being tended."""
        return self._lease_ms / 1000

    async def ask(
        self,
        wishes: Sequence[Wish],
        job_id: str,
        token: str,
        *,
        pressing: bool = False,
        first: bool = False,
    ) -> Passage | None:
        """Let a job pass the first gate that is open for it; None when all are closed.

        `token` is the run's own, so that asking again is harmless. A `pressing` job passes in any
        case: the upstream works for it already. The `first` of those that waited overtakes nobody.
        """
        keys: list[str] = []
        args: list[Argument] = [job_id, token, self._lease_ms, 1 if pressing else 2 * first]
        for wish in wishes:
            keys += redis_keys.gate(wish.gate.name)
            args += [*wish.gate.numbers, wish.places, wish.calls]
        which, *rest = await self._commands.eval(scripts.PERMIT, keys, args)
        if which == 0:
            return None
        places, probe = rest
        gate = wishes[which - 1].gate
        counted = places if gate.limit is not None else 0
        tokens = tuple(f"{token}:{n + 1}" for n in range(counted))
        return Passage(gate, places, tokens, probe == 1)

    async def report(
        self, gate: Gate, report: Report, tokens: Sequence[str] = ()
    ) -> Condition | None:
        """Tell how calls went and give places back; return how the gate stands, if that was asked.

        Everybody who listens is told when that changes.
        """
        keys = [*redis_keys.gate(gate.name), *self._wake_keys, redis_keys.TRAFFIC]
        told = await self._commands.eval(
            scripts.REPORT,
            keys,
            [
                *gate.numbers,
                gate.name,
                redis_keys.IN_PROGRESS_PREFIX,
                report.verdict,
                int(report.seconds * 1000),
                report.reason,
                report.well,
                int(report.probe),
                *tokens,
            ],
        )
        return _condition(told) if told else None

    async def tend(self, gate: Gate, tokens: Sequence[str] = (), *, probe: bool = False) -> Tended:
        """Renew places, let in who waits, and return how the line stands then."""
        waiting, ms = await self._commands.eval(
            scripts.TEND,
            [*redis_keys.gate(gate.name), *self._wake_keys],
            [
                *gate.numbers,
                redis_keys.IN_PROGRESS_PREFIX,
                self._lease_ms,
                int(probe),
                *tokens,
            ],
        )
        return Tended(waiting, None if ms < 0 else ms / 1000)

    async def crowds(self, names: Sequence[str]) -> dict[str, Crowd]:
        """Return how the gates of these deployments stand, and who is at them."""
        if not names:
            return {}
        keys = [key for name in names for key in redis_keys.gate(name)[:3]]
        rows = await self._commands.eval(scripts.LEARN, keys, [])
        return {
            name: Crowd(_condition(told), calls, waiting)
            for name, (*told, calls, waiting) in zip(names, rows, strict=True)
        }

    async def conditions(self, names: Sequence[str]) -> dict[str, Condition]:
        """Return how the gates of these deployments stand."""
        return {name: crowd.condition for name, crowd in (await self.crowds(names)).items()}

    @asynccontextmanager
    async def changes(self) -> AsyncIterator["Announcements"]:
        """Listen to every change of a gate from here on."""
        pubsub = self._commands.redis.pubsub()
        try:
            await pubsub.subscribe(redis_keys.TRAFFIC)
            yield Announcements(pubsub)
        except (RedisError, OSError) as error:
            raise unavailable(error) or Unavailable("The job store does not answer.") from error
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare

    @property
    def _wake_keys(self) -> tuple[str, str]:
        return self._queue, redis_keys.wake(self._queue)


class Announcements:
    """What is told of gates, in order."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub

    async def next(self, timeout: float) -> tuple[str, Condition] | None:
        """Return the next gate that changed and how it stands now; None when none does in time."""
        message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout)
        if message is None:
            return None
        *told, name = message["data"].split(b"|", 4)
        return name.decode(), _condition(told)


def _condition(told: Sequence[Any]) -> Condition:
    paused, tripped, since, reason = told
    left = float(tripped)
    return Condition(
        paused=float(paused) / 1000,
        tripped=None if left < 0 else left / 1000,
        since=float(since) / 1000,
        reason=reason.decode(),
    )
