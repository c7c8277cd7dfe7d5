"""A row of the matrix: one fault, what is measured under it, and the figures it is held to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.faults.stand import Stand
from tests.faults.verdict import Verdict


class NotRun(Exception):
    """The row says nothing here; the message is why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure and its bar; without a bar it is only told."""

    what: str
    value: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def is_held(self) -> bool:
        """Say whether the figure is within its bar."""
        if self.most is not None and not self.value <= self.most:
            return False
        return self.least is None or self.value >= self.least

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        bar = "" if self.most is None else f" ≤ {self.most:g}"
        bar += "" if self.least is None else f" ≥ {self.least:g}"
        return f"{self.what} {self.value:.3g}{unit}{bar}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is: 1 is the size that the matrix names."""

    share: float

    def of(self, full: int, *, least: int) -> int:
        """Return the share of `full`, but never fewer than `least`."""
        return max(round(full * self.share), least)


Run: TypeAlias = Callable[[Stand, Scale], Awaitable[list[Measure]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault of the matrix, by its number. `stand` says which kind of stand it needs."""

    id: str
    fault: str
    run: Run
    stand: str = "local"


def seconds(what: str, value: float, most: float | None = None) -> Measure:
    """Return a figure in seconds."""
    return Measure(what=what, value=value, most=most, unit="s")


def none(what: str, value: float) -> Measure:
    """Return a count that must be 0."""
    return Measure(what=what, value=value, most=0)


def judged(verdict: Verdict) -> list[Measure]:
    """Return a verdict as figures: how many jobs there were, and how many promises were broken."""
    broken = verdict.broken
    what = "promises broken" if not broken else f"promises broken [{verdict}]"
    return [Measure(what="jobs", value=verdict.jobs), none(what, broken)]
