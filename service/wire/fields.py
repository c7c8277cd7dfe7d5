"""The fields that several doors share, each with its limits, said once.

Types are strict: a number in quotes is no number. What a client wrote is never repeated in a
complaint beyond a name.
"""

import re
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from storage.errors import Invalid
from storage.event import JOB_EVENTS
from storage.request import OnUnknown


M = TypeVar("M", bound=BaseModel)

MAX_SIDE: Final = 16_384
_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_RATIO: Final = re.compile(r"[1-9][0-9]{0,3}(?:\.[0-9])?:[1-9][0-9]{0,3}(?:\.[0-9])?")
_EVENTS: Final = frozenset({*JOB_EVENTS, "*", "job.*"})
_FORMS: Final = frozenset({"text", "list"})
_EITHER: Final = frozenset({"content", "input"})
_BLANK: Final = re.compile(r"[\s\u200b\u200c\u200d\u2060\ufeff\u00ad]*")


def _size(value: str) -> str:
    if value == "auto":
        return value
    match = _SIZE.fullmatch(value) if len(value) <= 11 else None
    if match is None or max(int(match[1]), int(match[2])) > MAX_SIDE:
        raise ValueError('must be "auto" or "WIDTHxHEIGHT" in pixels')
    return value


def _ratio(value: str) -> str:
    if value != "auto" and (len(value) > 13 or _RATIO.fullmatch(value) is None):
        raise ValueError('must be "auto" or "W:H"')
    return value


def written(value: str) -> str:
    """Return a text that says something; raises `ValueError` for one that does not."""
    if _BLANK.fullmatch(value):
        raise ValueError("must not be empty")
    if "\x00" in value:
        raise ValueError("must not hold NUL characters")
    return value


def _plain(value: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("must not hold control characters")
    return value


def _events(value: tuple[str, ...]) -> tuple[str, ...]:
    if not _EVENTS.issuperset(value):
        raise ValueError(f"must be some of {', '.join(sorted(_EVENTS))}")
    return value


Text = Annotated[StrictStr, AfterValidator(written)]
Word = Annotated[StrictStr, Field(min_length=1, max_length=64), AfterValidator(_plain)]
ModelName = Annotated[StrictStr, Field(min_length=1, max_length=128), AfterValidator(_plain)]
Size = Annotated[StrictStr, AfterValidator(_size)]
Ratio = Annotated[StrictStr, AfterValidator(_ratio)]
Count = Annotated[StrictInt, Field(ge=1, le=10)]
Percent = Annotated[StrictInt, Field(ge=0, le=100)]
Seed = Annotated[StrictInt, Field(ge=0, le=4_294_967_295)]
Partials = Annotated[StrictInt, Field(ge=0, le=3)]
Flag = StrictBool
Seconds = Annotated[StrictFloat, Field(gt=0, le=604_800, allow_inf_nan=False)]
Dollars = Annotated[StrictFloat, Field(gt=0, le=100_000, allow_inf_nan=False)]
Events = Annotated[tuple[StrictStr, ...], Field(max_length=16), AfterValidator(_events)]
Metadata = Annotated[
    dict[
        Annotated[StrictStr, Field(min_length=1, max_length=64), AfterValidator(_plain)],
        Annotated[StrictStr, Field(max_length=512)],
    ],
    Field(max_length=16),
]


class Wire(BaseModel):
    """What every request shares: nothing that is not named gets in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Extras(Wire):
    """What every submitting door understands beside its own fields."""

    webhook_url: Annotated[StrictStr, Field(max_length=2048)] | None = Field(
        None, description="Told when the job has ended, by a signed POST"
    )
    webhook_events: Events = Field(
        (), description="What is told, such as job.started or *; none named means every ending"
    )
    metadata: Metadata = Field(
        default_factory=dict, description="Up to 16 names and values that come back with the job"
    )
    priority: Annotated[StrictInt, Field(ge=-1, le=1)] = Field(
        0, description="1 before the tenant's other jobs, -1 after them"
    )
    start_within: Seconds | None = Field(
        None, description="Seconds after which a job that has not started expires"
    )
    end_within: Seconds | None = Field(
        None, description="Seconds after which a job that has not ended fails as `deadline`"
    )
    strict: Flag = Field(
        default=False, description="Refuse the job when a parameter cannot be applied as asked"
    )
    max_cost: Dollars | None = Field(None, description="USD that the job may cost at most")
    on_unknown: OnUnknown = Field(
        OnUnknown.RETRY, description="What to do when nobody knows whether a paid call did its work"
    )


def read(model: type[M], fields: dict[str, Any]) -> M:
    """Return the fields as the model has them, or raise `Invalid` for the first that it refuses."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from None


def _named(steps: tuple[int | str, ...]) -> str:
    """Return a field's name, without the steps that say which form of a text-or-list was read."""
    names = [
        str(step)
        for at, step in enumerate(steps)
        if not (at and step in _FORMS and steps[at - 1] in _EITHER)
    ]
    return ".".join(names)[:100]


def _invalid(error: ValidationError) -> Invalid:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    kind = first["type"]
    param = _named(first["loc"])
    if kind == "extra_forbidden":
        return Invalid(f"Unknown parameter: {param}.", param=param, code="unknown_parameter")
    if kind == "missing":
        return Invalid(f"Missing parameter: {param}.", param=param, code="missing_parameter")
    said = first["msg"].removeprefix("Value error, ")
    said = said.replace("tuple", "list").replace("Tuple", "List")
    return Invalid(f"Invalid {param}: {said[:300]}.", param=param, code="invalid_value")
