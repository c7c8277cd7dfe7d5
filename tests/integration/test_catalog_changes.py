"""A catalog that changes while everything runs, as an operator changes it."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.integration.walk import ended, submit
from tests.processes import CATALOG, Installation, installed


NEW = """
[[deployments]]
name = "newcomer"
model = "newcomer"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "{upstream}/openai/v1"
api_key_env = "FAKE_OPENAI_KEY"
"""


async def until(is_so: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not await is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def at_work(here: Installation) -> None:
    """Wait until the worker has read its catalog."""

    async def is_at_work() -> bool:
        return "worker_started" in here.logs()

    await until(is_at_work)


async def models(client: aiohttp.ClientSession) -> set[str]:
    async with client.get("/v1/models") as answer:
        return {model["id"] for model in (await answer.json())["data"]}


@pytest.mark.parametrize("told", [False, True], ids=["found", "told by SIGHUP"])
async def test_a_new_model_is_served_without_a_restart(tmp_path: Path, told: bool) -> None:
    async with installed(tmp_path, workers=1) as here, here.client() as client:
        await at_work(here)
        pids = (here.service.pid, here.workers[0].pid)
        text = (CATALOG + NEW).format(upstream=here.upstream_url)
        (tmp_path / "catalog.toml").write_text(text, encoding="utf-8")
        if told:
            for program in (here.service, *here.workers):
                assert program.process is not None
                program.process.send_signal(signal.SIGHUP)

        async def is_known() -> bool:
            return "newcomer" in await models(client) and here.logs().count("catalog_adopted") == 2

        await until(is_known)
        job = await ended(client, await submit(client, model="newcomer", prompt="a dog"))
        assert job["status"] == "succeeded"
        assert (here.service.pid, here.workers[0].pid) == pids
        assert here.service.is_alive
        assert here.workers[0].is_alive


async def test_a_wrong_catalog_changes_nothing_and_is_complained_of_in_one_line(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path, workers=1) as here, here.client() as client:
        await at_work(here)
        before = await models(client)
        (tmp_path / "catalog.toml").write_text("deployments = 3", encoding="utf-8")

        async def is_refused() -> bool:
            return here.logs().count("catalog_refused") == 2

        await until(is_refused)
        assert await models(client) == before
        job = await ended(client, await submit(client, model="gpt-image-2", prompt="a dog"))
        assert job["status"] == "succeeded"
        await asyncio.sleep(2.5)
        assert here.logs().count("catalog_refused") == 2  # one of the service, one of the worker


async def test_a_deployment_whose_key_was_refused_is_tried_again_with_a_new_catalog(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path, workers=1) as here, here.client() as client:
        await at_work(here)
        rule = {"dialect": "openai", "token": "unauthorized", "times": 1}
        async with client.post(f"{here.upstream_url}/_faults", json=rule) as answer:
            assert answer.status == 201

        async def tried() -> str:
            job = await ended(client, await submit(client, model="gpt-image-2", prompt="a dog"))
            return str(job["error"] and job["error"]["code"])

        assert [await tried(), await tried()] == ["auth", "no_deployment"]
        assert here.workers[0].process is not None
        here.workers[0].process.send_signal(signal.SIGHUP)

        async def is_adopted() -> bool:
            return "deployment_recovered" in here.logs()

        await until(is_adopted)
        assert await tried() == "None"
