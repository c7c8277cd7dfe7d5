"""Whatever an upstream answers, on every way to ask it, ends as a failure with a name, and once.

The body of 1.5 GB is cut at the limit of the answer, so it costs no more here than any other.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from storage.address import Allowance
from tests.ask.asking import made
from tests.ask.hostility import WAYS, Way, deployments, ending
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.imaging import Imaging
from worker.provider import Tools
from worker.web import Web


PATIENCE = 0.5


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with server.running() as upstream:
        yield upstream


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
        yield Tools(web=web, imaging=cast("Imaging", None))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_every_hostile_answer_ends_as_a_failure_with_a_name(
    upstream: Upstream, tools: Tools, way: Way
) -> None:
    deployment = deployments(upstream.url(""))[way.deployment]
    calls = [way.call(deployment, fault, patience=PATIENCE) for fault in way.faults]
    ended = await asyncio.gather(*(made(call, tools) for call in calls))
    by_fault = list(zip(way.faults, ended, strict=True))
    got = {fault.name: ending(called) for fault, called in by_fault}
    assert got == {fault.name: fault.code for fault in way.faults}
    errors = [(fault, called.error) for fault, called in by_fault if called.error is not None]
    assert not any("understood" in error.message for _, error in errors)
    assert [f.name for f, error in errors if error.outcome_unknown is f.refused] == []
    prompts = [call.prompt for call in upstream.calls() if call.model is not None]
    assert sorted(map(str, prompts)) == sorted(way.prompt(fault) for fault in way.faults)
