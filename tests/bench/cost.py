"""What a synchronous call costs in CPU, beside the proxy that most would put in its place.

The bars are milliseconds of one machine, where LiteLLM's proxy took 9 and 21. On another machine
the milliseconds differ and the ratio stays, so the proxy is measured in the same run, in turns with
ours and over the same upstream, where `litellm` is on the PATH (`pip install 'litellm[proxy]'`, in
an environment of its own). It neither stores nor queues what it passes on.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import orjson

from deploy import probe
from tests.bench.load import load, post
from tests.bench.table import Row
from tests.processes import Installation, Program, installed


CONNECTIONS = 16
REQUESTS = 200
ROUNDS = 7
_MASTER_KEY = "sk-only-for-this-benchmark-0123456789"  # it refuses to start with a short one


@dataclass(frozen=True, slots=True)
class _Size:
    """An answer of the upstream in bytes, and what may be spent on it against what LiteLLM does."""

    bytes: int
    most: float
    theirs: float


SIZES = (_Size(190_000, 4.0, 9.0), _Size(2_400_000, 12.0, 21.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """One of the ways to the upstream that are compared."""

    url: str
    key: str
    programs: tuple[Program, ...]

    async def cost(self, body: bytes, requests: int) -> float:
        """Return the CPU of a request in milliseconds, all processes of the way together."""
        request = post(self.url, body, {"Authorization": f"Bearer {self.key}"})
        before = sum(program.usage()[0] for program in self.programs)
        seen = await load(self.url, request, connections=CONNECTIONS, requests=requests)
        assert set(seen.latencies) == {200}, {k: len(v) for k, v in seen.latencies.items()}
        return (sum(program.usage()[0] for program in self.programs) - before) / requests * 1e3


async def run() -> list[Row]:
    """Measure both sizes, in turns with LiteLLM's proxy where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        async with installed(Path(folder), workers=1) as here, _rival(here) as theirs:
            programs = (here.service, here.redis, *here.workers)
            ours = _Way(f"{here.url}/v1/images/generations", here.key, programs)
            return [row for size in SIZES for row in await _rows(size, ours, theirs)]


async def _rows(size: _Size, ours: _Way, theirs: _Way | None) -> list[Row]:
    body = orjson.dumps(
        {"model": "gpt-image-2", "prompt": f"sync [[bytes:{size.bytes}]]", "size": "1024x1024"}
    )
    costs: dict[_Way, list[float]] = {way: [] for way in (ours, theirs) if way is not None}
    for way in costs:
        await way.cost(body, 3 * CONNECTIONS)
    for _ in range(ROUNDS):
        for way, seen in costs.items():
            seen.append(await way.cost(body, REQUESTS))
    cost = median(costs[ours])
    what = f"synchronous {size.bytes / 1e6:.2f} MB, {CONNECTIONS} at once: CPU"
    rows = [
        Row(
            what=f"{what}, ms, median of {ROUNDS}",
            ours=f"{cost:.2f} (least {min(costs[ours]):.2f})",
            bar=f"<= {size.most:g}",
            good=cost <= size.most,
        )
    ]
    if theirs is not None:
        proxy = median(costs[theirs])
        rows.append(
            Row(
                what=f"{what}, against LiteLLM's proxy",
                ours=f"{cost / proxy:.0%}",
                baseline=f"{proxy:.2f} ms (least {min(costs[theirs]):.2f})",
                bar=f"<= {size.most / size.theirs:.0%}",
                good=cost / proxy <= size.most / size.theirs,
            )
        )
    return rows


@asynccontextmanager
async def _rival(here: Installation) -> AsyncIterator[_Way | None]:
    """Start LiteLLM's proxy before the same upstream, if it is installed."""
    if (command := shutil.which("litellm")) is None:
        yield None
        return
    port = probe.free_port("127.0.0.1")
    configuration = here.folder / "litellm.yaml"
    deployment = {
        "model": "openai/gpt-image-2",
        "api_base": f"{here.upstream_url}/openai/v1",
        "api_key": "sk-fake",
    }
    models = [
        {
            "model_name": "gpt-image-2",
            "litellm_params": deployment,
            "model_info": {"mode": "image_generation"},
        }
    ]
    configuration.write_bytes(orjson.dumps({"model_list": models}))  # JSON is YAML
    proxy = Program(
        "litellm",
        (command, "--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)),
        {
            "PATH": os.environ["PATH"],
            "LITELLM_MASTER_KEY": _MASTER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        here.folder / "litellm.log",
    )
    await proxy.start()
    try:
        url = f"http://127.0.0.1:{port}"
        await probe.until(lambda: _answers(f"{url}/health/liveliness"), within=180)
        yield _Way(f"{url}/v1/images/generations", _MASTER_KEY, (proxy,))
    finally:
        await proxy.end()


async def _answers(url: str) -> bool:
    limit = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            return answer.status == 200
    except (TimeoutError, aiohttp.ClientError):
        return False
