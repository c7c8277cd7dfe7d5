"""Trials of money with real processes: the ledger beside the fake upstreams' own books.

`python -m tests.bench ledger` runs a thousand mixed jobs with faults and compares every sum, and
kills workers a hundred times over five hundred jobs of upstreams that keep tasks.
"""

import asyncio
import itertools
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp

from tests.bench.table import Row
from tests.bench.traffic import LEASE, drained, jobs_of, running, submit
from tests.processes import Installation


# dialect: base URL at the fake, upstream model, what differs
_DEPLOYMENTS = {
    "openai": (
        "/openai/v1",
        "gpt-image-2",
        (
            "price = { per_image = 0.12, input_text_tokens = 5.0, input_image_tokens = 8.0, "
            "output_image_tokens = 30.0 }"
        ),
    ),
    "gemini": (
        "/gemini/v1beta",
        "gemini-3.1-flash-image",
        (
            "price = { per_image = 0.068, input_text_tokens = 0.5, output_text_tokens = 3.0, "
            "output_image_tokens = 60.0 }"
        ),
    ),
    "ark": ("/ark/api/v3", "doubao-seedream-4-0-250828", "price = { per_image = 0.03 }"),
    "openrouter": (
        "/openrouter/api/v1",
        "black-forest-labs/flux.2-pro",
        "price = { per_image = 0.03145728 }",
    ),
    "xai": ("/xai/v1", "grok-imagine-image", "price = { per_image = 0.02 }"),
    "bfl": (
        "/bfl",
        "flux-2-pro",
        "options = { poll_seconds = 0.1 }\nprice = { per_image = 0.03 }\nmax_concurrency = 20",
    ),
    "fal": (
        "/fal",
        "fal-ai/flux-2-pro",
        "options = { poll_seconds = 0.1 }\nprice = { per_image = 0.03 }\ncapabilities = { n = 1 }",
    ),
    "replicate": (
        "/replicate/v1",
        "black-forest-labs/flux-2-pro",
        "options = { poll_seconds = 0.1 }\nprice = { per_image = 0.03 }",
    ),
    "zai": (
        "/zai/api/paas/v4",
        "glm-image",
        "options = { async = true, poll_seconds = 0.1 }\nprice = { per_image = 0.015 }",
    ),
}
TASKS = ("bfl", "fal", "replicate", "zai")

Faults: TypeAlias = tuple[tuple[str, int], ...]

# What may go wrong, with how often it is drawn: first what an upstream says in so many words.
ANSWERED: Faults = (
    ("", 40),
    ("[[500]] [[times:1]]", 8),
    ("[[503]] [[times:2]]", 5),
    ("[[429:1]] [[times:1]]", 5),
    ("[[refuse:input]]", 6),
    ("[[400]]", 4),
    ("[[empty]] [[times:1]]", 5),
    ("[[bad-b64]] [[times:1]]", 4),
    ("[[partial:1/2]]", 6),
)
# Then answers that are lost, or do not say what was charged.
EVERY: Faults = (
    *ANSWERED,
    ("[[refuse:output]]", 4),
    ("[[drop]] [[times:1]]", 5),
    ("[[hang]] [[times:1]]", 4),
    ("[[html]] [[times:1]]", 4),
)


def catalog(dialects: Sequence[str], timeout: float) -> str:
    """Return a catalog in which each dialect serves a model of its own name."""
    rows = []
    for dialect in dialects:
        base, model, more = _DEPLOYMENTS[dialect]
        rows.append(
            f'[[deployments]]\nname = "{dialect}"\nmodel = "{dialect}"\nprovider = "{dialect}"\n'
            f'upstream_model = "{model}"\nbase_url = "{{upstream}}{base}"\n'
            f'api_key_env = "FAKE_OPENAI_KEY"\ntimeout = {timeout:g}\n'
            + more.replace("{", "{{").replace("}", "}}")
        )
    return "\n\n".join(rows) + "\n"


async def books(here: Installation) -> dict[str, dict[str, Any]]:
    """Return what the fake billed and was asked to make, by prompt."""
    url = f"{here.upstream_url}/_calls"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        calls = await answer.json()
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"cost": 0.0, "submits": 0})
    for call in calls:
        if call["prompt"] is not None and call["model"] is not None:
            found[call["prompt"]]["cost"] += call["cost"]
            found[call["prompt"]]["submits"] += 1
    return found


# -- the ledger ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSeen:
    """The sums of a run, in USD.

    `known` is the ledger of all jobs whose cost is wholly known and `billed_known` what the fake
    billed for them. `partly` is what is known of the others, `at_risk` what may come on top of that
    by the price list, and `billed_partly` the fake's bill; `overstated` and `understated` are the
    jobs whose bill is outside of these bounds.
    """

    jobs: int
    statuses: Mapping[str, int]
    known: float
    billed_known: float
    partly: float
    at_risk: float
    billed_partly: float
    differing: tuple[str, ...]
    overstated: tuple[str, ...]
    understated: tuple[str, ...]
    usage: float
    usage_unknown: int
    usage_at_risk: float
    unknown_jobs: int
    zero_though_unknown: int


async def ledger(*, jobs: int = 1000, seed: int = 7, faults: Faults = EVERY) -> LedgerSeen:
    """Run mixed jobs with faults and compare the ledger with the fake's own books."""
    dice = random.Random(seed)
    dialects = tuple(_DEPLOYMENTS)
    names, weights = zip(*faults, strict=True)
    async with running(catalog(dialects, 12), workers=2, **LEASE) as here, here.client() as client:
        ids = []
        for number in range(jobs):
            dialect = dialects[number % len(dialects)]
            fault = dice.choices(names, weights)[0]
            prompt = f"ledger {number} {fault}"
            ids.append(await submit(client, dialect, prompt, n=dice.choice((1, 1, 1, 2, 3))))
        await drained(here, within=jobs * 0.5 + 120)
        found = await jobs_of(client, ids)
        billed = await books(here)
        async with client.get("/v1/usage") as answer:
            usage = (await answer.json())["total"]
    return _compared(found, billed, usage)


def _compared(
    found: Sequence[dict[str, Any]], billed: Mapping[str, dict[str, Any]], usage: dict[str, Any]
) -> LedgerSeen:
    known: list[tuple[dict[str, Any], float, float]] = []
    partly: list[tuple[dict[str, Any], float, float]] = []
    for job in found:
        bill = billed.get(job["request"]["prompt"], {"cost": 0.0})["cost"]
        amounts = [a["cost"] or 0.0 for a in job["attempts"]]
        unknown = any(a["cost_source"] == "unknown" for a in job["attempts"])
        (partly if unknown else known).append((job, math.fsum(amounts), bill))
    return LedgerSeen(
        jobs=len(found),
        statuses=Counter(str(job["status"]) for job in found),
        known=math.fsum(ours for _, ours, _ in known),
        billed_known=math.fsum(bill for _, _, bill in known),
        partly=math.fsum(ours for _, ours, _ in partly),
        at_risk=math.fsum(job["cost"]["at_risk"] for job, _, _ in partly),
        billed_partly=math.fsum(bill for _, _, bill in partly),
        differing=tuple(
            f"{job['model']} {ours} / {bill}: {job['request']['prompt']}"
            for job, ours, bill in known
            if abs(ours - bill) > 1e-6
        ),
        overstated=tuple(
            f"{job['model']} {ours} / {bill}: {job['request']['prompt']}"
            for job, ours, bill in partly
            if ours - bill > 1e-6
        ),
        understated=tuple(
            f"{job['model']} {ours} + {job['cost']['at_risk']} / {bill}: {job['request']['prompt']}"
            for job, ours, bill in partly
            if bill - ours - job["cost"]["at_risk"] > 1e-6
        ),
        usage=usage["cost"],
        usage_unknown=usage["unknown"],
        usage_at_risk=usage["at_risk"],
        unknown_jobs=len(partly),
        zero_though_unknown=sum(
            a["cost"] == 0
            for job in found
            for a in job["attempts"]
            if a["cost_source"] == "unknown"
        ),
    )


# -- kills while tasks are under way ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksSeen:
    """What upstreams that keep tasks were asked while workers were killed.

    `again` counts submits beyond one for each job, `lost` the attempts whose worker died before the
    task's id was on record, and `after` the submits of a job whose id was.
    """

    jobs: int
    kills: int
    statuses: Mapping[str, int]
    submits: int
    again: int
    lost: int
    after: int
    resumed: int


async def tasks(
    *, jobs: int = 500, kills: int = 100, every: float = 0.8, seed: int = 7
) -> TasksSeen:
    """Kill workers again and again while tasks are submitted and polled."""
    dice = random.Random(seed)
    environment = {**LEASE, "DARKROOM_WORKER__SLOTS": "20"}
    here_of = running(catalog(TASKS, 30), workers=3, **environment)
    async with here_of as here, here.client() as client:
        killer = asyncio.create_task(_kill(here, kills, every, dice))
        ids = []
        begun = time.monotonic()
        for number in range(jobs):
            slow = "[[ack:0.5]]" if number % 2 == 0 else ""
            prompt = f"task {number} [[slow:0.5]] {slow}"
            ids.append(await submit(client, TASKS[number % len(TASKS)], prompt))
            due = begun + (number + 1) * kills * every / jobs
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        killed = await killer
        await drained(here, within=180)
        found = await jobs_of(client, ids)
        billed = await books(here)
    return _counted(found, billed, killed)


async def _kill(here: Installation, kills: int, every: float, dice: random.Random) -> int:
    workers = itertools.cycle(here.workers)
    for _ in range(kills):
        await asyncio.sleep(every * dice.uniform(0.5, 1.5))
        worker = next(workers)
        await worker.kill()
        await worker.start()
    return kills


def _counted(
    found: Sequence[dict[str, Any]], billed: Mapping[str, dict[str, Any]], kills: int
) -> TasksSeen:
    after = again = lost = submits = resumed = 0
    for job in found:
        made = billed.get(job["request"]["prompt"], {"submits": 0})["submits"]
        attempts = job["attempts"]
        with_id = [a for a in attempts if a["upstream_id"] is not None]
        lost += len(attempts) - len(with_id)
        again += max(made - 1, 0)
        submits += made
        # Whatever was submitted once its id was on record is one too many.
        after += max(made - (len(attempts) - len(with_id)) - 1, 0) + max(len(with_id) - 1, 0)
        resumed += job["status"] == "succeeded" and len(attempts) == 1
    return TasksSeen(
        jobs=len(found),
        kills=kills,
        statuses=Counter(str(job["status"]) for job in found),
        submits=submits,
        again=again,
        lost=lost,
        after=after,
        resumed=resumed,
    )


# -- the table -------------------------------------------------------------------------------------


async def run() -> list[Row]:
    """Run both trials at full length."""
    told = await ledger(faults=ANSWERED)
    seen = await ledger()
    killed = await tasks()
    return [
        Row(
            what=f"ledger of {told.jobs} mixed jobs with faults that are answered: USD, of all",
            ours=f"{told.known + told.partly:.4f} ({told.unknown_jobs} unknown)",
            baseline=f"the fakes' bill {told.billed_known + told.billed_partly:.4f}",
            bar="equal to the cent",
            good=abs(told.known + told.partly - told.billed_known - told.billed_partly) < 0.005
            and not told.differing,
        ),
        Row(
            what=f"ledger of {seen.jobs} with lost answers too, where the cost is known: USD",
            ours=f"{seen.known:.4f}",
            baseline=f"the fakes' bill {seen.billed_known:.4f}",
            bar="equal to the cent",
            good=abs(seen.known - seen.billed_known) < 0.005 and not seen.differing,
        ),
        Row(
            what=f"the {seen.unknown_jobs} others: known, known and at risk",
            ours=f"{seen.partly:.4f}, {seen.partly + seen.at_risk:.4f}",
            baseline=f"the fakes' bill {seen.billed_partly:.4f}",
            bar="between, for each job",
            good=not (seen.overstated or seen.understated) and seen.zero_though_unknown == 0,
        ),
        Row(
            what="GET /v1/usage: sum, at risk, jobs of unknown cost",
            ours=f"{seen.usage:.4f}, {seen.usage_at_risk:.4f}, {seen.usage_unknown}",
            baseline=f"{seen.known + seen.partly:.4f}, {seen.at_risk:.4f}, {seen.unknown_jobs}",
            bar="equal",
            good=abs(seen.usage - seen.known - seen.partly) < 1e-6
            and abs(seen.usage_at_risk - seen.at_risk) < 1e-6
            and seen.usage_unknown == seen.unknown_jobs,
        ),
        Row(
            what=f"{killed.kills} kills over {killed.jobs} jobs of tasks: submits beyond one a job",
            ours=f"{killed.again}",
            baseline=f"workers died before the id was kept: {killed.lost}",
            bar="<= those, 0 after",
            good=killed.again <= killed.lost and killed.after == 0,
        ),
        Row(
            what="how those jobs ended",
            ours=" ".join(f"{name} {count}" for name, count in killed.statuses.items()),
        ),
    ]
