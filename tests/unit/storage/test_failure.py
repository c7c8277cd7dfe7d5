"""Whether trying again helps is a property of the code."""

import pytest

from storage.failure import FailureCode


RETRYABLE = {"no_image", "rate_limited", "overloaded", "upstream_error", "upstream_timeout"}
CREDENTIAL = {"auth", "permission", "billing"}


@pytest.mark.parametrize("code", FailureCode)
def test_only_passing_trouble_is_tried_again_in_the_same_place(code: FailureCode) -> None:
    assert code.retryable == (code in RETRYABLE)


@pytest.mark.parametrize("code", FailureCode)
def test_only_trouble_of_the_place_is_taken_elsewhere(code: FailureCode) -> None:
    assert code.elsewhere == (code in RETRYABLE | CREDENTIAL | {"model_not_found"})


@pytest.mark.parametrize("code", FailureCode)
def test_a_bad_key_is_the_deployments_fault(code: FailureCode) -> None:
    assert code.credential == (code in CREDENTIAL)


@pytest.mark.parametrize(
    "code", [FailureCode.CONTENT_POLICY, FailureCode.INVALID_REQUEST, FailureCode.INVALID_IMAGE]
)
def test_a_refusal_of_the_request_is_never_shopped_around(code: FailureCode) -> None:
    assert not code.retryable
    assert not code.elsewhere
