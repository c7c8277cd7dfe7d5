"""Rows of the matrix: one job that kills every worker that runs it, among healthy ones.

A healthy job whose upstream can be asked again outlives any death. One whose call is gone with its
worker is called again once, because nobody knows whether it was paid for; at the second such death
it ends with that on record. What is right for money is a row of its own.
"""

from dataclasses import dataclass
from typing import Any

from tests.faults.crew import crewed
from tests.faults.ledger import Ledger, quantile
from tests.faults.row import Measure, Row, Scale, none
from tests.faults.stand import SOON, Stand


SMALL = "[[bytes:4000]]"
POISON = "[[kill]]"
_RESUMABLE, _CALLED = "queued", "gpt-image-2"
_BEFORE = 6  # healthy jobs that are taken in before the poison


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is on record of the jobs of one run, and how often a worker was started again."""

    healthy: list[dict[str, Any]]
    poison: list[dict[str, Any]]
    deaths: int

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Return the healthy jobs that did not succeed."""
        return [job for job in self.healthy if job["status"] != "succeeded"]

    @property
    def p95(self) -> float:
        """Return the seconds that 95 in 100 healthy jobs took at most."""
        return quantile([job["finished_at"] - job["created_at"] for job in self.healthy], 0.95)


async def among_resumable(stand: Stand, scale: Scale) -> list[Measure]:
    """Let it run among jobs whose upstream can be asked again."""
    without, run = await _both(stand, scale, "F34", _RESUMABLE)
    return [*_contained(without, run), none("healthy not succeeded", len(run.failed))]


async def among_calls(stand: Stand, scale: Scale) -> list[Measure]:
    """Let it run among jobs whose calls are gone with their worker."""
    without, run = await _both(stand, scale, "R3", _CALLED)
    return [
        *_contained(without, run),
        none("healthy failed by less than two deaths", sum(_cut(job) < 2 for job in run.failed)),
        none("healthy called more than twice", sum(_cut(job) > 2 for job in run.healthy)),
        Measure(what="healthy in mid-call at two deaths", value=len(run.failed)),
    ]


def _contained(without: Run, run: Run) -> list[Measure]:
    """Return what must be so whoever else is at work."""
    ends = [f"{job['status']} as {(job['error'] or {}).get('code')}" for job in run.poison]
    return [
        Measure(what="healthy", value=len(run.healthy)),
        Measure(what="deaths", value=run.deaths, least=1, most=3),
        none(f"poison not failed {ends}", sum(job["status"] != "failed" for job in run.poison)),
        Measure(what="healthy p95 / without", value=run.p95 / without.p95, most=2.0),
    ]


def _cut(job: dict[str, Any]) -> int:
    return sum(a["status"] == "outcome_unknown" for a in job.get("attempts", ()))


async def _both(stand: Stand, scale: Scale, name: str, model: str) -> tuple[Run, Run]:
    count = scale.of(400, least=100)
    without = await _run(Ledger(stand, f"{name} without"), model, count, poison=False)
    return without, await _run(Ledger(stand, f"{name} with"), model, count, poison=True)


async def _run(ledger: Ledger, model: str, count: int, *, poison: bool) -> Run:
    """Submit to two workers that are started again when they die; judge, and read the records."""
    stand = ledger.stand
    async with crewed(stand.here.folder, "worker") as crew:
        for _ in range(2):
            stand.keep_worker(
                crew, module="tests.faults.saboteur", DARKROOM_WORKER__SLOTS="8", **SOON
            )
        for number in range(count):
            if poison and number == _BEFORE:
                await ledger.submit(POISON, model="sketch", size="256x256")
            await ledger.submit(f"[[slow:1]] {SMALL}", model=model)
        verdict = await ledger.judge(within=120)
        assert not verdict.broken, str(verdict)
        jobs = (await ledger.records()).values()
        return Run(
            healthy=[job for job in jobs if POISON not in job["request"]["prompt"]],
            poison=[job for job in jobs if POISON in job["request"]["prompt"]],
            deaths=crew.deaths,
        )


ROWS = (
    Row(id="F34", fault="a job that kills its workers", run=among_resumable),
    Row(id="R3", fault="the same among calls that end with their worker", run=among_calls),
)
