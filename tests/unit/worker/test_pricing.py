"""What a call cost, by the best source there is."""

import pytest

from storage.attempt import Cost, CostSource, Usage
from storage.catalog import Price
from storage.failure import Failure, FailureCode
from storage.request import Input
from tests.samples import a_deployment, a_request
from worker.pricing import cost_of_error, cost_of_reply
from worker.provider import Picture, ProviderError, Reply


PICTURE = Picture(data=b"")
REFUSAL = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
TOKENS = Usage(input_tokens=10, output_tokens=1000)
PRICED = a_deployment(
    price=Price(
        per_image=0.05, per_quality={"high": 0.2}, per_input_image=0.01, output_image_tokens=40.0
    )
)


def test_what_the_upstream_reports_counts_most() -> None:
    reply = Reply(outcomes=(PICTURE,), cost=0.0123, usage=TOKENS)
    assert cost_of_reply(reply, a_request(), PRICED) == Cost(0.0123, CostSource.REPORTED)


def test_a_reported_zero_is_a_report() -> None:
    reply = Reply(outcomes=(PICTURE,), cost=0.0)
    assert cost_of_reply(reply, a_request(), PRICED) == Cost(0.0, CostSource.REPORTED)


def test_tokens_count_more_than_the_list() -> None:
    reply = Reply(outcomes=(PICTURE,), usage=TOKENS)
    assert cost_of_reply(reply, a_request(), PRICED) == Cost(0.04, CostSource.COMPUTED)


def test_the_list_counts_the_pictures_that_were_made() -> None:
    reply = Reply(outcomes=(PICTURE, REFUSAL, PICTURE))
    request = a_request(n=3, images=(Input(key="a"),))
    assert cost_of_reply(reply, request, PRICED) == Cost(0.11, CostSource.PRICE_TABLE)


def test_the_list_goes_by_quality() -> None:
    reply = Reply(outcomes=(PICTURE,))
    cost = cost_of_reply(reply, a_request(quality="high"), PRICED)
    assert cost == Cost(0.2, CostSource.PRICE_TABLE)


def test_the_list_goes_by_size_where_it_says_so() -> None:
    deployment = a_deployment(price=Price(per_megapixel=0.04))
    reply = Reply(outcomes=(PICTURE,))
    assert cost_of_reply(reply, a_request(size="1000x2000"), deployment).amount == 0.08
    assert cost_of_reply(reply, a_request(), deployment) == Cost()


def test_without_any_source_the_cost_is_unknown_and_not_zero() -> None:
    reply = Reply(outcomes=(PICTURE,))
    assert cost_of_reply(reply, a_request(), a_deployment(price=Price())) == Cost()


@pytest.mark.parametrize(
    "code", [FailureCode.INVALID_REQUEST, FailureCode.RATE_LIMITED, FailureCode.UPSTREAM_ERROR]
)
def test_a_refusal_by_status_costs_nothing(code: FailureCode) -> None:
    assert cost_of_error(ProviderError("No.", code=code)) == Cost.nothing()


@pytest.mark.parametrize(
    "code",
    [
        FailureCode.CONTENT_POLICY,
        FailureCode.NO_IMAGE,
        FailureCode.UPSTREAM_TIMEOUT,
        FailureCode.OUTCOME_UNKNOWN,
    ],
)
def test_what_some_upstreams_charge_for_all_the_same_is_unknown(code: FailureCode) -> None:
    assert cost_of_error(ProviderError("No.", code=code)) == Cost()


def test_what_may_have_been_received_may_have_been_charged() -> None:
    error = ProviderError("No.", code=FailureCode.UPSTREAM_ERROR, outcome_unknown=True)
    assert cost_of_error(error) == Cost()


def test_a_failure_can_report_its_cost() -> None:
    error = ProviderError("No.", code=FailureCode.CONTENT_POLICY, cost=0.02)
    assert cost_of_error(error) == Cost(0.02, CostSource.REPORTED)
