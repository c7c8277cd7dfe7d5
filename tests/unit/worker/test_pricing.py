"""What a call cost, by the best source there is."""

import pytest

from storage.attempt import Cost, CostSource, Usage
from storage.catalog import Deployment, Price
from storage.failure import Failure, FailureCode
from storage.request import Input
from tests.samples import a_deployment, a_request
from worker.pricing import cost_of_error, cost_of_reply
from worker.provider import Picture, ProviderError, Reply


PICTURE = Picture(data=b"")
REFUSAL = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
SPOILED = Failure(code=FailureCode.UPSTREAM_ERROR, message="No image.")
TOKENS = Usage(input_tokens=10, output_tokens=1000)
PRICED = a_deployment(
    price=Price(
        per_image=0.05, per_quality={"high": 0.2}, per_input_image=0.01, output_image_tokens=40.0
    )
)

LISTED = a_deployment(price=Price(per_image=0.05))


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


def test_a_picture_that_is_of_no_use_was_made_all_the_same() -> None:
    reply = Reply(outcomes=(PICTURE, SPOILED), made=2)
    assert cost_of_reply(reply, a_request(n=2), PRICED) == Cost(0.1, CostSource.PRICE_TABLE)


def test_the_count_of_the_upstream_counts_more_than_ours() -> None:
    reply = Reply(outcomes=(PICTURE, SPOILED), made=2, usage=Usage(images=1))
    assert cost_of_reply(reply, a_request(n=2), LISTED) == Cost(0.05, CostSource.PRICE_TABLE)


def test_what_the_rest_of_an_answer_cost_that_was_cut_off_is_unknown() -> None:
    reply = Reply(outcomes=(PICTURE, SPOILED), made=1, cut_off=True)
    assert cost_of_reply(reply, a_request(n=2), LISTED) == Cost(0.05, CostSource.UNKNOWN)


def cost_of(error: ProviderError, *, at: Deployment = PRICED, n: int = 1) -> Cost:
    return cost_of_error(error, a_request(n=n), at, n)


@pytest.mark.parametrize(
    "code", [FailureCode.INVALID_REQUEST, FailureCode.RATE_LIMITED, FailureCode.UPSTREAM_ERROR]
)
def test_a_refusal_costs_nothing(code: FailureCode) -> None:
    assert cost_of(ProviderError("No.", code=code)) == Cost.nothing()


def test_a_refusal_by_status_costs_nothing_whatever_its_reason() -> None:
    error = ProviderError("No.", code=FailureCode.CONTENT_POLICY, charged=False)
    assert cost_of(error) == Cost.nothing()


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
    assert cost_of(ProviderError("No.", code=code)) == Cost()


def test_what_may_have_been_received_may_have_been_charged() -> None:
    error = ProviderError("No.", code=FailureCode.UPSTREAM_ERROR, outcome_unknown=True)
    assert cost_of(error) == Cost()


def test_a_failure_can_report_its_cost() -> None:
    error = ProviderError("No.", code=FailureCode.CONTENT_POLICY, cost=0.02)
    assert cost_of(error) == Cost(0.02, CostSource.REPORTED)


def test_a_failure_can_report_its_tokens() -> None:
    error = ProviderError("No.", code=FailureCode.CONTENT_POLICY, usage=TOKENS)
    assert cost_of(error) == Cost(0.04, CostSource.COMPUTED)


def test_pictures_that_came_and_cannot_be_used_are_charged_by_the_list() -> None:
    error = ProviderError("No.", code=FailureCode.UPSTREAM_ERROR, outcome_unknown=True, made=2)
    assert cost_of(error, at=LISTED, n=3) == Cost(0.1, CostSource.PRICE_TABLE)


def test_an_answer_without_pictures_is_charged_for_none_by_the_list() -> None:
    error = ProviderError("No.", code=FailureCode.NO_IMAGE, made=0)
    assert cost_of(error, at=LISTED) == Cost(0.0, CostSource.PRICE_TABLE)
    assert cost_of(error, at=a_deployment(price=Price())) == Cost()
    assert cost_of(error, at=PRICED) == Cost(), "the tokens of its words were not counted"


def test_what_is_done_but_cannot_be_read_is_charged_by_the_list() -> None:
    error = ProviderError(
        "No.", code=FailureCode.UPSTREAM_ERROR, outcome_unknown=True, charged=True
    )
    assert cost_of(error, at=LISTED, n=2) == Cost(0.1, CostSource.PRICE_TABLE)
    assert cost_of(error, at=PRICED, n=2) == Cost(), "nobody has counted the tokens"
