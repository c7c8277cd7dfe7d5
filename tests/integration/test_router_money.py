"""Money with real processes: the ledger beside the upstreams' own books.

The full figures come from `python -m tests.bench ledger`.
"""

import pytest

from tests.bench import ledger


@pytest.mark.timeout(240)
async def test_the_ledger_is_the_upstreams_bill() -> None:
    seen = await ledger.ledger(jobs=72)
    assert seen.differing == ()
    assert seen.known == pytest.approx(seen.billed_known, abs=1e-6)
    assert (seen.overstated, seen.understated) == ((), ())
    assert seen.zero_though_unknown == 0
    assert seen.usage == pytest.approx(seen.known + seen.partly, abs=1e-6)
    assert seen.usage_at_risk == pytest.approx(seen.at_risk, abs=1e-6)
    assert seen.usage_unknown == seen.unknown_jobs
    assert seen.statuses["succeeded"] >= 0.7 * seen.jobs


@pytest.mark.timeout(180)
async def test_a_task_that_is_on_record_is_never_submitted_again() -> None:
    """How many succeed depends on the machine: `python -m tests.bench ledger` says it."""
    seen = await ledger.tasks(jobs=60, kills=12)
    assert seen.after == 0
    assert seen.again <= seen.lost
    assert seen.statuses["succeeded"] + seen.statuses["failed"] == seen.jobs
