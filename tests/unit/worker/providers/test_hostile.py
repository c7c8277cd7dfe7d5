"""Whatever an upstream answers, on every way to ask it, ends as a failure with a name, and once.

The body of 1.5 GB is cut at the limit of the answer, so it costs no more here than any other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import pytest

from storage.address import Allowance
from tests.ask.asking import made
from tests.ask.deployments import PLACES
from tests.ask.hostility import WAYS, deployments, ending
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


@pytest.mark.timeout(60)
@pytest.mark.parametrize("provider", PLACES)
async def test_every_hostile_answer_ends_as_a_failure_with_a_name(
    upstream: Upstream, tools: Tools, provider: str
) -> None:
    known = deployments(upstream.url(""))
    met = [
        (f"{name}: {fault.name}", fault, way.call(known[way.deployment], fault, patience=PATIENCE))
        for name, way in WAYS.items()
        for fault in way.faults
        if known[way.deployment].provider == provider
    ]
    ended = await asyncio.gather(*(made(call, tools) for _, _, call in met))
    got = {name: ending(called) for (name, _, _), called in zip(met, ended, strict=True)}
    assert got == {name: fault.code for name, fault, _ in met}
    errors = [
        (name, fault, called.error)
        for (name, fault, _), called in zip(met, ended, strict=True)
        if called.error is not None
    ]
    assert not any("understood" in error.message for _, _, error in errors)
    assert [name for name, f, error in errors if error.outcome_unknown is f.refused] == []
    prompts = [call.prompt for call in upstream.calls() if call.model is not None]
    assert Counter(prompts) <= Counter(call.order.prompt for _, _, call in met)
