"""Rows of the matrix: upstreams that throttle, break, hang, drip, bomb, lie or lead astray."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests import images
from tests.faults.ledger import Ledger
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand
from tests.processes import Program


SMALL = "[[bytes:4000]]"
_MIB = 1024 * 1024


async def throttled(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the upstream ask for a pause, once, and watch whether all workers keep it."""
    ledger = Ledger(stand, "F17")
    for _ in range(2):
        await stand.add_worker(**SOON)
    await ledger.ended([await ledger.submit(SMALL) for _ in range(4)], within=30)
    pause = 6.0
    await stand.rule(dialect="openai", status=429, seconds=pause, times=1)
    for _ in range(20):
        await ledger.submit(SMALL)
    verdict = await ledger.judge(within=60)
    calls = await stand.calls(containing="F17")
    [refused] = [call["finished_at"] for call in calls if call["status"] == 429]
    # What was under way when the pause was told is nobody's fault.
    during = [c for c in calls if refused + 0.3 < c["started_at"] < refused + pause - 0.05]
    last = max(call["finished_at"] for call in calls)
    return [
        *judged(verdict),
        none("not succeeded", verdict.jobs - verdict.outcomes["succeeded"]),
        none("calls during the pause", len(during)),
        seconds("end after the pause", last - refused - pause, 5.0),
    ]


async def broken(stand: Stand, scale: Scale) -> list[Measure]:
    """Let every call fail for a while, with work waiting."""
    ledger = Ledger(stand, "F18")
    for _ in range(2):
        await stand.add_worker(DARKROOM_WORKER__SLOTS="20", **SOON)
    outage = float(scale.of(60, least=12))
    await stand.rule(dialect="openai", status=500, **{"for": outage})
    begun = time.time()
    count = scale.of(200, least=30)
    for _ in range(count):
        await ledger.submit(SMALL)
    await asyncio.sleep(max(outage - (time.time() - begun), 0))
    back = time.time()
    late = [await ledger.submit(SMALL) for _ in range(10)]
    jobs = await ledger.ended(late, within=60)
    verdict = await ledger.judge(within=120)
    calls = await stand.calls(containing="F18")
    failed = [call for call in calls if call["status"] == 500]
    records = await ledger.records()
    ends = [records[job_id]["finished_at"] - back for job_id in late]
    return [
        *judged(verdict),
        Measure(what="calls during the outage", value=len(failed)),
        # A tenth more than there are jobs, and a probe now and then.
        Measure(what="of them beyond the jobs", value=len(failed) - count, most=0.1 * count + 4),
        none("late ones not succeeded", sum(j["status"] != "succeeded" for j in jobs.values())),
        seconds("recovery", max(ends), 10.0),
    ]


async def hanging(stand: Stand, scale: Scale) -> list[Measure]:
    """Let calls be taken and never answered; the deployment allows 4 s."""
    return await _timed(stand, "F19", "[[hang]]")


async def dripping(stand: Stand, scale: Scale) -> list[Measure]:
    """Let answers come a few bytes at a time, for much longer than the deployment allows."""
    return await _timed(stand, "F20", "[[drip:60]] [[bytes:4000]]")


async def _timed(stand: Stand, name: str, tokens: str) -> list[Measure]:
    ledger = Ledger(stand, name)
    await stand.add_worker(DARKROOM_WORKER__SLOTS="4", **SOON)
    ids = [await ledger.submit(tokens, model="hasty", on_unknown="fail") for _ in range(4)]
    after = await ledger.submit(SMALL)  # waits for a slot
    jobs = await ledger.ended(ids, within=30)
    first = [(await ledger.records())[job_id]["attempts"][0] for job_id in ids]
    took = [attempt["finished_at"] - attempt["started_at"] for attempt in first]
    typed = [job["attempts"][0]["error"]["code"] for job in jobs.values()]
    next_ = (await ledger.ended([after], within=20))[after]
    return [
        *judged(await ledger.judge(within=30)),
        Measure(what="calls ended after", value=max(took), least=3.0, most=5.0, unit="s"),
        none("attempts not upstream_timeout", sum(code != "upstream_timeout" for code in typed)),
        none("attempts beyond one", sum(len(job["attempts"]) - 1 for job in jobs.values())),
        none("slot not given back", next_["status"] != "succeeded"),
    ]


async def enormous(stand: Stand, scale: Scale) -> list[Measure]:
    """Answer with 1.5 GB, and with a few kilobytes that unpack to as much."""
    ledger = Ledger(stand, "F21")
    worker = await stand.add_worker(**SOON)
    await ledger.ended([await ledger.submit(SMALL) for _ in range(3)], within=30)
    measures = []
    for token in ("huge", "bomb"):
        pid, before = worker.pid, worker.usage()[1]
        ids = [await ledger.submit(f"[[{token}]]", on_unknown="fail")]
        jobs, peak = await _peaked(ledger, ids, worker)
        measures += [
            Measure(what=f"{token}: growth", value=(peak - before) / _MIB, most=64, unit="MiB"),
            none(f"{token}: not typed", sum(_plain(job) for job in jobs.values())),
            none(f"{token}: worker ended", worker.pid != pid or not worker.is_alive),
        ]
    await ledger.ended([await ledger.submit(SMALL)], within=30)
    return [*judged(await ledger.judge(within=30)), *measures]


def _plain(job: dict[str, Any]) -> bool:
    """Say whether a job neither succeeded nor says why in a code of the dictionary."""
    code = (job["error"] or {}).get("code")
    return job["status"] != "failed" or code in {None, "internal_error", "internal_crash"}


async def _peaked(ledger: Ledger, ids: list[str], worker: Program) -> tuple[dict[str, Any], int]:
    """Wait for the ends of jobs and return them with the worker's largest resident size."""
    waiting = asyncio.create_task(ledger.ended(ids, within=90))
    peak = 0
    while not waiting.done():
        peak = max(peak, worker.usage()[1])
        await asyncio.sleep(0.02)
    return await waiting, peak


async def hostile(stand: Stand, scale: Scale) -> list[Measure]:
    """Answer with bombs, ruins, strangers, and with what is no picture at all."""
    ledger = Ledger(stand, "F22")
    worker = await stand.add_worker(**SOON)
    pid = worker.pid
    answers = _answers()
    honest = _json(images.picture("png"))
    named: dict[str, str] = {}
    async with odd_upstream(stand, lambda prompt: answers.get(prompt.split(" ")[2], honest)):
        for name in answers:
            named[await ledger.submit(name, model="odd", on_unknown="fail")] = name
            for _ in range(2):  # or the deployment would be left alone after a few of them
                await ledger.submit("honest", model="odd")
        jobs = await ledger.ended(named, within=120)
        after = await ledger.submit("honest", model="odd")
        good = (await ledger.ended([after], within=30))[after]
    verdict = await ledger.judge(within=60)
    bad = [named[i] for i, job in jobs.items() if job["status"] != "succeeded" and _plain(job)]
    made = [image for j in jobs.values() for image in j["images"] if image["status"] == "succeeded"]
    return [
        *judged(verdict),
        none(f"neither valid nor typed {bad[:5]}", len(bad)),
        none("kept under no type of image", sum(m["content_type"] not in _TYPES for m in made)),
        none("next answer harmed", good["status"] != "succeeded"),
        none("worker ended", worker.pid != pid or not worker.is_alive),
    ]


_TYPES = {"image/png", "image/jpeg", "image/webp", "image/gif"}
Answering = Callable[[str], web.Response]


def _json(data: bytes) -> tuple[bytes, str]:
    body = {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}]}
    return orjson.dumps(body), "application/json"


def _answers() -> dict[str, tuple[bytes, str]]:
    """Return what a hostile upstream says, by a name without spaces."""
    pictures = {
        **images.bombs(),
        **images.crowds(),
        **images.ruins(),
        **images.strangers(),
        **images.polyglots(),
    }
    answers = {
        f"image-{n}-{_slug(name)}": _json(data) for n, (name, data) in enumerate(pictures.items())
    }
    whole, _ = _json(images.picture("png"))
    texts: dict[str, tuple[bytes, str]] = {
        "half-json": (whole[: len(whole) // 2], "application/json"),
        "half-base64": (whole[:-40] + b'"}]}', "application/json"),
        "html": (b"<html>busy</html>", "text/html"),
        "empty": (b"", "application/json"),
        "null": (b"null", "application/json"),
        "list": (b"[]", "application/json"),
        "no-data": (b'{"created":1}', "application/json"),
        "empty-data": (b'{"created":1,"data":[]}', "application/json"),
        "data-of-null": (b'{"created":1,"data":[null]}', "application/json"),
        "no-base64": (b'{"created":1,"data":[{"b64_json":"!!!!"}]}', "application/json"),
        "number": (b'{"created":1,"data":[{"b64_json":7}]}', "application/json"),
        "nested": (b'{"created":1,"data":' + b"[" * 50_000, "application/json"),
    }
    return {**answers, **texts}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


@asynccontextmanager
async def odd_upstream(
    stand: Stand, said: Callable[[str], tuple[bytes, str] | web.Response], *, ssl: Any = None
) -> AsyncIterator[Counter[str]]:
    """Answer the deployments `odd` or `odd-tls` as `said`; yields how often each path was asked."""
    asked: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked[request.path] += 1
        prompt = orjson.loads(await request.read() or b"{}").get("prompt", "")
        found = said(prompt)
        if isinstance(found, web.StreamResponse):
            return found
        body, kind = found
        return web.Response(body=body, content_type=kind)

    app = web.Application(client_max_size=100 * _MIB)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        port = stand.odd if ssl is None else stand.odd_tls
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=ssl).start()
        yield asked
    finally:
        await runner.cleanup()


async def untrusted(stand: Stand, scale: Scale) -> list[Measure]:
    """Serve the upstream with a certificate that nobody vouches for."""
    import ssl  # noqa: PLC0415 — the name is an argument above

    ledger = Ledger(stand, "F23")
    await stand.add_worker(**SOON)
    measures = []
    folder = Path(__file__).parent.parent / "unit" / "worker" / "certificates"
    for name in ("trusted", "expired", "elsewhere"):  # trusted by that test alone
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{name}.pem")
        async with odd_upstream(stand, lambda _: _json(images.picture()), ssl=context) as asked:
            job_id = await ledger.submit("a secret prompt", model="odd-tls")
            job = (await ledger.ended([job_id], within=60))[job_id]
        measures += [
            none(f"{name}: requests after the handshake", asked.total()),
            none(f"{name}: not failed", job["status"] != "failed"),
            Measure(what=f"{name}: attempts", value=len(job["attempts"]), most=4),
        ]
    return [*judged(await ledger.judge(within=30)), *measures]


async def astray(stand: Stand, scale: Scale) -> list[Measure]:
    """Redirect calls, and name results at addresses that are not for the outside."""
    ledger = Ledger(stand, "F24")
    await stand.add_worker(DARKROOM_ALLOW_NETWORKS="", **SOON)
    canary: Counter[str] = Counter()

    async def touched(request: web.Request) -> web.Response:
        canary[request.path] += 1
        return web.Response(body=images.picture(), content_type="image/png")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", touched)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    inner = f"http://127.0.0.1:{runner.addresses[0][1]}/inner.png"
    port = runner.addresses[0][1]
    spellings = [inner, f"http://[::ffff:127.0.0.1]:{port}/", f"http://localhost:{port}/"]

    def said(prompt: str) -> tuple[bytes, str] | web.Response:
        kind, number = prompt.split(" ")[2].split("-")
        url = spellings[int(number)]
        if kind == "url":
            body = {"created": 1, "data": [{"url": url}]}
            return orjson.dumps(body), "application/json"
        return web.Response(status=int(kind), headers={"Location": url})

    try:
        async with odd_upstream(stand, said):
            for kind in ("301", "302", "303", "307", "308", "url"):
                for number in range(len(spellings)):
                    await ledger.submit(
                        f"{kind}-{number}", model="odd", on_unknown="fail", hook=False
                    )
            await ledger.ended(within=15)
            for job_id in ledger.ids:  # they would wait for their deployment to get well
                async with stand.client.post(f"/v1/jobs/{job_id}/cancel") as answer:
                    assert answer.status in {200, 409}
            verdict = await ledger.judge(within=20, hooks=False)
    finally:
        await runner.cleanup()
    return [
        *judged(verdict),
        none("succeeded", verdict.outcomes["succeeded"]),
        none("hits on the canary", canary.total()),
    ]


ROWS = (
    Row(id="F17", fault="upstream asks for a pause", run=throttled),
    Row(id="F18", fault="upstream fails every call", run=broken),
    Row(id="F19", fault="upstream hangs", run=hanging),
    Row(id="F20", fault="upstream drips", run=dripping),
    Row(id="F21", fault="upstream answers with 1.5 GB, plain and packed", run=enormous),
    Row(id="F22", fault="upstream answers with hostile images", run=hostile),
    Row(id="F23", fault="upstream without a trusted certificate", run=untrusted),
    Row(id="F24", fault="upstream leads to the inner network", run=astray),
)
