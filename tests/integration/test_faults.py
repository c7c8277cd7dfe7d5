"""Rows of the fault matrix that nothing else here tries, at their smallest size.

`python -m tests.faults` runs them all. What kills processes at each line, takes Redis away or
floods the queue has tests of its own beside this one. The stands are independent of each other, so
their rows run side by side, and are judged one by one.
"""

import asyncio

import pytest
import pytest_asyncio

from tests.faults.matrix import ROWS, Report, Result, run
from tests.faults.row import Scale


SIDES = (("F33", "F35"), ("F30", "F27", "R1"), ("F14", "F16"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reports() -> dict[str, Report]:
    """What each row found."""

    async def side(names: tuple[str, ...]) -> list[Report]:
        return [report async for report in run([ROWS[name] for name in names], Scale(0.0))]

    found = await asyncio.gather(*(side(names) for names in SIDES))
    return {report.row.id: report for one in found for report in one}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for names in SIDES for name in names])
def test_a_row_of_the_matrix_is_held(reports: dict[str, Report], name: str) -> None:
    report = reports[name]
    if report.result is Result.NOT_RUN:
        pytest.skip(report.said)
    assert report.result is Result.HELD, str(report)
