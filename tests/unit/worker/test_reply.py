import pytest

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from worker import wire
from worker.provider import Order, Picture, ProviderError
from worker.reply import BROKEN_OFF, decoded, replied


PICTURE = Picture(data=b"picture")
REFUSED = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
SPOILED = Failure(code=FailureCode.UPSTREAM_ERROR, message="Cut off.")


def order(n: int) -> Order:
    return Order(job_id="job_1", attempt=1, edit=False, model="m", prompt="p", n=n)


def test_each_picture_that_was_ordered_has_one_outcome() -> None:
    reply = replied(order(3), [PICTURE, REFUSED])
    assert reply.outcomes[:2] == (PICTURE, REFUSED)
    assert isinstance(reply.outcomes[2], Failure)
    assert reply.outcomes[2].code is FailureCode.NO_IMAGE


def test_more_pictures_than_were_ordered_are_left_out() -> None:
    assert replied(order(1), [PICTURE, PICTURE]).outcomes == (PICTURE,)


def test_those_that_are_missing_say_why() -> None:
    assert replied(order(2), [PICTURE], missing=BROKEN_OFF).outcomes == (PICTURE, BROKEN_OFF)


def test_what_is_known_of_the_call_is_passed_on() -> None:
    usage = Usage(output_tokens=5)
    reply = replied(order(1), [PICTURE], usage=usage, cost=0.5, upstream_id="id", text="words")
    assert (reply.usage, reply.cost, reply.upstream_id, reply.text) == (usage, 0.5, "id", "words")


@pytest.mark.parametrize(
    ("outcomes", "code", "unknown"),
    [
        ([], FailureCode.NO_IMAGE, False),
        ([REFUSED, SPOILED], FailureCode.CONTENT_POLICY, False),
        ([SPOILED, REFUSED], FailureCode.UPSTREAM_ERROR, True),
        ([BROKEN_OFF], FailureCode.OUTCOME_UNKNOWN, True),
    ],
)
def test_no_picture_at_all_is_an_error_and_a_spoiled_one_may_have_been_paid_for(
    outcomes: list[Picture | Failure], code: FailureCode, unknown: bool
) -> None:
    with pytest.raises(ProviderError) as raised:
        replied(order(2), outcomes, cost=0.25, upstream_id="id")
    error = raised.value
    assert (error.code, error.outcome_unknown) == (code, unknown)
    assert (error.cost, error.upstream_id) == (0.25, "id")


def test_a_picture_that_is_of_no_use_counts_as_made() -> None:
    assert replied(order(3), [PICTURE, SPOILED, REFUSED]).made == 2
    with pytest.raises(ProviderError) as raised:
        replied(order(2), [SPOILED, SPOILED], usage=Usage(output_tokens=5))
    assert (raised.value.made, raised.value.usage) == (2, Usage(output_tokens=5))


def test_nobody_knows_what_an_answer_would_have_held_that_was_cut_off() -> None:
    assert replied(order(2), [PICTURE], missing=BROKEN_OFF).cut_off
    assert not replied(order(2), [PICTURE, PICTURE], missing=BROKEN_OFF).cut_off
    assert not replied(order(2), [PICTURE]).cut_off
    with pytest.raises(ProviderError) as raised:
        replied(order(2), [], missing=BROKEN_OFF)
    assert raised.value.made is None


def test_base64_and_data_urls_are_decoded() -> None:
    for text in (wire.encode(b"picture"), wire.data_url(b"picture", "image/png")):
        assert decoded(text, revised_prompt="r") == Picture(data=b"picture", revised_prompt="r")


@pytest.mark.parametrize("text", ["", "*", "data:image/png;base64,*"])
def test_what_cannot_be_decoded_is_a_failure(text: str) -> None:
    outcome = decoded(text)
    assert isinstance(outcome, Failure)
    assert outcome.code is FailureCode.UPSTREAM_ERROR
