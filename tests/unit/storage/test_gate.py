"""Gates as pure values."""

import pytest

from storage.gate import Condition, Gate, GateState
from tests.samples import a_deployment


def test_a_gate_has_the_limits_of_its_deployment() -> None:
    gate = Gate.of(a_deployment("first", max_concurrency=7, requests_per_minute=60))
    assert gate == Gate("first", 7, 60)
    assert gate.is_limited
    assert not Gate.of(a_deployment("second")).is_limited


def test_no_limit_is_told_as_zero() -> None:
    assert Gate("open").numbers == (0.0, 0.0, 0.0)
    assert Gate("some", 7).numbers == (7.0, 0.0, 0.0)


@pytest.mark.parametrize("per_minute", [1, 2, 9, 10, 11, 60, 500, 10_000])
def test_no_minute_has_more_calls_than_its_limit(per_minute: int) -> None:
    _, interval, tolerance = Gate("paced", None, per_minute).numbers
    # Who asks all the time passes as soon as GCRA lets it.
    moments = [max(0.0, n * interval - tolerance) for n in range(3 * per_minute)]
    for start in moments[:: max(1, per_minute // 20)]:
        inside = sum(start <= moment < start + 59_999 for moment in moments)
        assert inside <= per_minute


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        (Condition(), GateState.OPEN),
        (Condition(paused=1.0), GateState.PAUSED),
        (Condition(tripped=0.0, reason="errors"), GateState.TRIPPED),
        (Condition(paused=1.0, tripped=1.0, reason="errors"), GateState.TRIPPED),
        (Condition(tripped=1.0, reason="auth"), GateState.SWITCHED_OFF),
    ],
)
def test_a_condition_has_one_word(condition: Condition, state: GateState) -> None:
    assert condition.state is state


def test_a_condition_ages() -> None:
    told = Condition(paused=2.0, tripped=5.0, since=1.0, reason="errors")
    later = told.after(3.0)
    assert (later.paused, later.tripped, later.since) == (0.0, 2.0, 4.0)
    assert later.is_shut
    assert not told.after(6.0).is_shut
    assert told.after(6.0).tripped == 0.0
    assert Condition().after(10) == Condition()
