"""A bill: what a tenant's jobs of one model came to on one day, in UTC.

It is written in the step that ends a job, so it holds each job once. Money is counted in whole
billionths of a dollar: sums of floats would drift.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from storage.attempt import CostSource
from storage.image import ImageStatus
from storage.job import Job


NANO = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The sums of one day and model. `unknown` counts the jobs whose cost nobody knows wholly.

    `day` is written as 2026-11-21. `cost` is in USD and holds what is known; `at_risk` is what may
    have been charged beyond it, by the price list.
    """

    day: str
    model: str
    jobs: int
    images: int
    cost: float
    unknown: int
    at_risk: float = 0.0


class Entry(NamedTuple):
    """What one write of a record adds to a bill; money in billionths of a dollar."""

    jobs: int
    images: int
    unknown: int
    nano: int
    risk: int


_NOTHING = Entry(0, 0, 0, 0, 0)


def entry_of(old: Job, new: Job) -> Entry | None:
    """Return what writing an ended job over `old` adds to its bill, or None when nothing."""
    if not new.is_ended:
        return None
    after, before = _whole(new), _whole(old) if old.is_ended else _NOTHING
    entry = Entry(*(a - b for a, b in zip(after, before, strict=True)))
    return entry if any(entry) else None


def nano_of(dollars: float | None) -> int:
    """Return an amount in billionths of a dollar; nothing for one that is not known."""
    return 0 if dollars is None else round(dollars * NANO)


def day_of(moment: float) -> str:
    """Return the day of a moment, which is in Unix seconds."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def days_between(first: str, last: str) -> list[str]:
    """Return the days from `first` to `last`, both included; raises ValueError for no days."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def seconds_left(moment: float) -> float:
    """Return the seconds from a moment to the end of its day."""
    return 86_400.0 - moment % 86_400.0


def _whole(job: Job) -> Entry:
    cost = job.cost
    return Entry(
        jobs=1,
        images=sum(image.status is ImageStatus.SUCCEEDED for image in job.images),
        unknown=int(bool(job.attempts) and cost.source is CostSource.UNKNOWN),
        nano=nano_of(cost.amount),
        risk=nano_of(job.at_risk),
    )
