"""How a task can end, as values: whoever runs tasks matches them all and decides nothing itself."""

from dataclasses import dataclass
from typing import TypeAlias

from storage.gate import Waiting


@dataclass(frozen=True, slots=True)
class Settled:
    """The record has ended, and the queue entry went in the same step: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There was nothing to do; the queue entry can go."""


@dataclass(frozen=True, slots=True)
class Again:
    """Run the task again in `after` seconds; nothing of it holds a slot until then.

    A job that is `waiting` before gates is run as soon as one of them lets it in.
    """

    after: float
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The task is somebody else's by now; the queue entry is not ours to touch."""


Outcome: TypeAlias = Settled | Nothing | Again | Lost
