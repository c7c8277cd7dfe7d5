"""Permits: which deployments this worker may call now, and the calls it makes there.

A deployment without limits is called without asking anybody, as long as all is well: what other
workers learn of it is told on a channel, and Redis is written to only when something goes wrong.
One with limits, or one that is being tried out after it failed, is asked for a place in Redis
first. Places are renewed while their calls last, so they come free when a worker dies.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self, TypeAlias

import structlog
from redis.exceptions import RedisError

from storage.errors import Unavailable
from storage.failure import FailureCode
from storage.gate import ERRORS, Condition, Gate, GateState
from storage.traffic import Passage, Report, Traffic, Verdict, Wish
from worker.outage import outlast
from worker.provider import ProviderError
from worker.standby import LONGEST, Standby


TICK = 0.5
_LEAST_TICK = 0.05
TRIP = 5.0
CREDENTIAL_TRIP = 600.0
LONGEST_HINT = 120.0

_TALLY = 30.0
_ROOM_NOTED = 10.0
_BAD = frozenset({FailureCode.UPSTREAM_ERROR, FailureCode.UPSTREAM_TIMEOUT, FailureCode.OVERLOADED})

log = structlog.get_logger("worker.permits")


class Permit:
    """The right to make the calls of one attempt, `places` at once; entered while they are made.

    Whatever it still holds when it is left, it gives back. Without a passage it holds nothing.
    """

    def __init__(
        self,
        places: int = 1,
        calls: int = 1,
        *,
        permits: "Permits | None" = None,
        passage: Passage | None = None,
    ) -> None:
        self.places = asyncio.Semaphore(places)
        self._permits = permits
        self._passage = passage
        self._tokens = passage.tokens if passage is not None else ()
        self._probe = passage is not None and passage.probe
        self._left = calls
        self._begun = permits.now if permits is not None else 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = 0
        if self._tokens or self._probe:
            await asyncio.shield(self._tell(Verdict.NONE, None))

    async def ended(self, error: ProviderError | None) -> None:
        """Tell how a call went, and give its place back unless another call is to have it."""
        self._left -= 1
        if self._permits is not None and self._passage is not None and error is None:
            self._permits.took(self._passage.gate, self._permits.now - self._begun)
        await self._tell(Verdict.GOOD, error)

    async def _tell(self, verdict: Verdict, error: ProviderError | None) -> None:
        if self._permits is None or self._passage is None:
            return
        tokens, probe = self._tokens[self._left :], self._probe
        self._tokens, self._probe = self._tokens[: self._left], False
        report = _report_of(error, probe=probe) if verdict is Verdict.GOOD else Report(probe=probe)
        await self._permits.tell(self._passage.gate, report, tokens)


@dataclass(slots=True)
class _Known:
    """What this worker knows and holds of one gate; moments are of its own clock.

    `tokens` says of each place until when it is surely ours.
    """

    gate: Gate
    condition: Condition = field(default_factory=Condition)
    heard_at: float = 0.0
    well: int = 0
    well_from: float = 0.0
    watched_until: float = 0.0
    room_until: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict)
    probe: bool = False
    tended_at: float = 0.0
    frees_at: float = math.inf
    standby: Standby = field(default_factory=Standby)

    def most_ahead(self, now: float) -> int:
        """Return how many more jobs may be taken out of the line of those that wait here."""
        if now >= self.room_until or self.gate.per_minute is not None:
            return 0
        return self.standby.room(len(self.tokens), now)


TakeAhead: TypeAlias = Callable[[Gate], Awaitable[str | None]]


class Permits:
    """Keeps the permits of this worker. `heartbeat` is how often places are renewed, in seconds.

    `take_ahead` begins the first of the jobs that wait before a gate and returns its id; without it
    none is taken out of the line beforehand.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        heartbeat: float = 3.0,
        patience: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._traffic = traffic
        self._heartbeat = heartbeat
        self._patience = patience
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._aside: set[asyncio.Task[None]] = set()
        self.take_ahead: TakeAhead | None = None

    @property
    def now(self) -> float:
        """Return the moment by the clock of this worker."""
        return self._clock()

    async def ask(
        self, wishes: Sequence[Wish], job_id: str, token: str, *, pressing: bool = False
    ) -> tuple[Wish, Permit] | None:
        """Return the first wish that can be granted, with its permit; None when none can be now.

        Outlasts an outage of Redis; raises `Unavailable` when it lasts too long.
        """
        first = self._taken_ahead(wishes, job_id)
        asked, passage = self._clock(), None
        try:
            ask = partial(
                self._passage, wishes, job_id, token, pressing=pressing, first=first is not None
            )
            passage = await ask()
            if passage is None and first is not None:
                passage = await self._stood(first)
                asked = self._clock()
                passage = passage or await ask()
        finally:
            if first is not None:
                first.standby.answer(job_id, self._clock(), passed=passage is not None)
        if passage is None:
            return None
        known = self._of(passage.gate)
        known.tokens.update(dict.fromkeys(passage.tokens, asked + self._traffic.lease))
        known.probe = known.probe or passage.probe
        self._look_ahead(known)
        wish = next(wish for wish in wishes if wish.gate.name == passage.gate.name)
        return wish, Permit(passage.places, wish.calls, permits=self, passage=passage)

    async def _passage(
        self, wishes: Sequence[Wish], job_id: str, token: str, *, pressing: bool, first: bool
    ) -> Passage | None:
        doubtful, free = self._sorted(wishes, pressing=pressing)
        passage: Passage | None = None
        if doubtful:
            passage = await outlast(
                lambda: self._traffic.ask(doubtful, job_id, token, pressing=pressing, first=first),
                patience=self._patience,
            )
        if passage is None and free is not None:
            passage = Passage(free.gate, free.places)
        return passage

    def condition(self, gate: Gate) -> Condition:
        """Return how a gate stands now, as far as this worker has been told."""
        known = self._known.get(gate.name)
        if known is None:
            return Condition()
        return known.condition.after(self._clock() - known.heard_at)

    def wait_at(self, gates: Iterable[Gate], job_id: str) -> bool:
        """Look after the rooms of these gates: a job of this worker is about to wait there.

        Say whether it was taken out of a line beforehand and could not be served after all.
        """
        first = False
        for known in map(self._of, gates):
            known.room_until = self._clock() + _ROOM_NOTED
            first = known.standby.turned_away(job_id) or first
        return first

    async def tell(self, gate: Gate, report: Report, tokens: Sequence[str] = ()) -> None:
        """Pass on how calls went and give places back, if there is anything to say.

        A place that cannot be given back, as Redis is away, comes free by itself.
        """
        known = self._of(gate)
        held = {token: known.tokens.pop(token, 0.0) for token in tokens}
        if report.verdict in {Verdict.GOOD, Verdict.NONE} and not report.probe:
            tokens = self._handed_on(known, held)
        if not known.tokens:
            known.standby.send_away()
        if report.probe:
            known.probe = False
        if report.verdict is Verdict.GOOD and not report.probe:
            self._count(known)
            report = Report()
        if report.verdict is Verdict.NONE and not report.probe and not tokens:
            return
        if report.verdict is Verdict.BAD:
            report = replace(report, well=self._taken(known))
        before = self.condition(gate)
        with contextlib.suppress(Unavailable):
            condition = await self._traffic.report(gate, report, tokens)
            if condition is not None:
                self._log(gate, report, before, condition)
                self._hear(known, condition)

    def took(self, gate: Gate, seconds: float) -> None:
        """Note how long a call took."""
        self._of(gate).standby.took(seconds)

    async def forgive(self, gates: Iterable[Gate]) -> None:
        """Open the gates that tripped over their credentials: there may be new ones."""
        for gate in gates:
            condition = self.condition(gate)
            if condition.state is GateState.SWITCHED_OFF:
                await self.tell(gate, Report(verdict=Verdict.FORGIVE))

    # -- while the worker runs ---------------------------------------------------------------------

    async def run(self, gates: Callable[[], Iterable[Gate]]) -> None:
        """Listen to the other workers and keep what is held, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(gates))
            group.create_task(self._tend())

    async def learn(self, gates: Iterable[Gate]) -> None:
        """Ask how gates stand, for what was told while nobody listened."""
        by_name = {gate.name: gate for gate in gates}
        for name, condition in (await self._traffic.conditions(tuple(by_name))).items():
            self._hear(self._of(by_name[name]), condition)

    async def _listen(self, gates: Callable[[], Iterable[Gate]]) -> None:
        while True:
            try:
                async with self._traffic.changes() as announcements:
                    await self.learn(gates())
                    while True:
                        if (told := await announcements.next(5.0)) is not None:
                            name, condition = told
                            gate = next((g for g in gates() if g.name == name), Gate(name))
                            self._hear(self._of(gate), condition, told=True)
            except (Unavailable, RedisError, OSError):
                await asyncio.sleep(TICK)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._until_next())
            for known in tuple(self._known.values()):
                with contextlib.suppress(Unavailable):
                    await self._tend_one(known, self._clock())

    def _until_next(self) -> float:
        """Return in how many seconds to tend again: when a dead worker leaves a place, if so."""
        now = self._clock()
        lines = (known for known in self._known.values() if now < known.room_until)
        soon = (known.frees_at - now for known in lines if known.frees_at > now)
        return min(TICK, max(min(soon, default=TICK), _LEAST_TICK))

    async def _tend_one(self, known: _Known, now: float) -> None:
        if known.well and now < known.watched_until:
            await self._traffic.report(known.gate, Report(well=self._taken(known)))
        has_room = now < known.room_until and not self.condition(known.gate).is_shut
        is_due = now >= known.tended_at + self._heartbeat
        if has_room or ((known.tokens or known.probe) and is_due):
            known.tended_at = now
            held = tuple(known.tokens)
            tended = await self._traffic.tend(known.gate, held, probe=known.probe)
            if tended.waiting:
                known.room_until = now + _ROOM_NOTED
            known.frees_at = now + (math.inf if tended.frees_in is None else tended.frees_in)
            known.tokens.update(
                dict.fromkeys(known.tokens.keys() & set(held), now + self._traffic.lease)
            )
            # What was given back meanwhile may have been renewed by this.
            if gone := set(held) - known.tokens.keys():
                await self._traffic.report(known.gate, Report(), tuple(gone))

    # -- jobs that are taken out of the line beforehand --------------------------------------------

    def _look_ahead(self, known: _Known) -> None:
        """Take jobs out of the line for the places that this worker's calls will leave."""
        if (
            self.take_ahead is None
            or known.standby.is_looking
            or known.most_ahead(self._clock()) <= 0
        ):
            return
        known.standby.is_looking = True
        self._do_aside(self._take(known, self.take_ahead))

    async def _take(self, known: _Known, take_ahead: TakeAhead) -> None:
        try:
            while known.most_ahead(self._clock()) > 0:
                if (job_id := await take_ahead(known.gate)) is None:
                    return
                known.standby.take(job_id, self._clock())
        except Unavailable:
            return
        finally:
            known.standby.is_looking = False

    def _taken_ahead(self, wishes: Sequence[Wish], job_id: str) -> _Known | None:
        """Return the gate before which the job was taken out of the line."""
        gates = (self._of(wish.gate) for wish in wishes)
        return next((known for known in gates if known.standby.has(job_id)), None)

    async def _stood(self, known: _Known) -> Passage | None:
        """Wait for the place of one of this worker's calls, for as long as brief calls last."""
        if not known.tokens or self.condition(known.gate).is_shut:
            return None
        handed = known.standby.stand()
        try:
            await asyncio.wait({handed}, timeout=LONGEST)
            if not handed.done() or handed.cancelled():
                return None
            # The place is as old as the call that had it, and this call may outlive its worker.
            # What is said to Redis first is done first: it is renewed before the attempt is begun.
            self._do_aside(self._renewed(known.gate, handed.result()))
            await asyncio.sleep(0)
            return Passage(known.gate, 1, (handed.result(),))
        except asyncio.CancelledError:
            if handed.done() and not handed.cancelled():
                await asyncio.shield(self.tell(known.gate, Report(), (handed.result(),)))
            raise
        finally:
            handed.cancel()  # which does nothing to one that was given a place

    def _handed_on(self, known: _Known, held: Mapping[str, float]) -> Sequence[str]:
        """Give places to jobs that stand ready, and return those that are left.

        After a stall of this worker a place may be somebody else's by now; it is not handed on.
        """
        places = len(known.tokens) + len(held)
        is_open = self.condition(known.gate).state is GateState.OPEN
        if not is_open or known.standby.shares(places, known.gate.limit or 0):
            return tuple(held)
        late = self._clock() + self._traffic.lease / 4
        ours = [token for token, until in held.items() if until > late]
        for token in ours:
            known.tokens[token] = held[token]
            if not known.standby.hand(token):
                del known.tokens[token]
                break
        return tuple(token for token in held if token not in known.tokens)

    def _do_aside(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _renewed(self, gate: Gate, token: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._traffic.tend(gate, (token,))

    # -- inside ------------------------------------------------------------------------------------

    def _sorted(self, wishes: Sequence[Wish], *, pressing: bool) -> tuple[list[Wish], Wish | None]:
        """Return the wishes that only Redis can grant, and the first that needs nobody's leave."""
        doubtful: list[Wish] = []
        for wish in wishes:
            condition = self.condition(wish.gate)
            if pressing and wish.gate.limit is None:
                return doubtful, wish
            if condition.is_shut and not pressing:
                continue
            if condition.tripped is None and not wish.gate.is_limited:
                return doubtful, wish
            doubtful.append(wish)
        return doubtful, None

    def _of(self, gate: Gate) -> _Known:
        known = self._known.get(gate.name)
        if known is None:
            known = self._known[gate.name] = _Known(gate)
        elif known.gate != gate:
            known.gate = gate
        return known

    def _hear(self, known: _Known, condition: Condition, *, told: bool = False) -> None:
        now = self._clock()
        known.condition, known.heard_at = condition, now
        if told:  # somebody met an error: what goes well is worth telling for a while
            known.watched_until = now + _TALLY
        if condition.paused > 0 or condition.tripped is not None:
            known.room_until = now + max(condition.paused, condition.tripped or 0.0) + _ROOM_NOTED
        if condition.is_shut:
            known.standby.send_away()

    def _count(self, known: _Known) -> None:
        now = self._clock()
        if now - known.well_from > _TALLY:
            known.well, known.well_from = 0, now
        known.well += 1

    def _taken(self, known: _Known) -> int:
        well = known.well if self._clock() - known.well_from <= _TALLY else 0
        known.well = 0
        return well

    @staticmethod
    def _log(gate: Gate, report: Report, before: Condition, after: Condition) -> None:
        if after.tripped is not None and (before.tripped is None or before.reason != after.reason):
            log.warning("deployment_tripped", deployment=gate.name, reason=after.reason)
        elif after.tripped is None and before.tripped is not None:
            log.info("deployment_recovered", deployment=gate.name)
        if report.verdict is Verdict.PAUSE:
            log.info("deployment_paused", deployment=gate.name, seconds=round(after.paused, 1))


def _report_of(error: ProviderError | None, *, probe: bool) -> Report:
    """Return what the end of a call tells of its deployment; a refusal tells that it is alive."""
    if error is None:
        return Report(verdict=Verdict.GOOD, probe=probe)
    if error.code is FailureCode.RATE_LIMITED:
        seconds = min(error.retry_after or 0.0, LONGEST_HINT)
        return Report(verdict=Verdict.PAUSE, seconds=seconds, probe=probe)
    if error.code.credential:
        return Report(verdict=Verdict.TRIP, seconds=CREDENTIAL_TRIP, reason=error.code, probe=probe)
    if error.code in _BAD:
        return Report(verdict=Verdict.BAD, seconds=TRIP, reason=ERRORS, probe=probe)
    return Report(verdict=Verdict.GOOD, probe=probe)
