"""The ledger of what was sent and what it cost."""

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.attempt import ABANDONED, UNKNOWN, Attempt, AttemptStatus, Cost, CostSource, Usage
from storage.failure import FailureCode


KNOWN = [source for source in CostSource if source is not CostSource.UNKNOWN]
COSTS = st.one_of(
    st.just(UNKNOWN),
    st.builds(Cost, st.floats(0, 1000), st.sampled_from(KNOWN)),
)
COUNTS = st.none() | st.integers(0, 10**6)
USAGES = st.builds(Usage, **{field.name: COUNTS for field in fields(Usage)})


def attempt(quote: float | None = None) -> Attempt:
    return Attempt(
        number=1, deployment="first", provider="sketch", fence="f", started_at=10.0, quote=quote
    )


# -- sums ------------------------------------------------------------------------------------------


def test_an_unknown_sum_is_none_and_not_nothing() -> None:
    assert UNKNOWN.amount is None
    assert Cost.nothing().amount == 0.0
    assert Cost.nothing().source is not CostSource.UNKNOWN


def test_the_total_of_nothing_is_unknown() -> None:
    assert Cost.total([]) == UNKNOWN


@given(st.lists(COSTS, min_size=1))
def test_a_total_adds_up_what_is_known_and_is_as_sure_as_its_least_sure_part(
    costs: list[Cost],
) -> None:
    total = Cost.total(costs)
    known = [cost.amount for cost in costs if cost.amount is not None]
    if not known:
        assert total == UNKNOWN
        return
    assert total.amount is not None
    assert math.isclose(total.amount, math.fsum(known), abs_tol=1e-9)
    order = list(CostSource)
    assert order.index(total.source) == max(order.index(cost.source) for cost in costs)


@given(st.lists(COSTS))
def test_the_order_of_the_parts_does_not_matter(costs: list[Cost]) -> None:
    one, other = Cost.total(costs), Cost.total(reversed(costs))
    assert one.source is other.source
    assert (one.amount or 0.0) == pytest.approx(other.amount or 0.0, abs=1e-9)


@given(USAGES, USAGES)
def test_counts_are_added_field_by_field_and_what_nobody_knows_stays_unknown(
    one: Usage, other: Usage
) -> None:
    both = one + other
    for field in fields(Usage):
        parts = [getattr(one, field.name), getattr(other, field.name)]
        known = [part for part in parts if part is not None]
        assert getattr(both, field.name) == (sum(known) if known else None)


# -- the bill of an attempt ------------------------------------------------------------------------


def test_each_call_is_one_line_on_the_bill() -> None:
    paid = Cost(0.05, CostSource.REPORTED)
    charged = attempt().charged(paid, Usage(images=1)).charged(UNKNOWN, None)
    assert charged.costs == (paid, UNKNOWN)
    assert charged.cost == Cost(0.05, CostSource.UNKNOWN)
    assert charged.usage == Usage(images=1)


def test_usage_of_several_calls_adds_up() -> None:
    charged = attempt().charged(UNKNOWN, Usage(images=1)).charged(UNKNOWN, Usage(images=2))
    assert charged.usage == Usage(images=3)


def test_what_an_attempt_costs_is_unknown_until_a_call_has_ended() -> None:
    assert attempt().cost == UNKNOWN


def test_an_abandoned_attempt_has_an_unknown_part_on_its_bill() -> None:
    left = attempt().charged(Cost(0.05, CostSource.REPORTED), None).abandoned(20.0)
    assert left.status is AttemptStatus.OUTCOME_UNKNOWN
    assert left.finished_at == 20.0
    assert left.error == ABANDONED
    assert ABANDONED.code is FailureCode.OUTCOME_UNKNOWN
    assert left.cost == Cost(0.05, CostSource.UNKNOWN)


def test_the_first_id_upstream_stands_for_the_attempt() -> None:
    assert attempt().upstream_id is None
    with_ids = Attempt(
        number=1,
        deployment="first",
        provider="fal",
        fence="f",
        started_at=1.0,
        upstream_ids={2: "c", 0: "a"},
    )
    assert with_ids.upstream_id == "a"


# -- what may have been charged --------------------------------------------------------------------


def test_all_that_was_asked_for_is_at_risk_while_nobody_knows_the_cost() -> None:
    assert attempt(quote=0.06).at_risk == 0.06
    assert attempt(quote=0.06).abandoned(20.0).at_risk == 0.06


def test_what_is_known_is_not_at_risk_any_more() -> None:
    partly = attempt(quote=0.06).charged(Cost(0.02, CostSource.REPORTED), None)
    assert partly.at_risk == 0.0
    assert partly.charged(UNKNOWN, None).at_risk == 0.04


def test_a_cost_above_the_list_leaves_nothing_at_risk() -> None:
    dear = attempt(quote=0.06).charged(Cost(0.09, CostSource.REPORTED), None)
    assert dear.charged(UNKNOWN, None).at_risk == 0.0


def test_without_a_listed_price_nobody_can_say_what_is_at_risk() -> None:
    assert attempt().at_risk is None
    assert attempt().charged(Cost(0.02, CostSource.REPORTED), None).at_risk == 0.0
