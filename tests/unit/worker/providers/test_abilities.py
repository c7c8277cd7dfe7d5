"""The README's table of providers is what asking them all comes to, now."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.ask.abilities import Ability, abilities, table
from tests.ask.deployments import PLACES
from tests.ask.hostility import WAYS, deployments
from worker.providers import PROVIDERS


README = Path(__file__).resolve().parents[4] / "README.md"


@pytest.fixture(scope="module")
def found() -> list[Ability]:
    return asyncio.run(abilities())


@pytest.mark.timeout(60)
def test_the_table_of_providers_says_what_they_can(found: list[Ability]) -> None:
    shown = re.search(r"^\| provider \|.*?(?=\n\n)", README.read_text(), re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert shown[0] == table(found)


def test_no_provider_is_left_out() -> None:
    others = set(PROVIDERS) - {"sketch"}
    assert set(PLACES) == others
    ways = {way.deployment for way in WAYS.values()}
    assert {one.provider for one in deployments("http://x").values() if one.name in ways} == others


@pytest.mark.timeout(60)
def test_every_deployment_does_what_its_capabilities_claim(found: list[Ability]) -> None:
    assert [one for one in found if not one.keeps_its_word] == []
