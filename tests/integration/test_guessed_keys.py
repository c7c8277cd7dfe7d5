"""Whoever guesses keys learns nothing from the service, its time included."""

import statistics
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.tenant import presented
from tests.processes import installed


TRIES = 1000  # of each guess


def with_check(body: str) -> str:
    return f"{body}_{zlib.crc32(body.encode()):08x}"


@pytest.mark.timeout(120)
async def test_an_unknown_id_and_a_wrong_secret_take_the_same_time(tmp_path: Path) -> None:
    options: Any = {"DARKROOM_LIMITS__FAILED_KEYS_PER_MINUTE": "1000000"}
    async with installed(tmp_path, workers=0, **options) as here:
        shown = presented(here.key)
        assert shown is not None
        guesses = {
            "unknown": with_check("dk_live_" + "a" * 12 + "_" + "A" * 43),
            "wrong": with_check(f"dk_live_{shown.id}_" + "A" * 43),
        }
        async with aiohttp.ClientSession(here.url) as client:
            # A busy machine is not always even; what a guess tells would be told each time.
            differences: list[float] = []
            while len(differences) < 3 and not any(abs(one) <= 0.05 for one in differences):
                differences.append(await difference(client, guesses))
    assert min(map(abs, differences)) <= 0.05, differences


async def difference(client: aiohttp.ClientSession, guesses: dict[str, str]) -> float:
    """Return by how much of itself the time of one guess differs from that of the other."""
    seconds: dict[str, list[float]] = {name: [] for name in guesses}
    bodies = set()
    for number in range(TRIES):
        for name, guess in sorted(guesses.items(), reverse=bool(number % 2)):
            headers = {"Authorization": f"Bearer {guess}"}
            began = time.perf_counter()
            async with client.get("/v1/jobs", headers=headers) as answer:
                bodies.add((answer.status, await answer.read()))
            seconds[name].append(time.perf_counter() - began)
    assert {status for status, _ in bodies} == {401}
    assert len(bodies) == 1
    return statistics.median(seconds["wrong"]) / statistics.median(seconds["unknown"]) - 1
