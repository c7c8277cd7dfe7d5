"""Tenants beside each other on real processes: a flood, limits, and more than can be done."""

import asyncio
from itertools import accumulate
from pathlib import Path

import pytest

from tests.bench.sharing import calls_of, flooded, overload
from tests.integration.walk import all_ended, submit
from tests.processes import installed


@pytest.mark.timeout(180)
async def test_a_tenants_ten_thousand_jobs_do_not_hold_up_anothers_first(tmp_path: Path) -> None:
    seen = await flooded(tmp_path)
    assert seen.is_fair, seen


async def test_a_tenant_has_no_more_calls_under_way_than_it_may(tmp_path: Path) -> None:
    async with installed(tmp_path, workers=2) as here, here.client() as client:
        await here.command("-m", "service", "tenants", "set", "acme", "--max-running", "3")
        await asyncio.sleep(4.5)  # until the service believes it
        ids = [
            await submit(client, model="gpt-image-2", prompt=f"{at} [[slow:0.2]]")
            for at in range(15)
        ]
        jobs = await all_ended(client, ids)
        calls = await calls_of(here)
    assert {job["status"] for job in jobs} == {"succeeded"}
    begins = [(call["started_at"], 1) for call in calls]
    ends = [(call["finished_at"], -1) for call in calls]
    under_way = accumulate(change for _, change in sorted(begins + ends))
    assert max(under_way) == 3


@pytest.mark.timeout(180)
async def test_at_twice_and_five_times_what_can_be_done_as_much_is_done(tmp_path: Path) -> None:
    seen = await overload(tmp_path)
    for level in seen.levels:
        assert level.statuses == {"succeeded"}
        assert level.goodput >= 0.9 * seen.most, seen
        if level.times > 1.5:
            assert set(level.flood.statuses) == {202, 503}
            assert level.refusal <= max(0.050, 2 * level.idle)
    assert seen.growth < 16 * 2**20
