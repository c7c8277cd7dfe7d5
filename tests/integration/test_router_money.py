"""Money with real processes: the ledger beside the upstreams' own books.

The full figures, and a trial that kills workers at tasks: `python -m tests.bench ledger`.
"""

import pytest

from tests.bench import ledger


@pytest.mark.timeout(240)
async def test_the_ledger_is_the_upstreams_bill() -> None:
    seen = await ledger.ledger(jobs=72)
    assert seen.differing == ()
    assert seen.known == pytest.approx(seen.billed_known, abs=1e-6)
    assert seen.overstated == ()
    assert seen.zero_though_unknown == 0
    assert seen.usage == pytest.approx(seen.known + seen.partly, abs=1e-6)
    assert seen.usage_unknown == seen.unknown_jobs
    assert seen.statuses["succeeded"] >= 0.7 * seen.jobs
