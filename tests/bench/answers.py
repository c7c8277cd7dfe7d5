"""Hostile answers against a worker of its own process: how each ends, and what the worker weighs.

Each fault meets each way to ask each dialect, on a deployment of its own, so that no breaker hides
one fault behind another. Those that send much come one at a time, and then all at once.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from storage.catalog import Deployment
from storage.failure import FailureCode
from tests.ask.hostility import ANSWERS, FILES, PROMPT, WAYS, Fault, Way, deployments
from tests.bench.table import Row
from tests.bench.traffic import running
from tests.processes import Program


PATIENCE = 2.0  # seconds, of a deployment that is only waited for
AT_ONCE = 100
WITHIN = 300.0  # seconds, of one job
LARGE = 4_000_000  # characters of an honest answer
_ENDED = {"succeeded", "partial", "failed", "cancelled", "expired"}
_UPSTREAM = "http://upstream"


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault on one way, as a model of its own."""

    model: str
    way: Way
    fault: Fault

    @property
    def prompt(self) -> str:
        """Return the prompt; a limit holds for one call, since we would wait for a lasting one."""
        once = "[[times:1]]" if self.is_hinted else ""
        return f"{self.way.prompt(self.fault)} {once} {self.model}"

    @property
    def is_hinted(self) -> bool:
        """Say whether the call is told to come later, and must be made again."""
        return self.fault.code is FailureCode.RATE_LIMITED

    @property
    def is_resumed(self) -> bool:
        """Say whether it is a task with a spoiled file, asked for until twice the timeout."""
        return self.way.tasks and self.fault in FILES


@dataclass(frozen=True, slots=True)
class Seen:
    """How a trial ended: the code of its job (None: an image), and how often it was tried."""

    trial: Trial
    code: str | None
    attempts: int

    @property
    def is_right(self) -> bool:
        """Say whether it ended as it must: as what it is, or as a call that may be charged.

        Where we choose the id of a task, a spoiled answer to its submission costs nothing.
        """
        fault, way = self.trial.fault, self.trial.way
        if self.trial.is_hinted:
            return self.code is None and self.attempts > 1
        if fault.code is None or (way.names_tasks and fault in ANSWERS and not fault.refused):
            return self.code is None or (way.names_tasks and self.code == fault.code)
        unknown = set() if fault.refused else {FailureCode.OUTCOME_UNKNOWN}
        return self.code in {fault.code, *unknown}


def trials() -> list[Trial]:
    """Return every fault on every way."""
    ways = enumerate(WAYS.values())
    return [
        Trial(f"way-{number}-{place}", way, fault)
        for number, way in ways
        for place, fault in enumerate(way.faults)
    ]


def catalog(listed: Iterable[Trial]) -> str:
    """Return a catalog with a deployment for each trial, and an honest one for each way."""
    known = deployments(_UPSTREAM)
    rows = [
        _row(
            trial.model,
            known[trial.way.deployment],
            timeout=PATIENCE if trial.fault.waits or trial.is_resumed else 30.0,
        )
        for trial in listed
    ]
    rows += [
        _row(f"honest-{number}", known[way.deployment], timeout=30.0)
        for number, way in enumerate(WAYS.values())
    ]
    text = "\n".join(rows).replace("{", "{{").replace("}", "}}")
    return text.replace(_UPSTREAM, "{upstream}")


def _row(name: str, deployment: Deployment, *, timeout: float) -> str:
    can = {
        field: getattr(deployment.capabilities, field)
        for field in ("edit", "n", "ratios", "resolutions", "formats", "stream", "min_pixels")
    }
    fields = {
        "name": name,
        "model": name,
        "provider": deployment.provider,
        "upstream_model": deployment.upstream_model,
        "base_url": deployment.base_url,
        "api_key_env": "FAKE_OPENAI_KEY",
        "timeout": timeout,
        "capabilities": can,
        "options": deployment.options,
    }
    lines = (f"{field} = {_toml(value)}" for field, value in fields.items())
    return "\n".join(("[[deployments]]", *lines, ""))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {_toml(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


class Scale:
    """Weighs one process: the most that was resident since the scale was set to zero."""

    def __init__(self, program: Program) -> None:
        self._process = Path(f"/proc/{program.pid}")
        self._start = 0

    def zero(self) -> None:
        """Start anew from what is resident now."""
        (self._process / "clear_refs").write_text("5")
        self._start = self._read("VmRSS")

    def growth(self) -> float:
        """Return how many MiB more were resident at one time."""
        return (self._read("VmHWM") - self._start) / 1024

    def _read(self, name: str) -> int:
        status = (self._process / "status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1])


async def seen(client: aiohttp.ClientSession, trial: Trial) -> Seen:
    """Submit the job of a trial and return how it ended."""
    way = trial.way
    body = {"model": trial.model, "prompt": trial.prompt, "n": way.n}
    if way.partial_images:
        body["partial_images"] = way.partial_images
    if trial.fault.is_large:
        body["on_unknown"] = "fail"
    job = await _ended(client, body)
    images = job.get("images") or [{}]
    failure = job.get("error") or images[-1].get("error") or {}
    return Seen(trial, failure.get("code"), len(job["attempts"]))


async def _ended(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN):
        async with client.post("/v1/jobs", json=body) as answer:
            job: dict[str, Any] = await answer.json()
            assert answer.status == 202, job
        while job["status"] not in _ENDED:
            async with client.get(f"/v1/jobs/{job['id']}?wait=30") as answer:
                job = await answer.json()
    return job


async def _all(client: aiohttp.ClientSession, listed: Sequence[Trial], at_once: int) -> list[Seen]:
    gate = asyncio.Semaphore(at_once)

    async def one(trial: Trial) -> Seen:
        async with gate:
            return await seen(client, trial)

    return await asyncio.gather(*(one(trial) for trial in listed))


async def run() -> list[Row]:
    """Meet every fault on every way and weigh the worker meanwhile, from its first honest image."""
    listed = trials()
    large = [trial for trial in listed if trial.fault.is_large and not trial.fault.waits]
    others = [trial for trial in listed if trial not in large]
    async with running(catalog(listed), workers=1) as here, here.client() as client:
        worker, scale = here.workers[0], Scale(here.workers[0])
        pid = worker.pid
        await _honest(client, prompt=PROMPT)
        scale.zero()
        ended = await _all(client, large, 1)
        alone = scale.growth()
        ended += await _all(client, others, AT_ONCE)
        together = scale.growth()
        await _honest(client, prompt=f"{PROMPT} [[bytes:{LARGE}]]")
        honest = scale.growth()
        await _all(client, large, AT_ONCE)
        flood = scale.growth()
        same = worker.is_alive and worker.pid == pid
    _tell(ended)
    right = sum(one.is_right for one in ended)
    return [
        Row(
            what=f"{len(ended)} hostile answers, each way of each dialect: end as they must",
            ours=str(right),
            bar="all",
            good=right == len(ended),
        ),
        Row(
            what="attempts of one job, at most",
            ours=str(max(one.attempts for one in ended)),
        ),
        Row(what="the same worker, with the same pid", ours=str(pid), bar="yes", good=same),
        Row(
            what=f"RSS growth of the worker, {len(large)} bodies without end, one at a time, MiB",
            ours=f"{alone:.0f}",
            bar="<= 64",
            good=alone <= 64,
        ),
        Row(
            what=f"RSS growth with the {len(others)} other faults, {AT_ONCE} at once, MiB",
            ours=f"{together:.0f}",
            bar="<= 64",
            good=together <= 64,
        ),
        Row(
            what=f"RSS growth, the {len(large)} bodies without end at once, MiB",
            ours=f"{flood:.0f}",
            baseline=f"{honest:.0f} (honest, 4 MB, one by one)",
        ),
    ]


async def _honest(client: aiohttp.ClientSession, *, prompt: str) -> None:
    for number, way in enumerate(WAYS.values()):
        text = f"{prompt} {way.tokens}"
        job = await _ended(client, {"model": f"honest-{number}", "prompt": text})
        assert job["status"] == "succeeded", (way.deployment, job.get("error"))


def _tell(ended: Iterable[Seen]) -> None:
    """Print those that did not end as they must."""
    wrong = Counter(
        f"{one.trial.way.deployment}: {one.trial.fault.name}: {one.code}, {one.attempts} attempts"
        for one in ended
        if not one.is_right
    )
    for line, times in wrong.items():
        print(f"not as it must be: {line} ({times} times)")
