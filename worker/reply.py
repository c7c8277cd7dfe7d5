"""A reply, put together from what came: one outcome for each picture that was ordered."""

from collections.abc import Iterable
from itertools import chain, islice, repeat
from typing import Final

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from storage.request import Adaptation
from worker import wire
from worker.provider import Order, Picture, ProviderError, Reply


NO_IMAGE: Final = Failure(code=FailureCode.NO_IMAGE, message="The upstream made no image.")
BROKEN_OFF: Final = Failure(
    code=FailureCode.OUTCOME_UNKNOWN, message="The upstream's stream ended before its images."
)
_UNUSABLE: Final = FailureCode.UPSTREAM_ERROR
_SPOILED: Final = frozenset({_UNUSABLE, FailureCode.OUTCOME_UNKNOWN})


def decoded(text: str | memoryview, *, revised_prompt: str | None = None) -> Picture | Failure:
    """Return the picture that `text` holds in base64, or in a data URL, or why there is none."""
    try:
        is_url = isinstance(text, str) and wire.is_data_url(text)
        data = wire.decode_data_url(str(text)) if is_url else wire.decode(text)
    except wire.Unreadable as error:
        return Failure(code=FailureCode.UPSTREAM_ERROR, message=str(error))
    return Picture(data=data, revised_prompt=revised_prompt)


def replied(
    order: Order,
    outcomes: Iterable[Picture | Failure],
    *,
    missing: Failure = NO_IMAGE,
    usage: Usage | None = None,
    cost: float | None = None,
    upstream_id: str | None = None,
    adaptations: tuple[Adaptation, ...] = (),
    text: str | None = None,
) -> Reply:
    """Return the reply with exactly one outcome for each picture of `order`.

    `missing` says why those that are not among `outcomes` were not made. Raises `ProviderError`
    when there is no picture at all; one that came but cannot be used has been paid for.
    """
    came = tuple(islice(outcomes, order.n))
    filled = tuple(islice(chain(came, repeat(missing)), order.n))
    made = sum(isinstance(outcome, Picture) or outcome.code is _UNUSABLE for outcome in came)
    cut_off = missing.code in _SPOILED and len(came) < order.n
    if not any(isinstance(outcome, Picture) for outcome in filled):
        first = next(outcome for outcome in filled if isinstance(outcome, Failure))
        raise ProviderError(
            first.message,
            code=first.code,
            outcome_unknown=first.code in _SPOILED,
            upstream_id=upstream_id,
            cost=cost,
            usage=usage,
            made=None if cut_off else made,
        )
    return Reply(
        outcomes=filled,
        usage=usage,
        cost=cost,
        made=made,
        cut_off=cut_off,
        upstream_id=upstream_id,
        adaptations=adaptations,
        text=text,
    )
