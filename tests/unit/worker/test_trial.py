"""Trials, and with them the shipped catalog: each deployment is tried at its upstream's fake."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.address import Allowance
from storage.catalog import Deployment, parse
from storage.failure import FailureCode
from tests.ask.deployments import PLACES
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.imaging import Imaging
from worker.provider import Tools
from worker.trial import attempted
from worker.web import Web


AT_FAKES = {**PLACES, "sketch": ""}
SHIPPED = parse((Path(__file__).parents[3] / "deploy" / "darkroom.toml").read_text())
DEPLOYMENTS = sorted(SHIPPED.deployments, key=lambda deployment: deployment.name)
ENVIRON = {d.api_key_env: "user:key-0123456789" for d in DEPLOYMENTS if d.api_key_env}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with server.running() as upstream:
        yield upstream


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    imaging = Imaging(children=1)
    async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
        yield Tools(web=web, imaging=imaging)
    await imaging.close()


def at_the_fake(deployment: Deployment, upstream: Upstream) -> Deployment:
    return replace(
        deployment,
        base_url=upstream.url(AT_FAKES[deployment.provider]),
        timeout=10.0,
        options={**deployment.options, "poll_seconds": 0.01},
    )


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.name)
async def test_a_shipped_deployment_passes_its_trial(
    upstream: Upstream, tools: Tools, deployment: Deployment
) -> None:
    trial = await attempted(at_the_fake(deployment, upstream), ENVIRON, tools, clock=lambda: 1.0)
    assert trial.failure is None
    assert trial.facts is not None
    made = [call for call in upstream.calls() if call.model is not None]
    assert len(made) == (deployment.provider != "sketch")
    if trial.cost.amount is not None and made and made[0].cost:
        assert trial.cost.amount == pytest.approx(made[0].cost, rel=0.1)


async def test_a_bad_key_is_found_out(upstream: Upstream, tools: Tools) -> None:
    deployment = next(d for d in DEPLOYMENTS if d.provider == "xai")
    bad = {deployment.api_key_env or "": "bad-key-0123456789"}
    trial = await attempted(at_the_fake(deployment, upstream), bad, tools, clock=lambda: 1.0)
    assert trial.failure is not None
    assert trial.failure.code is FailureCode.AUTH
    assert "bad-key" not in trial.failure.message


async def test_an_upstream_that_is_silent_ends_at_the_timeout(
    upstream: Upstream, tools: Tools
) -> None:
    upstream.rule(token="hang")
    deployment = next(d for d in DEPLOYMENTS if d.provider == "xai")
    slow = replace(at_the_fake(deployment, upstream), timeout=0.2)
    trial = await attempted(slow, ENVIRON, tools, clock=lambda: 1.0)
    assert trial.failure is not None
    assert trial.failure.code is FailureCode.UPSTREAM_TIMEOUT
    assert trial.cost.amount is None
