"""The retry budget."""

from worker.budget import LEAST, SPAN, Budget


def test_a_few_retries_are_always_allowed() -> None:
    budget = Budget()
    allowed = 0
    while budget.allows("first", 0.0) and allowed < 100:
        budget.spend("first", 0.0, retry=True)
        allowed += 1
    assert allowed == LEAST


def test_retries_are_a_tenth_of_all_calls() -> None:
    budget = Budget()
    for _ in range(500):
        budget.spend("first", 0.0, retry=False)
    retries = 0
    while budget.allows("first", 0.0):
        budget.spend("first", 0.0, retry=True)
        retries += 1
    assert 50 <= retries <= 56


def test_a_minute_later_nothing_counts_any_more() -> None:
    budget = Budget()
    for _ in range(LEAST):
        budget.spend("first", 0.0, retry=True)
    assert not budget.allows("first", SPAN - 0.1)
    assert budget.allows("first", SPAN)


def test_deployments_do_not_share_a_budget() -> None:
    budget = Budget()
    for _ in range(LEAST):
        budget.spend("first", 0.0, retry=True)
    assert budget.allows("second", 0.0)
