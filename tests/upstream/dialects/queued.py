"""What the asynchronous dialects share: a task is taken now and asked for until it is done.

More tokens of these dialects:

    [[polls:3]]       that many polls find the task unfinished (1 without this token); with `slow`
                      it is unfinished for that time, while taking it is answered at once
    [[ack:2]]         the answer to a task, which is running and billed by then, takes so long
    [[fail]]          the task fails
    [[lost]]          the task is forgotten
    [[poll-503]]      the first poll goes so; `poll-` stands before any fault or way of travelling
    [[poll-times:3]]  the first three do
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Dialect, World
from tests.upstream.faults import Fault, fault_of
from tests.upstream.tokens import Tokens


MAX_TASKS = 20_000
_POLL = "poll-"

Make: TypeAlias = Callable[[web.Request], Awaitable[dict[str, Any]]]
"""Draws a task's result, when it is first asked for."""


@dataclass(slots=True, kw_only=True)
class Task:
    """One task on its way."""

    id: str
    key: str | None = field(repr=False)
    tokens: Tokens
    ready_at: float
    make: Make = field(repr=False)
    polls: int = 0
    cancelled: bool = False
    result: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def refused(self) -> str | None:
        """Where moderation refuses it: at the input, at the output, or nowhere."""
        return self.tokens.text("refuse")

    @property
    def open(self) -> bool:
        """Whether it is still to be worked on."""
        waiting = self.polls <= self.tokens.number("polls", 1)
        return not self.cancelled and (waiting or time.monotonic() < self.ready_at)

    async def done(self, request: web.Request) -> dict[str, Any]:
        """Return the result, drawn once."""
        if self.result is None:
            self.result = await self.make(request)
        return self.result


class Queued(Dialect):
    """A dialect that keeps tasks; what its prompt asks for happens when the task is taken."""

    moderates_at_once = True
    """Whether a refused prompt is refused when the task is taken, or found out by a poll."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self.tasks: OrderedDict[str, Task] = OrderedDict()

    async def take(self, call: Call, *, model: str, prompt: str) -> Tokens:
        """Read the tokens and refuse as they say, but wait for nothing."""
        call.model, call.prompt = model, prompt
        call.tokens = self._tokens(call)
        refused = fault_of(call.tokens)
        if refused is None:
            return call.tokens
        if refused.fault is Fault.REFUSED_INPUT and not self.moderates_at_once:
            return call.tokens
        raise refused

    async def enqueue(self, call: Call, make: Make, *, task_id: str | None = None) -> Task:
        """Keep a task that was taken."""
        slow = call.tokens.number("slow", 1.0) if "slow" in call.tokens else 0.0
        task = Task(
            id=task_id or str(uuid.uuid4()),
            key=call.key,
            tokens=call.tokens,
            ready_at=time.monotonic() + slow,
            make=make,
        )
        self.tasks[task.id] = task
        if len(self.tasks) > MAX_TASKS:
            self.tasks.popitem(last=False)
        if "ack" in call.tokens:
            await asyncio.sleep(call.tokens.number("ack", 1.0))
        return task

    def succeeds(self, call: Call) -> bool:
        """Tell whether the task that `call` is for will end well, and so is billed."""
        return not {"fail", "lost", "refuse"} & call.tokens.arguments.keys()

    def look(self, call: Call, task_id: str) -> Task | None:
        """Count one poll and return its task, None if it is not known; faults are raised."""
        rules = self._tokens(call)
        task = self.tasks.get(task_id)
        if task is not None:
            task.polls += 1
            if task.polls <= task.tokens.number("poll-times", 1):
                rules = task.tokens.below(_POLL).joined(rules)
        call.tokens = rules
        refused = fault_of(rules)
        if refused is not None:
            raise refused
        return None if task is None or "lost" in task.tokens else task

    def count_open(self, key: str | None) -> int:
        """Return how many tasks of `key` are being worked on, whether or not anybody asks."""
        now = time.monotonic()
        return sum(now < task.ready_at for task in self.tasks.values() if task.key == key)
