"""The verdict: from what was seen of each job, how many of the promises were broken."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


ENDED = frozenset({"succeeded", "partial", "failed", "cancelled", "expired"})
_UNMOVED = ("status", "finished_at", "error", "images")
_PROMISES = (
    "lost",
    "unended",
    "moved",
    "untold",
    "told_twice",
    "told_wrong",
    "unrecorded_calls",
    "dangling",
    "left",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How many jobs broke each promise; every figure but the first three should be 0.

    `dangling` counts images that a record promises and nobody can fetch, `left` queue entries of
    jobs that have ended, `orphans` objects that no record names: those are allowed, and swept.
    """

    jobs: int
    outcomes: Counter[str]
    orphans: int
    lost: int
    unended: int
    moved: int
    untold: int
    told_twice: int
    told_wrong: int
    unrecorded_calls: int
    dangling: int
    left: int

    @property
    def broken(self) -> int:
        """Return how many promises were broken."""
        return sum(getattr(self, name) for name in _PROMISES)

    def __str__(self) -> str:
        broken = [f"{name} {count}" for name in _PROMISES if (count := getattr(self, name))]
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.outcomes.items()))
        return f"{self.jobs} jobs ({ended}){': ' + ', '.join(broken) if broken else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen of the jobs that were taken in, by their ids.

    `jobs` are as they ended, or as they stood when nobody waited any longer, `again` as they were a
    moment later; one that is gone has no status. `told` are the messages about each, by message id
    and type, and `hooks` says whether there must be any. `calls` is how often the upstream was
    asked for each.
    """

    jobs: Mapping[str, dict[str, Any]]
    again: Mapping[str, dict[str, Any]]
    told: Mapping[str, Sequence[tuple[str, str]]]
    calls: Mapping[str, int]
    hooks: bool = True
    orphans: int = 0
    dangling: int = 0
    left: int = 0


def verdict(seen: Evidence) -> Verdict:
    """Count the promises that were broken."""
    there = {i: job for i, job in seen.jobs.items() if "status" in job}
    return Verdict(
        jobs=len(seen.jobs),
        outcomes=Counter(str(job.get("status")) for job in seen.jobs.values()),
        orphans=seen.orphans,
        lost=len(seen.jobs) - len(there),
        unended=sum(job["status"] not in ENDED for job in there.values()),
        moved=sum(_moved(job, seen.again[i]) for i, job in seen.jobs.items()),
        untold=sum(not seen.told[i] for i in there) if seen.hooks else 0,
        told_twice=sum(len({message for message, _ in told}) > 1 for told in seen.told.values()),
        told_wrong=sum(
            any(kind != f"job.{job['status']}" for _, kind in seen.told[i])
            for i, job in there.items()
        ),
        unrecorded_calls=sum(
            max(seen.calls[i] - len(job.get("attempts", ())), 0) for i, job in there.items()
        ),
        dangling=seen.dangling,
        left=seen.left,
    )


def _moved(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Say whether a job changed after its end; links are signed anew at each look."""
    return any(_plain(before.get(name)) != _plain(after.get(name)) for name in _UNMOVED)


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{k: v for k, v in one.items() if not k.startswith("url")} for one in value]
